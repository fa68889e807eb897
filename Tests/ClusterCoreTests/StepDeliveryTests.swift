// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import Foundation
import RuntimeSupport
import SwiftProtobuf
import Testing

@testable import ClusterCore

/// How the cells of a step get to its members, and what becomes of what is lost or comes twice.
@Suite("Step delivery")
struct StepDeliveryTests {
    private func begun(rank: UInt32 = 1, version: UInt64 = 4) -> StepDelivery {
        var delivery = StepDelivery()
        delivery.begin(
            .with {
                $0.epoch = 3
                $0.rank = rank
                $0.version = version
            })
        return delivery
    }

    private func cells(_ indices: [UInt32], version: UInt64 = 4, epoch: UInt32 = 3, token: Int32 = 7) -> WireTrainCells
    {
        .with {
            $0.epoch = epoch
            $0.version = version
            $0.cells = indices.map { index in
                .with {
                    $0.index = index
                    $0.sequences = [.with { $0.tokens = Data(littleEndian: [token]) }]
                }
            }
        }
    }

    private func step(version: UInt64 = 4, ends: [UInt32] = [2, 5]) -> WireTrainStep {
        .with {
            $0.epoch = 3
            $0.version = version
            $0.rangeEnds = ends
        }
    }

    private func question(_ version: UInt64 = 4) -> WireStepQuestion {
        .with {
            $0.epoch = 3
            $0.version = version
        }
    }

    @Test("a step is handed over once, when all of the member's own cells are there, in whatever order they come")
    func whole() {
        var delivery = begun()
        #expect(delivery.take(cells([4])) == nil)
        #expect(delivery.take(step()) == nil)
        #expect(delivery.held(question()).cells == [4])
        #expect(delivery.take(cells([4, 2])) == nil)
        let whole = delivery.take(cells([3]))
        #expect(whole?.cells.map(\.index) == [2, 3, 4])
        #expect(whole?.byteCount == 12)
        #expect(delivery.held(question()).isWhole)
        // All of it again, as after an answer that was lost: nothing is kept and nothing is handed over twice.
        #expect(delivery.take(cells([2, 3, 4])) == nil && delivery.take(step()) == nil)
        #expect(delivery.held(question()).isWhole)
    }

    @Test("a step never contains a cell of an earlier one: what is missing is missed")
    func versions() {
        var delivery = begun()
        _ = delivery.take(cells([2, 3, 4]))
        #expect(delivery.take(step()) != nil)
        // A repeat that was under way while the step was taken.
        #expect(delivery.take(cells([2, 3, 4])) == nil)
        // Of the next step one cell is lost.
        #expect(delivery.take(cells([2, 4], version: 5, token: 9)) == nil)
        #expect(delivery.take(step(version: 5)) == nil)
        #expect(!delivery.held(question(5)).isWhole)
        #expect(delivery.held(question(5)).cells == [2, 4])
        let whole = delivery.take(cells([3], version: 5, token: 9))
        #expect(whole?.cells.map { $0.sequences[0].tokens.int32Elements } == [[9], [9], [9]])
        // Whatever comes of the earlier one is nothing any more.
        #expect(delivery.take(cells([2])) == nil && delivery.held(question()).isWhole)
    }

    @Test("other epochs, ranks that the step does not know, members without cells")
    func strangers() {
        var delivery = begun()
        #expect(delivery.take(cells([2, 3, 4], epoch: 2)) == nil)
        #expect(delivery.held(question()).cells.isEmpty)
        #expect(delivery.take(step(ends: [5])) == nil)
        #expect(delivery.take(step(ends: [5, 5]))?.cells.isEmpty == true)
        delivery = begun()
        _ = delivery.take(cells([2, 3]))
        delivery.end(epoch: 3)
        #expect(delivery.take(cells([2, 3, 4])) == nil && delivery.take(step()) == nil)
        delivery.begin(
            .with {
                $0.epoch = 4
                $0.version = 2
            })
        _ = delivery.take(cells([0], version: 2, epoch: 4))
        #expect(
            delivery.held(
                .with {
                    $0.epoch = 4
                    $0.version = 2
                }
            ).cells == [0])
    }

    @Test("an order is carried out once, answered as often as it is asked, and again after an answer that was none")
    func orders() {
        var orders = TrainingOrders()
        func verdict(_ kind: TrainingOrders.Kind, _ epoch: UInt32, _ version: UInt64) -> String {
            switch orders.take(kind, epoch: epoch, version: version) {
            case .carryOut: "carry out"
            case .answer(let answer): answer.trainFailed.reason
            case .ignore: "ignore"
            }
        }
        func answer(_ text: String) -> WireEnvelope { .with { $0.trainFailed.reason = text } }
        #expect(verdict(.step, 2, 0) == "ignore", "no epoch has begun")
        #expect(verdict(.begin, 2, 0) == "carry out")
        #expect(verdict(.begin, 2, 0) == "ignore", "it is under way")
        orders.finish(.begin, epoch: 2, version: 0, answer("ready"))
        #expect(verdict(.begin, 2, 0) == "ready")
        #expect(verdict(.snapshot, 2, 0) == "carry out")
        orders.finish(.snapshot, epoch: 2, version: 0, nil)
        #expect(verdict(.snapshot, 2, 0) == "carry out", "a checkpoint that failed is written again")
        #expect(verdict(.step, 2, 1) == "carry out")
        #expect(verdict(.begin, 3, 1) == "carry out")
        orders.finish(.step, epoch: 2, version: 1, answer("late"))
        #expect(orders.answer(.step, epoch: 2, version: 1) == nil)
        orders.end(epoch: 3)
        #expect(verdict(.step, 3, 1) == "ignore")
        #expect(verdict(.begin, 4, 1) == "carry out")
    }

    @Test("whoever has not sealed is asked, not sent everything again; what is missing is sent once it stops coming")
    func questions() {
        var stage = TrainingStage(workers: ["a", "b"])
        stage.actors["b"]!.losesSteps = true
        stage.actors["b"]!.held = nil
        stage.admit(steps: 1, every: 1)
        func lines(_ beginning: String) -> [String] { stage.transcript.filter { $0.hasPrefix(beginning) } }
        #expect(lines("send step") == ["send step 1 to [1, 2]"])
        // It has everything and computes: twenty seconds cost four questions and no cell.
        stage.pass(20_500)
        #expect(lines("b is asked").count == 4 && lines("a is asked").isEmpty)
        #expect(lines("send step").count == 1)
        // Three cells are there, later five: the rest is on its way.
        for held: [UInt32] in [[0, 1, 2], [0, 1, 2, 3, 5]] {
            stage.actors["b"]!.held = held
            stage.pass(5100)
        }
        #expect(lines("send step").count == 1)
        stage.actors["b"]!.losesSteps = false
        stage.pass(5100)
        #expect(lines("send step").last == "send step 1 to [2] without cells [0, 1, 2, 3, 5]")
        #expect(stage.job.committed[1] != nil)
    }
}
