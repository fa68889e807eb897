// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Tokenization

/// One answer of a finished rollout job, as `rollouts/text.jsonl` has it.
package struct Answer: Equatable, Sendable {
    /// Of its row of data.
    package let id: String
    /// Number among the answers to the same query.
    package let sibling: Int
    package let query: String
    package let reference: String?
    package let completion: String
    package let reward: Double
    package let isTruncated: Bool

    package init(
        id: String, sibling: Int = 0, query: String, reference: String?, completion: String, reward: Double,
        isTruncated: Bool = false
    ) {
        self.id = id
        self.sibling = sibling
        self.query = query
        self.reference = reference
        self.completion = completion
        self.reward = reward
        self.isTruncated = isTruncated
    }

    /// What stands in the think block; empty where there is none.
    package var thinking: String { ThinkingParser.split(text: completion).thinking }
    /// What follows the think block.
    package var response: String { ThinkingParser.split(text: completion).response }
    /// Whether a think block was begun and ended, or none begun.
    package var isWellFormed: Bool { ThinkingParser.split(text: completion).state != .unfinished }

    /// The answers of a run, in order of its rows; those without a result are left out.
    /// - Throws: ``CurationError``.
    package static func read(_ run: URL) throws -> [Answer] {
        let url = run.appendingPathComponent("rollouts/text.jsonl")
        return try Rows.read(url).compactMap { row in
            guard row["outcome"] as? String == "ok", let id = row["id"] as? String,
                let completion = row["completion"] as? String
            else { return nil }
            return Answer(
                id: id, sibling: row["sibling"] as? Int ?? 0, query: row["prompt"] as? String ?? "",
                reference: row["answer"] as? String, completion: completion,
                reward: (row["reward"] as? NSNumber)?.doubleValue ?? 0,
                isTruncated: row["finish_reason"] as? String == "length")
        }
    }
}

/// Why data cannot be curated.
package struct CurationError: Error, CustomStringConvertible, Sendable {
    package let description: String

    package init(_ description: String) { self.description = description }
}
