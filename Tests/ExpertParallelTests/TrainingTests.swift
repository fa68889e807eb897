// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import ClusterTransport
import ExpertParallel
import Foundation
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

/// A few optimizer steps of a tiny model over several processes' worth of members on an in-memory network.
struct TrainingRun: Sendable {
    let checkpoint: Checkpoint
    let compute: ComputeType
    /// Expert to holder.
    let placement: @Sendable (_ expert: Int, _ members: Int) -> Int
    var auxiliary = 0.01
    var waveCells = 3
    /// Steps that have no cell at all.
    var emptySteps: Set<Int> = []
    /// Over ZeroMQ with these limits; nil: in memory.
    var limits: ChannelLimits?

    /// State checksums of all segments and experts after `steps`, and the losses.
    func run(members count: Int, threads: Int, steps: Int) throws -> (state: [String: UInt32], losses: [Double]) {
        let cluster =
            try limits.map { try TestCluster(zeroMQ: count, threads: threads, exchange: $0) }
            ?? TestCluster(count: count, threads: threads)
        defer { cluster.stop() }
        let configuration = checkpoint.configuration
        let owners = (0..<configuration.expertCount).map { placement($0, count) }
        cluster.publish(owners.map { [$0] }, epoch: 1)
        let identities = cluster.workers.map(\.identity)
        let parts = cluster.workers.indices.map { rank in
            Background { [self] in
                try member(cluster.workers[rank], identities, rank, owners, steps)
            }
        }
        var state: [String: UInt32] = [:]
        var losses = [Double](repeating: 0, count: steps)
        var cellLosses: [[Int: Double]] = .init(repeating: [:], count: steps)
        for part in parts {
            let result = try part.join()
            state.merge(result.state) { first, _ in first }
            for step in 0..<steps { cellLosses[step].merge(result.cells[step]) { first, _ in first } }
        }
        for step in 0..<steps { for cell in cellLosses[step].keys.sorted() { losses[step] += cellLosses[step][cell]! } }
        return (state, losses)
    }

    private func member(
        _ worker: TestWorker, _ identities: [PeerIdentity], _ rank: Int, _ owners: [Int], _ steps: Int
    ) throws -> (state: [String: UInt32], cells: [[Int: Double]]) {
        let configuration = checkpoint.configuration
        let loader = WeightLoader(checkpoint, compute: compute, pool: worker.pool)
        let shape = ExpertShape(
            compute: compute, expertCount: configuration.expertCount, hiddenSize: configuration.hiddenSize,
            intermediateSize: configuration.moeIntermediateSize)
        let owned = owners.indices.filter { owners[$0] == rank }
        let isMoE = configuration.expertCount > 0
        for layer in 0..<configuration.layerCount where configuration.isMoELayer(layer) {
            worker.store.add(
                model: TestCluster.model, policyVersion: 1, shape: shape,
                layers: [layer: try loader.experts(layer: layer, owned: owned).experts])
        }
        let experts = isMoE ? worker.exchange(shape) : nil
        let model = Qwen3Model(
            configuration: configuration, compute: compute, trunk: try loader.trunk(), experts: experts,
            pool: worker.pool)
        let member = TrainingMember(
            model: model, modelID: TestCluster.model, experts: experts, store: worker.store,
            training: worker.training, port: worker.port)
        _ = try member.begin(
            TrainingEpoch(number: 1, members: identities, rank: rank, experts: owned), version: 1,
            from: TrainingSnapshot(checkpoint, compute: compute, pool: worker.pool))
        var cells: [[Int: Double]] = []
        var data = 0
        for step in 0..<steps {
            let all = emptySteps.contains(step) ? [] : Self.cells(configuration, step: data)
            let ranges = identities.indices.map { rank in
                all.count * rank / identities.count..<all.count * (rank + 1) / identities.count
            }
            let tokens = Double(all.reduce(0) { $0 + $1.scored.reduce(0) { $0 + $1.count } })
            let sealed = try member.gradients(
                TrainingStepOrder(
                    version: member.version, cells: Array(all[ranges[rank]]), ranges: ranges, waveCells: waveCells,
                    temperature: 1, auxiliaryCoefficient: isMoE ? auxiliary : 0)
            ) { _, scores, _ in
                CellObjective(
                    gradients: scores.map { _ in RowGradient(logProb: Float(-1 / tokens)) },
                    statistics: [scores.reduce(0) { $0 - Double($1.logProb) / tokens }])
            }
            #expect(sealed.problem == nil)
            cells.append(Dictionary(uniqueKeysWithValues: sealed.cells.map { ($0.index, $0.sums[0]) }))
            if all.isEmpty {
                #expect(sealed.segments.allSatisfy { $0.sumOfSquares == 0 }, "the last step's gradient is still there")
                #expect(sealed.experts.allSatisfy { $0.sumOfSquares == 0 })
                let before = member.ownSegments.map(\.state.checksum) + member.ownExperts.map(\.state.checksum)
                #expect(member.skip() == before)
                continue
            }
            data += 1
            // A coordinator would add up the norms; a fixed factor shows clipping here.
            _ = try member.apply(
                AdamWStep(
                    number: data, learningRate: 3e-3, gradientScale: 0.75,
                    settings: AdamWSettings(weightDecay: 0.1)))
        }
        var state: [String: UInt32] = [:]
        for (index, segment) in member.ownSegments { state["segment \(index)"] = segment.checksum }
        for (id, expert) in member.ownExperts { state["expert \(id.layer).\(id.expert)"] = expert.checksum }
        return (state, cells)
    }

