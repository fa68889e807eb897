// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Foundation
import Testing

extension KernelTests {
    /// Shapes that are no multiple of any tile: outputs, inputs, rows.
    static let shapes: [(Int, Int, Int)] = [
        (1, 1, 1), (16, 2, 1), (17, 3, 2), (64, 64, 3), (65, 63, 4), (100, 129, 5), (33, 200, 6), (70, 31, 7),
        (130, 77, 11), (5, 257, 12), (48, 16, 13), (81, 40, 29), (70, 301, 48), (81, 301, 127), (75, 301, 128),
        (70, 530, 200),
    ]
    static let computes = [CK_FP32, CK_BF16]

    @Suite("Linear layers")
    struct Linear {
        @Test("the scalar model of the contract, bit by bit, on every instruction set")
        func model() {
            for compute in computes {
                for (index, shape) in shapes.enumerated() {
                    onEveryInstructionSet { name in
                        let layer = LinearCase(
                            compute, outputs: shape.0, inputs: shape.1, rows: shape.2, padding: index % 3,
                            seed: UInt64(index))
                        expectSameBits(layer.run(), layer.model(), "\(shape) on \(name)")
                    }
                }
            }
        }

        @Test("a naive product in fp64, within the error bound of a chain of that length")
        func naive() {
            for compute in computes {
                let layer = LinearCase(compute, outputs: 50, inputs: 1037, rows: 9, seed: 5)
                let y = flushingToZero { layer.run() }
                for row in 0..<layer.rows {
                    for output in 0..<layer.outputs {
                        var sum = 0.0
                        var magnitude = 0.0
                        for i in 0..<layer.inputs {
                            let product =
                                Double(layer.x[row * layer.stride + i])
                                * Double(layer.weights[output * layer.inputs + i])
                            sum += product
                            magnitude += abs(product)
                        }
                        let error = abs(Double(y[row * layer.outputs + output]) - sum)
                        #expect(error <= magnitude * 0x1p-24 * 40)
                    }
                }
            }
        }

        @Test("infinities, NaN and denormals behave the same everywhere")
        func special() {
            for compute in computes {
                var numbers = TestNumbers(9)
                var weights = numbers.floats(40 * 51, scale: 4e-19)
                var x = numbers.floats(8 * 51, scale: 4e-19)
                let denormal = Float(bitPattern: 0x0001_0000)
                for (i, value) in ([.infinity, -.infinity, .nan, denormal, -denormal, -0.0] as [Float]).enumerated() {
                    weights[i * 51 + i * 3] = value
                    x[(i + 1) * 51 + 2 * i + 1] = value
                }
                let layer = LinearCase(compute, outputs: 40, inputs: 51, rows: 8, weights: weights, x: x)
                let y = sameBitsOnAll("special values") { layer.run() }
                expectSameBits(y, flushingToZero { layer.model() }, "special values against the model")
                #expect(y.contains { $0.isNaN } && y.contains { $0.isFinite && $0 != 0 })
            }
        }

        @Test("a row alone has the bits it has among 64, whatever the cache blocks", arguments: [300, 5001])
        func rowInvariance(inputs: Int) {
            for compute in computes {
                let layer = LinearCase(compute, outputs: 70, inputs: inputs, rows: 64, padding: 1, seed: 3)
                let all = sameBitsOnAll("64 rows") { layer.run() }
                flushingToZero {
                    for range in [0..<1, 63..<64, 20..<27, 5..<18] {
                        let expected = Array(all[range.lowerBound * 70..<range.upperBound * 70])
                        expectSameBits(layer.run(rows: range), expected, "rows \(range)")
                    }
                }
            }
        }

        @Test("a split of the outputs changes nothing and touches nothing outside")
        func splitInvariance() {
            for compute in computes {
                let layer = LinearCase(compute, outputs: 150, inputs: 90, rows: 7, seed: 4)
                onEveryInstructionSet { name in
                    let all = layer.run()
                    for part in [0..<16, 16..<150, 48..<112, 144..<150, 32..<41] {
                        let y = layer.run(outputs: part)
                        let expected = all.indices.map { part.contains($0 % 150) ? all[$0] : 77 }
                        expectSameBits(y, expected, "outputs \(part) on \(name)")
                    }
                }
            }
        }

        @Test("inputs that end at the end of a page are not read beyond it", arguments: [1, 3, 31, 33, 64])
        func bounds(inputs: Int) throws {
            for compute in computes {
                let layer = LinearCase(compute, outputs: 20, inputs: inputs, rows: 7, seed: 6)
                let input = try GuardedBytes(layer.input())
                onEveryInstructionSet { name in
                    var y = [Float](repeating: 0, count: 7 * 20)
                    ck_linear(
                        compute, layer.packed(), 20, Int64(inputs), input.start, Int64(inputs), 7, &y, 20, 0, 20)
                    expectSameBits(y, layer.model(), "\(inputs) inputs on \(name)")
                }
            }
        }

        @Test("no inputs give zero")
        func empty() {
            for compute in computes {
                let layer = LinearCase(compute, outputs: 18, inputs: 0, rows: 2, seed: 1)
                #expect(layer.run() == [Float](repeating: 0, count: 36))
            }
        }

        @Test("fused SwiGLU is the two products, silu and one rounding")
        func swiglu() {
            for compute in computes {
                for (index, shape) in shapes.enumerated() {
                    let gate = LinearCase(
                        compute, outputs: shape.0, inputs: shape.1, rows: shape.2, padding: index % 2,
                        seed: UInt64(index))
                    let upWeights = LinearCase(
                        compute, outputs: shape.0, inputs: shape.1, rows: 0, seed: UInt64(100 + index)
                    ).weights
                    let up = LinearCase(
                        compute, outputs: shape.0, inputs: shape.1, rows: shape.2, padding: index % 2,
                        weights: upWeights, x: gate.x)
                    let fused = sameBitsOnAll("swiglu \(shape)") { gate.runSwiGLU(up: up) }
                    let expected = flushingToZero {
                        zip(gate.run(), up.run()).map { g, u in
                            let product = g / (1 + ScalarModel.exponential(-g)) * u
                            return compute == CK_FP32
                                ? product : ScalarModel.widened(ScalarModel.roundedToBF16(product))
                        }
                    }
                    expectSameBits(fused, expected, "swiglu \(shape)")
                    guard shape.0 > 32 else { continue }
                    let part = flushingToZero { gate.runSwiGLU(up: up, outputs: 32..<shape.0) }
                    expectSameBits(part, expected.indices.map { $0 % shape.0 < 32 ? 0 : expected[$0] }, "part")
                }
            }
        }
    }
}

/// Bytes whose end is the end of a page, followed by a page that cannot be read.
final class GuardedBytes {
    let start: UnsafeMutableRawPointer
    private let mapping: UnsafeMutableRawPointer
    private let mappedByteCount: Int

    init(_ bytes: [UInt8]) throws {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let used = (bytes.count + page - 1) / page * page
        mappedByteCount = used + page
        let mapped = mmap(nil, mappedByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        mapping = try #require(mapped)
        try #require(mapping != MAP_FAILED)
        try #require(mprotect(mapping + used, page, PROT_NONE) == 0)
        start = mapping + used - bytes.count
        start.copyMemory(from: bytes, byteCount: bytes.count)
    }

    deinit { munmap(mapping, mappedByteCount) }
}
