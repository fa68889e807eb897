// SPDX-License-Identifier: Apache-2.0

/// A decoder under libFuzzer.
struct FuzzTarget: Sendable {
    let name: String
    /// Real examples to start from.
    let seeds: @Sendable () throws -> [[UInt8]]
    /// Feeds one input. Returns for refused and accepted inputs alike; a crash or a broken promise ends the process.
    let run: @Sendable ([UInt8]) -> Void

    static let all: [FuzzTarget] = wire + files + texts
}

/// Ends the process, which libFuzzer reports with the input, when a decoder breaks a promise.
func promise(_ isKept: Bool, _ text: @autoclosure () -> String) {
    if !isKept { fatalError("broken promise: \(text())") }
}

/// An input of several parts: a number of parts, then each with a length of two bytes. What is missing is empty.
enum Parts {
    static func split(_ input: [UInt8], max: Int = 16) -> [[UInt8]] {
        var rest = input[...]
        guard let count = rest.popFirst() else { return [] }
        return (0..<min(Int(count), max)).map { _ in
            let length = Int(rest.popFirst() ?? 0) | Int(rest.popFirst() ?? 0) << 8
            defer { rest = rest.dropFirst(length) }
            return Array(rest.prefix(length))
        }
    }

    static func join(_ parts: [[UInt8]]) -> [UInt8] {
        [UInt8(parts.count)] + parts.flatMap { [UInt8($0.count & 255), UInt8($0.count >> 8)] + $0 }
    }
}

extension StringProtocol {
    var bytes: [UInt8] { Array(utf8) }
}
