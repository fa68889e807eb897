// SPDX-License-Identifier: Apache-2.0
//
// Backward kernels. Products run on the forward kernels: for dX the weights are packed transposed, for dW the rows are,
// so that what is reduced over lies along the input axis. The rest goes row by row.
#pragma once

// ---- Unpacking ---------------------------------------------------------------------------------------------------

static void kernel_unpack(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, int64_t row_begin,
                          int64_t row_end, float *out) {
    const int64_t units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs;
    for (int64_t row = row_begin; row < row_end; row++) {
        const char *lane = (const char *)packed + row / 16 * units * 64 + row % 16 * 4;
        float *target = out + (row - row_begin) * inputs;
        for (int64_t i = 0; i < inputs; i++) {
            if (compute == CK_FP32) memcpy(target + i, lane + i * 64, 4);
            else {
                uint16_t bf16;
                memcpy(&bf16, lane + i / 2 * 64 + i % 2 * 2, 2);
                target[i] = widen_bf16_scalar(bf16);
            }
        }
    }
    (void)outputs;
}

// ---- Transposed packing ------------------------------------------------------------------------------------------

/// Sixteen bf16 bit patterns of a stored row in the low halves of 16 lanes; absent elements are +0.
CK_INLINE v16u bf16_lanes(ck_stored stored, const void *row, int64_t i, int64_t count) {
    return __builtin_convertvector(round_bf16(read_stored(stored, row, i, count)), v16u);
}

static void kernel_pack_transposed(ck_compute compute, ck_stored stored, const void *source, int64_t source_stride,
                                   int64_t outputs, int64_t inputs, int64_t output_begin, int64_t output_end,
                                   void *packed) {
    const int64_t units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs;
    const int64_t row_bytes = source_stride * (stored == CK_STORED_F32 ? 4 : 2);
    for (int64_t block = output_begin / 16; block * 16 < output_end; block++) {
        char *out = (char *)packed + block * units * 64;
        const char *row = source;
        for (int64_t unit = 0; unit < units; unit++) {
            v16u lanes;
            if (compute == CK_FP32) {
                lanes = bits(read_stored(stored, row, block * 16, outputs));
                row += row_bytes;
            } else {
                lanes = bf16_lanes(stored, row, block * 16, outputs);
                if (2 * unit + 1 < inputs) lanes |= bf16_lanes(stored, row + row_bytes, block * 16, outputs) << 16;
                row += 2 * row_bytes;
            }
            *(v16u_memory *)(out + unit * 64) = (v16u_memory)lanes;
        }
    }
}

static void kernel_repack_transposed(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs,
                                     int64_t input_begin, int64_t input_end, void *transposed) {
    const int64_t source_units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs;
    const int64_t target_units = compute == CK_BF16 ? (outputs + 1) / 2 : outputs;
    for (int64_t block = input_begin / 16; block * 16 < input_end; block++) {
        char *out = (char *)transposed + block * target_units * 64;
        for (int64_t output = 0; output < outputs; output += 16) {
            const char *in = (const char *)packed + output / 16 * source_units * 64;
            v16u m[16];
            CK_UNROLL for (int i = 0; i < 16; i++) {
                const int64_t input = block * 16 + i, unit = compute == CK_BF16 ? input / 2 : input;
                m[i] = input < inputs ? (v16u) * (const v16u_memory *)(in + unit * 64) : splat_u(0);
                if (compute == CK_BF16) m[i] = i % 2 ? m[i] >> 16 : m[i] & 0xffffu;
            }
            transpose16(m);
            if (compute == CK_FP32) {
                const int64_t kept = smaller(16, outputs - output);
                for (int64_t o = 0; o < kept; o++) *(v16u_memory *)(out + (output + o) * 64) = (v16u_memory)m[o];
            } else {
                const int64_t kept = smaller(8, (outputs - output + 1) / 2);
                for (int64_t o = 0; o < kept; o++) {
                    *(v16u_memory *)(out + (output / 2 + o) * 64) = (v16u_memory)(m[2 * o] | m[2 * o + 1] << 16);
                }
            }
        }
    }
}

