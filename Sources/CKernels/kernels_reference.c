// SPDX-License-Identifier: Apache-2.0
//
// The kernels for any CPU; a fused multiply-add the CPU lacks is a call into the C library, with the same result.
#include "table.h"

#include <string.h>

#define CK_LEVEL 1
#define CK_NAME "reference"
#define CK_TABLE ck_table_reference
#include "template/kernels.inc.h"
