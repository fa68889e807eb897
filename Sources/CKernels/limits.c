// SPDX-License-Identifier: Apache-2.0
#include "ckernels_limits.h"

#if defined(__x86_64__)
#include <immintrin.h>

/// Enough accumulators to hide the latency of two pipes (4 to 6 cycles each) with registers to spare.
#define ACCUMULATORS 16
#define UNROLL _Pragma("clang loop unroll(full)")
/// Measured: the hardware's own prefetching stops at pages of 4 KiB, so ask for what comes after.
#define READ_AHEAD 4096

__attribute__((target("avx512f"))) static uint64_t read_avx512(const char *p, size_t count) {
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < count; i += 256) {
        UNROLL for (int k = 0; k < 4; k++) _mm_prefetch(p + i + READ_AHEAD + 64 * k, _MM_HINT_T0);
        a = _mm512_add_epi64(a, _mm512_loadu_si512(p + i));
        b = _mm512_add_epi64(b, _mm512_loadu_si512(p + i + 64));
        c = _mm512_add_epi64(c, _mm512_loadu_si512(p + i + 128));
        d = _mm512_add_epi64(d, _mm512_loadu_si512(p + i + 192));
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
}

__attribute__((target("avx512f"))) static double fma_avx512(int64_t steps, float *sink) {
    __m512 acc[ACCUMULATORS], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
    UNROLL for (int i = 0; i < ACCUMULATORS; i++) acc[i] = _mm512_set1_ps((float)i);
    for (int64_t step = 0; step < steps; step++) {
        UNROLL for (int i = 0; i < ACCUMULATORS; i++) acc[i] = _mm512_fmadd_ps(acc[i], x, y);
        // The accumulators must be computed step by step, not folded into a formula.
        UNROLL for (int i = 0; i < ACCUMULATORS; i++) __asm__ volatile("" : "+v"(acc[i]));
    }
    UNROLL for (int i = 0; i < ACCUMULATORS; i++) *sink += _mm512_reduce_add_ps(acc[i]);
    return (double)steps * ACCUMULATORS * 16 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) static double pairs_avx512(int64_t steps, float *sink) {
    __m512 acc[ACCUMULATORS];
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3e003e00), y = x;
    UNROLL for (int i = 0; i < ACCUMULATORS; i++) acc[i] = _mm512_set1_ps((float)i);
    for (int64_t step = 0; step < steps; step++) {
        UNROLL for (int i = 0; i < ACCUMULATORS; i++) acc[i] = _mm512_dpbf16_ps(acc[i], x, y);
        UNROLL for (int i = 0; i < ACCUMULATORS; i++) __asm__ volatile("" : "+v"(acc[i]));
    }
    UNROLL for (int i = 0; i < ACCUMULATORS; i++) *sink += _mm512_reduce_add_ps(acc[i]);
    return (double)steps * ACCUMULATORS * 32 * 2;
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const char *p, size_t count) {
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < count; i += 128) {
        UNROLL for (int k = 0; k < 2; k++) _mm_prefetch(p + i + READ_AHEAD + 64 * k, _MM_HINT_T0);
        a = _mm256_add_epi64(a, _mm256_loadu_si256((const __m256i *)(p + i)));
        b = _mm256_add_epi64(b, _mm256_loadu_si256((const __m256i *)(p + i + 32)));
        a = _mm256_add_epi64(a, _mm256_loadu_si256((const __m256i *)(p + i + 64)));
        b = _mm256_add_epi64(b, _mm256_loadu_si256((const __m256i *)(p + i + 96)));
    }
    a = _mm256_add_epi64(a, b);
    return (uint64_t)(_mm256_extract_epi64(a, 0) + _mm256_extract_epi64(a, 1) + _mm256_extract_epi64(a, 2) +
                      _mm256_extract_epi64(a, 3));
}

__attribute__((target("avx2,fma"))) static double fma_avx2(int64_t steps, float *sink) {
    __m256 acc[12], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
    UNROLL for (int i = 0; i < 12; i++) acc[i] = _mm256_set1_ps((float)i);
    for (int64_t step = 0; step < steps; step++) {
        UNROLL for (int i = 0; i < 12; i++) acc[i] = _mm256_fmadd_ps(acc[i], x, y);
        UNROLL for (int i = 0; i < 12; i++) __asm__ volatile("" : "+x"(acc[i]));
    }
    UNROLL for (int i = 0; i < 12; i++) *sink += _mm256_cvtss_f32(acc[i]);
    return (double)steps * 12 * 8 * 2;
}
#endif

static uint64_t read_plain(const char *p, size_t count) {
    const uint64_t *words = (const uint64_t *)p;
    uint64_t sums[4] = {0};
    for (size_t i = 0; i < count / 8; i += 4) {
        for (int k = 0; k < 4; k++) sums[k] += words[i + (size_t)k];
    }
    return sums[0] + sums[1] + sums[2] + sums[3];
}

static double fma_plain(int64_t steps, float *sink) {
    float acc[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int64_t step = 0; step < steps; step++) {
        for (int i = 0; i < 8; i++) acc[i] = acc[i] * 0.5f + 0.25f;
    }
    for (int i = 0; i < 8; i++) *sink += acc[i];
    return (double)steps * 8 * 2;
}

uint64_t ck_limit_read(const void *base, size_t byte_count) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return read_avx512(base, byte_count);
    if (__builtin_cpu_supports("avx2")) return read_avx2(base, byte_count);
#endif
    return read_plain(base, byte_count);
}

double ck_limit_products(ck_product product, int64_t steps, float *sink) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (product == CK_PRODUCT_BF16_PAIR) {
        return __builtin_cpu_supports("avx512bf16") ? pairs_avx512(steps, sink) : 0;
    }
    if (__builtin_cpu_supports("avx512f")) return fma_avx512(steps, sink);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fma_avx2(steps, sink);
#endif
    return product == CK_PRODUCT_FMA ? fma_plain(steps, sink) : 0;
}
