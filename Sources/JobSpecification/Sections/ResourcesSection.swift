// SPDX-License-Identifier: Apache-2.0

/// `resources:` what a worker may use. None of it changes a result.
package struct ResourcesSection: Equatable, Sendable {
    /// Workers that must have joined before the job starts.
    package let workerCountMin: Int
    /// Bytes of memory of a worker that the job may take, weights included; nil is what the worker offers.
    package let memoryByteCountPerWorker: Int?
    /// Bytes of key/value cache on a worker.
    package let kvCacheByteCount: Int
    /// Tokens of one cache page: a power of two that divides the attention segment of 256.
    package let pageSize: Int
    /// Tokens of one forward pass.
    package let maxBatchTokens: Int
    /// Sequences under way at once.
    package let maxSequences: Int

    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.resources)
        // Jobs of earlier versions have the key with its only value that was ever true.
        if let threads = fields["threads_per_worker"], try threads.integer() != 0 {
            throw fields.error(
                "threads_per_worker",
                "a worker's threads are its own: start it with --threads (apus run, up and worker have it) and remove the "
                    + "key")
        }
        workerCountMin = try fields.integer("workers_min")
        memoryByteCountPerWorker = try fields["memory_per_worker"]?.byteCount()
        kvCacheByteCount = try fields.byteCount("kv_cache_bytes")
        if let memoryByteCountPerWorker, kvCacheByteCount > memoryByteCountPerWorker {
            throw fields.error(
                "kv_cache_bytes",
                "\(kvCacheByteCount) is more than memory_per_worker, \(memoryByteCountPerWorker)")
        }
        pageSize = try fields.integer("page_size")
        guard pageSize & (pageSize - 1) == 0 else {
            throw fields.error("page_size", "\(pageSize) is not a power of two")
        }
        maxBatchTokens = try fields.integer("max_batch_tokens")
        maxSequences = try fields.integer("max_sequences")
        guard maxSequences <= maxBatchTokens else {
            throw fields.error(
                "max_sequences",
                "\(maxSequences) sequences need a token each; max_batch_tokens is \(maxBatchTokens)")
        }
    }

    package var resolved: ResolvedValue {
        .section([
            "workers_min": .integer(workerCountMin),
            "memory_per_worker": memoryByteCountPerWorker.map { .integer($0) },
            "kv_cache_bytes": .integer(kvCacheByteCount),
            "page_size": .integer(pageSize), "max_batch_tokens": .integer(maxBatchTokens),
            "max_sequences": .integer(maxSequences),
        ])
    }
}
