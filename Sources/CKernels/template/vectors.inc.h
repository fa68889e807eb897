// SPDX-License-Identifier: Apache-2.0
//
// Sixteen-lane vectors in clang's vector extensions. The compiler splits them to what the instruction set has, so
// every form of a kernel does the same operations on the same lanes.
#pragma once
#pragma clang fp contract(off)
// Vectors are passed only between functions that are always inlined, so the calling convention never matters.
#pragma clang diagnostic ignored "-Wpsabi"

#define CK_INLINE static inline __attribute__((always_inline, unused))
#define CK_UNROLL _Pragma("clang loop unroll(full)")

typedef float v16 __attribute__((vector_size(64)));
typedef double v16d __attribute__((vector_size(128)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef int64_t v16l __attribute__((vector_size(128)));
typedef uint16_t v16h __attribute__((vector_size(32)));

typedef float v16_memory __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t v16u_memory __attribute__((vector_size(64), aligned(2), may_alias));
typedef uint16_t v16h_memory __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t u32_memory __attribute__((aligned(2), may_alias));

CK_INLINE v16 splat(float x) { return (v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
CK_INLINE v16u splat_u(uint32_t x) { return (v16u){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
CK_INLINE v16d splat_d(double x) { return (v16d){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
CK_INLINE v16 fma16(v16 a, v16 b, v16 c) { return __builtin_elementwise_fma(a, b, c); }
CK_INLINE v16d fma16d(v16d a, v16d b, v16d c) { return __builtin_elementwise_fma(a, b, c); }
CK_INLINE v16u bits(v16 x) { return (v16u)x; }
/// Lane by lane: mask (all ones or zero) ? a : b.
CK_INLINE v16 choose(v16i mask, v16 a, v16 b) { return (v16)(((v16i)a & mask) | ((v16i)b & ~mask)); }
CK_INLINE v16u choose_u(v16i mask, v16u a, v16u b) { return (a & (v16u)mask) | (b & ~(v16u)mask); }
/// The larger lane; b where a is not a number.
CK_INLINE v16 larger(v16 a, v16 b) { return choose(a > b, a, b); }

CK_INLINE v16 load(const float *p) { return (v16) * (const v16_memory *)p; }
CK_INLINE void store(float *p, v16 x) { *(v16_memory *)p = (v16_memory)x; }
CK_INLINE v16h load_h(const uint16_t *p) { return (v16h) * (const v16h_memory *)p; }
CK_INLINE void store_h(uint16_t *p, v16h x) { *(v16h_memory *)p = (v16h_memory)x; }

#if CK_LEVEL >= 3
CK_INLINE v16 load_part(const float *p, int64_t count) {
    return (v16)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}
CK_INLINE void store_part(float *p, v16 x, int64_t count) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)x);
}
CK_INLINE v16h load_part_h(const uint16_t *p, int64_t count) {
    return (v16h)_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), p);
}
CK_INLINE void store_part_h(uint16_t *p, v16h x, int64_t count) {
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << count) - 1), (__m256i)x);
}
#else
/// The first `count` (0 to 15) elements; the rest are +0 and their memory is not touched.
CK_INLINE v16 load_part(const float *p, int64_t count) {
    float kept[16] = {0};
    memcpy(kept, p, (size_t)count * sizeof(float));
    return load(kept);
}
CK_INLINE void store_part(float *p, v16 x, int64_t count) {
    float kept[16];
    store(kept, x);
    memcpy(p, kept, (size_t)count * sizeof(float));
}
CK_INLINE v16h load_part_h(const uint16_t *p, int64_t count) {
    uint16_t kept[16] = {0};
    memcpy(kept, p, (size_t)count * sizeof(uint16_t));
    return load_h(kept);
}
CK_INLINE void store_part_h(uint16_t *p, v16h x, int64_t count) {
    uint16_t kept[16];
    store_h(kept, x);
    memcpy(p, kept, (size_t)count * sizeof(uint16_t));
}
#endif
/// Elements [i, min(i + 16, count)) of p; absent elements are +0.
CK_INLINE v16 load_at(const float *p, int64_t i, int64_t count) {
    return count - i >= 16 ? load(p + i) : load_part(p + i, count - i);
}
CK_INLINE void store_at(float *p, int64_t i, int64_t count, v16 x) {
    if (count - i >= 16) store(p + i, x);
    else store_part(p + i, x, count - i);
}

// ---- bf16 ----

CK_INLINE v16 widen_bf16(v16h x) { return (v16)(__builtin_convertvector(x, v16u) << 16); }
/// Nearest-even in integer arithmetic, so denormals survive whatever the control word says; NaN becomes quiet.
CK_INLINE v16h round_bf16(v16 x) {
    v16u u = bits(x);
    v16u rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    v16u quiet = (u >> 16) | 0x40u;
    return __builtin_convertvector(choose_u((u & 0x7fffffffu) > 0x7f800000u, quiet, rounded), v16h);
}
CK_INLINE float widen_bf16_scalar(uint16_t x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
/// Stores 16 (or the last `count - i`) results as fp32, or rounded as bf16.
CK_INLINE void store_as(ck_compute compute, void *out, int64_t i, int64_t count, v16 x) {
    if (compute == CK_FP32) {
        store_at((float *)out, i, count, x);
    } else if (count - i >= 16) {
        store_h((uint16_t *)out + i, round_bf16(x));
    } else {
        store_part_h((uint16_t *)out + i, round_bf16(x), count - i);
    }
}

// ---- Lane trees ----

CK_INLINE v16 fold8(v16 x) {
    return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
}
CK_INLINE v16 fold4(v16 x) {
    return __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
}
CK_INLINE v16 fold2(v16 x) {
    return __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}
CK_INLINE v16 fold1(v16 x) {
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
}
/// Sum of the lanes by the fixed tree: halves are added, 8, 4, 2, 1.
CK_INLINE float lane_sum(v16 x) {
    x = x + fold8(x);
    x = x + fold4(x);
    x = x + fold2(x);
    x = x + fold1(x);
    return x[0];
}
CK_INLINE float lane_maximum(v16 x) {
    x = larger(fold8(x), x);
    x = larger(fold4(x), x);
    x = larger(fold2(x), x);
    x = larger(fold1(x), x);
    return x[0];
}
