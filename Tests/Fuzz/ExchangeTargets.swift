// SPDX-License-Identifier: Apache-2.0
import ClusterTransport
import Qwen3
import Tensors

@testable import ExpertParallel

let exchangeTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "exchange-frames",
        seeds: {
            let topic = ExchangeTopic(model: 1, policyVersion: 2, layer: 3)
            var assignment = ExpertAssignment()
            assignment.rowStarts = [0, 2, 3]
            assignment.experts = [0, 5, 4]
            assignment.weights = [0.5, 0.5, 1]
            let rows = Payload([UInt8](repeating: 1, count: 2 * 4 * 4))
            let subtrees = [ExpertSubtree(first: 0, size: 4), ExpertSubtree(first: 4, size: 4)]
            let dispatch = Dispatch(
                topic: topic, request: 9, compute: .fp32, width: 4, subtrees: subtrees, assignment: assignment,
                tokens: [rows])
            let backward = Dispatch(
                topic: topic, request: 9, compute: .fp32, width: 4, subtrees: subtrees, assignment: assignment,
                tokens: [rows],
                backward: BackwardShare(trainingEpoch: 1, cell: 1, rowNumbers: [0, 1], gradients: [rows]))
            let sums = Payload([UInt8](repeating: 0, count: 3 * 4 * 4))
            let messages = [
                dispatch.encode(), backward.encode(),
                Combine.encode(dispatch, status: .ok, sums: [sums], rowCount: 3),
                Combine.encode(dispatch, status: .notHeld, sums: [], rowCount: 0),
                Combine.encode(backward, status: .ok, sums: [sums], rowCount: 3, entryGradients: [1, 2, 3]),
                TrainingFrame(
                    kind: .gradient, model: 1, epoch: 1, version: 1, index: 2, first: 0, size: 4, offset: 8,
                    payload: rows
                ).encode(),
                TrainingFrame(kind: .ready, model: 1, epoch: 1, version: 1, index: 2).encode(),
            ]
            return messages.map { Pieces.join($0.map(\.bytes)) }
        },
        run: { bytes in
            var pieces = Pieces.split(bytes)
            guard let head = pieces.first, head.count == ExchangeHeader.byteCount else { return }
            // A peer that means harm computes a checksum as well as we do.
            let rest = pieces.dropFirst().map { Payload($0) }
            ExchangeHeader.seal(&pieces[0], before: rest)
            let parts = [Payload(pieces[0])] + rest
            if let dispatch = try? Dispatch(parts) {
                for row in 0..<dispatch.assignment.rowCount { _ = dispatch.touched(row: row) }
                dispatch.withRows { require($0.count == dispatch.assignment.rowCount, "all rows came") }
                dispatch.withGradientRows { rows in
                    require(
                        dispatch.backward == nil || rows.count == dispatch.assignment.rowCount, "all gradients came")
                }
                require((try? Dispatch(dispatch.encode())) != nil, "a dispatch reads back")
            }
            _ = try? Combine(parts)
            if let frame = try? TrainingFrame(parts) {
                require((try? TrainingFrame(frame.encode())) != nil, "a training frame reads back")
            }
        })
]
