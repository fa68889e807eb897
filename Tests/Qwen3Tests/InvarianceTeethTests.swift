// SPDX-License-Identifier: Apache-2.0
import CKernels
import Checkpoints
import Qwen3
import RuntimeSupport
import Tensors
import TestSupport
import Testing

extension InvarianceTests {
    // The model of ``arrivalOrder()`` has three experts per token: the sum of two has no order.

    /// Whether the check of ``InvarianceTests`` sees a difference between one way of cutting the work and another.
    private func differs(_ name: String, _ compute: ComputeType, length: Int, chunk: Int, copies: Int) throws -> Bool {
        let runner = try Runner(name, compute)
        let vocabulary = runner.model.configuration.vocabularySize
        let sequence = (0..<length).map { Int32(($0 * 131 + 3) % vocabulary) }
        let alone = try runner.logits([sequence], chunk: 1)[0]
        return try runner.logits(Array(repeating: sequence, count: copies), chunk: chunk).contains { $0 != alone }
    }

    @Test("batch-dependent tiles are found", arguments: cases)
    func batchDependentTiles(name: String, compute: ComputeType) throws {
        #expect(try !differs(name, compute, length: 12, chunk: 4, copies: 3))
        ck_plant_fault(CK_FAULT_BATCH_DEPENDENT_TILES)
        defer { ck_plant_fault(CK_FAULT_NONE) }
        #expect(try differs(name, compute, length: 12, chunk: 4, copies: 3))
    }

    // In bf16 compute the rounding of an attention's output may hide its last bit.
    @Test("chunk-relative attention segments are found", arguments: models)
    func chunkRelativeSegments(name: String) throws {
        let (length, compute) = (300, ComputeType.fp32)
        #expect(try !differs(name, compute, length: length, chunk: 100, copies: 1))
        ck_plant_fault(CK_FAULT_CHUNK_RELATIVE_SEGMENTS)
        defer { ck_plant_fault(CK_FAULT_NONE) }
        #expect(try differs(name, compute, length: length, chunk: 100, copies: 1))
    }

    @Test("kernels that do not flush denormals are found")
    func denormals() {
        let chosen = String(cString: ck_isa())
        defer {
            ck_plant_fault(CK_FAULT_NONE)
            ck_select_isa(chosen)
        }
        let names: [String] = ["reference", "avx2", "avx512", "avx512bf16"]
        let sets = names.filter { ck_select_isa($0) == 0 }
        func fingerprints() -> Set<String> {
            Set(
                sets.map { name in
                    ck_select_isa(name)
                    return NumericsFingerprint.compute()
                })
        }
        let honest = fingerprints()
        #expect(honest.count == 1, "instruction sets differ: \(honest)")
        ck_plant_fault(CK_FAULT_NO_FLUSH_TO_ZERO)
        // The bf16 instruction flushes whatever the mode says, so hosts with and without it would part ways; and every
        // host parts ways with the honest ones.
        #expect(fingerprints().isDisjoint(with: honest))
    }

    @Test("expert sums in order of arrival are found")
    func arrivalOrder() throws {
        let checkpoint = try Checkpoint(directory: Fixtures.url("models/moe_nonorm_sparse2_fp32"))
        let configuration = checkpoint.configuration
        let pool = ComputePool(threadCount: 1)
        let loader = WeightLoader(checkpoint, compute: .fp32, pool: pool)
        var layers: [Int: ExpertWeights] = [:]
        for layer in (0..<configuration.layerCount).filter(configuration.isMoELayer) {
            layers[layer] = try loader.experts(layer: layer, owned: 0..<configuration.expertCount)
        }
        func logits(_ exchange: any ExpertExchange, chunk: Int) throws -> [[UInt32]] {
            let model = Qwen3Model(
                configuration: configuration, compute: .fp32, trunk: try loader.trunk(), experts: exchange, pool: pool)
            let runner = Runner(model: model, pageSize: 16)
            return try runner.logits(Self.sequences(count: 3, vocabulary: configuration.vocabularySize), chunk: chunk)
        }
        let honest = LocalExpertExchange(
            layers: layers, compute: .fp32, hiddenSize: configuration.hiddenSize,
            intermediateSize: configuration.moeIntermediateSize, pool: pool)
        #expect(try logits(honest, chunk: 1) == logits(honest, chunk: 16))
        let faulty = ArrivalOrderExchange(layers, configuration, pool)
        #expect(try logits(faulty, chunk: 1) != logits(faulty, chunk: 16))
    }
}

/// Adds the outputs of a token's experts as they come, one after the other, instead of along the tree; and they come in
/// another order when the batch is another.
private final class ArrivalOrderExchange: ExpertExchange {
    private let layers: [Int: ExpertWeights]
    private let width: Int
    private let computation: ExpertComputation

    init(_ layers: [Int: ExpertWeights], _ configuration: Qwen3Configuration, _ pool: ComputePool) {
        self.layers = layers
        width = configuration.hiddenSize
        computation = ExpertComputation(
            compute: .fp32, hiddenSize: configuration.hiddenSize, intermediateSize: configuration.moeIntermediateSize,
            pool: pool)
    }

    func exchange(
        layer: Int, tokens: UnsafeRawPointer, assignment: ExpertAssignment, combined: UnsafeMutablePointer<Float>
    ) throws {
        let weights = layers[layer]!
        let leaves = weights.experts.indices.map { ExpertSubtree(first: $0, size: 1) }
        var arrived: [[[Float]]] = Array(repeating: [], count: assignment.rowCount)
        try computation.run(
            weights: weights, rows: (0..<assignment.rowCount).map { tokens + $0 * width * 4 }, assignment: assignment,
            subtrees: { _ in leaves }, priority: .local
        ) { row, _, sum in arrived[row].append(Array(UnsafeBufferPointer(start: sum, count: width))) }
        for row in 0..<assignment.rowCount {
            // A busy owner answers late: with many rows the first experts come last.
            let order = assignment.rowCount > 4 ? arrived[row].reversed() : arrived[row]
            for column in 0..<width { combined[row * width + column] = order.reduce(0) { $0 + $1[column] } }
        }
    }
}
