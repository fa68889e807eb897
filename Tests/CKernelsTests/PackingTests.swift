// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Testing

extension KernelTests {
    @Suite("Weight packing")
    struct Packing {
        static let types: [(ck_stored, Int)] = [(CK_STORED_F32, 4), (CK_STORED_BF16, 2), (CK_STORED_F16, 2)]

        /// Values of the given storage type, with denormals, zeros and large numbers among them.
        static func source(_ stored: ck_stored, _ count: Int) -> [UInt8] {
            var numbers = TestNumbers(UInt64(count) + UInt64(stored.rawValue))
            if stored == CK_STORED_F32 {
                return numbers.floats(count, scale: 1e-3).withUnsafeBytes { Array($0) }
            }
            // Any bit pattern except infinities and NaN.
            let exponent: UInt16 = stored == CK_STORED_BF16 ? 0x7f80 : 0x7c00
            return (0..<count).map { _ in
                let bits = UInt16(truncatingIfNeeded: numbers.next())
                return bits & exponent == exponent ? bits & ~exponent : bits
            }.withUnsafeBytes { Array($0) }
        }

        static func widened(_ stored: ck_stored, _ source: [UInt8], _ index: Int) -> Float {
            source.withUnsafeBytes { raw in
                if stored == CK_STORED_F32 { return raw.loadUnaligned(fromByteOffset: index * 4, as: Float.self) }
                let bits = raw.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
                if stored == CK_STORED_BF16 { return ScalarModel.widened(bits) }
                var result: Float = 0
                withUnsafePointer(to: bits) { ck_f16_to_f32($0, 1, &result) }
                return result
            }
        }

        @Test("every element lands in its place and padding is zero, from every storage type")
        func layout() {
            for compute in computes {
                for (stored, _) in Self.types {
                    for (outputs, inputs) in [(1, 1), (16, 32), (17, 33), (40, 70), (70, 7)] {
                        let source = Self.source(stored, outputs * inputs)
                        onEveryInstructionSet { name in
                            let expected = Self.expected(compute, stored, source, outputs, inputs)
                            var packed = [UInt8](repeating: 0xa5, count: expected.count + 64)
                            ck_pack(
                                compute, stored, source, Int64(outputs), Int64(inputs), 0, Int64(outputs), &packed)
                            #expect(packed == expected + [UInt8](repeating: 0xa5, count: 64), "\(name)")
                        }
                    }
                }
            }
        }

        /// The documented layout, written out.
        static func expected(
            _ compute: ck_compute, _ stored: ck_stored, _ source: [UInt8], _ outputs: Int, _ inputs: Int
        ) -> [UInt8] {
            let byteCount = ck_packed_byte_count(compute, Int64(outputs), Int64(inputs))
            #expect(byteCount % 64 == 0)
            var bytes = [UInt8](repeating: 0, count: byteCount)
            let perUnit = compute == CK_BF16 ? 2 : 1
            let units = (inputs + perUnit - 1) / perUnit
            bytes.withUnsafeMutableBytes { raw in
                for output in 0..<outputs {
                    for input in 0..<inputs {
                        let value = widened(stored, source, output * inputs + input)
                        let slot =
                            ((output / 16 * units + input / perUnit) * 16 + output % 16) * perUnit
                            + input % perUnit
                        if compute == CK_FP32 {
                            raw.storeBytes(of: value, toByteOffset: slot * 4, as: Float.self)
                        } else {
                            raw.storeBytes(
                                of: ScalarModel.roundedToBF16(value), toByteOffset: slot * 2, as: UInt16.self)
                        }
                    }
                }
            }
            return bytes
        }

        @Test("ranges of rows packed one after another equal the whole")
        func ranges() {
            for compute in computes {
                let source = Self.source(CK_STORED_BF16, 75 * 21)
                let whole = Self.expected(compute, CK_STORED_BF16, source, 75, 21)
                var packed = [UInt8](repeating: 0xa5, count: whole.count)
                for (begin, end) in [(48, 75), (0, 16), (16, 48)] as [(Int64, Int64)] {
                    ck_pack(compute, CK_STORED_BF16, source, 75, 21, begin, end, &packed)
                }
                #expect(packed == whole)
            }
        }
    }
}
