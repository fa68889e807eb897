// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import ExpertParallel
import Qwen3
import Tensors
import Testing

@Suite struct ExchangeFrameTests {
    @Test func aDispatchSurvivesTheWire() throws {
        var assignment = ExpertAssignment()
        assignment.rowStarts = [0, 2]
        assignment.experts = [1, 5]
        assignment.weights = [0.25, 0.75]
        let tokens = [Payload([UInt8](repeating: 7, count: 8))]
        let dispatch = Dispatch(
            topic: ExchangeTopic(model: 3, policyVersion: 9, layer: 2), request: 11, compute: .bf16, width: 4,
            subtrees: [ExpertSubtree(first: 0, size: 2), ExpertSubtree(first: 4, size: 4)], assignment: assignment,
            tokens: tokens)
        let read = try Dispatch(dispatch.encode())
        #expect(read.topic == dispatch.topic)
        #expect(read.request == 11)
        #expect(read.assignment.experts == [1, 5])
        #expect(read.touched(row: 0) == [0, 1])
    }
}
