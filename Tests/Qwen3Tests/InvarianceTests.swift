import CKernels
// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Qwen3
import RuntimeSupport
import Synchronization
import Tensors
import TestSupport
import Testing

/// The invariance contract on whole models: how work is cut never changes a bit.
@Suite("Invariance of the forward pass", .serialized)
struct InvarianceTests {
    static let models = [
        "dense_tied_bf16", "dense_untied_fp32", "moe_nonorm_sparse2_fp32", "moe_norm_bf16", "qwen2_tied_fp32",
        "llama_tied_llama3_bf16",
    ]
    static let cases = models.flatMap { name in ComputeType.allCases.map { (name, $0) } }

    /// Logits of every position of `sequences`, as bits, when run by `run`.
    struct Runner {
        let model: Qwen3Model
        let pageSize: Int

        init(model: Qwen3Model, pageSize: Int) {
            self.model = model
            self.pageSize = pageSize
        }

        init(_ name: String, _ compute: ComputeType, threads: Int = 1, pageSize: Int = 16) throws {
            let checkpoint = try Checkpoint(directory: Fixtures.url("models/\(name)"))
            model = try Qwen3Model(checkpoint, compute: compute, pool: ComputePool(threadCount: threads))
            self.pageSize = pageSize
        }

        func pageCount(_ count: Int) -> Int { (count + pageSize - 1) / pageSize }

        /// Runs all sequences together, each `chunk` tokens at a time.
        func logits(_ sequences: [[Int32]], chunk: Int) throws -> [[UInt32]] {
            var nextPage: Int32 = 0
            let tables = sequences.map { sequence -> [Int32] in
                defer { nextPage += Int32(pageCount(sequence.count)) }
                return (0..<pageCount(sequence.count)).map { nextPage + Int32($0) }
            }
            // Pages are handed out in reverse, so that page order and position order differ.
            let total = nextPage
            let reversed = tables.map { $0.map { total - 1 - $0 } }
            let cache = try model.makeCache(pageCount: Int(total), pageSize: pageSize)
            var result = [[UInt32]](repeating: [], count: sequences.count)
            var start = 0
            while sequences.contains(where: { $0.count > start }) {
                let active = sequences.indices.filter { sequences[$0].count > start }
                let spans = active.map { index in
                    ForwardSpan(
                        tokens: Array(sequences[index][start..<min(start + chunk, sequences[index].count)]),
                        start: start, pages: reversed[index], logits: .all)
                }
                let rows = try run(spans, cache)
                var row = 0
                for (slot, index) in active.enumerated() {
                    for _ in spans[slot].tokens {
                        result[index] += rows[row]!
                        row += 1
                    }
                }
                start += chunk
            }
            return result
        }

        func run(_ spans: [ForwardSpan], _ cache: KVCache) throws -> [Int: [UInt32]] {
            let vocabulary = model.configuration.vocabularySize
            let sink = Mutex<[Int: [UInt32]]>([:])
            try model.forward(spans, cache: cache) { row, logits in
                let bits = UnsafeBufferPointer(start: logits, count: vocabulary).map(\.bitPattern)
                sink.withLock { $0[row] = bits }
            }
            return sink.withLock { $0 }
        }
    }

    static func sequences(count: Int, vocabulary: Int, longest: Int = 70) -> [[Int32]] {
        (0..<count).map { index in
            (0..<(5 + (index * 37) % (longest - 4))).map { Int32(($0 * 131 + index * 17 + 3) % vocabulary) }
        }
    }

    @Test("chunk size, decode and batch size leave every bit alone", arguments: cases)
    func schedule(name: String, compute: ComputeType) throws {
        let runner = try Runner(name, compute)
        let sequences = Self.sequences(count: 9, vocabulary: runner.model.configuration.vocabularySize)
        let alone = try sequences.map { try runner.logits([$0], chunk: 1000)[0] }
        for chunk in [1, 3, 16, 64] {
            let together = try runner.logits(sequences, chunk: chunk)
            for index in sequences.indices {
                #expect(together[index] == alone[index], "sequence \(index), chunk \(chunk)")
            }
        }
        let wide = try runner.logits(Array(repeating: sequences[3], count: 64), chunk: 1)
        #expect(wide.allSatisfy { $0 == alone[3] })
    }

    @Test("threads and page size leave every bit alone", arguments: cases)
    func threadsAndPages(name: String, compute: ComputeType) throws {
        let reference = try Runner(name, compute)
        let sequences = Self.sequences(count: 3, vocabulary: reference.model.configuration.vocabularySize)
        let expected = try reference.logits(sequences, chunk: 7)
        for (threads, pageSize) in [(2, 16), (1, 32), (2, 256), (3, 1)] {
            let other = try Runner(name, compute, threads: threads, pageSize: pageSize)
            #expect(try other.logits(sequences, chunk: 11) == expected, "\(threads) threads, pages of \(pageSize)")
        }
    }

    @Test("a shared prompt prefix leaves every bit alone", arguments: cases)
    func sharedPrefix(name: String, compute: ComputeType) throws {
        let runner = try Runner(name, compute)
        let vocabulary = Int32(runner.model.configuration.vocabularySize)
        let prompt = Self.sequences(count: 1, vocabulary: Int(vocabulary))[0] + (0..<43).map { $0 * 7 % vocabulary }
        let tails: [[Int32]] = [[1, 2, 3], [9, 8]]
        let expected = try tails.map { try runner.logits([prompt + $0], chunk: 1000)[0] }
        // Both siblings read the full pages of the prompt; each has its own copy of the partly filled last one.
        let full = prompt.count / runner.pageSize
        let cache = try runner.model.makeCache(pageCount: full + 4, pageSize: runner.pageSize)
        let shared = (0..<full).map { Int32($0) }
        _ = try runner.run(
            [ForwardSpan(tokens: prompt, start: 0, pages: shared + [Int32(full)], logits: .none)], cache)
        cache.copyPage(from: full, to: full + 1)
        let spans = tails.enumerated().map { index, tail in
            ForwardSpan(
                tokens: tail, start: prompt.count,
                pages: shared + [Int32(full + index), Int32(full + 2 + index)], logits: .all)
        }
        let rows = try runner.run(spans, cache)
        var row = 0
        for (index, tail) in tails.enumerated() {
            let actual = tail.flatMap { _ in
                defer { row += 1 }
                return rows[row]!
            }
            #expect(actual == Array(expected[index].suffix(actual.count)))
        }
    }

    @Test("every instruction set of this machine gives the same bits", arguments: cases)
    func instructionSets(name: String, compute: ComputeType) throws {
        let chosen = String(cString: ck_isa())
        defer { ck_select_isa(chosen) }
        let runner = try Runner(name, compute)
        let sequences = Self.sequences(count: 2, vocabulary: runner.model.configuration.vocabularySize)
        let expected = try runner.logits(sequences, chunk: 16)
        for isa in ["reference", "avx2", "avx512", "avx512bf16"] where ck_select_isa(isa) == 0 {
            #expect(try runner.logits(sequences, chunk: 16) == expected, "\(isa) against \(chosen)")
        }
    }
}
