// SPDX-License-Identifier: Apache-2.0
import JobSpecification
import Testing

@Suite struct JobArithmeticTests {
    private func job(_ more: String) throws -> RolloutJob {
        guard case .rollout(let job) = try Job.parse(rolloutText(more)) else {
            preconditionFailure("not a rollout")
        }
        return job
    }

    @Test func countsAndMemory() throws {
        let job = try job("group_size: 4\nsampling: {max_new_tokens: 100}\nresources: {page_size: 16}")
        // Qwen3-0.6B: 28 layers, 8 key/value heads of 128, bf16 -> 114,688 bytes a token.
        let cache = KVCacheShape(layerCount: 28, keyValueHeadCount: 8, headSize: 128, compute: .bf16)
        #expect(cache.byteCountPerToken == 114_688)
        let arithmetic = JobArithmetic(job, rowCount: 10, promptTokenCount: 40, cache: cache)
        #expect(arithmetic.rolloutCount == 40)
        #expect(arithmetic.responseTokenCountMax == 4000)
        #expect(arithmetic.promptTokenCountMax == 400)
        #expect(arithmetic.pageCountPerSequenceMax == 9)  // 140 tokens
        #expect(arithmetic.kvByteCountPerSequenceMax == 9 * 16 * 114_688)
        #expect(arithmetic.kvByteCountPerGroupMax == (2 + 4 * 7) * 16 * 114_688)
        #expect(arithmetic.concurrentSequenceCountMin == 64)
    }

    @Test func limitsAndOverflow() throws {
        let cache = KVCacheShape(layerCount: 48, keyValueHeadCount: 4, headSize: 128, compute: .fp32)
        guard
            case .rollout(let limitedJob) = try Job.parse(
                rolloutText(), overrides: [JobOverride(argument: "data.limit=3")])
        else { return }
        let limited = JobArithmetic(limitedJob, rowCount: 5, promptTokenCount: 1, cache: cache)
        #expect(limited.promptCount == 3)
        let huge = JobArithmetic(
            try job("resources: {kv_cache_bytes: 64KiB}"), rowCount: .max, promptTokenCount: 1 << 20,
            cache: cache)
        #expect(huge.rolloutCount == .max)
        #expect(huge.concurrentSequenceCountMin == 0)
    }
}
