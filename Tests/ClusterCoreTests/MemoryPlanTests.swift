// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import ClusterProtocol
import SwiftProtobuf
import Testing

@Suite("Memory plans")
struct MemoryPlanTests {
    /// A dense model in training: 100 bytes of trunk, 10 of each cell under way.
    private static func plan(threads: Int, lanesMax: Int = 0, memory: UInt64?) -> MemoryPlan {
        let model = WireModelDescription.with {
            $0.trunkByteCount = 100
            $0.isTrained = true
            $0.training = .with {
                $0.liveCell = 10
                $0.lanesMax = UInt32(lanesMax)
            }
        }
        return MemoryPlan([model], WireEngineSettings(), workerCount: 1, threadCount: threads, memory: memory)
    }

    @Test("training computes as many cells at once as there are threads and memory for, and one at least")
    func cells() {
        #expect(Self.plan(threads: 8, memory: nil).laneCount == 8)
        #expect(Self.plan(threads: 8, memory: nil).byteCount == 180)
        #expect(Self.plan(threads: 8, memory: 1000).laneCount == 8)
        #expect(Self.plan(threads: 8, memory: 135).laneCount == 3)
        #expect(Self.plan(threads: 8, memory: 135).byteCount == 130)
        #expect(Self.plan(threads: 8, memory: 50).laneCount == 1)
        #expect(Self.plan(threads: 8, memory: 50).byteCount == 110)
        #expect(Self.plan(threads: 8, lanesMax: 1, memory: 1000).laneCount == 1)
        #expect(MemoryPlan([], WireEngineSettings(), workerCount: 1, threadCount: 8, memory: 5).laneCount == 0)
    }
}
