// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Elementary functions")
    struct Elementary {
        typealias Kernel = (UnsafePointer<Float>?, Int64, UnsafeMutablePointer<Float>?) -> Void

        static func run(_ kernel: Kernel, _ x: [Float]) -> [Float] {
            var out = [Float](repeating: 0, count: x.count)
            kernel(x, Int64(x.count), &out)
            return out
        }

        /// Error in units of the last place of the fp32 number nearest to `exact`.
        static func ulps(_ actual: Float, _ exact: Double) -> Double {
            // In fp64: the spacing of small fp32 numbers is itself a denormal, which flushing would lose.
            let spacing = Double(sign: .plus, exponent: max(exact.exponent, -126) - 23, significand: 1)
            return abs(Double(actual) - exact) / spacing
        }

        /// Every `step`-th bit pattern that is normal or zero and whose value is in the range.
        static func patterns(_ range: ClosedRange<Float>, step: UInt32) -> [Float] {
            stride(from: UInt32(0), through: UInt32.max - step, by: Int(step)).map { Float(bitPattern: $0) }
                .filter { range.contains($0) && !$0.isSubnormal }
        }

        static func worst(_ kernel: Kernel, _ x: [Float], _ exact: (Double) -> Double) -> Double {
            zip(x, run(kernel, x)).reduce(0) { max($0, ulps($1.1, exact(Double($1.0)))) }
        }

        @Test("exp is within 1.5 ulp where the result is normal")
        func expAccuracy() {
            let x = Self.patterns(-87.3365...88.7228, step: 9973)
            flushingToZero { #expect(Self.worst(ck_exp, x, Foundation.exp) <= 1.5) }
        }

        @Test("exp at the ends and beyond")
        func expEnds() {
            onEveryInstructionSet { name in
                let x: [Float] = [
                    -.infinity, -1e30, -104, -87.4, -87.33655, 0, -0.0, 88.72283, 88.72284, 1e30, .infinity, .nan,
                ]
                let y = Self.run(ck_exp, x)
                #expect(y[0...4].allSatisfy { $0.bitPattern == 0 }, "\(name)")
                #expect(y[5] == 1 && y[6] == 1 && y[7].isFinite, "\(name)")
                #expect(y[8...10].allSatisfy { $0 == .infinity } && y[11].isNaN, "\(name)")
            }
        }

        @Test("underflow of exp is +0 even where the thread does not flush")
        func expUnderflow() {
            let control = ck_thread_setup()
            ck_thread_restore(0x1f80)
            defer { ck_thread_restore(control) }
            let y = Self.run(ck_exp, [-87.33655, -90, -103])
            #expect(y.allSatisfy { $0.bitPattern == 0 })
            let least = Self.run(ck_exp, [-87.336540])[0]
            #expect(least >= .leastNormalMagnitude && least < 1.2e-38)
        }

        @Test("log is within 1.5 ulp")
        func logAccuracy() {
            let x = Self.patterns(.leastNormalMagnitude ... .greatestFiniteMagnitude, step: 9973)
            let nearOne = (0..<20000).map { Float(bitPattern: 0x3f7f_f000 + $0) }
            flushingToZero {
                #expect(Self.worst(ck_log, x, Foundation.log) <= 1.5)
                #expect(Self.worst(ck_log, nearOne, Foundation.log) <= 1.5)
            }
        }

        @Test("log at the ends")
        func logEnds() {
            onEveryInstructionSet { name in
                let denormal = Float(bitPattern: 0x0001_0000)
                let y = Self.run(ck_log, [0, -0.0, 1, .infinity, -1, -.infinity, .nan, denormal])
                #expect(y[0] == -.infinity && y[1] == -.infinity && y[2].bitPattern == 0, "\(name)")
                #expect(y[3] == .infinity && y[4].isNaN && y[5].isNaN && y[6].isNaN && y[7] == -.infinity, "\(name)")
            }
        }

        @Test("sin and cos are within 1 ulp up to 2^20")
        func sineAccuracy() {
            let x = Self.patterns(-1_048_576...1_048_576, step: 19937) + (0..<41000).map { Float($0) }
            flushingToZero {
                #expect(Self.worst(ck_sin, x, Foundation.sin) <= 1)
                #expect(Self.worst(ck_cos, x, Foundation.cos) <= 1)
                #expect(Self.run(ck_cos, [0])[0] == 1 && Self.run(ck_sin, [.infinity])[0].isNaN)
            }
        }

        @Test("the same bits on every instruction set, for patterns from the whole range")
        func sameBits() {
            let all = stride(from: UInt32(0), through: UInt32.max - 65521, by: 65521).map { Float(bitPattern: $0) }
            let small = all.filter { !($0.magnitude > 1_048_576) }
            sameBitsOnAll("exp") { Self.run(ck_exp, all) }
            sameBitsOnAll("log") { Self.run(ck_log, all) }
            sameBitsOnAll("sin") { Self.run(ck_sin, small) }
            sameBitsOnAll("cos") { Self.run(ck_cos, small) }
        }

        @Test("an element's position never changes it")
        func position() {
            var numbers = TestNumbers(12)
            let x = numbers.floats(37, scale: 20).map(\.magnitude)
            let kernels: [Kernel] = [ck_exp, ck_log, ck_sin, ck_cos]
            onEveryInstructionSet { name in
                for kernel in kernels {
                    expectSameBits(Self.run(kernel, x), x.flatMap { Self.run(kernel, [$0]) }, name)
                }
            }
        }
    }
}
