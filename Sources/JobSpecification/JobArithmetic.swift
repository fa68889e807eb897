// SPDX-License-Identifier: Apache-2.0

/// The shape of a model's key/value cache.
package struct KVCacheShape: Equatable, Sendable {
    package let layerCount: Int
    package let keyValueHeadCount: Int
    package let headSize: Int
    package let compute: ComputeType

    package init(layerCount: Int, keyValueHeadCount: Int, headSize: Int, compute: ComputeType) {
        precondition(layerCount > 0 && keyValueHeadCount > 0 && headSize > 0, "empty key/value cache shape")
        self.layerCount = layerCount
        self.keyValueHeadCount = keyValueHeadCount
        self.headSize = headSize
        self.compute = compute
    }

    /// Keys and values of one token in all layers.
    package var byteCountPerToken: Int {
        2 * layerCount * keyValueHeadCount * headSize * compute.byteCount
    }
}

/// What a rollout job amounts to, from its settings alone. Counts saturate at `Int.max`.
package struct JobArithmetic: Equatable, Sendable {
    /// Prompts that are used, after `data.limit`.
    package let promptCount: Int
    /// Responses to generate.
    package let rolloutCount: Int
    /// Response tokens at most.
    package let responseTokenCountMax: Int
    /// Prompt tokens at most; each prompt is computed once per group.
    package let promptTokenCountMax: Int
    /// Pages of one whole sequence at its longest.
    package let pageCountPerSequenceMax: Int
    /// Bytes of key/value cache of one sequence that shares nothing.
    package let kvByteCountPerSequenceMax: Int
    /// Bytes of a group whose siblings share the whole pages of their prompt.
    package let kvByteCountPerGroupMax: Int
    /// Longest sequences that fit `resources.kv_cache_bytes` and `resources.max_sequences` at once; 0 when
    /// not even one does, and the job cannot run.
    package let concurrentSequenceCountMin: Int

    /// - Parameters:
    ///   - rowCount: good rows of the data.
    ///   - promptTokenCount: tokens of the longest prompt.
    package init(_ job: RolloutJob, rowCount: Int, promptTokenCount: Int, cache: KVCacheShape) {
        precondition(rowCount >= 0 && promptTokenCount >= 0, "negative counts")
        promptCount = min(rowCount, job.data.limit ?? rowCount)
        rolloutCount = saturatingProduct(promptCount, job.groupSize)
        responseTokenCountMax = saturatingProduct(rolloutCount, job.sampling.maxNewTokens)
        promptTokenCountMax = saturatingProduct(promptCount, promptTokenCount)
        let page = job.resources.pageSize
        let tokenCount = promptTokenCount + job.sampling.maxNewTokens
        pageCountPerSequenceMax = (tokenCount + page - 1) / page
        let pageByteCount = saturatingProduct(page, cache.byteCountPerToken)
        kvByteCountPerSequenceMax = saturatingProduct(pageCountPerSequenceMax, pageByteCount)
        let sharedPageCount = promptTokenCount / page
        let ownPages = saturatingProduct(job.groupSize, pageCountPerSequenceMax - sharedPageCount)
        kvByteCountPerGroupMax = saturatingProduct(ownPages, pageByteCount)
            .saturatingSum(saturatingProduct(sharedPageCount, pageByteCount))
        concurrentSequenceCountMin = min(
            job.resources.maxSequences, job.resources.kvCacheByteCount / max(kvByteCountPerSequenceMax, 1))
    }
}

private func saturatingProduct(_ a: Int, _ b: Int) -> Int {
    let (product, overflow) = a.multipliedReportingOverflow(by: b)
    return overflow ? .max : product
}

extension Int {
    fileprivate func saturatingSum(_ other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
