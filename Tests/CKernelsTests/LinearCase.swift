// SPDX-License-Identifier: Apache-2.0
internal import CKernels

/// A linear layer with its inputs, rounded to the compute type so that references see what the kernel sees.
struct LinearCase {
    let compute: ck_compute
    let outputs: Int
    let inputs: Int
    let rows: Int
    let stride: Int
    /// [outputs, inputs] and [rows, stride].
    let weights: [Float]
    let x: [Float]

    init(_ compute: ck_compute, outputs: Int, inputs: Int, rows: Int, padding: Int = 0, weights: [Float], x: [Float]) {
        self.compute = compute
        (self.outputs, self.inputs, self.rows, stride) = (outputs, inputs, rows, inputs + padding)
        let round = { (v: Float) in
            compute == CK_FP32 ? v : ScalarModel.widened(ScalarModel.roundedToBF16(v))
        }
        self.weights = weights.map(round)
        self.x = x.map(round)
    }

    init(_ compute: ck_compute, outputs: Int, inputs: Int, rows: Int, padding: Int = 0, seed: UInt64) {
        var numbers = TestNumbers(seed)
        self.init(
            compute, outputs: outputs, inputs: inputs, rows: rows, padding: padding,
            weights: numbers.floats(outputs * inputs), x: numbers.floats(rows * (inputs + padding)))
    }

    /// Packed weights, with 64 guard bytes behind.
    func packed() -> [UInt8] {
        let byteCount = ck_packed_byte_count(compute, Int64(outputs), Int64(inputs))
        var bytes = [UInt8](repeating: 0xa5, count: byteCount + 64)
        ck_pack(compute, CK_STORED_F32, weights, Int64(outputs), Int64(inputs), 0, Int64(outputs), &bytes)
        return bytes
    }

    /// x in the compute type.
    func input() -> [UInt8] { Self.stored(compute, x) }

    static func stored(_ compute: ck_compute, _ values: [Float]) -> [UInt8] {
        if compute == CK_FP32 { return values.withUnsafeBytes { Array($0) } }
        return values.map(ScalarModel.roundedToBF16).withUnsafeBytes { Array($0) }
    }

    /// y of all rows (or of `range`) for outputs [begin, end); untouched elements are `untouched`.
    func run(rows range: Range<Int>? = nil, outputs part: Range<Int>? = nil, untouched: Float = 77) -> [Float] {
        let range = range ?? 0..<rows
        let part = part ?? 0..<outputs
        var y = [Float](repeating: untouched, count: range.count * outputs)
        let packed = packed()
        let elementSize = compute == CK_FP32 ? 4 : 2
        input().withUnsafeBytes { input in
            ck_linear(
                compute, packed, Int64(outputs), Int64(inputs),
                input.baseAddress! + range.lowerBound * stride * elementSize, Int64(stride), Int64(range.count),
                &y, Int64(outputs), Int64(part.lowerBound), Int64(part.upperBound))
        }
        return y
    }

    /// Fused SwiGLU of all rows with this case's weights as gate and `up`'s as up, widened to fp32.
    func runSwiGLU(up: LinearCase, outputs part: Range<Int>? = nil) -> [Float] {
        let part = part ?? 0..<outputs
        let elementSize = compute == CK_FP32 ? 4 : 2
        var out = [UInt8](repeating: 0, count: rows * outputs * elementSize)
        ck_swiglu(
            compute, packed(), up.packed(), Int64(outputs), Int64(inputs), input(), Int64(stride), Int64(rows), &out,
            Int64(outputs), Int64(part.lowerBound), Int64(part.upperBound))
        return Self.widened(compute, out)
    }

    static func widened(_ compute: ck_compute, _ bytes: [UInt8]) -> [Float] {
        bytes.withUnsafeBytes { raw in
            compute == CK_FP32
                ? Array(raw.bindMemory(to: Float.self))
                : raw.bindMemory(to: UInt16.self).map(ScalarModel.widened)
        }
    }

    /// The contract, element by element.
    func model() -> [Float] {
        (0..<rows).flatMap { row in
            (0..<outputs).map { output in
                ScalarModel.dot(
                    compute, weights[output * inputs..<(output + 1) * inputs],
                    x[row * stride..<row * stride + inputs])
            }
        }
    }
}
