// SPDX-License-Identifier: Apache-2.0
//
// Attention of one query position. The query heads of one key/value head go together, four at a time, so that every
// loaded key and value serves four heads. Segments of 256 keys start at the sequence's position 0 and merge in order;
// inside a segment scores, maximum, exponentials, sum and weighted values follow the fixed order of ckernels.h.
#pragma once

#define CK_HEADS_TOGETHER 4  // heads that share one pass over keys or values
#define CK_HEADS_RESIDENT 8  // heads whose running sums are kept while segments pass

/// What the helpers need to find a key or value row.
typedef struct {
    int is_bf16;
    int64_t page_shift, page_mask;  // page_size is a power of two
    int64_t row_bytes;              // from one position to the next
    int64_t head_bytes;             // offset of the key/value head inside a row
    int64_t head_size;
} rows_layout;

/// Running softmax of the resident heads: out = accumulated / sum once every segment is merged.
typedef struct {
    float maximum[CK_HEADS_RESIDENT], sum[CK_HEADS_RESIDENT];
    _Alignas(64) float accumulated[CK_HEADS_RESIDENT][CK_ATTENTION_HEAD_SIZE_MAX];
} attention_state;

CK_INLINE const char *row_at(const rows_layout *l, const void *const *pages, int64_t key) {
    return (const char *)pages[key >> l->page_shift] + (key & l->page_mask) * l->row_bytes + l->head_bytes;
}

/// Elements [i, i + 16) of a cache row as fp32; absent elements are +0.
CK_INLINE v16 load_cached(const int is_bf16, const char *row, int64_t i, int64_t count) {
    if (!is_bf16) return load_at((const float *)row, i, count);
    const uint16_t *p = (const uint16_t *)row + i;
    return widen_bf16(count - i >= 16 ? load_h(p) : load_part_h(p, count - i));
}

