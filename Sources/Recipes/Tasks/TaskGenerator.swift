// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import JobSpecification
internal import RuntimeSupport

/// One generated question.
package struct GeneratedTask {
    /// What the question is, for keeping training and evaluation apart.
    package let key: String
    /// `messages` or `prompt`, `answer`, and what its reward needs.
    package let row: Rows.Row

    package init(key: String, row: Rows.Row) {
        self.key = key
        self.row = row
    }
}

/// Questions that are made on the spot, each with what a rule needs to judge an answer.
package protocol TaskGenerator: Sendable {
    static var name: String { get }
    /// For the command's help: what is asked and which reward judges it.
    static var about: String { get }
    /// - Throws: ``CurationError`` about an option.
    init(_ options: TaskOptions) throws(CurationError)
    func task(_ random: inout RowRandom) -> GeneratedTask
}

/// Options of a generator as the command line has them.
package struct TaskOptions: Sendable {
    private let texts: [String: String]

    /// - Parameter texts: `key=value` each.
    /// - Throws: ``CurationError`` for a text without `=`.
    package init(_ texts: [String]) throws(CurationError) {
        var result: [String: String] = [:]
        for text in texts {
            guard let equals = text.firstIndex(of: "=") else {
                throw CurationError("--option \(text): expected key=value")
            }
            result[String(text[..<equals])] = String(text[equals...].dropFirst())
        }
        self.texts = result
    }

    func requireOnly(_ names: [String], of generator: String) throws(CurationError) {
        if let name = texts.keys.sorted().first(where: { !names.contains($0) }) {
            throw CurationError(
                "--option \(name): \(generator) has \(names.isEmpty ? "none" : names.joined(separator: ", "))")
        }
    }

    func integer(_ name: String, _ range: ClosedRange<Int>, default fallback: Int) throws(CurationError) -> Int {
        guard let text = texts[name] else { return fallback }
        guard let value = Int(text), range.contains(value) else {
            throw CurationError("--option \(name)=\(text): expected \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func share(_ name: String, default fallback: Double) throws(CurationError) -> Double {
        guard let text = texts[name] else { return fallback }
        guard let value = Double(text), (0...1).contains(value) else {
            throw CurationError("--option \(name)=\(text): expected a share of 0 to 1")
        }
        return value
    }

    func choice(_ name: String, _ choices: [String]) throws(CurationError) -> String {
        guard let text = texts[name] else { return choices[0] }
        guard choices.contains(text) else {
            throw CurationError("--option \(name)=\(text): choose \(choices.joined(separator: ", "))")
        }
        return text
    }

    func texts(_ name: String, _ known: [String]) throws(CurationError) -> [String] {
        guard let text = texts[name] else { return known }
        let chosen = text.split(separator: ",").map(String.init)
        guard !chosen.isEmpty, chosen.allSatisfy(known.contains) else {
            throw CurationError("--option \(name)=\(text): choose among \(known.joined(separator: ","))")
        }
        return chosen
    }
}

package enum TaskGenerators {
    package static let types: [any TaskGenerator.Type] = [
        CounterfactualTasks.self, LengthTasks.self, PassageTasks.self, RecallTasks.self, ThinkFollowTasks.self,
        ToolTasks.self, WordProblemTasks.self, ZebraTasks.self,
    ]

    /// Writes `count` questions. One in eight, by the question itself, is kept for evaluation whatever file asks, so that
    /// no seed can put a question on both sides.
    /// - Throws: ``CurationError``, or what writing throws.
    package static func write(
        _ name: String, _ options: TaskOptions, count: Int, seed: UInt64, isForEvaluation: Bool, to url: URL
    ) throws {
        guard let type = types.first(where: { $0.name == name }) else {
            throw CurationError("no task is named '\(name)'; tasks: \(types.map { $0.name }.joined(separator: ", "))")
        }
        let generator = try type.init(options)
        let domain = CRC32C.of(Array(name.utf8))
        let rows = try (0..<count).map { index in
            var random = RowRandom(seed: seed, row: UInt32(index), domain: domain)
            for _ in 0..<10_000 {
                let task = generator.task(&random)
                guard (CRC32C.of(Array(task.key.utf8)) % 8 == 0) == isForEvaluation else { continue }
                return Rows.Row(dictionaryLiteral: ("id", "\(name)-\(seed)-\(index)")).merging(task.row)
            }
            throw CurationError("\(name): 10000 draws gave no question for this side; allow more kinds of questions")
        }
        try Rows.write(rows, to: url)
    }

    static func user(_ text: String) -> [Rows.Row] { [["role": "user", "content": text]] }
}
