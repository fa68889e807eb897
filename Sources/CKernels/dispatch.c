// SPDX-License-Identifier: Apache-2.0
//
// Chooses the function table once, by what the CPU has, and forwards the public functions to it.
#include "ckernels_faults.h"
#include "table.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma clang fp contract(off)

// ---- Control word ------------------------------------------------------------------------------------------------

// Of one thread, so that tests which plant a mistake do not disturb those that run beside them.
static _Thread_local ck_fault planted = CK_FAULT_NONE;
_Thread_local int64_t ck_segment_shift = 0;

void ck_plant_fault(ck_fault fault) {
    planted = fault;
    ck_segment_shift = 0;
}

ck_fault ck_planted_fault(void) { return planted; }

void ck_plant_segment_shift(int64_t keys) {
    ck_segment_shift = planted == CK_FAULT_CHUNK_RELATIVE_SEGMENTS ? keys % CK_ATTENTION_SEGMENT : 0;
}

uint32_t ck_thread_setup(void) {
#if defined(__x86_64__)
    uint32_t previous = _mm_getcsr();
    if (planted == CK_FAULT_NO_FLUSH_TO_ZERO) return previous;
    _mm_setcsr(0x9fc0);  // nearest-even, all exceptions masked, flush-to-zero (0x8000), denormals-are-zero (0x0040)
    return previous;
#elif defined(__aarch64__)
    uint64_t previous;
    __asm__ volatile("mrs %0, fpcr" : "=r"(previous));
    uint64_t flushing = (uint64_t)1 << 24;  // FZ flushes results and operands; rounding mode nearest is 0
    __asm__ volatile("msr fpcr, %0" : : "r"(flushing));
    return (uint32_t)previous;
#else
    return 0;
#endif
}

void ck_thread_restore(uint32_t control_word) {
#if defined(__x86_64__)
    _mm_setcsr(control_word);
#elif defined(__aarch64__)
    uint64_t word = control_word;
    __asm__ volatile("msr fpcr, %0" : : "r"(word));
#else
    (void)control_word;
#endif
}

// ---- Choice of the table -----------------------------------------------------------------------------------------

#if defined(__x86_64__)
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
static int has_avx512bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

/// The table called `name`; NULL when the name is unknown (`*known` = 0) or the CPU lacks it (`*known` = 1).
static const ck_table *table_named(const char *name, int *known) {
    *known = 1;
    if (strcmp(name, "reference") == 0) return &ck_table_reference;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(name, "avx2") == 0) return has_avx2() ? &ck_table_avx2 : NULL;
    if (strcmp(name, "avx512") == 0) return has_avx512() ? &ck_table_avx512 : NULL;
    if (strcmp(name, "avx512bf16") == 0) return has_avx512bf16() ? &ck_table_avx512bf16 : NULL;
#else
    if (strcmp(name, "avx2") == 0 || strcmp(name, "avx512") == 0 || strcmp(name, "avx512bf16") == 0) return NULL;
#endif
    *known = 0;
    return NULL;
}

static const ck_table *best_table(void) {
    const char *order[] = {"avx512bf16", "avx512", "avx2", "reference"};
    int known;
#if defined(__x86_64__)
    // Intel retires one vdpbf16ps in two cycles but two fused multiply-adds in one (Sapphire Rapids: 85 against 177
    // GFLOP/s), so there the pair in software is twice as fast. On AMD Zen 4 it is the other way round.
    __builtin_cpu_init();
    if (__builtin_cpu_is("intel")) {
        order[0] = "avx512";
        order[1] = "avx512bf16";
    }
#endif
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const ck_table *table = table_named(order[i], &known);
        if (table) return table;
    }
    return &ck_table_reference;
}

static _Atomic(const ck_table *) active_table;

/// The table in use. Choosing twice at once is harmless: both threads find the same answer.
static const ck_table *active(void) {
    const ck_table *table = atomic_load_explicit(&active_table, memory_order_acquire);
    if (__builtin_expect(table != NULL, 1)) return table;
    const char *wanted = getenv("APUS_ISA");
    int known;
    const ck_table *chosen = wanted && *wanted ? table_named(wanted, &known) : NULL;
    if (!chosen) chosen = best_table();
    const ck_table *expected = NULL;
    return atomic_compare_exchange_strong(&active_table, &expected, chosen) ? chosen : expected;
}

const char *ck_isa(void) { return active()->name; }

int ck_select_isa(const char *name) {
    int known;
    const ck_table *table = table_named(name, &known);
    if (!table) return -1;
    atomic_store_explicit(&active_table, table, memory_order_release);
    return 0;
}

