// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Foundation
import Testing

/// A query with a paged cache of keys and values.
final class AttentionCase {
    let compute: ck_compute
    let pageSize: Int
    let keyCount: Int
    let queryHeads: Int
    let kvHeads: Int
    let headSize: Int
    let query: [Float]
    /// [keyCount, kvHeads, headSize], rounded to the compute type.
    let keys: [Float]
    let values: [Float]
    private var pages: [UnsafeMutableRawPointer] = []

    init(
        _ compute: ck_compute, pageSize: Int, keyCount: Int, queryHeads: Int, kvHeads: Int, headSize: Int,
        seed: UInt64 = 1
    ) {
        (self.compute, self.pageSize, self.keyCount) = (compute, pageSize, keyCount)
        (self.queryHeads, self.kvHeads, self.headSize) = (queryHeads, kvHeads, headSize)
        var numbers = TestNumbers(seed)
        let round = { (v: Float) in
            compute == CK_FP32 ? v : ScalarModel.widened(ScalarModel.roundedToBF16(v))
        }
        query = numbers.floats(queryHeads * headSize, scale: 3)
        keys = numbers.floats(keyCount * kvHeads * headSize, scale: 2).map(round)
        values = numbers.floats(keyCount * kvHeads * headSize).map(round)
    }

    deinit { pages.forEach { $0.deallocate() } }

    /// Copies rows into pages; what no key fills is NaN, so that reading it shows.
    private func paged(_ rows: [Float]) -> [UnsafeRawPointer?] {
        let pageElements = pageSize * kvHeads * headSize
        return stride(from: 0, to: rows.count, by: pageElements).map { begin in
            var page = Array(rows[begin..<min(begin + pageElements, rows.count)])
            page += [Float](repeating: .nan, count: pageElements - page.count)
            let bytes = LinearCase.stored(compute, page)
            let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 2)
            memory.copyMemory(from: bytes, byteCount: bytes.count)
            pages.append(memory)
            return UnsafeRawPointer(memory)
        }
    }

    var scale: Float { 1 / Float(headSize).squareRoot() }

    func run(heads: Range<Int>? = nil, keyCount count: Int? = nil) -> [Float] {
        let heads = heads ?? 0..<queryHeads
        var out = [UInt8](repeating: 0, count: queryHeads * headSize * (compute == CK_FP32 ? 4 : 2))
        ck_attention(
            compute, query, paged(keys), paged(values), Int64(pageSize), Int64(count ?? keyCount), Int64(queryHeads),
            Int64(kvHeads), Int64(headSize), scale, Int64(heads.lowerBound), Int64(heads.upperBound), &out)
        return LinearCase.widened(compute, out)
    }

    func row(_ tensor: [Float], _ key: Int, _ queryHead: Int) -> [Float] {
        let begin = (key * kvHeads + queryHead / (queryHeads / kvHeads)) * headSize
        return Array(tensor[begin..<begin + headSize])
    }

    func model() -> [Float] {
        (0..<queryHeads).flatMap { head in
            ScalarModel.attention(
                query: Array(query[head * headSize..<(head + 1) * headSize]),
                keys: (0..<keyCount).map { row(keys, $0, head) },
                values: (0..<keyCount).map { row(values, $0, head) }, scale: scale
            ).map { compute == CK_FP32 ? $0 : ScalarModel.widened(ScalarModel.roundedToBF16($0)) }
        }
    }
}

extension KernelTests {
    @Suite("Attention")
    struct Attention {
        /// Page size, keys, query heads, key/value heads, head size.
        static let shapes: [(Int, Int, Int, Int, Int)] = [
            (16, 1, 1, 1, 16), (16, 5, 4, 2, 12), (32, 40, 6, 2, 24), (1, 17, 9, 1, 32), (64, 255, 8, 1, 16),
            (256, 256, 5, 5, 12), (16, 257, 7, 1, 128), (128, 530, 14, 2, 24), (32, 800, 4, 4, 7), (8, 300, 2, 1, 1),
        ]

        static func make(_ compute: ck_compute, _ index: Int) -> AttentionCase {
            let shape = shapes[index]
            return AttentionCase(
                compute, pageSize: shape.0, keyCount: shape.1, queryHeads: shape.2, kvHeads: shape.3,
                headSize: shape.4, seed: UInt64(index))
        }

        @Test("the scalar model of the contract, bit by bit, on every instruction set", arguments: shapes.indices)
        func model(index: Int) {
            for compute in computes {
                let attention = Self.make(compute, index)
                let out = sameBitsOnAll("\(Self.shapes[index])") { attention.run() }
                expectSameBits(out, flushingToZero { attention.model() }, "\(Self.shapes[index])")
            }
        }

        @Test("a naive softmax in fp64", arguments: shapes.indices)
        func naive(index: Int) {
            let attention = Self.make(CK_FP32, index)
            let out = flushingToZero { attention.run() }
            for head in 0..<attention.queryHeads {
                let query = attention.query[head * attention.headSize..<(head + 1) * attention.headSize]
                let scores = (0..<attention.keyCount).map { key in
                    zip(query, attention.row(attention.keys, key, head)).reduce(0.0) {
                        $0 + Double($1.0) * Double($1.1)
                    } / Double(attention.headSize).squareRoot()
                }
                let top = scores.max() ?? 0
                let p = scores.map { exp($0 - top) }
                let sum = p.reduce(0, +)
                for d in 0..<attention.headSize {
                    let exact =
                        (0..<attention.keyCount).reduce(0.0) {
                            $0 + p[$1] * Double(attention.row(attention.values, $1, head)[d])
                        } / sum
                    #expect(abs(Double(out[head * attention.headSize + d]) - exact) < 2e-5)
                }
            }
        }

        @Test("page size and the number of pages behind change nothing")
        func pages() {
            for compute in computes {
                let reference = flushingToZero {
                    AttentionCase(compute, pageSize: 16, keyCount: 300, queryHeads: 6, kvHeads: 3, headSize: 20).run()
                }
                for pageSize in [1, 2, 64, 256] {
                    let attention = AttentionCase(
                        compute, pageSize: pageSize, keyCount: 300, queryHeads: 6, kvHeads: 3, headSize: 20)
                    expectSameBits(flushingToZero { attention.run() }, reference, "page size \(pageSize)")
                }
                let longer = AttentionCase(
                    compute, pageSize: 16, keyCount: 300, queryHeads: 2, kvHeads: 1, headSize: 32)
                let shorter = AttentionCase(
                    compute, pageSize: 16, keyCount: 300, queryHeads: 2, kvHeads: 1, headSize: 32)
                #expect(longer.run(keyCount: 270) == shorter.run(keyCount: 270))
                #expect(longer.run(keyCount: 270) != longer.run(keyCount: 271))
            }
        }

        @Test("a split of the heads changes nothing and touches nothing outside")
        func heads() {
            for compute in computes {
                let attention = AttentionCase(
                    compute, pageSize: 32, keyCount: 290, queryHeads: 15, kvHeads: 5, headSize: 12)
                let whole = flushingToZero { attention.run() }
                for part in [0..<3, 3..<12, 12..<15] {
                    let expected = whole.indices.map { part.contains($0 / 12) ? whole[$0] : 0 }
                    expectSameBits(flushingToZero { attention.run(heads: part) }, expected, "heads \(part)")
                }
            }
        }
    }
}
