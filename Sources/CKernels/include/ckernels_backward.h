// SPDX-License-Identifier: Apache-2.0
//
// Backward kernels, objectives over vocabulary rows and the optimizer. Under the same contract as ckernels.h: fixed
// order of every sum, the same bits on all instruction sets.
#pragma once
#include "ckernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/// A divergence between student s and teacher t over a vocabulary:
/// forward * KL(t || s) + reverse * KL(s || t) + symmetric * JSD, where JSD = beta * KL(t || m) + (1 - beta) * KL(s || m)
/// and m = (1 - beta) * s + beta * t (TRL's convention). Both are softmax(logits * inverse_temperature).
typedef struct {
    float forward, reverse, symmetric, beta, inverse_temperature;
} ck_divergence_kind;

/// What all elements of one AdamW step share: computed once per step in fp64 and rounded.
typedef struct {
    float gradient_scale;         // clip factor
    float beta1, one_minus_beta1;
    float beta2, one_minus_beta2;
    float decay;                  // 1 - learning rate * weight decay
    float rate;                   // learning rate / (1 - beta1^t)
    float root_bias_correction2;  // sqrt(1 - beta2^t)
    float epsilon;
} ck_adamw_step;

/// Packs a matrix that is stored the other way round: W[o, i] = source[i * source_stride + o], for outputs
/// [output_begin, output_end) (multiples of 16, or the end). Result as of ck_pack.
void ck_pack_transposed(ck_compute compute, ck_stored stored, const void *source, int64_t source_stride,
                        int64_t outputs, int64_t inputs, int64_t output_begin, int64_t output_end, void *packed);
/// Packed W [outputs, inputs] to packed W transposed [inputs, outputs], rows [input_begin, input_end) of the latter
/// (multiples of 16, or the end).
void ck_repack_transposed(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs,
                          int64_t input_begin, int64_t input_end, void *transposed);
/// out[c, r] = x[r, c], rounded to the compute type; out has row stride out_stride.
void ck_transpose(ck_compute compute, const float *x, int64_t x_stride, int64_t rows, int64_t columns, void *out,
                  int64_t out_stride);
/// Rows [row_begin, row_end) of a packed matrix as fp32, row-major from `out` on: the inverse of ck_pack.
void ck_unpack(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, int64_t row_begin,
               int64_t row_end, float *out);
/// Sum of a[i] * b[i] in 16 virtual lanes.
float ck_dot(const float *a, const float *b, int64_t count);
/// dx of ck_rms_norm for `rows` rows: dx = scale * w * dy - x * scale^3 / n * sum(dy * w * x), scale = rsqrt(mean(x^2) +
/// epsilon), which goes to scales[row]. Adds to dx when `accumulates`; dx may alias dy otherwise.
void ck_rms_norm_backward(const float *x, int64_t x_stride, const float *weight, float epsilon, int64_t count,
                          int64_t rows, const float *dy, int64_t dy_stride, float *dx, int64_t dx_stride,
                          int accumulates, float *scales);
/// dw[i] += sum over rows, in order, of dy * x * scales[row], for i in [begin, end).
void ck_rms_norm_weight_gradient(const float *x, int64_t x_stride, const float *scales, const float *dy,
                                 int64_t dy_stride, int64_t rows, int64_t begin, int64_t end, float *dw);
/// Of act = silu(gate) * up: overwrites gate and up (pre-activations) with their gradients and writes the activation
/// itself, rounded to the compute type.
void ck_swiglu_backward(ck_compute compute, float *gate, float *up, const float *d_activation, int64_t count,
                        void *activation);
/// Backward of ck_attention for the query heads of one key/value head over `positions` query positions from
/// first_position on. query, d_out, d_query: [positions, query_heads, head_size]; d_key, d_value: [keys, kv_heads,
/// head_size], added to. Positions in order, keys in order. work: 8 * (last key count rounded up to 16) floats.
void ck_attention_backward(ck_compute compute, const float *query, const void *const *key_pages,
                           const void *const *value_pages, int64_t page_size, int64_t first_position,
                           int64_t positions, int64_t query_heads, int64_t kv_heads, int64_t head_size, float scale,
                           int64_t kv_head, const float *d_out, float *d_query, float *d_key, float *d_value,
                           float *work);
/// Gradient of d_log_prob * log p(target) + d_entropy * H in the logits of one row, p = softmax(logits *
/// inverse_temperature); maximum and log_sum as of ck_softmax_statistics, entropy = H. out may alias logits.
void ck_log_prob_gradient(const float *logits, int64_t count, float inverse_temperature, float maximum, float log_sum,
                          int64_t target, float d_log_prob, float d_entropy, float entropy, float *out);
/// The divergence of one row and, unless d_student is NULL, scale times its gradient, added to d_student.
double ck_divergence(const ck_divergence_kind *how, const float *student, float student_maximum, float student_log_sum,
                     const float *teacher, float teacher_maximum, float teacher_log_sum, int64_t count, float scale,
                     float *d_student);
/// One AdamW step (Loshchilov and Hutter 2019, as torch.optim.AdamW) on `count` elements, each alone.
void ck_adamw(const ck_adamw_step *step, float *parameter, float *first, float *second, const float *gradient,
              int64_t count);
/// Sum of squares in 16 lanes of fp64, lanes added in order.
double ck_sum_of_squares(const float *x, int64_t count);

#ifdef __cplusplus
}
#endif
