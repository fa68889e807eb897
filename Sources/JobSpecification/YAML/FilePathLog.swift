// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// All paths that a job names, whatever the key: who may not read everywhere is asked about each.
package final class FilePathLog: Sendable {
    @TaskLocal static var current: FilePathLog?

    private let log = Locked<[String]>([])

    package init() {}

    package var paths: [String] { log.withLock { $0 } }

    func add(_ path: String) { log.withLock { $0.append(path) } }

    /// Notes the paths that are read in `body`.
    package func during<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
        let result = Self.$current.withValue(self) { () -> Result<Value, Failure> in
            do throws(Failure) { return .success(try body()) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
