// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc

/// One POSIX thread that lives for one closure: for loops that block or that own a C library's handles.
package final class DedicatedThread: @unchecked Sendable {
    // @unchecked: the identifier is set once, before `start` returns; the flag by the one caller of `join`.
    private var identifier = pthread_t()
    private var isJoined = false

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    private init() {}

    /// Starts a thread called `name` (15 bytes are kept) that runs `body` and ends.
    package static func start(name: String, _ body: @escaping @Sendable () -> Void) -> DedicatedThread {
        let thread = DedicatedThread()
        let start = Unmanaged.passRetained(Start(name: name, body: body)).toOpaque()
        let result = pthread_create(
            &thread.identifier, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                cp_thread_name(start.name)
                start.body()
                return nil
            }, start)
        precondition(result == 0, "pthread_create for \(name) failed with error \(result)")
        return thread
    }

    /// True when called from this thread.
    package var isCurrent: Bool { pthread_equal(identifier, pthread_self()) != 0 }

    /// Waits until the thread has ended. Call once, from another thread.
    package func join() {
        pthread_join(identifier, nil)
        isJoined = true
    }

    deinit { if !isJoined { pthread_detach(identifier) } }
}