static void kernel_transpose(ck_compute compute, const float *x, int64_t x_stride, int64_t rows, int64_t columns,
                             void *out, int64_t out_stride) {
    const int64_t element = compute == CK_BF16 ? 2 : 4;
    for (int64_t column = 0; column < columns; column += 16) {
        const int64_t kept = smaller(16, columns - column);
        for (int64_t row = 0; row < rows; row += 16) {
            v16u m[16];
            CK_UNROLL for (int r = 0; r < 16; r++) {
                m[r] = row + r < rows ? bits(load_at(x + (row + r) * x_stride, column, columns)) : splat_u(0);
            }
            transpose16(m);
            for (int64_t c = 0; c < kept; c++) {
                store_as(compute, (char *)out + (column + c) * out_stride * element, row, rows, (v16)m[c]);
            }
        }
    }
}

// ---- Rows --------------------------------------------------------------------------------------------------------

static float kernel_dot(const float *a, const float *b, int64_t count) {
    v16 sum = splat(0.0f);
    for (int64_t i = 0; i < count; i += 16) sum = fma16(load_at(a, i, count), load_at(b, i, count), sum);
    return lane_sum(sum);
}

static void kernel_rms_norm_backward(const float *x, int64_t x_stride, const float *weight, float epsilon,
                                     int64_t count, int64_t rows, const float *dy, int64_t dy_stride, float *dx,
                                     int64_t dx_stride, int accumulates, float *scales) {
    for (int64_t row = 0; row < rows; row++) {
        const float *input = x + row * x_stride, *grad = dy + row * dy_stride;
        float *result = dx + row * dx_stride;
        v16 squares = splat(0.0f), products = splat(0.0f);
        for (int64_t i = 0; i < count; i += 16) {
            v16 v = load_at(input, i, count);
            squares = fma16(v, v, squares);
            products = fma16(load_at(grad, i, count) * load_at(weight, i, count), v, products);
        }
        const float mean = lane_sum(squares) / (float)count;
        const float scale = 1.0f / __builtin_elementwise_sqrt(mean + epsilon);
        const v16 factor = splat(scale), pull = splat(lane_sum(products) * scale * scale * scale / (float)count);
        for (int64_t i = 0; i < count; i += 16) {
            v16 v = factor * load_at(weight, i, count) * load_at(grad, i, count) - pull * load_at(input, i, count);
            if (accumulates) v = load_at(result, i, count) + v;
            store_at(result, i, count, v);
        }
        scales[row] = scale;
    }
}

static void kernel_rms_norm_weight_gradient(const float *x, int64_t x_stride, const float *scales, const float *dy,
                                            int64_t dy_stride, int64_t rows, int64_t begin, int64_t end, float *dw) {
    for (int64_t i = begin; i < end; i += 16) {
        v16 sum = load_at(dw, i, end);
        for (int64_t row = 0; row < rows; row++) {
            v16 normed = load_at(x + row * x_stride, i, end) * splat(scales[row]);
            sum = fma16(load_at(dy + row * dy_stride, i, end), normed, sum);
        }
        store_at(dw, i, end, sum);
    }
}

static void kernel_swiglu_backward(ck_compute compute, float *gate, float *up, const float *d_activation,
                                   int64_t count, void *activation) {
    for (int64_t i = 0; i < count; i += 16) {
        v16 g = load_at(gate, i, count), u = load_at(up, i, count), d = load_at(d_activation, i, count);
        v16 sigmoid = splat(1.0f) / (splat(1.0f) + exp16(-g));
        v16 silu = silu16(g);
        store_as(compute, activation, i, count, silu * u);
        // silu'(g) = sigmoid + silu (1 - sigmoid)
        store_at(gate, i, count, d * u * fma16(silu, splat(1.0f) - sigmoid, sigmoid));
        store_at(up, i, count, d * silu);
    }
}

