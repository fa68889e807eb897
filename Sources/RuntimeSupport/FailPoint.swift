// SPDX-License-Identifier: Apache-2.0
//
// Named places at which a test can have the process killed, as by `kill -9`: the only way to hit the moment between a
// send and its acknowledgement every time. Costs one load of a constant where nothing is set.
internal import Glibc

/// Places where tests let a process die.
package enum FailPoint {
    /// `APUS_FAIL_POINT=name:n:marker` kills the process that passes `name` for the n-th time, once: the first to
    /// create the file `marker` dies, later processes with the same setting live.
    private static let armed: (name: String, count: Int, marker: String)? = {
        guard let text = getenv("APUS_FAIL_POINT") else { return nil }
        let parts = String(cString: text).split(separator: ":", maxSplits: 2).map(String.init)
        guard parts.count == 3, let count = Int(parts[1]) else { return nil }
        return (parts[0], count, parts[2])
    }()
    private static let passed = Locked(0)

    /// Dies here if a test wants it.
    @inline(__always)
    package static func pass(_ name: StaticString) {
        if let armed { strike(name, armed) }
    }

    @inline(never)
    private static func strike(_ name: StaticString, _ armed: (name: String, count: Int, marker: String)) {
        guard name.description == armed.name,
            passed.withLock({
                $0 += 1; return $0
            }) == armed.count
        else { return }
        let file = open(armed.marker, O_CREAT | O_EXCL | O_WRONLY, 0o600)
        guard file >= 0 else { return }
        kill(getpid(), SIGKILL)
    }
}
