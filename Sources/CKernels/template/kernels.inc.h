// SPDX-License-Identifier: Apache-2.0
//
// The one source of all kernels. A kernels_*.c sets CK_LEVEL (1 reference, 2 AVX2, 3 AVX-512, 4 AVX-512 with bf16) and
// CK_TABLE, turns its instruction set on for the functions below and includes this file.
#pragma once
#include "vectors.inc.h"

#include "elementary.inc.h"

#include "convert.inc.h"
#include "rows.inc.h"

#include "linear.inc.h"

/// 16-element pieces of the head per pass over the values: what the registers hold beside four heads.
#define CK_VALUE_CHUNKS (CK_LEVEL >= 3 ? 4 : 1)
#include "attention.inc.h"

#include "backward.inc.h"

const ck_table CK_TABLE = {
    .name = CK_NAME,
    .f32_to_bf16 = kernel_f32_to_bf16,
    .bf16_to_f32 = kernel_bf16_to_f32,
    .f16_to_f32 = kernel_f16_to_f32,
    .f32_to_f16 = kernel_f32_to_f16,
    .exp = kernel_exp,
    .log = kernel_log,
    .sin = kernel_sin,
    .cos = kernel_cos,
    .pack = kernel_pack,
    .linear = kernel_linear,
    .swiglu = kernel_swiglu,
    .rms_norm = kernel_rms_norm,
    .rope = kernel_rope,
    .add = kernel_add,
    .scale = kernel_scale,
    .softmax = kernel_softmax,
    .attention = kernel_attention,
    .softmax_statistics = kernel_softmax_statistics,
    .pack_transposed = kernel_pack_transposed,
    .repack_transposed = kernel_repack_transposed,
    .transpose = kernel_transpose,
    .unpack = kernel_unpack,
    .dot = kernel_dot,
    .rms_norm_backward = kernel_rms_norm_backward,
    .rms_norm_weight_gradient = kernel_rms_norm_weight_gradient,
    .swiglu_backward = kernel_swiglu_backward,
    .attention_backward = kernel_attention_backward,
    .log_prob_gradient = kernel_log_prob_gradient,
    .divergence = kernel_divergence,
    .adamw = kernel_adamw,
    .sum_of_squares = kernel_sum_of_squares,
};