// ---- Attention ---------------------------------------------------------------------------------------------------

/// Scores of one head's 16 keys at a time against `query`, to work[0, key_count).
CK_INLINE void score_row(const int is_bf16, const rows_layout *l, const float *query, const void *const *pages,
                         int64_t key_count, float scale, float *work) {
    for (int64_t k = 0; k < key_count; k += 16) {
        score_tile(is_bf16, 1, l, query, pages, k, key_count, scale, (float(*)[CK_ATTENTION_SEGMENT])(work + k), 0);
    }
}

/// `heads` (1, 2 or 4) heads of one query position: adds to dK and dV of all its keys and writes dQ.
CK_INLINE void attention_backward_row(const int is_bf16, const int heads, const rows_layout *l, const float *query,
                                      const void *const *key_pages, const void *const *value_pages,
                                      int64_t key_count, float scale, const float *d_out, float *d_query,
                                      float *d_key, float *d_value, int64_t gradient_stride, float *work) {
    const int64_t size = l->head_size, padded = (key_count + 15) / 16 * 16;
    float *p[4], *ds[4];
    CK_UNROLL for (int h = 0; h < heads; h++) {
        p[h] = work + 2 * h * padded;
        ds[h] = p[h] + padded;
        score_row(is_bf16, l, query + h * size, key_pages, key_count, scale, p[h]);
        const v16 sum = splat(exponentials(p[h], key_count, scaled_maximum(p[h], key_count, 1.0f), p[h]));
        score_row(is_bf16, l, d_out + h * size, value_pages, key_count, 1.0f, ds[h]);
        for (int64_t k = 0; k < key_count; k += 16) store_at(p[h], k, key_count, load_at(p[h], k, key_count) / sum);
        const v16 delta = splat(kernel_dot(p[h], ds[h], key_count));
        for (int64_t k = 0; k < key_count; k += 16) {
            v16 d = load_at(p[h], k, key_count) * (load_at(ds[h], k, key_count) - delta);
            store_at(ds[h], k, key_count, d * splat(scale));
        }
    }
    for (int64_t d = 0; d < size; d += 16) {
        v16 q[4], g[4], dq[4];
        CK_UNROLL for (int h = 0; h < heads; h++) {
            q[h] = load_at(query + h * size, d, size);
            g[h] = load_at(d_out + h * size, d, size);
            dq[h] = splat(0.0f);
        }
        for (int64_t k = 0; k < key_count; k++) {
            const v16 key = load_cached(is_bf16, row_at(l, key_pages, k), d, size);
            v16 dk = load_at(d_key + k * gradient_stride, d, size);
            v16 dv = load_at(d_value + k * gradient_stride, d, size);
            CK_UNROLL for (int h = 0; h < heads; h++) {
                const v16 weight = splat(ds[h][k]);
                dq[h] = fma16(weight, key, dq[h]);
                dk = fma16(weight, q[h], dk);
                dv = fma16(splat(p[h][k]), g[h], dv);
            }
            store_at(d_key + k * gradient_stride, d, size, dk);
            store_at(d_value + k * gradient_stride, d, size, dv);
        }
        CK_UNROLL for (int h = 0; h < heads; h++) store_at(d_query + h * size, d, size, dq[h]);
    }
}

#define CK_BACKWARD_ROW(kind, is_bf16, heads)                                                                         \
    static void backward_row_##kind##_##heads(                                                                        \
        const rows_layout *l, const float *query, const void *const *key_pages, const void *const *value_pages,       \
        int64_t key_count, float scale, const float *d_out, float *d_query, float *d_key, float *d_value,             \
        int64_t gradient_stride, float *work) {                                                                       \
        attention_backward_row(is_bf16, heads, l, query, key_pages, value_pages, key_count, scale, d_out, d_query,    \
                               d_key, d_value, gradient_stride, work);                                                \
    }
