// SPDX-License-Identifier: Apache-2.0
//
// What the machine can do at most, for benchmarks: how fast it reads memory and how fast it multiplies. Each call
// loads one thread; callers run as many at once as they want to load.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Reads `byte_count` bytes at `base` once, in order; returns a checksum so that the reads cannot be left out.
/// `byte_count` is a multiple of 256.
uint64_t ck_limit_read(const void *base, size_t byte_count);

/// A product instruction of this machine.
typedef enum { CK_PRODUCT_FMA = 0, CK_PRODUCT_BF16_PAIR = 1 } ck_product;

/// Runs the widest form of the instruction `steps` times on each of several accumulators that never leave the registers.
/// Returns the floating-point operations done (a multiply-add counts two), 0 when this machine lacks the instruction.
/// `*sink` takes a value that depends on all of them.
double ck_limit_products(ck_product product, int64_t steps, float *sink);
