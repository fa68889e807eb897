// SPDX-License-Identifier: Apache-2.0
//
// The function table of one instruction set. Every kernels_*.c compiles the same template into one such table;
// dispatch.c chooses a table once and the public functions call through it.
#pragma once
#include "ckernels.h"
#include "ckernels_backward.h"

typedef struct {
    const char *name;
    void (*f32_to_bf16)(const float *, int64_t, uint16_t *);
    void (*bf16_to_f32)(const uint16_t *, int64_t, float *);
    void (*f16_to_f32)(const uint16_t *, int64_t, float *);
    void (*f32_to_f16)(const float *, int64_t, uint16_t *);
    void (*exp)(const float *, int64_t, float *);
    void (*log)(const float *, int64_t, float *);
    void (*sin)(const float *, int64_t, float *);
    void (*cos)(const float *, int64_t, float *);
    void (*pack)(ck_compute, ck_stored, const void *, int64_t, int64_t, int64_t, int64_t, void *);
    void (*linear)(ck_compute, const void *, int64_t, int64_t, const void *, int64_t, int64_t, float *, int64_t,
                   int64_t, int64_t);
    void (*swiglu)(ck_compute, const void *, const void *, int64_t, int64_t, const void *, int64_t, int64_t, void *,
                   int64_t, int64_t, int64_t);
    void (*rms_norm)(ck_compute, const float *, int64_t, const float *, float, int64_t, int64_t, void *, int64_t);
    void (*rope)(float *, int64_t, int64_t, int64_t, const float *, const float *);
    void (*add)(const float *, const float *, int64_t, float *);
    void (*scale)(const float *, float, int64_t, float *);
    void (*softmax)(float *, int64_t);
    void (*attention)(ck_compute, const float *, const void *const *, const void *const *, int64_t, int64_t, int64_t,
                      int64_t, int64_t, float, int64_t, int64_t, void *);
    void (*softmax_statistics)(const float *, int64_t, float, float *, double *, double *);
    void (*pack_transposed)(ck_compute, ck_stored, const void *, int64_t, int64_t, int64_t, int64_t, int64_t, void *);
    void (*repack_transposed)(ck_compute, const void *, int64_t, int64_t, int64_t, int64_t, void *);
    void (*transpose)(ck_compute, const float *, int64_t, int64_t, int64_t, void *, int64_t);
    void (*unpack)(ck_compute, const void *, int64_t, int64_t, int64_t, int64_t, float *);
    float (*dot)(const float *, const float *, int64_t);
    void (*rms_norm_backward)(const float *, int64_t, const float *, float, int64_t, int64_t, const float *, int64_t,
          float *, int64_t, int, float *);
    void (*rms_norm_weight_gradient)(const float *, int64_t, const float *, const float *, int64_t, int64_t, int64_t,
          int64_t, float *);
    void (*swiglu_backward)(ck_compute, float *, float *, const float *, int64_t, void *);
    void (*attention_backward)(ck_compute, const float *, const void *const *, const void *const *, int64_t, int64_t,
          int64_t, int64_t, int64_t, int64_t, float, int64_t, const float *, float *, float *, float *, float *);
    void (*log_prob_gradient)(const float *, int64_t, float, float, float, int64_t, float, float, float, float *);
    double (*divergence)(const ck_divergence_kind *, const float *, float, float, const float *, float, float, int64_t, float,
          float *);
    void (*adamw)(const ck_adamw_step *, float *, float *, float *, const float *, int64_t);
    double (*sum_of_squares)(const float *, int64_t);
} ck_table;

extern const ck_table ck_table_reference;
#if defined(__x86_64__)
extern const ck_table ck_table_avx2;
extern const ck_table ck_table_avx512;
extern const ck_table ck_table_avx512bf16;
#endif

/// Keys that the first attention segment is short of: 0 unless a test planted a mistake (ckernels_faults.h).
extern _Thread_local int64_t ck_segment_shift;