CK_BACKWARD_ROW(fp32, 0, 1) CK_BACKWARD_ROW(fp32, 0, 2) CK_BACKWARD_ROW(fp32, 0, 4)
CK_BACKWARD_ROW(bf16, 1, 1) CK_BACKWARD_ROW(bf16, 1, 2) CK_BACKWARD_ROW(bf16, 1, 4)
#undef CK_BACKWARD_ROW

static void kernel_attention_backward(ck_compute compute, const float *query, const void *const *key_pages,
                                      const void *const *value_pages, int64_t page_size, int64_t first_position,
                                      int64_t positions, int64_t query_heads, int64_t kv_heads, int64_t head_size,
                                      float scale, int64_t kv_head, const float *d_out, float *d_query, float *d_key,
                                      float *d_value, float *work) {
    const int64_t element = compute == CK_BF16 ? 2 : 4, group = query_heads / kv_heads;
    const rows_layout l = {.is_bf16 = compute == CK_BF16, .page_shift = __builtin_ctzll((uint64_t)page_size),
                           .page_mask = page_size - 1, .row_bytes = kv_heads * head_size * element,
                           .head_bytes = kv_head * head_size * element, .head_size = head_size};
    const int64_t gradient_stride = kv_heads * head_size;
    float *const dk = d_key + kv_head * head_size, *const dv = d_value + kv_head * head_size;
    for (int64_t t = 0; t < positions; t++) {
        for (int64_t at = 0; at < group;) {
            const int64_t offset = (t * query_heads + kv_head * group + at) * head_size;
            const int64_t left = group - at, taken = left >= 4 ? 4 : left >= 2 ? 2 : 1;
            if (l.is_bf16) {
                (taken == 4 ? backward_row_bf16_4 : taken == 2 ? backward_row_bf16_2 : backward_row_bf16_1)(
                    &l, query + offset, key_pages, value_pages, first_position + t + 1, scale, d_out + offset,
                    d_query + offset, dk, dv, gradient_stride, work);
            } else {
                (taken == 4 ? backward_row_fp32_4 : taken == 2 ? backward_row_fp32_2 : backward_row_fp32_1)(
                    &l, query + offset, key_pages, value_pages, first_position + t + 1, scale, d_out + offset,
                    d_query + offset, dk, dv, gradient_stride, work);
            }
            at += taken;
        }
    }
}

// ---- Vocabulary rows ---------------------------------------------------------------------------------------------

/// Natural log-probabilities of 16 logits; `shift` is maximum + log(sum) in the scaled domain.
CK_INLINE v16 log_probabilities(const float *logits, int64_t i, int64_t count, float inverse_temperature, float maximum,
                                float log_sum) {
    return (splat(inverse_temperature) * load_at(logits, i, count) - splat(maximum)) - splat(log_sum);
}

/// p * x with 0 * infinity = 0: a masked logit has no weight.
CK_INLINE v16 weighted_by(v16 p, v16 x) { return choose(p == splat(0.0f), splat(0.0f), p * x); }

static void kernel_log_prob_gradient(const float *logits, int64_t count, float inverse_temperature, float maximum,
                                     float log_sum, int64_t target, float d_log_prob, float d_entropy, float entropy,
                                     float *out) {
    for (int64_t i = 0; i < count; i += 16) {
        const v16 l = log_probabilities(logits, i, count, inverse_temperature, maximum, log_sum);
        const v16 p = exp16(l);
        v16 d = splat(-d_log_prob) * p;
        if (d_entropy != 0.0f) d = fma16(splat(-d_entropy), weighted_by(p, l + splat(entropy)), d);
        store_at(out, i, count, splat(inverse_temperature) * d);
    }
    out[target] += inverse_temperature * d_log_prob;
}

