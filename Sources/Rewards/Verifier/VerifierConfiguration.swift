// SPDX-License-Identifier: Apache-2.0

/// What verifier processes run and what they may use.
package struct VerifierConfiguration: Equatable, Sendable {
    /// A program that calls ``VerifierChild/run(input:output:)`` on its descriptors 0 and 1.
    package var executable: String
    package var arguments: [String]
    /// All of a child's environment: the worker's own may hold secrets.
    package var environment: [String: String] = [
        "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin",
        "SWIFT_BACKTRACE": "enable=no",
    ]
    /// Whether children are in a sandbox: no files but the system's libraries and what they run from, no network, no
    /// processes of their own. Where the host has none, every request fails with the reason.
    package var isSandboxed = true
    /// Processes, each with a thread of its own in this one.
    package var childCount = 2
    /// Wall time of one request in one child, without the programs that it has run.
    package var requestMilliseconds: UInt64 = 10_000
    /// Wall time from the start of a child to its greeting.
    package var startMilliseconds: UInt64 = 60_000
    /// Children that a request is given to before it fails.
    package var attemptCount = 2
    /// Requests after which a child is replaced, so that nothing can pile up in it.
    package var requestCountPerChild = 4096
    /// Requests waiting for a child; further callers of `verify` wait for room.
    package var waitingCountMax = 1024
    /// Address space of a child.
    package var addressSpaceByteCount: UInt64 = 2 << 30
    /// Processor time over the life of a child.
    package var processorSeconds: UInt64 = 3600
    package var openFileCount: UInt64 = 64
    /// Bytes of a file that a child may write.
    package var fileByteCount: UInt64 = 16 << 20
    /// Processes and threads of the whole user beyond which a child without a sandbox can start none: at 1 it never can.
    /// 0 is no limit, and there is none on root.
    package var processCount: UInt64 = 1
    /// Where children write errors; nil is /dev/null. The descriptor must stay open as long as the pool.
    package var errorDescriptor: Int32?

    package init(executable: String, arguments: [String]) {
        self.executable = executable
        self.arguments = arguments
    }
}