const char *ck_isa_override_problem(void) {
    const char *wanted = getenv("APUS_ISA");
    if (!wanted || !*wanted) return NULL;
    int known;
    if (table_named(wanted, &known)) return NULL;
    return known ? "APUS_ISA names an instruction set that this CPU or this build lacks; unset it or choose a lower one"
                 : "APUS_ISA is not one of reference, avx2, avx512, avx512bf16; unset it or correct it";
}

// ---- Public functions --------------------------------------------------------------------------------------------

size_t ck_packed_byte_count(ck_compute compute, int64_t outputs, int64_t inputs) {
    size_t blocks = (size_t)((outputs + 15) / 16);
    size_t units = (size_t)(compute == CK_BF16 ? (inputs + 1) / 2 : inputs);
    return blocks * units * 64;
}

void ck_f32_to_bf16(const float *x, int64_t count, uint16_t *out) { active()->f32_to_bf16(x, count, out); }
void ck_bf16_to_f32(const uint16_t *x, int64_t count, float *out) { active()->bf16_to_f32(x, count, out); }
void ck_f16_to_f32(const uint16_t *x, int64_t count, float *out) { active()->f16_to_f32(x, count, out); }
void ck_f32_to_f16(const float *x, int64_t count, uint16_t *out) { active()->f32_to_f16(x, count, out); }
void ck_exp(const float *x, int64_t count, float *out) { active()->exp(x, count, out); }
void ck_log(const float *x, int64_t count, float *out) { active()->log(x, count, out); }
void ck_sin(const float *x, int64_t count, float *out) { active()->sin(x, count, out); }
void ck_cos(const float *x, int64_t count, float *out) { active()->cos(x, count, out); }

void ck_pack(ck_compute compute, ck_stored stored, const void *source, int64_t outputs, int64_t inputs,
             int64_t row_begin, int64_t row_end, void *packed) {
    active()->pack(compute, stored, source, outputs, inputs, row_begin, row_end, packed);
}

/// The planted fault: each half of the inputs is added up alone.
static void linear_in_halves(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, const void *x,
                             int64_t x_stride, int64_t rows, float *y, int64_t y_stride, int64_t output_begin,
                             int64_t output_end) {
    const size_t element = compute == CK_BF16 ? 2 : 4;
    const size_t row_bytes = (size_t)inputs * element, half = (size_t)(inputs / 2) * element;
    char *masked = calloc((size_t)rows, row_bytes);
    float *second = malloc(sizeof(float) * (size_t)rows * (size_t)outputs);
    if (!masked || !second) abort();
    for (int64_t r = 0; r < rows; r++) memcpy(masked + r * row_bytes, (const char *)x + r * x_stride * element, half);
    active()->linear(compute, packed, outputs, inputs, masked, inputs, rows, y, y_stride, output_begin, output_end);
    for (int64_t r = 0; r < rows; r++) {
        memset(masked + r * row_bytes, 0, half);
        memcpy(masked + r * row_bytes + half, (const char *)x + r * x_stride * element + half, row_bytes - half);
    }
    active()->linear(compute, packed, outputs, inputs, masked, inputs, rows, second, outputs, output_begin, output_end);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = output_begin; o < output_end; o++) y[r * y_stride + o] += second[r * outputs + o];
    }
    free(masked);
    free(second);
}

void ck_linear(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, const void *x,
               int64_t x_stride, int64_t rows, float *y, int64_t y_stride, int64_t output_begin, int64_t output_end) {
    if (planted == CK_FAULT_BATCH_DEPENDENT_TILES && rows > 4) {
        linear_in_halves(compute, packed, outputs, inputs, x, x_stride, rows, y, y_stride, output_begin, output_end);
        return;
    }
    active()->linear(compute, packed, outputs, inputs, x, x_stride, rows, y, y_stride, output_begin, output_end);
}

void ck_swiglu(ck_compute compute, const void *packed_gate, const void *packed_up, int64_t outputs, int64_t inputs,
               const void *x, int64_t x_stride, int64_t rows, void *out, int64_t out_stride, int64_t output_begin,
               int64_t output_end) {
    active()->swiglu(compute, packed_gate, packed_up, outputs, inputs, x, x_stride, rows, out, out_stride,
                     output_begin, output_end);
}

void ck_rms_norm(ck_compute compute, const float *x, int64_t x_stride, const float *weight, float epsilon,
                 int64_t count, int64_t rows, void *out, int64_t out_stride) {
    active()->rms_norm(compute, x, x_stride, weight, epsilon, count, rows, out, out_stride);
}

void ck_rope(float *x, int64_t head_stride, int64_t heads, int64_t head_size, const float *cos, const float *sin) {
    active()->rope(x, head_stride, heads, head_size, cos, sin);
}

