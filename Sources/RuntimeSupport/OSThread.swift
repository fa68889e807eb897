// SPDX-License-Identifier: Apache-2.0
import CPlatform
import Glibc

/// A named POSIX thread. Kernels, polls and file reading run on threads, never in a `Task`: Swift's cooperative pool
/// is as wide as the machine, and two blocked tasks stop everything else.
package enum OSThread {
    /// Starts a detached thread that runs `body` and ends.
    package static func start(name: String, _ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Box(name: name, body: body))
        var thread = pthread_t()
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        pthread_attr_setstacksize(&attributes, 2 << 20)
        let code = pthread_create(
            &thread, &attributes,
            { argument in
                let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
                cp_thread_name(box.name)
                box.body()
                return nil
            }, box.toOpaque())
        pthread_attr_destroy(&attributes)
        precondition(code == 0, "pthread_create of '\(name)' failed: \(String(cString: strerror(code)))")
    }

    private final class Box: Sendable {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
}
