// SPDX-License-Identifier: Apache-2.0
//
// The kernels for AVX-512 (F, BW, VL, DQ); a bf16 pair is two fused multiply-adds.
#include "table.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>

#define CK_LEVEL 3
#define CK_NAME "avx512"
#define CK_TABLE ck_table_avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#include "template/kernels.inc.h"
#pragma clang attribute pop
#endif
