// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import Rewards
internal import RuntimeSupport
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
    /// The weighted sum of all rewards.
    package let reward: Double
    /// Each reward's own value; empty in runs that did not write them.
    package let rewards: [String: Double]
    package let isTruncated: Bool

    package init(
        id: String, sibling: Int = 0, query: String, reference: String?, completion: String, reward: Double,
        rewards: [String: Double] = [:], isTruncated: Bool = false
    ) {
        self.id = id
        self.sibling = sibling
        self.query = query
        self.reference = reference
        self.completion = completion
        self.reward = reward
        self.rewards = rewards
        self.isTruncated = isTruncated
    }

    /// What stands in the think block; empty where there is none.
    package var thinking: String { ThinkingParser.split(text: completion).thinking }
    /// What follows the think block.
    package var response: String { ThinkingParser.split(text: completion).response }
    /// Whether a think block was begun and ended, or none begun.
    package var isWellFormed: Bool { ThinkingParser.split(text: completion).state != .unfinished }

    /// How right the answer is: what the rewards that check answers say, whatever else the job rewards; the sum of all
    /// where none of them does.
    package var correctness: Double { RewardRegistry.correctness(rewards) ?? reward }
    /// An answer that was cut off solves nothing, whatever a reward for its form says.
    package var isSolved: Bool { !isTruncated && correctness >= 1 }

    /// The answers of a run, in order of its rows, those that were cut off included; what has no result is left out.
    /// - Throws: ``CurationError``.
    package static func read(_ run: URL) throws -> [Answer] {
        let url = run.appendingPathComponent("rollouts/text.jsonl")
        return try Rows.read(url).compactMap { row in
            let outcome = row["outcome"] as? String
            guard outcome == "ok" || outcome == "truncated", let id = row["id"] as? String,
                let completion = row["completion"] as? String
            else { return nil }
            return Answer(
                id: id, sibling: row["sibling"] as? Int ?? 0, query: row["prompt"] as? String ?? "",
                reference: row["answer"] as? String, completion: completion,
                reward: row.number("reward") ?? 0,
                rewards: Dictionary(
                    (row["rewards"] as? Rows.Row)?.object.members.compactMap { member in
                        member.value.doubleValue.map { (member.key, $0) }
                    } ?? [], uniquingKeysWith: { first, _ in first }),
                isTruncated: outcome == "truncated" || row["finish_reason"] as? String == "length")
        }
    }
}

/// Why data cannot be curated.
package struct CurationError: Error, CustomStringConvertible, Sendable {
    package let description: String

    package init(_ description: String) { self.description = description }
}
