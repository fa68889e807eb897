// SPDX-License-Identifier: Apache-2.0
import Qwen3
import Tensors
import TestSupport
import Testing

@testable import ClusterTransport
@testable import ExpertParallel

@Suite struct ExchangeFrameTests {
    @Test func aDispatchSurvivesTheWire() throws {
        var assignment = ExpertAssignment()
        assignment.rowStarts = [0, 2]
        assignment.experts = [1, 5]
        assignment.weights = [0.25, 0.75]
        let tokens = [Payload([UInt8](repeating: 7, count: 8))]
        let dispatch = Dispatch(
            topic: ExchangeTopic(model: 3, policyVersion: 9, layer: 2), request: 11, compute: .bf16, width: 4,
            subtrees: [ExpertSubtree(first: 0, size: 2), ExpertSubtree(first: 4, size: 4)],
            assignment: assignment,
            tokens: tokens)
        let read = try Dispatch(dispatch.encode())
        #expect(read.topic == dispatch.topic)
        #expect(read.request == 11)
        #expect(read.assignment.experts == [1, 5])
        #expect(read.touched(row: 0) == [0, 1])
    }

    private static func dispatch(isBackward: Bool) -> Dispatch {
        var assignment = ExpertAssignment()
        assignment.rowStarts = [0, 2, 3]
        assignment.experts = [1, 5, 6]
        assignment.weights = [0.25, 0.75, 1]
        let rows = [Payload([UInt8](repeating: 7, count: 16))]
        return Dispatch(
            topic: ExchangeTopic(model: 3, policyVersion: 9, layer: 2), request: 11, compute: .bf16, width: 4,
            subtrees: [ExpertSubtree(first: 0, size: 2), ExpertSubtree(first: 4, size: 4)], assignment: assignment,
            tokens: rows,
            backward: isBackward
                ? BackwardShare(trainingEpoch: 1, cell: 2, rowNumbers: [0, 3], gradients: rows) : nil)
    }

    private static func combine(isBackward: Bool) -> [Payload] {
        Combine.encode(
            dispatch(isBackward: isBackward), status: .ok, sums: [Payload([UInt8](repeating: 3, count: 32))],
            rowCount: 2, entryGradients: isBackward ? [1, 2, 3] : [])
    }

    private static let frames: [(String, [Payload], @Sendable ([Payload]) throws -> Void)] = [
        ("dispatch", dispatch(isBackward: false).encode(), { _ = try Dispatch($0) }),
        ("backward", dispatch(isBackward: true).encode(), { _ = try Dispatch($0) }),
        ("combine", combine(isBackward: false), { _ = try Combine($0) }),
        ("backward combine", combine(isBackward: true), { _ = try Combine($0) }),
        (
            "training",
            TrainingFrame(
                kind: .gradient, model: 3, epoch: 1, version: 2, index: 4, first: 8, size: 4, offset: 12,
                payload: Payload([UInt8](repeating: 1, count: 64))
            ).encode(), { _ = try TrainingFrame($0) }
        ),
    ]

    @Test(
        "every truncation, change of a byte, missing, doubled or swapped part of a frame is refused", arguments: 0..<5)
    func damage(index: Int) throws {
        let (name, parts, decode) = Self.frames[index]
        try decode(parts)
        var count = 0
        func expectRefusal(_ damaged: [Payload]) {
            count += 1
            #expect(throws: FrameError.self, "\(name): \(damaged.map(\.bytes))") { try decode(damaged) }
        }
        for place in parts.indices {
            var damaged = parts
            for bytes in Damage.truncations(parts[place].bytes) {
                damaged[place] = Payload(bytes)
                expectRefusal(damaged)
            }
            for bytes in Damage.flips(parts[place].bytes) {
                damaged[place] = Payload(bytes)
                expectRefusal(damaged)
            }
            var fewer = parts
            fewer.remove(at: place)
            expectRefusal(fewer)
            expectRefusal(parts + [parts[place]])
        }
        expectRefusal([])
        expectRefusal(parts.reversed())
        #expect(count > 20_000)
    }
}
