// SPDX-License-Identifier: Apache-2.0
internal import CKernels
package import Foundation

/// Fixture kind "numeric": float conversions bit for bit, and a bf16 product.
package struct NumericParity {
    private let root: URL

    package init(_ root: URL) { self.root = root }

    private struct Conversions: Decodable { let rows: [[String]] }

    package func run() throws -> [ParityCase] {
        var cases: [ParityCase] = []
        let conversions = root.appending(path: "float_conversions.json")
        if FileManager.default.fileExists(atPath: conversions.path) {
            let file = try JSONDecoder().decode(Conversions.self, from: Data(contentsOf: conversions))
            cases.append(convert(file, "bf16", column: 1, ck_f32_to_bf16, isNaN: { $0 & 0x7fff > 0x7f80 }))
            cases.append(convert(file, "f16", column: 2, ck_f32_to_f16, isNaN: { $0 & 0x7fff > 0x7c00 }))
        }
        let product = root.appending(path: "bf16_matmul.safetensors")
        if FileManager.default.fileExists(atPath: product.path) { cases += try matmul(FixtureTensors(product)) }
        return cases
    }

    /// Column by column of the table; NaN is compared as a class, as the peers differ there among themselves.
    private func convert(
        _ file: Conversions, _ name: String, column: Int,
        _ kernel: (UnsafePointer<Float>?, Int64, UnsafeMutablePointer<UInt16>?) -> Void, isNaN: (UInt16) -> Bool
    ) -> ParityCase {
        func bits(_ text: String) -> UInt32 {
            UInt32(text.hasPrefix("0x") ? String(text.dropFirst(2)) : text, radix: 16) ?? 0
        }
        let inputs = file.rows.map { Float(bitPattern: bits($0[0])) }
        var outputs = [UInt16](repeating: 0, count: inputs.count)
        kernel(inputs, Int64(inputs.count), &outputs)
        let wrong = file.rows.indices.filter { index in
            let wanted = UInt16(bits(file.rows[index][column]))
            return isNaN(wanted) ? !isNaN(outputs[index]) : outputs[index] != wanted
        }
        let detail = wrong.first.map {
            "\(file.rows[$0]) gave \(String(outputs[$0], radix: 16))"
        }
        return .identical(
            "numeric", "f32 to \(name), \(inputs.count) values", mismatches: wrong.count, detail: detail ?? "")
    }

    /// `<name>.a` · `<name>.b_rows`ᵀ against the float64 product of the same bf16 operands.
    private func matmul(_ tensors: FixtureTensors) throws -> [ParityCase] {
        let names = tensors.names.filter { $0.hasSuffix(".b_rows") }.map { String($0.dropLast(".b_rows".count)) }
        return try names.map { name in
            let (x, weights) = (try tensors.halfWords("\(name).a"), try tensors.halfWords("\(name).b_rows"))
            let exact = try tensors.doubles("\(name).f64")
            let rows = try tensors.shape("\(name).a")[0]
            let (outputs, inputs) = (exact.count / rows, x.count / rows)
            var packed = [UInt8](repeating: 0, count: ck_packed_byte_count(CK_BF16, Int64(outputs), Int64(inputs)))
            var y = [Float](repeating: 0, count: rows * outputs)
            ck_pack(CK_BF16, CK_STORED_BF16, weights, Int64(outputs), Int64(inputs), 0, Int64(outputs), &packed)
            ck_linear(
                CK_BF16, packed, Int64(outputs), Int64(inputs), x, Int64(inputs), Int64(rows), &y, Int64(outputs),
                0, Int64(outputs))
            // Each element by the size of what it sums.
            func wide(_ half: UInt16) -> Double { Double(Float(bitPattern: UInt32(half) << 16)) }
            var worst = 0.0
            for index in exact.indices {
                let (row, output) = (index / outputs, index % outputs)
                let size = (0..<inputs).reduce(0.0) {
                    $0 + abs(wide(x[row * inputs + $1]) * wide(weights[output * inputs + $1]))
                }
                worst = max(worst, abs(Double(y[index]) - exact[index]) / max(size, .leastNormalMagnitude))
            }
            return ParityCase(
                kind: "numeric", name: "bf16 product \(rows)x\(inputs)x\(outputs)", worstError: worst,
                tolerance: 0x1p-23 * Double(inputs).squareRoot(), detail: "relative to the products' magnitudes")
        }
    }
}