static double kernel_divergence(const ck_divergence_kind *how, const float *student, float student_maximum,
                                float student_log_sum, const float *teacher, float teacher_maximum,
                                float teacher_log_sum, int64_t count, float scale, float *d_student) {
    const v16 forward = splat(how->forward), reverse = splat(how->reverse), symmetric = splat(how->symmetric);
    const v16 beta = splat(how->beta), rest = splat(1.0f - how->beta);
    const float inverse_temperature = how->inverse_temperature;
    double loss = 0, inner = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t begin = 0; begin < count; begin += CK_STATISTICS_CHUNK) {
            const int64_t end = smaller(count, begin + CK_STATISTICS_CHUNK);
            v16 losses = splat(0.0f), inners = splat(0.0f);
            for (int64_t i = begin; i < end; i += 16) {
                const v16i present = lanes_present(end - i);
                const v16 ls = log_probabilities(student, i, end, inverse_temperature, student_maximum, student_log_sum);
                const v16 lt = log_probabilities(teacher, i, end, inverse_temperature, teacher_maximum, teacher_log_sum);
                const v16 s = choose(present, exp16(ls), splat(0.0f)), t = choose(present, exp16(lt), splat(0.0f));
                // What reverse and symmetric divergence ask of a student's log-probability.
                v16 wish = reverse * (ls - lt);
                v16 here = forward * weighted_by(t, lt - ls) + reverse * weighted_by(s, ls - lt);
                if (how->symmetric != 0.0f) {
                    const v16 lm = log16(fma16(rest, s, beta * t));
                    wish = wish + symmetric * rest * (ls - lm);
                    here = here + symmetric * (beta * weighted_by(t, lt - lm) + rest * weighted_by(s, ls - lm));
                }
                if (pass == 0) {
                    losses = losses + choose(present, here, splat(0.0f));
                    inners = inners + weighted_by(s, wish);
                } else {
                    const v16 d = forward * (s - t) + weighted_by(s, wish - splat((float)inner));
                    store_at(d_student, i, end,
                             fma16(splat(scale * inverse_temperature), d, load_at(d_student, i, end)));
                }
            }
            if (pass == 0) {
                loss += (double)lane_sum(losses);
                inner += (double)lane_sum(inners);
            }
        }
        if (!d_student) break;
    }
    return loss;
}

// ---- Optimizer ---------------------------------------------------------------------------------------------------

static void kernel_adamw(const ck_adamw_step *step, float *parameter, float *first, float *second,
                         const float *gradient, int64_t count) {
    const v16 keep1 = splat(step->beta1), new1 = splat(step->one_minus_beta1);
    const v16 keep2 = splat(step->beta2), new2 = splat(step->one_minus_beta2);
    const v16 clip = splat(step->gradient_scale), decay = splat(step->decay), rate = splat(step->rate);
    const v16 root = splat(step->root_bias_correction2), epsilon = splat(step->epsilon);
    for (int64_t i = 0; i < count; i += 16) {
        const v16 g = clip * load_at(gradient, i, count);
        const v16 m = fma16(new1, g, keep1 * load_at(first, i, count));
        const v16 v = fma16(new2 * g, g, keep2 * load_at(second, i, count));
        const v16 denominator = __builtin_elementwise_sqrt(v) / root + epsilon;
        const v16 p = decay * load_at(parameter, i, count) - rate * m / denominator;
        store_at(first, i, count, m);
        store_at(second, i, count, v);
        store_at(parameter, i, count, p);
    }
}

static double kernel_sum_of_squares(const float *x, int64_t count) {
    v16d sum = splat_d(0.0);
    for (int64_t i = 0; i < count; i += 16) {
        const v16d v = __builtin_convertvector(load_at(x, i, count), v16d);
        sum = fma16d(v, v, sum);
    }
    double total = 0;
    CK_UNROLL for (int lane = 0; lane < 16; lane++) total += sum[lane];
    return total;
}
