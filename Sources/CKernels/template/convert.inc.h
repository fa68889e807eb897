// SPDX-License-Identifier: Apache-2.0
//
// Conversions and weight packing.
#pragma once

/// Exact. Denormals of f16 are normal in f32; NaN becomes quiet.
CK_INLINE v16 widen_f16(v16h x) {
    v16u h = __builtin_convertvector(x, v16u);
    v16u magnitude = h & 0x7fffu;
    v16u shifted = magnitude << 13;
    v16u normal = shifted + (112u << 23);
    v16u special = (shifted | 0x7f800000u) | choose_u(magnitude > 0x7c00u, splat_u(0x400000u), splat_u(0));
    v16 tiny = (v16)(shifted + (113u << 23)) - splat(0x1p-14f);
    v16u result = choose_u(magnitude < 0x400u, bits(tiny), choose_u(magnitude >= 0x7c00u, special, normal));
    return (v16)(result | ((h & 0x8000u) << 16));
}

/// Nearest-even; overflow gives infinity, NaN a quiet NaN.
CK_INLINE v16h round_f16(v16 x) {
    v16u u = bits(x);
    v16u magnitude = u & 0x7fffffffu;
    v16u normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 1/2 leaves the f16 denormal, rounded by the adder, in the low bits.
    v16u tiny = bits((v16)magnitude + splat(0.5f)) - 0x3f000000u;
    v16u special = choose_u(magnitude > 0x7f800000u, splat_u(0x7e00u), splat_u(0x7c00u));
    v16u result = choose_u(magnitude < 0x38800000u, tiny, choose_u(magnitude >= 0x47800000u, special, normal));
    return __builtin_convertvector(result | ((u >> 16) & 0x8000u), v16h);
}

static void kernel_f32_to_bf16(const float *x, int64_t count, uint16_t *out) {
    for (int64_t i = 0; i < count; i += 16) store_as(CK_BF16, out, i, count, load_at(x, i, count));
}

static void kernel_f32_to_f16(const float *x, int64_t count, uint16_t *out) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) store_h(out + i, round_f16(load(x + i)));
    if (i < count) store_part_h(out + i, round_f16(load_part(x + i, count - i)), count - i);
}

static void kernel_bf16_to_f32(const uint16_t *x, int64_t count, float *out) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) store(out + i, widen_bf16(load_h(x + i)));
    if (i < count) store_part(out + i, widen_bf16(load_part_h(x + i, count - i)), count - i);
}

static void kernel_f16_to_f32(const uint16_t *x, int64_t count, float *out) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) store(out + i, widen_f16(load_h(x + i)));
    if (i < count) store_part(out + i, widen_f16(load_part_h(x + i, count - i)), count - i);
}

// ---- Packing -----------------------------------------------------------------------------------------------------

/// Elements [i, i + 16) of a stored row, as fp32; absent elements are +0.
CK_INLINE v16 read_stored(ck_stored stored, const void *row, int64_t i, int64_t count) {
    if (i >= count) return splat(0.0f);
    if (stored == CK_STORED_F32) return load_at((const float *)row, i, count);
    const uint16_t *p = (const uint16_t *)row + i;
    v16h h = count - i >= 16 ? load_h(p) : load_part_h(p, count - i);
    return stored == CK_STORED_BF16 ? widen_bf16(h) : widen_f16(h);
}

/// Sixteen 4-byte units (one fp32, or a pair of bf16 with the even input in the low half) of a stored row.
CK_INLINE v16u read_units(ck_compute compute, ck_stored stored, const void *row, int64_t unit, int64_t inputs) {
    if (compute == CK_FP32) return bits(read_stored(stored, row, unit, inputs));
    uint16_t pair[32];
    store_h(pair, round_bf16(read_stored(stored, row, 2 * unit, inputs)));
    store_h(pair + 16, round_bf16(read_stored(stored, row, 2 * unit + 16, inputs)));
    return (v16u) * (const v16u_memory *)pair;
}

/// Transposes a 16 x 16 block of units: four rounds of exchanging halves of ever smaller squares.
CK_INLINE void transpose16(v16u m[16]) {
    CK_UNROLL for (int i = 0; i < 8; i++) {
        v16u a = m[i], b = m[i + 8];
        m[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        m[i + 8] = __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    CK_UNROLL for (int i = 0; i < 16; i++) if (!(i & 4)) {
        v16u a = m[i], b = m[i + 4];
        m[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        m[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
    CK_UNROLL for (int i = 0; i < 16; i++) if (!(i & 2)) {
        v16u a = m[i], b = m[i + 2];
        m[i] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        m[i + 2] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    CK_UNROLL for (int i = 0; i < 16; i++) if (!(i & 1)) {
        v16u a = m[i], b = m[i + 1];
        m[i] = __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        m[i + 1] = __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
}

static void kernel_pack(ck_compute compute, ck_stored stored, const void *source, int64_t outputs, int64_t inputs,
                        int64_t row_begin, int64_t row_end, void *packed) {
    const int64_t units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs;
    const int64_t row_bytes = inputs * (stored == CK_STORED_F32 ? 4 : 2);
    for (int64_t block = row_begin / 16; block * 16 < row_end; block++) {
        const char *rows = (const char *)source + block * 16 * row_bytes;
        char *out = (char *)packed + block * units * 64;
        const int64_t present = outputs - block * 16;
        for (int64_t unit = 0; unit < units; unit += 16) {
            v16u m[16];
            CK_UNROLL for (int r = 0; r < 16; r++) {
                m[r] = r < present ? read_units(compute, stored, rows + r * row_bytes, unit, inputs) : splat_u(0);
            }
            transpose16(m);
            int64_t kept = units - unit < 16 ? units - unit : 16;
            for (int64_t u = 0; u < kept; u++) *(v16u_memory *)(out + (unit + u) * 64) = (v16u_memory)m[u];
        }
    }
}