void ck_add(const float *a, const float *b, int64_t count, float *out) { active()->add(a, b, count, out); }
void ck_scale(const float *x, float scale, int64_t count, float *out) { active()->scale(x, scale, count, out); }
void ck_softmax(float *x, int64_t count) { active()->softmax(x, count); }

void ck_attention(ck_compute compute, const float *query, const void *const *key_pages,
                  const void *const *value_pages, int64_t page_size, int64_t key_count, int64_t query_heads,
                  int64_t kv_heads, int64_t head_size, float scale, int64_t head_begin, int64_t head_end, void *out) {
    active()->attention(compute, query, key_pages, value_pages, page_size, key_count, query_heads, kv_heads,
                        head_size, scale, head_begin, head_end, out);
}

void ck_softmax_statistics(const float *logits, int64_t count, float inverse_temperature, float *maximum,
                           double *sum, double *weighted) {
    active()->softmax_statistics(logits, count, inverse_temperature, maximum, sum, weighted);
}

// ---- Backward ----------------------------------------------------------------------------------------------------

void ck_pack_transposed(ck_compute compute, ck_stored stored, const void *source, int64_t source_stride,
                        int64_t outputs, int64_t inputs, int64_t output_begin, int64_t output_end, void *packed) {
    active()->pack_transposed(compute, stored, source, source_stride, outputs, inputs, output_begin, output_end, packed);
}

void ck_repack_transposed(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs,
                          int64_t input_begin, int64_t input_end, void *transposed) {
    active()->repack_transposed(compute, packed, outputs, inputs, input_begin, input_end, transposed);
}

void ck_transpose(ck_compute compute, const float *x, int64_t x_stride, int64_t rows, int64_t columns, void *out,
                  int64_t out_stride) {
    active()->transpose(compute, x, x_stride, rows, columns, out, out_stride);
}

void ck_unpack(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, int64_t row_begin,
               int64_t row_end, float *out) {
    active()->unpack(compute, packed, outputs, inputs, row_begin, row_end, out);
}

float ck_dot(const float *a, const float *b, int64_t count) {
    return active()->dot(a, b, count);
}

void ck_rms_norm_backward(const float *x, int64_t x_stride, const float *weight, float epsilon, int64_t count,
                          int64_t rows, const float *dy, int64_t dy_stride, float *dx, int64_t dx_stride,
                          int accumulates, float *scales) {
    active()->rms_norm_backward(x, x_stride, weight, epsilon, count, rows, dy, dy_stride, dx, dx_stride, accumulates,
        scales);
}

void ck_rms_norm_weight_gradient(const float *x, int64_t x_stride, const float *scales, const float *dy,
                                 int64_t dy_stride, int64_t rows, int64_t begin, int64_t end, float *dw) {
    active()->rms_norm_weight_gradient(x, x_stride, scales, dy, dy_stride, rows, begin, end, dw);
}

void ck_swiglu_backward(ck_compute compute, float *gate, float *up, const float *d_activation, int64_t count,
                        void *activation) {
    active()->swiglu_backward(compute, gate, up, d_activation, count, activation);
}

void ck_attention_backward(ck_compute compute, const float *query, const void *const *key_pages,
                           const void *const *value_pages, int64_t page_size, int64_t first_position,
                           int64_t positions, int64_t query_heads, int64_t kv_heads, int64_t head_size, float scale,
                           int64_t kv_head, const float *d_out, float *d_query, float *d_key, float *d_value,
                           float *work) {
    active()->attention_backward(compute, query, key_pages, value_pages, page_size, first_position, positions,
        query_heads, kv_heads, head_size, scale, kv_head, d_out, d_query, d_key, d_value, work);
}

void ck_log_prob_gradient(const float *logits, int64_t count, float inverse_temperature, float maximum, float log_sum,
                          int64_t target, float d_log_prob, float d_entropy, float entropy, float *out) {
    active()->log_prob_gradient(logits, count, inverse_temperature, maximum, log_sum, target, d_log_prob, d_entropy,
        entropy, out);
}

double ck_divergence(const ck_divergence_kind *how, const float *student, float student_maximum, float student_log_sum,
                     const float *teacher, float teacher_maximum, float teacher_log_sum, int64_t count, float scale,
                     float *d_student) {
    return active()->divergence(how, student, student_maximum, student_log_sum, teacher, teacher_maximum, teacher_log_sum,
        count, scale, d_student);
}

void ck_adamw(const ck_adamw_step *step, float *parameter, float *first, float *second, const float *gradient,
              int64_t count) {
    active()->adamw(step, parameter, first, second, gradient, count);
}

double ck_sum_of_squares(const float *x, int64_t count) {
    return active()->sum_of_squares(x, count);
}
