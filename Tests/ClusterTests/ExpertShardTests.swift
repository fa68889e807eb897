// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Who holds what, on real processes.
@Suite("Expert shards", .serialized)
struct ExpertShardTests {
    private struct Worker: Decodable {
        struct Counters: Decodable {
            var resident_expert_byte_count: Int?
            var tokens_dispatched: Int?
            var tokens_served: Int?
            var exchange_bytes_sent: Int?
        }
        struct Shard: Decodable {
            var experts: String?
            var opened_experts: String?
        }
        var counters: Counters?
        var shards: [Shard]?
    }

    private func numbers(_ text: String) -> Set<Int> {
        Set(
            text.split(separator: ",").flatMap { part -> ClosedRange<Int> in
                let ends = part.split(separator: "-").compactMap { Int($0) }
                return ends[0]...(ends.last ?? ends[0])
            })
    }

    /// What the workers report once each has said what the job made it do; a beat is half a second behind.
    private func finalCounts(_ bench: Workbench) throws -> [Worker] {
        let deadline = Date().addingTimeInterval(10)
        while true {
            let listed = try bench.apus("workers", "--json")
            let workers = try JSONDecoder().decode([Worker].self, from: Data(listed.output.utf8))
            let isSettled = workers.allSatisfy { $0.counters?.tokens_dispatched ?? 0 > 0 }
            if isSettled || Date() > deadline { return workers }
            Thread.sleep(forTimeInterval: 0.2)
        }
    }

    @Test("with 4 workers and one replica no worker has opened another's experts")
    func nobodyOpensForeignExperts() throws {
        let bench = try Workbench("shards")
        try bench.makeModel()
        try bench.makeJob(groups: 32, groupSize: 2, tokens: 32)
        let cluster = try bench.startCluster(workers: 4)
        defer { cluster.stop() }
        let submitted = try bench.apus("submit", "job.yaml", "--watch")
        try #require(submitted.status == 0, "\(submitted.errors)")
        let workers = try finalCounts(bench)
        try #require(workers.count == 4)
        var all: Set<Int> = []
        for worker in workers {
            let shard = try #require(worker.shards?.first)
            let held = numbers(shard.experts ?? "")
            #expect(!held.isEmpty)
            #expect(numbers(shard.opened_experts ?? "") == held, "a worker opened experts that it does not hold")
            #expect(all.isDisjoint(with: held))
            all.formUnion(held)
            let counters = try #require(worker.counters)
            #expect(counters.resident_expert_byte_count ?? 0 > 0)
            #expect(counters.tokens_dispatched ?? 0 > 0)
            #expect(counters.tokens_served ?? 0 > 0)
            #expect(counters.exchange_bytes_sent ?? 0 > 0)
        }
        #expect(all.count == 16, "the model has 16 experts")
    }
}
