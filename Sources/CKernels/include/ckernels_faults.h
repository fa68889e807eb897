// SPDX-License-Identifier: Apache-2.0
//
// Mistakes that the invariance check must find. All are off unless a test plants one; production code has no way to.
#pragma once
#include <stdint.h>

typedef enum {
    CK_FAULT_NONE = 0,
    /// From 5 rows on, ck_linear adds the products of the two halves of the input axis separately: a tile whose order
    /// of accumulation depends on the batch.
    CK_FAULT_BATCH_DEPENDENT_TILES = 1,
    /// ck_thread_setup leaves denormals alone.
    CK_FAULT_NO_FLUSH_TO_ZERO = 2,
    /// Attention segments count from ck_planted_segment_shift, which the model sets to the start of the chunk.
    CK_FAULT_CHUNK_RELATIVE_SEGMENTS = 3,
} ck_fault;

/// Plants a mistake on the calling thread, or CK_FAULT_NONE.
void ck_plant_fault(ck_fault fault);
ck_fault ck_planted_fault(void);
/// Keys that the first attention segment is short of under CK_FAULT_CHUNK_RELATIVE_SEGMENTS.
void ck_plant_segment_shift(int64_t keys);
