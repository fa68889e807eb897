// SPDX-License-Identifier: Apache-2.0
//
// The kernels for AVX-512 with BF16: vdpbf16ps takes a pair at once.
#include "table.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>

#define CK_LEVEL 4
#define CK_NAME "avx512bf16"
#define CK_TABLE ck_table_avx512bf16
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma"))), apply_to = function)
#include "template/kernels.inc.h"
#pragma clang attribute pop
#endif
