// SPDX-License-Identifier: Apache-2.0
//
// Words of the kernels that only training runs, and of those that work element by element.
internal import CKernels
internal import RuntimeSupport

extension NumericsFingerprint {
    /// Kernels of the backward pass that have a compute type.
    static func backwardWords(
        _ compute: ComputeType, _ x: [Float], _ weights: [Float]
    ) -> [(kernel: String, hash: UInt32)] {
        [
            ("transposed-\(compute)", transposed(compute, x, weights)),
            ("swiglu-backward-\(compute)", swiGLUBackward(compute, x)),
            ("attention-backward-\(compute)", attentionBackward(compute)),
        ]
    }

    /// Products with weights packed the other way round, as dx and dW have them.
    private static func transposed(_ compute: ComputeType, _ x: [Float], _ weights: [Float]) -> UInt32 {
        let kind = compute.kernelValue
        func packed(_ outputs: Int, _ inputs: Int, _ fill: (UnsafeMutableRawPointer) -> Void) -> [Float] {
            let count = ck_packed_byte_count(kind, Int64(outputs), Int64(inputs))
            let storage = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
            defer { storage.deallocate() }
            fill(storage)
            var values = [Float](repeating: 0, count: outputs * inputs)
            ck_unpack(kind, storage, Int64(outputs), Int64(inputs), 0, Int64(outputs), &values)
            var y = [Float](repeating: 0, count: 13 * outputs)
            withRows(x, compute) { rows in
                ck_linear(
                    kind, storage, Int64(outputs), Int64(inputs), rows, Int64(inputs), 13, &y, Int64(outputs), 0,
                    Int64(outputs))
            }
            return values + y
        }
        let repacked = packed(inputs, outputs) { target in
            let count = ck_packed_byte_count(kind, Int64(outputs), Int64(inputs))
            let storage = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
            defer { storage.deallocate() }
            ck_pack(kind, CK_STORED_F32, weights, Int64(outputs), Int64(inputs), 0, Int64(outputs), storage)
            ck_repack_transposed(kind, storage, Int64(outputs), Int64(inputs), 0, Int64(inputs), target)
        }
        let direct = packed(inputs, outputs) { target in
            ck_pack_transposed(
                kind, CK_STORED_F32, weights, Int64(inputs), Int64(inputs), Int64(outputs), 0, Int64(inputs), target)
        }
        var columns = [UInt8](repeating: 0, count: inputs * rows * compute.byteCount)
        ck_transpose(kind, x, Int64(inputs), Int64(rows), Int64(inputs), &columns, Int64(rows))
        return hash(repacked + direct) ^ CRC32C.of(columns)
    }

    private static func swiGLUBackward(_ compute: ComputeType, _ x: [Float]) -> UInt32 {
        var (gate, up) = (Array(x[..<inputs]).map { $0 * 5 }, Array(x[inputs..<2 * inputs]))
        var activation = [UInt8](repeating: 0, count: inputs * compute.byteCount)
        ck_swiglu_backward(
            compute.kernelValue, &gate, &up, Array(x[2 * inputs..<3 * inputs]), Int64(inputs), &activation)
        return hash(gate + up) ^ CRC32C.of(activation)
    }

    private static func attentionBackward(_ compute: ComputeType) -> UInt32 {
        let (pageSize, first, positions, heads, size) = (16, 30, 7, 2, 24)
        let pageCount = (first + positions + pageSize - 1) / pageSize
        let pageElements = pageSize * size
        let (query, output) = (
            inputValues(positions * heads * size, stream: 5), inputValues(positions * heads * size, stream: 6)
        )
        var dQuery = [Float](repeating: 0, count: query.count)
        var (dKey, dValue) = ([Float](repeating: 0, count: (first + positions) * size), [Float]())
        dValue = dKey
        var work = [Float](repeating: 0, count: 8 * ((first + positions + 15) / 16 * 16))
        withRows(inputValues(pageCount * pageElements, stream: 7), compute) { base in
            let pages: [UnsafeRawPointer?] = (0..<pageCount).map { base + $0 * pageElements * compute.byteCount }
            ck_attention_backward(
                compute.kernelValue, query, pages, pages, Int64(pageSize), Int64(first), Int64(positions), Int64(heads),
                1, Int64(size), 0.2, 0, output, &dQuery, &dKey, &dValue, &work)
        }
        return hash(dQuery + dKey + dValue)
    }

