// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Foundation
internal import Qwen3
internal import RuntimeSupport

/// Where the entries of a sample of tokens go under a real placement: what each owner of experts is asked for.
///
/// Which experts a token chooses is drawn from a law: the expert of rank r has weight r^-skew, and ranks are drawn anew
/// for each sampled layer. Skew 0 is even routing, the aim of the load-balancing loss; 0.5 to 1 is what a checkpoint
/// on a narrow task does.
struct RoutingSample {
    /// What one owner gets, averaged over layers.
    struct Owner {
        let worker: Int
        /// Chance that a token chooses each of the experts held here, by this holder; by sampled layer.
        var choices: [[Double]]
        /// Chance that a token visits the owner, and sum rows that it gets back per token, one per subtree it touches.
        var visits = 0.0
        var sums = 0.0
        /// Entries per token.
        var entries: Double { choices.reduce(0) { $0 + $1.reduce(0, +) } / Double(max(1, choices.count)) }
        /// The same on the busiest sampled layer.
        var entriesAtWorst: Double { choices.map { $0.reduce(0, +) }.max() ?? 0 }

        /// Experts of a layer that `tokens` tokens touch here, on average.
        func touched(_ tokens: Double) -> Double {
            guard tokens > 0, !choices.isEmpty else { return 0 }
            let all = choices.reduce(0.0) { $0 + $1.reduce(0) { $0 + 1 - pow(max(0, 1 - $1), tokens) } }
            return all / Double(choices.count)
        }
    }

    private(set) var owners: [Owner] = []
    /// The busiest expert of any sampled layer, as a multiple of an even share.
    private(set) var busiestExpert: (expert: Int, share: Double) = (0, 1)
    /// Position in ``owners`` by worker.
    private(set) var ownerOfWorker: [Int: Int] = [:]

    private static let tokenCount = 4096
    private static let layerCount = 4

    /// - Parameter holders: by expert, workers from 0.
    init(_ c: Qwen3Configuration, holders: [[Int]], skew: Double, seed: UInt64) {
        guard c.expertCount > 0 else { return }
        var random = SplitMix64(seed: seed)
        var experts: [Int: [Int]] = [:]
        for (expert, list) in holders.enumerated() {
            for worker in list { experts[worker, default: []].append(expert) }
        }
        let workers = experts.keys.sorted()
        ownerOfWorker = Dictionary(uniqueKeysWithValues: workers.enumerated().map { ($1, $0) })
        let subtrees = workers.map { ExpertSubtree.maximal(owned: Set(experts[$0] ?? []), expertCount: c.expertCount) }
        owners = workers.map { Owner(worker: $0, choices: []) }
        let weights = (0..<c.expertCount).map { pow(Double($0 + 1), -skew) }
        for _ in 0..<Self.layerCount {
            var rank = Array(0..<c.expertCount)
            for index in stride(from: rank.count - 1, to: 0, by: -1) { rank.swapAt(index, random.pick(0...index)) }
            let weight = rank.map { weights[$0] }
            var counts = [Int](repeating: 0, count: c.expertCount)
            for _ in 0..<Self.tokenCount {
                // The k largest of log(u) / w are a draw without replacement (Efraimidis and Spirakis 2006).
                let keys = weight.map { log(random.unit()) / $0 }
                let chosen = keys.indices.sorted { keys[$0] > keys[$1] }.prefix(c.expertsPerToken)
                var touched: [Int: Set<Int>] = [:]
                for expert in chosen {
                    counts[expert] += 1
                    // Requesters differ in whom they ask; together they ask all holders alike.
                    guard !holders[expert].isEmpty else { continue }
                    let owner = ownerOfWorker[holders[expert][random.pick(0...holders[expert].count - 1)]]!
                    let subtree = subtrees[owner].lastIndex { $0.first <= expert } ?? 0
                    touched[owner, default: []].insert(subtree)
                }
                for (owner, list) in touched {
                    let part = 1 / Double(Self.tokenCount * Self.layerCount)
                    owners[owner].visits += part
                    owners[owner].sums += part * Double(list.count)
                }
            }
            let chance = counts.map { Double($0) / Double(Self.tokenCount) }
            for index in owners.indices {
                let held = experts[owners[index].worker] ?? []
                owners[index].choices.append(held.map { chance[$0] / Double(holders[$0].count) })
            }
            let even = Double(c.expertsPerToken) / Double(c.expertCount)
            if let most = chance.indices.max(by: { chance[$0] < chance[$1] }), chance[most] / even > busiestExpert.share
            {
                busiestExpert = (most, chance[most] / even)
            }
        }
    }
}
