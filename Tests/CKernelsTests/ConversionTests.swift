// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Foundation
import TestSupport
import Testing

extension KernelTests {
    @Suite("Conversions")
    struct Conversions {
        /// One row of float_conversions.json: fp32 bits with their bf16 and f16 roundings.
        struct Row {
            let f32: UInt32
            let bf16: UInt16
            let f16: UInt16

            init(_ hex: [String]) throws {
                f32 = try #require(UInt32(hex[0], radix: 16))
                bf16 = try #require(UInt16(hex[1], radix: 16))
                f16 = try #require(UInt16(hex[2], radix: 16))
            }
        }

        struct Table: Decodable {
            let rows: [[String]]
        }

        @Test("the roundings that torch computes, with and without flush-to-zero, in any position")
        func fixture() throws {
            let data = try Data(contentsOf: Fixtures.url("numeric/float_conversions.json"))
            let rows = try JSONDecoder().decode(Table.self, from: data).rows.map(Row.init)
            #expect(rows.count > 2000)
            let x = rows.map { Float(bitPattern: $0.f32) }
            let unflushed = ck_thread_setup()
            ck_thread_restore(unflushed)
            onEveryInstructionSet { name in
                for flushing in [true, false] {
                    let control = ck_thread_setup()
                    if !flushing { ck_thread_restore(unflushed) }
                    defer { ck_thread_restore(control) }
                    var bf16 = [UInt16](repeating: 0, count: x.count)
                    var f16 = bf16
                    ck_f32_to_bf16(x, Int64(x.count), &bf16)
                    ck_f32_to_f16(x, Int64(x.count), &f16)
                    for (index, row) in rows.enumerated() {
                        if x[index].isNaN {
                            #expect(ScalarModel.widened(bf16[index]).isNaN)
                            #expect(f16[index] & 0x7fff > 0x7c00)
                        } else if bf16[index] != row.bf16 || f16[index] != row.f16 {
                            Issue.record("\(String(row.f32, radix: 16)) on \(name), flushing \(flushing)")
                        }
                    }
                }
            }
        }

        @Test("every bf16 and f16 pattern widens exactly and comes back")
        func roundTrip() {
            let patterns = (0...0xffff).map { UInt16($0) }
            onEveryInstructionSet { name in
                var wide = [Float](repeating: 0, count: patterns.count)
                var narrow = [UInt16](repeating: 0, count: patterns.count)
                ck_bf16_to_f32(patterns, Int64(patterns.count), &wide)
                #expect(patterns.indices.allSatisfy { wide[$0].bitPattern == UInt32(patterns[$0]) << 16 }, "\(name)")
                ck_f32_to_bf16(wide, Int64(wide.count), &narrow)
                #expect(patterns.indices.allSatisfy { wide[$0].isNaN || narrow[$0] == patterns[$0] }, "\(name)")
                ck_f16_to_f32(patterns, Int64(patterns.count), &wide)
                for pattern in patterns {
                    let (exponent, fraction) = (Int(pattern >> 10) & 31, Int(pattern & 0x3ff))
                    var expected =
                        exponent == 0
                        ? Float(fraction) * 0x1p-24
                        : Float(sign: .plus, exponent: exponent - 15, significand: 1 + Float(fraction) / 1024)
                    if exponent == 31 { expected = fraction == 0 ? .infinity : .nan }
                    if pattern >= 0x8000 { expected = -expected }
                    let actual = wide[Int(pattern)]
                    if actual.bitPattern != expected.bitPattern && !(actual.isNaN && expected.isNaN) {
                        Issue.record("f16 \(pattern) on \(name): \(actual), not \(expected)")
                    }
                }
                ck_f32_to_f16(wide, Int64(wide.count), &narrow)
                #expect(patterns.indices.allSatisfy { wide[$0].isNaN || narrow[$0] == patterns[$0] }, "\(name)")
            }
        }

        @Test("short counts convert what they say and no more", arguments: [0, 1, 15, 16, 17, 33])
        func counts(count: Int) {
            let x = (0..<40).map { Float($0) + 0.5 }
            onEveryInstructionSet { name in
                var half = [UInt16](repeating: 9, count: 40)
                var wide = [Float](repeating: 9, count: 40)
                ck_f32_to_bf16(x, Int64(count), &half)
                ck_bf16_to_f32(half, Int64(count), &wide)
                #expect(wide.prefix(count).elementsEqual(x.prefix(count)), "\(name)")
                #expect(half.dropFirst(count).allSatisfy { $0 == 9 } && wide.dropFirst(count).allSatisfy { $0 == 9 })
            }
        }

        @Test("torch's products of bf16 matrices")
        func matrixProducts() throws {
            let file = try FixtureTensors(Fixtures.url("numeric/bf16_matmul.safetensors"))
            for name in ["mm0", "mm1", "mm2"] {
                let a = try file.tensor("\(name).a"), b = try file.tensor("\(name).b_rows")
                let (rows, inputs, outputs) = (a.shape[0], a.shape[1], b.shape[0])
                let exact = try file.tensor("\(name).f64")
                let layer = LinearCase(
                    CK_BF16, outputs: outputs, inputs: inputs, rows: rows, weights: b.values.map { Float($0) },
                    x: a.values.map { Float($0) })
                let y = sameBitsOnAll(name) { layer.run() }
                for row in 0..<rows {
                    for output in 0..<outputs {
                        let magnitude = (0..<inputs).reduce(0.0) {
                            $0 + abs(a.values[row * inputs + $1] * b.values[output * inputs + $1])
                        }
                        let index = row * outputs + output
                        #expect(abs(Double(y[index]) - exact.values[index]) <= magnitude * 0x1p-24 * 16)
                    }
                }
            }
        }
    }
}

/// A reader of small safetensors files, for tests only (F32, F64, BF16).
struct FixtureTensors {
    struct Entry: Decodable {
        let dtype: String
        let shape: [Int]
        let data_offsets: [Int]
    }

    private let entries: [String: Entry]
    private let data: Data

    init(_ url: URL) throws {
        let bytes = try Data(contentsOf: url)
        let headerByteCount = bytes.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        entries = try JSONDecoder().decode([String: Entry].self, from: bytes[8..<8 + headerByteCount])
        data = Data(bytes.dropFirst(8 + headerByteCount))
    }

    func tensor(_ name: String) throws -> (shape: [Int], values: [Double]) {
        let entry = try #require(entries[name])
        let bytes = Array(data[entry.data_offsets[0]..<entry.data_offsets[1]])
        let values: [Double] = bytes.withUnsafeBytes { raw in
            switch entry.dtype {
            case "F64": raw.bindMemory(to: Double.self).map { $0 }
            case "F32": raw.bindMemory(to: Float.self).map { Double($0) }
            default: raw.bindMemory(to: UInt16.self).map { Double(ScalarModel.widened($0)) }
            }
        }
        try #require(values.count == entry.shape.reduce(1, *))
        return (entry.shape, values)
    }
}
