// SPDX-License-Identifier: Apache-2.0

/// What is wrong with a job file, an override or a row of data: one line that names what, where and the
/// remedy.
package struct JobError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kind of problem. Stable: fit for a metric label.
    package enum Code: String, Sendable {
        case malformedYAML, unknownKey, missingKey, wrongType, invalidValue, malformedOverride, malformedRow
        case limitExceeded, fileSystem
    }

    package let code: Code
    /// The file, or nil when the text came from memory or an override.
    package let file: String?
    /// Line of the file, from 1; nil where the problem has none.
    package let line: Int?
    /// One line with the key path, without file and line.
    package let message: String

    package init(_ code: Code, _ message: String, line: Int? = nil, file: String? = nil) {
        self.code = code
        self.file = file
        self.line = line
        self.message = message
    }

    /// A problem at a place of a job file or in an override, which is then named in the message.
    init(_ code: Code, _ message: String, at origin: YAMLNode.Origin) {
        switch origin {
        case .line(let line): self.init(code, message, line: line)
        case .override(let source): self.init(code, "\(message) (from \(source))")
        case .checkpoint(let reason): self.init(code, "\(message) (a default: \(reason))")
        }
    }

    /// The same problem, in `file`.
    package func inFile(_ file: String) -> JobError { JobError(code, message, line: line, file: file) }

    /// `job.yaml:12: sampling.top_p: 1.5 is not in (0, 1]`; without a file `… (line 12)`.
    package var description: String {
        switch (file, line) {
        case (let file?, let line?): "\(file):\(line): \(message)"
        case (let file?, nil): "\(file): \(message)"
        case (nil, let line?): "\(message) (line \(line))"
        case (nil, nil): message
        }
    }
}
