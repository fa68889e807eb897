// SPDX-License-Identifier: Apache-2.0
//
// The kernels for AVX2 and FMA.
#include "table.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>

#define CK_LEVEL 2
#define CK_NAME "avx2"
#define CK_TABLE ck_table_avx2
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#include "template/kernels.inc.h"
#pragma clang attribute pop
#endif
