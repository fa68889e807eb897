// SPDX-License-Identifier: Apache-2.0
internal import CZeroMQ
internal import Glibc

/// How many descriptors this process may open; a dialled peer takes twelve.
package enum DescriptorLimit {
    /// Raises the limit as far as this process may.
    package static func raise() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, limit.rlim_cur < highest else {
            return
        }
        limit.rlim_cur = rlim_t(highest)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// The limit now.
    package static var current: UInt64 {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? UInt64(limit.rlim_cur) : 0
    }

    /// What ``raise()`` raises it to. Where there is no bound, a million: some programs that are started from here close
    /// every number below the limit.
    package static var highest: UInt64 {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
            ? min(UInt64(limit.rlim_max), 1 << 20) : 0
    }

    /// Why no socket could be made, with the remedy.
    static func explain(_ error: Int32) -> String {
        error == EMFILE
            ? "this process has used up its \(current) open files or libzmq's sockets; raise `ulimit -n` (or LimitNOFILE=)"
            : String(cString: zmq_strerror(error))
    }
}
