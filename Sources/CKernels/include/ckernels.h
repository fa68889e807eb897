// SPDX-License-Identifier: Apache-2.0
//
// The numeric kernels of Apus: one arithmetic, several instruction sets, the same bits on all of them
// (Documentation/Decisions/0001-one-arithmetic.md).
//
//   - fp32 products accumulate by sequential FMA over the input axis;
//   - a bf16 product pair is fma(even, fma(odd, acc)), pairs in order of the input axis (= vdpbf16ps);
//   - row reductions use 16 virtual lanes (element i goes to lane i mod 16, absent elements are +0) and the fixed
//     tree ((l0+l8)+(l4+l12))+..., i.e. halves are added: 8, 4, 2, 1;
//   - exp, log, sin, cos, sigmoid are ours; division and square root are IEEE;
//   - every thread that computes calls ck_thread_setup once (FTZ and DAZ).
//
// No kernel allocates, locks or starts a thread. Callers split work by output range: a split never changes a bit.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Arithmetic of a product: operands fp32 or bf16, accumulation always fp32.
typedef enum { CK_FP32 = 0, CK_BF16 = 1 } ck_compute;
/// Element type of a stored tensor.
typedef enum { CK_STORED_F32 = 0, CK_STORED_BF16 = 1, CK_STORED_F16 = 2 } ck_stored;

// ---- Instruction sets ------------------------------------------------------------------------------------------

/// Sets flush-to-zero and denormals-are-zero for the calling thread; returns the previous control word (for tests).
uint32_t ck_thread_setup(void);
/// Restores a control word that ck_thread_setup returned.
void ck_thread_restore(uint32_t control_word);
/// The instruction set in use: "reference", "avx2", "avx512" or "avx512bf16". Chosen on first use from what the
/// CPU has; the environment variable APUS_ISA overrides it (an unsupported or unknown name is ignored here and
/// reported by ck_isa_override_problem).
const char *ck_isa(void);
/// Selects an instruction set by name; 0 on success, -1 when the CPU or this build lacks it. For tests and benchmarks.
int ck_select_isa(const char *name);
/// NULL when APUS_ISA is unset or usable, otherwise one line saying why it is not.
const char *ck_isa_override_problem(void);

// ---- Conversions -----------------------------------------------------------------------------------------------

/// out[i] = x[i] rounded to bf16, nearest-even; NaN becomes a quiet NaN. Denormals are kept as bits allow.
void ck_f32_to_bf16(const float *x, int64_t count, uint16_t *out);
void ck_bf16_to_f32(const uint16_t *x, int64_t count, float *out);
void ck_f16_to_f32(const uint16_t *x, int64_t count, float *out);
void ck_f32_to_f16(const float *x, int64_t count, uint16_t *out);

// ---- Elementary functions (vectors of any length; each element alone, so position never changes a bit) ------------

void ck_exp(const float *x, int64_t count, float *out);
void ck_log(const float *x, int64_t count, float *out);
void ck_sin(const float *x, int64_t count, float *out);   // |x| up to 2^20, full fp32 accuracy by Cody-Waite in fp64
void ck_cos(const float *x, int64_t count, float *out);

// ---- Linear layers ---------------------------------------------------------------------------------------------

/// Bytes of an [outputs, inputs] weight matrix in packed form (16 outputs x 2 inputs interleaved for bf16,
/// 16 outputs x 1 input for fp32; tails padded with zeros). Always a multiple of 64.
size_t ck_packed_byte_count(ck_compute compute, int64_t outputs, int64_t inputs);
/// Packs rows [row_begin, row_end) of a row-major [outputs, inputs] matrix; row_begin must be a multiple of 16 and
/// row_end a multiple of 16 or `outputs`. `source` points at row 0.
void ck_pack(ck_compute compute, ck_stored stored, const void *source, int64_t outputs, int64_t inputs,
             int64_t row_begin, int64_t row_end, void *packed);
/// y[r, o] = sum over i of x[r, i] * W[o, i], for o in [output_begin, output_end).
/// x: [rows, inputs], fp32 or bf16 by `compute`, row stride x_stride elements. y: fp32, row stride y_stride.
/// output_begin must be a multiple of 16; columns outside the range are not touched.
void ck_linear(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, const void *x,
               int64_t x_stride, int64_t rows, float *y, int64_t y_stride, int64_t output_begin, int64_t output_end);
