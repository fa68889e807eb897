// SPDX-License-Identifier: Apache-2.0
//
// What a worker's kernels make of fixed inputs, as one word per kernel. Two hosts with equal fingerprints give equal
// bits; where they differ the word says which kernel it is. Every kernel of generation, scoring and training is here, with
// the row counts at which kernels change their path; OpenBLAS has a word of its own (BLASFingerprint).
internal import CKernels
internal import RuntimeSupport

/// Hashes of kernel outputs on fixed inputs.
package enum NumericsFingerprint {
    /// `linear-bf16:1a2b3c4d linear-fp32:… …`, computed once.
    package static let current = compute()

    /// Computed anew: for tests that change instruction sets.
    package static func compute() -> String {
        let mode = ck_thread_setup()
        defer { ck_thread_restore(mode) }
        return words().map { "\($0.kernel):\(hexadecimal($0.hash))" }.joined(separator: " ")
    }

    /// The kernels whose words differ between two fingerprints.
    package static func differences(_ a: String, _ b: String) -> [String] {
        let (left, right) = (Set(a.split(separator: " ")), Set(b.split(separator: " ")))
        return left.symmetricDifference(right).map { String($0.prefix { $0 != ":" }) }.sorted()
    }

    // Shapes are no multiples of tiles, so that tails are covered; inputs reach over a cache block.
    static let (rows, inputs, outputs) = (5, 301, 75)
    /// One row, a partial tile, the first beyond the streaming path, several tiles, and widened weights.
    private static let linearRows = [1, 5, 13, 48, 200]

    private static func words() -> [(kernel: String, hash: UInt32)] {
        var result: [(String, UInt32)] = []
        let x = inputValues(linearRows.last! * inputs, stream: 1)
        let weights = inputValues(outputs * inputs, stream: 2)
        for compute in [ComputeType.bf16, .fp32] {
            result.append(("linear-\(compute)", linear(compute, x, weights)))
            result.append(("attention-\(compute)", attention(compute)))
            var norm = [UInt8](repeating: 0, count: rows * inputs * compute.byteCount)
            ck_rms_norm(
                compute.kernelValue, x, Int64(inputs), weights, 1e-6, Int64(inputs), Int64(rows), &norm, Int64(inputs))
            result.append(("norm-\(compute)", CRC32C.of(norm)))
            result += backwardWords(compute, x, weights)
        }
        for (name, kernel) in [("exp", ck_exp), ("log", ck_log), ("sin", ck_sin), ("cos", ck_cos)] {
            let few = x.prefix(rows * inputs)
            let source = name == "log" ? few.map { abs($0) + 1e-3 } : few.map { $0 * 9 }
            var out = [Float](repeating: 0, count: source.count)
            kernel(source, Int64(source.count), &out)
            result.append((name, hash(out)))
        }
        var row = weights
        ck_softmax(&row, Int64(row.count))
        result.append(("softmax", hash(row)))
        var (maximum, sum, weighted) = (Float(0), 0.0, 0.0)
        ck_softmax_statistics(weights, Int64(weights.count), 0.7, &maximum, &sum, &weighted)
        result.append(("statistics", hash([maximum, Float(sum), Float(weighted)])))
        return result + elementWords(x, weights)
    }

    private static func linear(_ compute: ComputeType, _ x: [Float], _ weights: [Float]) -> UInt32 {
        let byteCount = ck_packed_byte_count(compute.kernelValue, Int64(outputs), Int64(inputs))
        let packed = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
        defer { packed.deallocate() }
        ck_pack(compute.kernelValue, CK_STORED_F32, weights, Int64(outputs), Int64(inputs), 0, Int64(outputs), packed)
        var checksum = CRC32C()
        withRows(x, compute) { rowsPointer in
            for rows in linearRows {
                var y = [Float](repeating: 0, count: rows * outputs)
                var activation = [UInt8](repeating: 0, count: rows * outputs * compute.byteCount)
                ck_linear(
                    compute.kernelValue, packed, Int64(outputs), Int64(inputs), rowsPointer, Int64(inputs),
                    Int64(rows), &y, Int64(outputs), 0, Int64(outputs))
                ck_swiglu(
                    compute.kernelValue, packed, packed, Int64(outputs), Int64(inputs), rowsPointer, Int64(inputs),
                    Int64(rows), &activation, Int64(outputs), 0, Int64(outputs))
                y.withUnsafeBytes { checksum.update($0) }
                activation.withUnsafeBytes { checksum.update($0) }
            }
        }
        return checksum.value
    }

    private static func attention(_ compute: ComputeType) -> UInt32 {
        let (pageSize, keyCount, heads, headSize) = (16, 37, 2, 24)
        let query = inputValues(heads * headSize, stream: 3)
        let pageElements = pageSize * headSize
        let pageCount = (keyCount + pageSize - 1) / pageSize
        let keys = inputValues(pageCount * pageElements, stream: 4)
        var out = [UInt8](repeating: 0, count: heads * headSize * compute.byteCount)
        withRows(keys, compute) { base in
            let pages: [UnsafeRawPointer?] = (0..<pageCount).map { base + $0 * pageElements * compute.byteCount }
            ck_attention(
                compute.kernelValue, query, pages, pages, Int64(pageSize), Int64(keyCount), Int64(heads), 1,
                Int64(headSize), 0.2, 0, Int64(heads), &out)
        }
        return CRC32C.of(out)
    }

    static func withRows(_ values: [Float], _ compute: ComputeType, _ body: (UnsafeRawPointer) -> Void) {
        if compute == .fp32 { return values.withUnsafeBytes { body($0.baseAddress!) } }
        var rounded = [UInt16](repeating: 0, count: values.count)
        ck_f32_to_bf16(values, Int64(values.count), &rounded)
        rounded.withUnsafeBytes { body($0.baseAddress!) }
    }

    /// Numbers in [-1, 1), among them denormals.
    static func inputValues(_ count: Int, stream: UInt32) -> [Float] {
        (0..<count).map { index in
            let word = Philox.block(counter: (UInt32(index), stream, 0, 0), key: (0x6170_7573, 0)).0
            let value = Float(Int32(bitPattern: word)) * 0x1p-31
            return index % 37 == 36 ? value * 0x1p-127 : value
        }
    }

    static func hash(_ values: [Float]) -> UInt32 {
        var checksum = CRC32C()
        values.withUnsafeBytes { checksum.update($0) }
        return checksum.value
    }

    private static func hexadecimal(_ value: UInt32) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 8 - text.count) + text
    }
}
