// SPDX-License-Identifier: Apache-2.0
//
// Row kernels: normalisation, rotary embedding, softmax and the statistics of a vocabulary row.
#pragma once

static void kernel_rms_norm(ck_compute compute, const float *x, int64_t x_stride, const float *weight, float epsilon,
                            int64_t count, int64_t rows, void *out, int64_t out_stride) {
    for (int64_t row = 0; row < rows; row++) {
        const float *input = x + row * x_stride;
        void *result = (char *)out + row * out_stride * (compute == CK_BF16 ? 2 : 4);
        v16 squares = splat(0.0f);
        for (int64_t i = 0; i < count; i += 16) {
            v16 v = load_at(input, i, count);
            squares = fma16(v, v, squares);
        }
        float mean = lane_sum(squares) / (float)count;
        v16 scale = splat(1.0f / __builtin_elementwise_sqrt(mean + epsilon));
        for (int64_t i = 0; i < count; i += 16) {
            v16 v = load_at(input, i, count) * scale * load_at(weight, i, count);
            store_as(compute, result, i, count, v);
        }
    }
}

static void kernel_rope(float *x, int64_t head_stride, int64_t heads, int64_t head_size, const float *cos,
                        const float *sin) {
    const int64_t half = head_size / 2;
    for (int64_t head = 0; head < heads; head++) {
        float *first = x + head * head_stride;
        float *second = first + half;
        for (int64_t i = 0; i < half; i += 16) {
            v16 a = load_at(first, i, half), b = load_at(second, i, half);
            v16 c = load_at(cos, i, half), s = load_at(sin, i, half);
            store_at(first, i, half, fma16(a, c, -(b * s)));
            store_at(second, i, half, fma16(b, c, a * s));
        }
    }
}

static void kernel_add(const float *a, const float *b, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i += 16) store_at(out, i, count, load_at(a, i, count) + load_at(b, i, count));
}

static void kernel_scale(const float *x, float scale, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i += 16) store_at(out, i, count, splat(scale) * load_at(x, i, count));
}

/// -1 in lanes that hold an element when `present` (1 or more) elements remain, else 0.
CK_INLINE v16i lanes_present(int64_t present) {
    const v16i lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const int32_t p = present < 16 ? (int32_t)present : 16;
    return lane < (v16i)splat_u((uint32_t)p);
}

/// Largest element of scale * x; -inf for an empty row.
CK_INLINE float scaled_maximum(const float *x, int64_t count, float scale) {
    const v16 lowest = splat(-__builtin_inff());
    v16 top = lowest;
    for (int64_t i = 0; i < count; i += 16) {
        v16 z = splat(scale) * load_at(x, i, count);
        top = larger(choose(lanes_present(count - i), z, lowest), top);
    }
    return lane_maximum(top);
}

/// out = exp(x - maximum), returning the sum in 16 virtual lanes; absent elements add +0.
CK_INLINE float exponentials(const float *x, int64_t count, float maximum, float *out) {
    v16 sum = splat(0.0f);
    for (int64_t i = 0; i < count; i += 16) {
        v16 e = exp16(load_at(x, i, count) - splat(maximum));
        store_at(out, i, count, e);
        sum = sum + choose(lanes_present(count - i), e, splat(0.0f));
    }
    return lane_sum(sum);
}

static void kernel_softmax(float *x, int64_t count) {
    const float sum = exponentials(x, count, scaled_maximum(x, count, 1.0f), x);
    for (int64_t i = 0; i < count; i += 16) store_at(x, i, count, load_at(x, i, count) / splat(sum));
}

#define CK_STATISTICS_CHUNK 4096

static void kernel_softmax_statistics(const float *logits, int64_t count, float inverse_temperature, float *maximum,
                                      double *sum, double *weighted) {
    const float top = scaled_maximum(logits, count, inverse_temperature);
    double total = 0, total_weighted = 0;
    for (int64_t begin = 0; begin < count; begin += CK_STATISTICS_CHUNK) {
        const int64_t end = count - begin < CK_STATISTICS_CHUNK ? count : begin + CK_STATISTICS_CHUNK;
        v16 lanes = splat(0.0f), lanes_weighted = splat(0.0f);
        for (int64_t i = begin; i < end; i += 16) {
            v16 z = splat(inverse_temperature) * load_at(logits, i, end) - splat(top);
            v16i present = lanes_present(end - i);
            v16 e = choose(present, exp16(z), splat(0.0f));
            // A masked logit (-inf) has weight zero; 0 * -inf would be NaN.
            z = choose(e == splat(0.0f), splat(0.0f), z);
            lanes = lanes + e;
            lanes_weighted = fma16(e, z, lanes_weighted);
        }
        total += (double)lane_sum(lanes);
        total_weighted += (double)lane_sum(lanes_weighted);
    }
    *maximum = top;
    *sum = total;
    *weighted = total_weighted;
}
