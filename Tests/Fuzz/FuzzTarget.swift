// SPDX-License-Identifier: Apache-2.0
//
// Scripts/fuzz feeds libFuzzer's inputs to every decoder of bytes that others wrote. A target fails by a crash, by a
// broken promise (`require`), by taking more memory than its limit, or by taking seconds for one input.
import Foundation

/// One decoder, or a state machine behind it.
struct FuzzTarget: Sendable {
    let name: String
    /// Inputs to begin with, well formed and not.
    let seeds: @Sendable () throws -> [[UInt8]]
    let run: @Sendable ([UInt8]) -> Void

    static let all: [FuzzTarget] =
        transportTargets + exchangeTargets + clusterTargets + checkpointTargets + tokenizerTargets + jobTargets
        + rewardTargets
}

/// Ends the process where a decoder does not keep what it promises.
func require(_ condition: Bool, _ promise: @autoclosure () -> String) {
    if !condition { fatalError("broken promise: \(promise())") }
}

/// Files of the repository, which is the current directory.
func files(_ directory: String, _ suffix: String) throws -> [[UInt8]] {
    let names = try FileManager.default.subpathsOfDirectory(atPath: directory).filter { $0.hasSuffix(suffix) }.sorted()
    precondition(!names.isEmpty, "no *\(suffix) in \(directory)")
    return try names.map { try Array(Data(contentsOf: URL(fileURLWithPath: directory).appendingPathComponent($0))) }
}

/// Several byte strings in one, each after its length of two bytes, so that a mutation of one leaves the others.
enum Pieces {
    static func join(_ pieces: [[UInt8]]) -> [UInt8] {
        pieces.flatMap { [UInt8($0.count & 255), UInt8($0.count >> 8 & 255)] + $0 }
    }

    static func split(_ bytes: [UInt8]) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var rest = bytes[...]
        while rest.count >= 2 {
            let count = Int(rest.removeFirst()) | Int(rest.removeFirst()) << 8
            pieces.append(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        return pieces
    }
}