    /// Everything without a compute type.
    static func elementWords(_ x: [Float], _ weights: [Float]) -> [(kernel: String, hash: UInt32)] {
        let count = Int64(inputs)
        let row = Array(x[..<inputs])
        var rotated = Array(x[..<(2 * 24)])
        let angles = (0..<12).map { Float($0) * 0.3 }
        var (cosine, sine) = ([Float](repeating: 0, count: 12), [Float](repeating: 0, count: 12))
        ck_cos(angles, 12, &cosine)
        ck_sin(angles, 12, &sine)
        ck_rope(&rotated, 24, 2, 24, cosine, sine)
        var (sum, scaled) = ([Float](repeating: 0, count: inputs), [Float](repeating: 0, count: inputs))
        ck_add(row, weights, count, &sum)
        ck_scale(row, 0.3, count, &scaled)
        let squares = ck_sum_of_squares(x, Int64(rows * inputs)).bitPattern
        let sums =
            hash(sum + scaled + [ck_dot(row, weights, count)]) ^ UInt32(truncatingIfNeeded: squares ^ squares >> 32)
        return [
            ("rope", hash(rotated)), ("sums", sums), ("norm-backward", normBackward(x, weights)),
            ("log-prob-gradient", logProbGradient(row)), ("divergence", divergence(row, weights)),
            ("adamw", adamW(x, weights)),
        ]
    }

    private static func normBackward(_ x: [Float], _ weights: [Float]) -> UInt32 {
        let dy = inputValues(rows * inputs, stream: 8)
        var dx = [Float](repeating: 0.5, count: rows * inputs)
        var scales = [Float](repeating: 0, count: rows)
        var dw = [Float](repeating: 0.25, count: inputs)
        ck_rms_norm_backward(
            x, Int64(inputs), weights, 1e-6, Int64(inputs), Int64(rows), dy, Int64(inputs), &dx, Int64(inputs), 1,
            &scales)
        ck_rms_norm_weight_gradient(
            x, Int64(inputs), scales, dy, Int64(inputs), Int64(rows), 0, Int64(inputs), &dw)
        return hash(dx + scales + dw)
    }

    private static func logProbGradient(_ logits: [Float]) -> UInt32 {
        let (maximum, logSum, entropy) = statistics(logits)
        var out = [Float](repeating: 0, count: inputs)
        ck_log_prob_gradient(logits, Int64(inputs), 0.7, maximum, logSum, 11, -0.4, 0.02, entropy, &out)
        return hash(out)
    }

    private static func divergence(_ student: [Float], _ teacher: [Float]) -> UInt32 {
        let (own, other) = (statistics(student), statistics(Array(teacher[..<inputs])))
        var out = [Float](repeating: 0, count: inputs)
        var kind = ck_divergence_kind(forward: 0.3, reverse: 0.5, symmetric: 0.2, beta: 0.4, inverse_temperature: 0.7)
        let value = ck_divergence(
            &kind, student, own.maximum, own.logSum, teacher, other.maximum, other.logSum, Int64(inputs), 0.6, &out)
        return hash(out + [Float(value)])
    }

    private static func statistics(_ logits: [Float]) -> (maximum: Float, logSum: Float, entropy: Float) {
        var (maximum, sum, weighted) = (Float(0), 0.0, 0.0)
        ck_softmax_statistics(logits, Int64(inputs), 0.7, &maximum, &sum, &weighted)
        var (narrow, logarithm) = (Float(sum), Float(0))
        ck_log(&narrow, 1, &logarithm)
        return (maximum, logarithm, Float(Double(logarithm) - weighted / sum))
    }

    private static func adamW(_ x: [Float], _ weights: [Float]) -> UInt32 {
        var parameter = Array(weights[..<inputs])
        var (first, second) = (Array(x[..<inputs]), x[inputs..<2 * inputs].map { abs($0) })
        var step = ck_adamw_step(
            gradient_scale: 0.9, beta1: 0.9, one_minus_beta1: 0.1, beta2: 0.95, one_minus_beta2: 0.05, decay: 0.999,
            rate: 1e-3, root_bias_correction2: 0.3, epsilon: 1e-8)
        ck_adamw(&step, &parameter, &first, &second, Array(x[2 * inputs..<3 * inputs]), Int64(inputs))
        return hash(parameter + first + second)
    }
}
