// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import CoordinatorRuntime

/// What is too large for a control message gets to where it is meant for, or is refused when its job is submitted.
@Suite("Sizes of what workers are sent")
struct StepSenderTests {
    /// 48 sparse layers, 8 experts of 128 a token: 6.6 MB for a cell of 16,384 tokens.
    private func replayed(_ index: UInt32, tokens: Int = 16_384) -> WireTrainCell {
        .with {
            $0.index = index
            $0.sequences = [
                .with {
                    $0.tokens = Data(repeating: UInt8(index), count: 4 * tokens)
                    $0.scored = Data(repeating: 1, count: 4 * tokens)
                    $0.old = Data(repeating: 2, count: 4 * tokens)
                    $0.routes = Data(repeating: UInt8(index + 1), count: 48 * 8 * tokens)
                }
            ]
        }
    }

    private func step(_ version: UInt64, _ cells: [WireTrainCell]) -> [WireEnvelope] {
        cells.map { cell in
            .with {
                $0.trainCells.epoch = 3
                $0.trainCells.version = version
                $0.trainCells.cells = [cell]
            }
        } + [
            .with {
                $0.trainStep.epoch = 3
                $0.trainStep.version = version
                $0.trainStep.rangeEnds = [UInt32(cells.count)]
            }
        ]
    }

    @Test("cells of routing replay at 30B shapes, larger than a control message, arrive whole and are handed over")
    func largeCells() throws {
        let network = InMemoryNetwork()
        defer { network.close() }
        let inbox = BoundedQueue<ClusterTransport.Message>(itemCountMax: 1024, byteCountMax: 8 << 20)
        let worker = InMemoryTransport(
            identity: PeerIdentity("worker"), network: network,
            deliveries: ChannelDeliveries(control: .direct { _ in }, exchange: .direct { _ in }, bulk: .queue(inbox)))
        let coordinator = InMemoryTransport(
            identity: PeerIdentity("coordinator"), network: network, deliveries: .direct { _ in })
        try coordinator.connect(
            to: PeerAddress(
                identity: worker.identity, endpoints: ChannelEndpoints(control: "", exchange: "", bulk: "")))
        let trouble = BoundedQueue<String>(itemCountMax: 16, byteCountMax: 1 << 20)
        let sender = StepSender(coordinator) { _ = trouble.tryPush($0) }
        defer { sender.close() }
        let messages = step(4, [replayed(0), replayed(1)])
        #expect(messages[0].encoded().count > WireEnvelope.byteCountMax)
        sender.send(messages, to: worker.identity)
        var reassembler = BulkReassembler(transferByteCountMax: 1 << 30, totalByteCountMax: 2 << 30)
        var delivery = StepDelivery()
        delivery.begin(
            .with {
                $0.epoch = 3
                $0.version = 4
            })
        var whole: StepDelivery.Whole?
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 60_000)
        while whole == nil {
            let message = try #require(inbox.pop(until: deadline))
            guard let transfer = try reassembler.accept(message) else { continue }
            let envelope = try WireEnvelope(encoded: transfer.content, byteCountMax: .max)
            switch envelope.body {
            case .trainCells(let cells)?: whole = delivery.take(cells)
            case .trainStep(let step)?: whole = delivery.take(step)
            default: Issue.record("\(envelope.kind)")
            }
        }
        #expect(whole?.cells == [replayed(0), replayed(1)])
        // One who is not there is named, and asked later what it has.
        sender.send(messages, to: PeerIdentity("nobody"))
        let line = try #require(trouble.pop(until: deadline))
        #expect(line.contains("step 5 were not sent to nobody"), "\(line)")
    }

    @Test("a row that no worker can be given is refused with its name when the job is submitted")
    func largeRows() throws {
        func submission(_ json: Int) -> PreparedSubmission {
            PreparedSubmission(
                admitted: .with { $0.groupSize = 8 }, settings: WireGenerationSettings(),
                rows: [
                    JobRow(group: 0, id: "small", tokens: [1, 2], json: "{}"),
                    JobRow(group: 1, id: "r-17", tokens: [1, 2], json: String(repeating: "x", count: json)),
                ], warnings: [])
        }
        try submission(4_000_000).checkGrants()
        let error = #expect(throws: SubmissionError.self) { try submission(5_000_000).checkGrants() }
        #expect(error?.exitCode == 3)
        #expect(error?.description.hasPrefix("row 'r-17' of the data takes 50") == true, "\(error?.description ?? "")")
    }
}
