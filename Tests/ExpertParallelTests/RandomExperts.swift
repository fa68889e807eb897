// SPDX-License-Identifier: Apache-2.0
import CKernels
import ExpertParallel
import Qwen3
import RuntimeSupport
import Tensors

/// A repeatable source of test data.
struct TestRandom: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_F491_4F6C_DD1D
    }

    mutating func float() -> Float { Float.random(in: -1...1, using: &self) }
}

/// Random experts of some layers, all of them.
struct RandomExperts: Sendable {
    let shape: ExpertShape
    let layers: [Int: [SwiGLUWeights?]]

    init(_ shape: ExpertShape, layerCount: Int = 1, seed: UInt64) throws {
        self.shape = shape
        var random = TestRandom(seed)
        var layers: [Int: [SwiGLUWeights?]] = [:]
        for layer in 0..<layerCount {
            layers[layer] = try (0..<shape.expertCount).map { _ in try Self.expert(shape, &random) }
        }
        self.layers = layers
    }

    private static func expert(_ shape: ExpertShape, _ random: inout TestRandom) throws -> SwiGLUWeights {
        let (width, inner) = (shape.hiddenSize, shape.intermediateSize)
        return SwiGLUWeights(
            gate: try matrix(shape.compute, inner, width, &random),
            up: try matrix(shape.compute, inner, width, &random),
            down: try matrix(shape.compute, width, inner, &random))
    }

    private static func matrix(
        _ compute: ComputeType, _ outputs: Int, _ inputs: Int, _ random: inout TestRandom
    ) throws -> PackedMatrix {
        let storage = try PageBuffer(
            byteCount: PackedMatrix.byteCount(compute, outputs: outputs, inputs: inputs))
        let matrix = PackedMatrix(compute, outputs: outputs, inputs: inputs, in: storage, at: 0)
        let values = (0..<outputs * inputs).map { _ in random.float() }
        values.withUnsafeBytes { matrix.pack(from: $0.baseAddress!, stored: .float32, rows: 0..<outputs) }
        return matrix
    }

    /// Only the given experts, nil elsewhere.
    func layers(owned: Set<Int>) -> [Int: [SwiGLUWeights?]] {
        layers.mapValues { experts in experts.enumerated().map { owned.contains($0) ? $1 : nil } }
    }

    /// What one process that holds everything computes, as bits.
    func expected(_ input: RoutedRows, layer: Int = 0) throws -> [UInt32] {
        let exchange = LocalExpertExchange(
            layers: layers.mapValues { ExpertWeights(experts: $0) }, compute: shape.compute,
            hiddenSize: shape.hiddenSize, intermediateSize: shape.intermediateSize,
            pool: ComputePool(threadCount: 1))
        return try input.run(exchange, layer: layer)
    }
}

/// Rows with their routing.
struct RoutedRows: Sendable {
    let shape: ExpertShape
    let assignment: ExpertAssignment
    /// `[rows, C]` of the compute type.
    let tokens: [UInt8]

    /// - Parameter topK: experts of each row.
    init(_ shape: ExpertShape, rowCount: Int, topK: Int, seed: UInt64) {
        self.shape = shape
        var random = TestRandom(seed)
        var assignment = ExpertAssignment()
        for _ in 0..<rowCount {
            let experts = (0..<shape.expertCount).shuffled(using: &random).prefix(topK).sorted()
            assignment.experts += experts.map { Int32($0) }
            assignment.weights += experts.map { _ in Float.random(in: 0.01...1, using: &random) }
            assignment.rowStarts.append(Int32(assignment.experts.count))
        }
        self.assignment = assignment
        let values = (0..<rowCount * shape.hiddenSize).map { _ in random.float() }
        switch shape.compute {
        case .fp32: tokens = values.withUnsafeBytes { Array($0) }
        case .bf16:
            var short = [UInt16](repeating: 0, count: values.count)
            ck_f32_to_bf16(values, Int64(values.count), &short)
            tokens = short.withUnsafeBytes { Array($0) }
        }
    }

    /// The exchange's result as bits. Rows that were not written show as a pattern no sum has.
    func run(_ exchange: any ExpertExchange, layer: Int = 0) throws -> [UInt32] {
        let count = assignment.rowCount * shape.hiddenSize
        let combined = UnsafeMutablePointer<Float>.allocate(capacity: count)
        combined.initialize(repeating: .nan, count: count)
        defer { combined.deallocate() }
        let input = UnsafeMutableRawPointer.allocate(byteCount: tokens.count, alignment: 64)
        defer { input.deallocate() }
        input.copyMemory(from: tokens, byteCount: tokens.count)
        try exchange.exchange(layer: layer, tokens: input, assignment: assignment, combined: combined)
        return (0..<count).map { combined[$0].bitPattern }
    }
}