    /// Nine cells of one to three sequences of unequal lengths; the same data in every step but the first tokens.
    static func cells(_ configuration: Qwen3Configuration, step: Int) -> [TrainingCell] {
        (0..<9).map { cell in
            let sequences = (0...(cell % 3)).map { index in
                (0..<(4 + (cell * 7 + index * 5) % 19)).map { place in
                    Int32(
                        (place * place * 31 + cell * 17 + index * 5 + (place < 2 ? step : 0))
                            % configuration.vocabularySize)
                }
            }
            return TrainingCell(
                index: cell, sequences: sequences,
                scored: sequences.map { tokens in (2..<Int32(tokens.count)).map { $0 } })
        }
    }
}

@Suite("Training over several members", .serialized)
struct TrainingTests {
    private func withCheckpoint(_ preset: ModelPreset, _ body: (Checkpoint) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "apus-train-\(UUID())")
        defer { try? FileManager.default.removeItem(at: directory) }
        try CheckpointInitializer(
            preset: preset, layerCount: 2, seed: 5, storageType: .bfloat16,
            tokenizerDirectory: Fixtures.url("tokenizer/main")
        ).write(to: directory)
        try body(try Checkpoint(directory: directory))
    }

    @Test("1, 2 and 4 members, 1 or 2 threads, any placement: the same state", arguments: ComputeType.allCases)
    func membersLeaveNoTrace(compute: ComputeType) throws {
        try withCheckpoint(.tinyMoE) { checkpoint in
            let run = TrainingRun(checkpoint: checkpoint, compute: compute) { $0 % $1 }
            let alone = try run.run(members: 1, threads: 1, steps: 3)
            #expect(alone.losses[2] < alone.losses[0], "\(alone.losses)")
            #expect(try run.run(members: 1, threads: 2, steps: 3) == alone)
            #expect(try run.run(members: 2, threads: 1, steps: 3) == alone)
            #expect(try run.run(members: 4, threads: 2, steps: 3) == alone)
            let lonely = TrainingRun(checkpoint: checkpoint, compute: compute) { $0 == 3 ? $1 - 1 : 0 }
            #expect(try lonely.run(members: 3, threads: 1, steps: 3) == alone)
        }
    }

    @Test(
        "a trunk far larger than what may be under way between two members",
        arguments: [ModelPreset.tinyDense, .tinyMoE])
    func smallWindows(preset: ModelPreset) throws {
        try withCheckpoint(preset) { checkpoint in
            var run = TrainingRun(checkpoint: checkpoint, compute: .fp32) { $0 % $1 }
            let alone = try run.run(members: 1, threads: 1, steps: 2)
            var limits = ChannelLimits.exchange
            (limits.partByteCountMax, limits.messageByteCountMax) = (512 << 10, 512 << 10)
            (limits.windowByteCount, limits.queueByteCountMax) = (768 << 10, 768 << 10)
            run.limits = limits
            let trunk = ParameterLayout.trunk(of: checkpoint.configuration).count * 4
            #expect(trunk > 2 * limits.windowByteCount, "\(trunk)")
            #expect(try run.run(members: 3, threads: 1, steps: 2) == alone)
        }
    }

    @Test("a dense model, more members than cells", arguments: ComputeType.allCases)
    func dense(compute: ComputeType) throws {
        try withCheckpoint(.tinyDense) { checkpoint in
            let run = TrainingRun(checkpoint: checkpoint, compute: compute) { _, _ in 0 }
            let alone = try run.run(members: 1, threads: 1, steps: 2)
            #expect(alone.losses[1] < alone.losses[0])
            #expect(try run.run(members: 3, threads: 1, steps: 2) == alone)
            #expect(try run.run(members: 11, threads: 1, steps: 2) == alone)
        }
    }

    @Test(
        "a step without a cell has the gradient zero and leaves weights and moments as they are", arguments: [1, 2, 4])
    func emptyStep(members: Int) throws {
        for preset in [ModelPreset.tinyMoE, .tinyDense] {
            try withCheckpoint(preset) { checkpoint in
                var run = TrainingRun(checkpoint: checkpoint, compute: .bf16) { $0 % $1 }
                let straight = try run.run(members: 1, threads: 1, steps: 2)
                run.emptySteps = [0, 2, 3]
                let broken = try run.run(members: members, threads: 1, steps: 5)
                #expect(broken.state == straight.state)
                #expect(broken.losses == [0, straight.losses[0], 0, 0, straight.losses[1]])
            }
        }
    }

    @Test("other waves change the experts' rounding only")
    func waves() throws {
        try withCheckpoint(.tinyMoE) { checkpoint in
            var run = TrainingRun(checkpoint: checkpoint, compute: .fp32) { $0 % $1 }
            let losses = try run.run(members: 2, threads: 1, steps: 3).losses
            run.waveCells = 100
            for (a, b) in zip(try run.run(members: 2, threads: 1, steps: 3).losses, losses) {
                #expect(abs(a - b) < 1e-4 * b)
            }
        }
    }
}
