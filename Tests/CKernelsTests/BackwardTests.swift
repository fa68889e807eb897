// SPDX-License-Identifier: Apache-2.0
import CKernels
import Testing

extension KernelTests {
    @Suite("Backward kernels")
    struct BackwardTests {
        /// Numbers in (-1, 1), every tenth of them tiny.
        private static func numbers(_ count: Int, _ seed: UInt32) -> [Float] {
            var state = seed &* 2_654_435_761 | 1
            return (0..<count).map { index in
                state ^= state << 13
                state ^= state >> 17
                state ^= state << 5
                let value = Float(Int32(bitPattern: state)) * 0x1p-31
                return index % 10 == 9 ? value * 0x1p-120 : value
            }
        }

        /// Everything the backward kernels make of fixed inputs, as bits.
        private static func outputs(_ compute: ck_compute) -> [String: [UInt32]] {
            let mode = ck_thread_setup()
            defer { ck_thread_restore(mode) }
            var result: [String: [UInt32]] = [:]
            func keep(_ name: String, _ values: [Float]) { result[name] = values.map(\.bitPattern) }
            let (rows, width, outputs) = (7, 45, 37)
            let element = compute == CK_BF16 ? 2 : 4
            let x = numbers(rows * width, 1)
            let w = numbers(outputs * width, 2)
            let dy = numbers(rows * width, 3)

            var scales = [Float](repeating: 0, count: rows)
            var dx = numbers(rows * width, 4)
            ck_rms_norm_backward(
                x, Int64(width), w, 1e-6, Int64(width), Int64(rows), dy, Int64(width), &dx, Int64(width), 1, &scales)
            keep("norm", dx + scales)
            var dw = numbers(width, 5)
            ck_rms_norm_weight_gradient(x, Int64(width), scales, dy, Int64(width), Int64(rows), 0, Int64(width), &dw)
            keep("norm weight", dw)

            var (gate, up) = (numbers(width, 6).map { $0 * 9 }, numbers(width, 7))
            var activation = [UInt8](repeating: 0, count: width * element)
            ck_swiglu_backward(compute, &gate, &up, dy, Int64(width), &activation)
            keep("swiglu", gate + up)
            result["activation"] = activation.map(UInt32.init)

            func packedBytes(_ o: Int, _ i: Int) -> [UInt8] {
                [UInt8](repeating: 0, count: ck_packed_byte_count(compute, Int64(o), Int64(i)))
            }
            var packed = packedBytes(outputs, width)
            ck_pack(compute, CK_STORED_F32, w, Int64(outputs), Int64(width), 0, Int64(outputs), &packed)
            var transposed = packedBytes(width, outputs)
            ck_repack_transposed(compute, packed, Int64(outputs), Int64(width), 0, Int64(width), &transposed)
            result["repack"] = transposed.map(UInt32.init)
            var direct = packedBytes(width, outputs)
            ck_pack_transposed(
                compute, CK_STORED_F32, w, Int64(width), Int64(width), Int64(outputs), 0, Int64(width), &direct)
            #expect(direct == transposed, "packed the other way round in one step and in two")
            var unpacked = [Float](repeating: 0, count: outputs * width)
            ck_unpack(compute, packed, Int64(outputs), Int64(width), 0, Int64(outputs), &unpacked)
            keep("unpack", unpacked)
            if compute == CK_FP32 { #expect(unpacked == w) }
            var columns = [UInt8](repeating: 0, count: rows * width * element)
            ck_transpose(compute, x, Int64(width), Int64(rows), Int64(width), &columns, Int64(rows))
            result["transpose"] = columns.map(UInt32.init)

            result.merge(attention(compute)) { $1 }
            result.merge(vocabulary()) { $1 }
            keep("dot", [ck_dot(x, dy, Int64(x.count))])
            result["squares"] = [UInt32(truncatingIfNeeded: ck_sum_of_squares(x, Int64(x.count)).bitPattern)]
            var step = ck_adamw_step(
                gradient_scale: 0.7, beta1: 0.9, one_minus_beta1: 0.1, beta2: 0.95, one_minus_beta2: 0.05, decay: 0.999,
                rate: 1e-3, root_bias_correction2: 0.3, epsilon: 1e-8)
            var (p, m, v) = (numbers(width, 8), numbers(width, 9), numbers(width, 10).map(abs))
            ck_adamw(&step, &p, &m, &v, dy, Int64(width))
            keep("adamw", p + m + v)
            return result
        }

        private static func attention(_ compute: ck_compute) -> [String: [UInt32]] {
            let (page, count, start, heads, keyHeads, size) = (16, 9, 30, 6, 2, 20)
            let keys = start + count
            let pageCount = (keys + page - 1) / page
            let element = compute == CK_BF16 ? 2 : 4
            let pageElements = page * keyHeads * size
            func cache(_ seed: UInt32) -> [UInt8] {
                let values = numbers(pageCount * pageElements, seed)
                if compute == CK_FP32 { return values.withUnsafeBytes { Array($0) } }
                var rounded = [UInt16](repeating: 0, count: values.count)
                ck_f32_to_bf16(values, Int64(values.count), &rounded)
                return rounded.withUnsafeBytes { Array($0) }
            }
            let (keyBytes, valueBytes) = (cache(21), cache(22))
            let query = numbers(count * heads * size, 23)
            let dOut = numbers(count * heads * size, 24)
            var dQuery = [Float](repeating: 0, count: query.count)
            var dKey = [Float](repeating: 0, count: keys * keyHeads * size)
            var dValue = dKey
            var work = [Float](repeating: 0, count: 8 * ((keys + 15) / 16 * 16))
            keyBytes.withUnsafeBytes { keyBytes in
                valueBytes.withUnsafeBytes { valueBytes in
                    func pages(_ bytes: UnsafeRawBufferPointer) -> [UnsafeRawPointer?] {
                        (0..<pageCount).map { bytes.baseAddress! + $0 * pageElements * element }
                    }
                    for head in 0..<keyHeads {
                        ck_attention_backward(
                            compute, query, pages(keyBytes), pages(valueBytes), Int64(page), Int64(start), Int64(count),
                            Int64(heads), Int64(keyHeads), Int64(size), 0.22, Int64(head), dOut, &dQuery, &dKey,
                            &dValue,
                            &work)
                    }
                }
            }
            return ["attention": (dQuery + dKey + dValue).map(\.bitPattern)]
        }

        private static func vocabulary() -> [String: [UInt32]] {
            let count = 4200
            let (student, teacher) = (numbers(count, 31).map { $0 * 8 }, numbers(count, 32).map { $0 * 8 })
            var out = [Float](repeating: 0, count: count)
            ck_log_prob_gradient(student, Int64(count), 1.25, 9, 5.5, 17, 0.3, -0.02, 4.4, &out)
            var kind = ck_divergence_kind(
                forward: 0.5, reverse: 0.3, symmetric: 0.2, beta: 0.4, inverse_temperature: 0.9)
            let loss = ck_divergence(&kind, student, 7.1, 5.9, teacher, 7.2, 5.8, Int64(count), 0.7, &out)
            return ["vocabulary": out.map(\.bitPattern) + [Float(loss).bitPattern]]
        }

        @Test("every instruction set gives the reference's bits", arguments: [0, 1])
        func instructionSets(compute: Int) {
            let compute = compute == 0 ? CK_FP32 : CK_BF16
            let chosen = String(cString: ck_isa())
            defer { _ = ck_select_isa(chosen) }
            _ = ck_select_isa("reference")
            let expected = Self.outputs(compute)
            for name in ["avx2", "avx512", "avx512bf16"] where ck_select_isa(name) == 0 {
                let actual = Self.outputs(compute)
                for key in expected.keys.sorted() { #expect(actual[key] == expected[key], "\(name): \(key)") }
            }
        }
    }
}
