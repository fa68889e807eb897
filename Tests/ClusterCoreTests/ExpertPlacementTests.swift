// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import Testing

@Suite struct ExpertPlacementTests {
    @Test(arguments: [1, 2, 3, 4, 7], [1, 2, 3]) func everyExpertGetsItsCopies(workerCount: Int, replicas: Int) {
        var placement = ExpertPlacement(expertCount: 12, replicas: replicas)
        let workers = (1...WorkerNumber(workerCount)).map { $0 }
        placement.setMembers(workers)
        for expert in 0..<12 {
            let holders = workers.filter { placement.targets[$0]!.contains(expert) }
            #expect(holders.count == min(replicas, workerCount), "expert \(expert)")
        }
        let loads = workers.map { placement.targets[$0]!.count }
        #expect(loads.max()! - loads.min()! <= 2)
        #expect(!placement.isComplete)
        for worker in workers { placement.report(worker, holds: placement.targets[worker]!) }
        #expect(placement.isSettled)
    }

    @Test func aLossMovesOnlyWhatWasLost() {
        var placement = ExpertPlacement(expertCount: 16, replicas: 1)
        placement.setMembers([1, 2, 3, 4])
        for worker in placement.targets.keys { placement.report(worker, holds: placement.targets[worker]!) }
        let before = placement
        placement.setMembers([1, 2, 4])
        for worker: WorkerNumber in [1, 2, 4] {
            #expect(Set(placement.targets[worker]!).isSuperset(of: before.targets[worker]!))
        }
        #expect(!placement.isComplete)
        #expect(placement.epoch > before.epoch)
    }

    @Test func aNewcomerCopiesBeforeOthersLetGo() {
        var placement = ExpertPlacement(expertCount: 8, replicas: 1)
        placement.setMembers([1])
        placement.report(1, holds: 0..<8)
        placement.setMembers([1, 2])
        #expect(placement.wanted(1) == Array(0..<8))  // still needed
        #expect(placement.wanted(2) == placement.targets[2])
        placement.report(2, holds: placement.targets[2]!)
        #expect(placement.wanted(1) == placement.targets[1])
        #expect(placement.routes[placement.targets[2]![0]].first == 2)
    }

    @Test func rangesAreWrittenShort() { #expect(rangeText([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8") }
}