/// Fused SwiGLU: out[r, o] = round(silu(gate) * up), gate and up as ck_linear, silu(g) = g / (1 + exp(-g)),
/// rounded to the compute type. out has row stride out_stride elements of the compute type.
void ck_swiglu(ck_compute compute, const void *packed_gate, const void *packed_up, int64_t outputs, int64_t inputs,
               const void *x, int64_t x_stride, int64_t rows, void *out, int64_t out_stride, int64_t output_begin,
               int64_t output_end);

// ---- Rows ------------------------------------------------------------------------------------------------------

/// out = (x * rsqrt(mean(x^2) + epsilon)) * weight, in fp32 (1/sqrt by IEEE division and square root), for each of
/// `rows` rows; out is fp32 or bf16 by `compute` and may alias x when fp32.
void ck_rms_norm(ck_compute compute, const float *x, int64_t x_stride, const float *weight, float epsilon,
                 int64_t count, int64_t rows, void *out, int64_t out_stride);
/// Rotates `heads` heads of head_size in place, NeoX pairing (i, i + head_size/2), with this position's cos and sin
/// tables of head_size/2 entries: (a, b) -> (a*cos - b*sin, b*cos + a*sin), each as fma(a, cos, -(b*sin)) and
/// fma(b, cos, a*sin) with the product rounded once.
void ck_rope(float *x, int64_t head_stride, int64_t heads, int64_t head_size, const float *cos, const float *sin);
/// out[i] = a[i] + b[i]; aliases allowed.
void ck_add(const float *a, const float *b, int64_t count, float *out);
/// out[i] = scale * x[i].
void ck_scale(const float *x, float scale, int64_t count, float *out);
/// In-place softmax of one row: x = exp(x - max) / sum, sum in 16 virtual lanes.
void ck_softmax(float *x, int64_t count);

// ---- Attention -------------------------------------------------------------------------------------------------

/// Keys of one segment; segments start at the sequence's own position 0.
#define CK_ATTENTION_SEGMENT 256
/// Largest head_size of ck_attention (its running sums live on the stack).
#define CK_ATTENTION_HEAD_SIZE_MAX 1024

/// Attention of ONE query position for `query_heads` heads over keys 0..<key_count of its sequence.
/// query: [query_heads, head_size] fp32 (already normalised and rotated). Head h reads key/value head
/// h / (query_heads / kv_heads). Page p holds keys [p*page_size, (p+1)*page_size) as
/// [page_size, kv_heads, head_size] in the compute type; page_size divides CK_ATTENTION_SEGMENT.
/// score = scale * dot (dot in 16 virtual lanes over head_size). Per segment: max, p = exp(score - max), sum in 16
/// virtual lanes over the key index, PV by sequential FMA over keys; segments merge in order; out = acc / sum.
/// out: fp32 or bf16 by `compute`, [query_heads, head_size]. Only heads [head_begin, head_end) are computed
/// (multiples of query_heads / kv_heads).
void ck_attention(ck_compute compute, const float *query, const void *const *key_pages,
                  const void *const *value_pages, int64_t page_size, int64_t key_count, int64_t query_heads,
                  int64_t kv_heads, int64_t head_size, float scale, int64_t head_begin, int64_t head_end, void *out);

// ---- Vocabulary rows -------------------------------------------------------------------------------------------

/// Statistics of logits * inverse_temperature over [0, count): *maximum, *sum = sum exp(z - maximum) and
/// *weighted = sum exp(z - maximum) * (z - maximum). Fixed chunks of 4096 elements, 16 virtual lanes inside a chunk,
/// chunk results added in order in fp64 after rescaling to the common maximum (found first, exactly).
/// log p(i) = (z_i - maximum) - log(sum); entropy = log(sum) - weighted / sum.
void ck_softmax_statistics(const float *logits, int64_t count, float inverse_temperature, float *maximum,
                           double *sum, double *weighted);

#ifdef __cplusplus
}
#endif
