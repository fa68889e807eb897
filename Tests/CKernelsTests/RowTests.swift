// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Row kernels")
    struct Rows {
        static let counts = [1, 2, 15, 16, 17, 100, 128, 1024, 1031]

        @Test("RMS norm is the contract bit by bit, and may work in place", arguments: counts)
        func rmsNorm(count: Int) {
            var numbers = TestNumbers(UInt64(count))
            let x = numbers.floats(3 * (count + 2), scale: 3)
            let weight = numbers.floats(count)
            for compute in computes {
                let y = sameBitsOnAll("rms norm \(count)") {
                    var out = [UInt8](repeating: 0, count: 3 * count * (compute == CK_FP32 ? 4 : 2))
                    ck_rms_norm(compute, x, Int64(count + 2), weight, 1e-6, Int64(count), 3, &out, Int64(count))
                    return LinearCase.widened(compute, out)
                }
                let expected = flushingToZero {
                    (0..<3).flatMap { row -> [Float] in
                        let values = Array(x[row * (count + 2)..<row * (count + 2) + count])
                        let mean = ScalarModel.laneDot(values, values) / Float(count)
                        let scale = 1 / (mean + 1e-6).squareRoot()
                        return zip(values, weight).map { value, weight in
                            let result = value * scale * weight
                            return compute == CK_FP32
                                ? result : ScalarModel.widened(ScalarModel.roundedToBF16(result))
                        }
                    }
                }
                expectSameBits(y, expected, "rms norm \(count)")
                guard compute == CK_FP32 else { continue }
                var inPlace = x
                inPlace.withUnsafeMutableBufferPointer { p in
                    flushingToZero {
                        ck_rms_norm(
                            compute, p.baseAddress, Int64(count + 2), weight, 1e-6, Int64(count), 3, p.baseAddress,
                            Int64(count + 2))
                    }
                }
                expectSameBits(Array(inPlace[..<count]), Array(expected[..<count]), "in place")
            }
        }

        @Test("RoPE rotates pairs (i, i + half)", arguments: [2, 12, 32, 34, 128])
        func rope(headSize: Int) {
            var numbers = TestNumbers(UInt64(headSize))
            let (heads, stride, half) = (3, headSize + 5, headSize / 2)
            let x = numbers.floats(heads * stride)
            let angles = numbers.floats(half, scale: 3)
            let (cosines, sines) = (angles.map { Foundation.cos($0) }, angles.map { Foundation.sin($0) })
            let y = sameBitsOnAll("rope") {
                var y = x
                ck_rope(&y, Int64(stride), Int64(heads), Int64(headSize), cosines, sines)
                return y
            }
            let expected = flushingToZero {
                var expected = x
                for head in 0..<heads {
                    for i in 0..<half {
                        let (a, b) = (x[head * stride + i], x[head * stride + i + half])
                        expected[head * stride + i] = (-(b * sines[i])).addingProduct(a, cosines[i])
                        expected[head * stride + i + half] = (a * sines[i]).addingProduct(b, cosines[i])
                    }
                }
                return expected
            }
            expectSameBits(y, expected, "rope")
        }

        @Test("add and scale", arguments: counts)
        func addAndScale(count: Int) {
            var numbers = TestNumbers(UInt64(count))
            let (a, b) = (numbers.floats(count), numbers.floats(count, scale: 1e-20))
            let sum = sameBitsOnAll("add") {
                var out = a
                out.withUnsafeMutableBufferPointer { ck_add($0.baseAddress, b, Int64(count), $0.baseAddress) }
                return out
            }
            expectSameBits(sum, zip(a, b).map { $0 + $1 })
            let scaled = sameBitsOnAll("scale") {
                var out = a
                ck_scale(b, 1e-19, Int64(count), &out)
                return out
            }
            expectSameBits(scaled, flushingToZero { b.map { 1e-19 * $0 } }, "scale")
        }

        @Test("softmax is the contract bit by bit and sums to one", arguments: counts)
        func softmax(count: Int) {
            var numbers = TestNumbers(UInt64(count))
            var x = numbers.floats(count, scale: 30)
            if count > 20 { x[3] = -.infinity }
            let y = sameBitsOnAll("softmax \(count)") {
                var y = x
                ck_softmax(&y, Int64(count))
                return y
            }
            let expected = flushingToZero {
                let top = x.max() ?? 0
                let p = x.map { ScalarModel.exponential($0 - top) }
                let sum = ScalarModel.laneSum(p)
                return p.map { $0 / sum }
            }
            expectSameBits(y, expected, "softmax \(count)")
            #expect(abs(y.reduce(0.0) { $0 + Double($1) } - 1) < 1e-5)
        }

        /// The three statistics as bit patterns.
        static func statistics(_ logits: [Float], _ scale: Float) -> (Float, Double, Double) {
            var maximum: Float = 0
            var sum = 0.0, weighted = 0.0
            ck_softmax_statistics(logits, Int64(logits.count), scale, &maximum, &sum, &weighted)
            return (maximum, sum, weighted)
        }

        @Test("vocabulary statistics equal the contract and fp64", arguments: [1, 17, 4096, 4097, 9000, 20001])
        func statistics(count: Int) {
            var numbers = TestNumbers(UInt64(count))
            var logits = numbers.floats(count, scale: 12)
            if count > 100 { logits.replaceSubrange(50..<60, with: repeatElement(-.infinity, count: 10)) }
            let scale: Float = 1 / 0.7
            onEveryInstructionSet { name in
                let actual = Self.statistics(logits, scale)
                let top = logits.map { scale * $0 }.max() ?? 0
                var sum = 0.0, weighted = 0.0
                for begin in stride(from: 0, to: count, by: 4096) {
                    let z = logits[begin..<min(begin + 4096, count)].map { scale * $0 - top }
                    let e = z.map(ScalarModel.exponential)
                    sum += Double(ScalarModel.laneSum(e))
                    weighted += Double(ScalarModel.laneDot(e, zip(e, z).map { $0 == 0 ? 0 : $1 }))
                }
                #expect(actual.0 == top && actual.1 == sum && actual.2 == weighted, "\(name)")
            }
            let (maximum, sum, weighted) = flushingToZero { Self.statistics(logits, scale) }
            var exactSum = 0.0, exactWeighted = 0.0
            for logit in logits where logit.isFinite {
                let z = Double(logit) * Double(scale) - Double(maximum)
                exactSum += exp(z)
                exactWeighted += exp(z) * z
            }
            #expect(abs(sum - exactSum) <= 1e-5 * exactSum)
            #expect(abs(weighted - exactWeighted) <= 1e-5 * (abs(exactWeighted) + exactSum))
        }
    }
}