/// Sums 16 vectors by the fixed lane tree, all at once: result lane p holds the sum of in[4 * (p % 4) + p / 4].
CK_INLINE v16 lane_sums16(const v16 in[16]) {
    v16 a[8], b[4], c[2];
    CK_UNROLL for (int i = 0; i < 8; i++) {
        v16 x = in[2 * i], y = in[2 * i + 1];
        a[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    CK_UNROLL for (int i = 0; i < 4; i++) {
        v16 x = a[2 * i], y = a[2 * i + 1];
        b[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    }
    CK_UNROLL for (int i = 0; i < 2; i++) {
        v16 x = b[2 * i], y = b[2 * i + 1];
        c[i] = __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    return __builtin_shufflevector(c[0], c[1], 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
           __builtin_shufflevector(c[0], c[1], 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
}

/// Scores of `heads` (1, 2 or 4) query heads against 16 / heads keys; keys at or beyond `key_end` repeat the last one.
CK_INLINE void score_tile(const int is_bf16, const int heads, const rows_layout *l, const float *query,
                          const void *const *pages, int64_t key, int64_t key_end, float scale,
                          float scores[][CK_ATTENTION_SEGMENT], int64_t slot) {
    const int keys = 16 / heads;
    const int64_t size = l->head_size;
    const char *row[16];
    CK_UNROLL for (int k = 0; k < keys; k++) row[k] = row_at(l, pages, key + k < key_end ? key + k : key_end - 1);
    v16 acc[16];  // acc[head * keys + key]
    CK_UNROLL for (int i = 0; i < 16; i++) acc[i] = splat(0.0f);
    for (int64_t d = 0; d < size; d += 16) {
        v16 q[4];
        CK_UNROLL for (int h = 0; h < heads; h++) q[h] = load_at(query + h * size, d, size);
        CK_UNROLL for (int k = 0; k < keys; k++) {
            v16 kv = load_cached(is_bf16, row[k], d, size);
            CK_UNROLL for (int h = 0; h < heads; h++) acc[h * keys + k] = fma16(q[h], kv, acc[h * keys + k]);
        }
    }
    v16 ordered[16];
    CK_UNROLL for (int p = 0; p < 16; p++) ordered[4 * (p % 4) + p / 4] = acc[p];
    _Alignas(64) float sums[16];
    store(sums, splat(scale) * lane_sums16(ordered));
    // Slots up to the next multiple of 16 exist; those beyond the segment's keys are never read as scores.
    CK_UNROLL for (int h = 0; h < heads; h++) memcpy(&scores[h][slot], sums + h * keys, (size_t)keys * sizeof(float));
}

/// Adds p * V over the segment's keys for `heads` heads and merges the result into the running sums.
CK_INLINE void value_tile(const int is_bf16, const int heads, const int chunks, const rows_layout *l,
                          const void *const *pages, int64_t key_begin, int64_t key_count,
                          float p[][CK_ATTENTION_SEGMENT], const float old_factor[], const float new_factor[],
                          int first, float accumulated[][CK_ATTENTION_HEAD_SIZE_MAX], int64_t d) {
    const int64_t size = l->head_size;
    v16 acc[4][4];
    CK_UNROLL for (int h = 0; h < heads; h++) CK_UNROLL for (int c = 0; c < chunks; c++) acc[h][c] = splat(0.0f);
    for (int64_t k = 0; k < key_count; k++) {
        const char *row = row_at(l, pages, key_begin + k);
        v16 value[4];
        CK_UNROLL for (int c = 0; c < chunks; c++) value[c] = load_cached(is_bf16, row, d + 16 * c, size);
        CK_UNROLL for (int h = 0; h < heads; h++) {
            v16 weight = splat(p[h][k]);
            CK_UNROLL for (int c = 0; c < chunks; c++) acc[h][c] = fma16(weight, value[c], acc[h][c]);
        }
    }
    CK_UNROLL for (int h = 0; h < heads; h++) CK_UNROLL for (int c = 0; c < chunks; c++) {
        float *kept = accumulated[h] + d + 16 * c;
        v16 merged = acc[h][c];
        if (!first) merged = fma16(merged, splat(new_factor[h]), load(kept) * splat(old_factor[h]));
        store(kept, merged);
    }
}

/// One segment of keys for `heads` heads whose state starts at index `at`.
CK_INLINE void attend_segment(const int is_bf16, const int heads, const rows_layout *l, const float *query,
                              const void *const *key_pages, const void *const *value_pages, int64_t begin,
                              int64_t count, float scale, attention_state *state, int64_t at) {
    _Alignas(64) float p[CK_HEADS_TOGETHER][CK_ATTENTION_SEGMENT];
    float old_factor[CK_HEADS_TOGETHER], new_factor[CK_HEADS_TOGETHER];
    const int first = begin == 0;
    for (int64_t k = 0; k < count; k += 16 / heads) {
        score_tile(is_bf16, heads, l, query, key_pages, begin + k, begin + count, scale, p, k);
    }
    for (int h = 0; h < heads; h++) {
        const float top = scaled_maximum(p[h], count, 1.0f);
        const float sum = exponentials(p[h], count, top, p[h]);
        if (first) {
            state->maximum[at + h] = top;
            state->sum[at + h] = sum;
            continue;
        }
        const float merged = top > state->maximum[at + h] ? top : state->maximum[at + h];
        const v16 factors = exp16((v16){state->maximum[at + h] - merged, top - merged});
        old_factor[h] = factors[0];
        new_factor[h] = factors[1];
        state->sum[at + h] = __builtin_elementwise_fma(sum, new_factor[h], state->sum[at + h] * old_factor[h]);
        state->maximum[at + h] = merged;
    }
    int64_t d = 0;
    for (; d + 16 * CK_VALUE_CHUNKS <= l->head_size; d += 16 * CK_VALUE_CHUNKS) {
        value_tile(is_bf16, heads, CK_VALUE_CHUNKS, l, value_pages, begin, count, p, old_factor, new_factor, first,
                   &state->accumulated[at], d);
    }
    for (; d < l->head_size; d += 16) {
        value_tile(is_bf16, heads, 1, l, value_pages, begin, count, p, old_factor, new_factor, first,
                   &state->accumulated[at], d);
    }
}

#define CK_SEGMENT(kind, is_bf16, heads)                                                                           \
    static void segment_##kind##_##heads(const rows_layout *l, const float *query, const void *const *key_pages,   \
                                         const void *const *value_pages, int64_t begin, int64_t count, float scale, \
                                         attention_state *state, int64_t at) {                                     \
        attend_segment(is_bf16, heads, l, query, key_pages, value_pages, begin, count, scale, state, at);          \
    }
CK_SEGMENT(fp32, 0, 1) CK_SEGMENT(fp32, 0, 2) CK_SEGMENT(fp32, 0, 4)
CK_SEGMENT(bf16, 1, 1) CK_SEGMENT(bf16, 1, 2) CK_SEGMENT(bf16, 1, 4)
#undef CK_SEGMENT

static void kernel_attention(ck_compute compute, const float *query, const void *const *key_pages,
                             const void *const *value_pages, int64_t page_size, int64_t key_count, int64_t query_heads,
                             int64_t kv_heads, int64_t head_size, float scale, int64_t head_begin, int64_t head_end,
                             void *out) {
    const int64_t element = compute == CK_BF16 ? 2 : 4, group = query_heads / kv_heads;
    rows_layout l = {.is_bf16 = compute == CK_BF16, .page_shift = __builtin_ctzll((uint64_t)page_size),
                     .page_mask = page_size - 1, .row_bytes = kv_heads * head_size * element, .head_size = head_size};
    attention_state state;
    for (int64_t head = head_begin; head < head_end;) {
        // Up to 8 heads of one key/value head stay resident while its segments pass.
        int64_t resident = group - head % group;
        if (resident > CK_HEADS_RESIDENT) resident = CK_HEADS_RESIDENT;
        if (resident > head_end - head) resident = head_end - head;
        l.head_bytes = head / group * head_size * element;
        // Segments begin at the sequence's own position 0; the shift is 0 unless a test planted a mistake.
        int64_t segment = CK_ATTENTION_SEGMENT - ck_segment_shift;
        for (int64_t begin = 0; begin < key_count; begin += segment, segment = CK_ATTENTION_SEGMENT) {
            const int64_t rest = key_count - begin;
            const int64_t count = rest < segment ? rest : segment;
            for (int64_t at = 0; at < resident;) {
                const float *q = query + (head + at) * head_size;
                const int64_t left = resident - at, taken = left >= 4 ? 4 : left >= 2 ? 2 : 1;
                if (l.is_bf16) {
                    (taken == 4 ? segment_bf16_4 : taken == 2 ? segment_bf16_2 : segment_bf16_1)(
                        &l, q, key_pages, value_pages, begin, count, scale, &state, at);
                } else {
                    (taken == 4 ? segment_fp32_4 : taken == 2 ? segment_fp32_2 : segment_fp32_1)(
                        &l, q, key_pages, value_pages, begin, count, scale, &state, at);
                }
                at += taken;
            }
        }
        for (int64_t h = 0; h < resident; h++) {
            void *result = (char *)out + (head + h) * head_size * element;
            for (int64_t d = 0; d < head_size; d += 16) {
                store_as(compute, result, d, head_size, load(state.accumulated[h] + d) / splat(state.sum[h]));
            }
        }
        head += resident;
    }
}
