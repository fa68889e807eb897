// SPDX-License-Identifier: Apache-2.0
//
// Linear layers. The outputs are cut into slabs of 64 or 128 and the input axis into chunks that stay in the second-level cache
// while the rows pass, a register tile (tiles.inc.h) at a time; between chunks the fp32 accumulators rest in the result.
// Neither tile nor cut changes an element's chain of operations, so rows, tiles and threads never change a bit.
//
// A "unit" is one step of the input axis: one fp32, or a pair of bf16 (packed: 16 outputs x 64 bytes).
#pragma once
#include "tiles.inc.h"

/// Packed bytes of one slab and chunk where weights are used as they lie.
#define CK_CHUNK_BYTES (256 * 1024)
/// Rows up to which a chunk is read about as fast as memory delivers: its first tile prefetches ahead in its own blocks.
/// With more rows the tiles prefetch the next chunk.
#define CK_STREAMING_ROWS 18

/// Two weight matrices of one shape walked together (SwiGLU), or one (`second` NULL).
typedef struct {
    const char *first, *second;
    int64_t units;  // of a row
    int64_t column_end;
    int64_t slab_columns;  // of each matrix
} weight_walk;

/// Packed blocks of the slab at `column`, unit `unit`; returns their number. Second-matrix blocks follow the first's.
CK_INLINE int slab_blocks(const weight_walk *walk, int64_t column, int64_t unit, const char *blocks[CK_SLAB_BLOCKS]) {
    const int64_t rest = walk->column_end - column;
    const int64_t columns = rest < walk->slab_columns ? rest : walk->slab_columns;
    const int count = (int)((columns + 15) / 16);
    for (int b = 0; b < count; b++) {
        const int64_t offset = ((column / 16 + b) * walk->units + unit) * 64;
        blocks[b] = walk->first + offset;
        if (walk->second) blocks[count + b] = walk->second + offset;
    }
    return walk->second ? 2 * count : count;
}

/// Where a chunk's tiles read: prepared weights, and the blocks of the chunk that follows.
typedef struct {
    const char *blocks[CK_SLAB_BLOCKS], *next[CK_SLAB_BLOCKS];
    int block_count, next_count;
    int64_t begin, units;  // first unit, units in the chunk
    int64_t total_units;   // of a row
    int last;              // the chunk ends the row
} chunk;

CK_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// The chunk at (column, begin) of at most `step` units.
CK_INLINE chunk chunk_at(const weight_walk *walk, int64_t column, int64_t begin, int64_t step) {
    chunk c = {.begin = begin, .units = smaller(step, walk->units - begin), .total_units = walk->units};
    c.block_count = slab_blocks(walk, column, begin, c.blocks);
    c.last = begin + c.units >= walk->units;
    if (!c.last) {
        c.next_count = slab_blocks(walk, column, begin + c.units, c.next);
    } else if (column + walk->slab_columns < walk->column_end) {
        c.next_count = slab_blocks(walk, column + walk->slab_columns, 0, c.next);
    }
    return c;
}

/// Rows of the next tile when `rows` of `total` remain: full tiles, the last two evened out (7 = 4 + 3, not 6 + 1).
CK_INLINE int64_t next_rows(int widened, int64_t total, int64_t rows) {
    // Twelve rows read the weights least often, which suits widening. As they lie in memory, twelve rows of a usual
    // length fall into the same cache sets, so many rows go by six.
    const int64_t most = CK_TILE_ROWS > 6 && !widened && total > CK_TILE_ROWS ? 6 : CK_TILE_ROWS;
    if (rows <= most) return rows;
    return rows < 2 * most ? (rows + 1) / 2 : most;
}

/// Blocks of a slab: widened rows are used by twice as many.
CK_INLINE int64_t slab_blocks_of(ck_compute compute) {
    return compute == CK_BF16 && CK_PAIR_SOFTWARE ? CK_SLAB_BLOCKS : 4;
}

/// Units of a chunk: all of them where every weight is used once, since a cut would then only cost.
CK_INLINE int64_t chunk_units(ck_compute compute, int64_t rows, int64_t units) {
    if (compute == CK_BF16 && CK_PAIR_SOFTWARE) return CK_WIDENED_UNITS;
    return rows <= CK_TILE_ROWS ? (units > 0 ? units : 1) : CK_CHUNK_BYTES / (64 * slab_blocks_of(compute));
}

/// All rows of one chunk into `out` ([rows, out_stride], columns of the slab's blocks in order).
static void run_chunk(ck_compute compute, const chunk *c, int64_t inputs, const char *x, int64_t x_stride,
                      int64_t rows, float *out, int64_t out_stride, int64_t columns) {
    const int64_t element = compute == CK_BF16 ? 2 : 4;
    tile t = {.x_stride = x_stride * element, .units = c->units, .resume = c->begin > 0, .out_stride = out_stride,
              .columns = columns};
    const tile_kind kind = compute == CK_BF16 ? CK_TILE_BF16 : CK_TILE_FP32;
    const int64_t present = smaller(inputs - c->begin * (compute == CK_BF16 ? 2 : 1),
                                    c->units * (compute == CK_BF16 ? 2 : 1));
    t.half_unit = compute == CK_BF16 && !CK_PAIR_SOFTWARE && present % 2;
    if (t.half_unit) t.units--;
    const int streaming = rows <= CK_STREAMING_ROWS;
    t.ahead_turn = c->last && c->next_count ? c->units - CK_PREFETCH_BYTES / 64 : c->units;
    t.ahead_jump = c->last && c->next_count ? (c->next[0] - c->blocks[0]) - c->units * 64 : 0;
    // Spread over twice as many tiles where there are enough, to ask memory for less at a time.
    const int64_t parts = rows / 6 * ((c->block_count + 3) / 4);
    next_pieces pieces = {.blocks = c->next, .units = c->units, .halves = parts >= 2 * c->next_count ? 2 : 1};
    pieces.count = streaming ? 0 : c->next_count * pieces.halves;
    const int widened = kind == CK_TILE_BF16 && CK_PAIR_SOFTWARE;
    for (int64_t row = 0; row < rows;) {
        const int64_t taken = next_rows(widened, rows, rows - row);
        t.ahead = streaming && row == 0;
        const char *x_tile = x + row * t.x_stride + c->begin * 4;
#if CK_PAIR_SOFTWARE
        _Alignas(64) float wide_rows[CK_TILE_ROWS][CK_WIDENED_UNITS * 2];
        if (compute == CK_BF16) {
            for (int64_t r = 0; r < taken; r++) widen_row(x_tile + r * t.x_stride, present, wide_rows[r]);
            x_tile = (const char *)wide_rows;
        }
#endif
        t.x = x_tile;
        t.out = out + row * out_stride;
        run_tile(kind, taken, c->blocks, c->block_count, &pieces, t);
        row += taken;
    }
}

static void kernel_linear(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, const void *x,
                          int64_t x_stride, int64_t rows, float *y, int64_t y_stride, int64_t output_begin,
                          int64_t output_end) {
    (void)outputs;
    const int64_t units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs;
    const weight_walk walk = {.first = packed, .units = units, .column_end = output_end,
                              .slab_columns = slab_blocks_of(compute) * 16};
    const int64_t step = chunk_units(compute, rows, units);
    for (int64_t column = output_begin; column < output_end; column += walk.slab_columns) {
        for (int64_t begin = 0; begin == 0 || begin < units; begin += step) {
            const chunk c = chunk_at(&walk, column, begin, step);
            run_chunk(compute, &c, inputs, x, x_stride, rows, y + column, y_stride,
                      smaller(walk.slab_columns, output_end - column));
        }
    }
}

/// Rows whose gate and up products wait on the stack.
#define CK_SWIGLU_ROWS 96

static void kernel_swiglu(ck_compute compute, const void *packed_gate, const void *packed_up, int64_t outputs,
                          int64_t inputs, const void *x, int64_t x_stride, int64_t rows, void *out, int64_t out_stride,
                          int64_t output_begin, int64_t output_end) {
    (void)outputs;
    const int64_t units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs, element = compute == CK_BF16 ? 2 : 4;
    const weight_walk walk = {.first = packed_gate, .second = packed_up, .units = units, .column_end = output_end,
                              .slab_columns = slab_blocks_of(compute) * 8};
    _Alignas(64) float products[CK_SWIGLU_ROWS][16 * CK_SLAB_BLOCKS];  // gate columns, then up columns
    for (int64_t column = output_begin; column < output_end; column += walk.slab_columns) {
        const int64_t columns = smaller(walk.slab_columns, output_end - column), half = (columns + 15) / 16 * 16;
        for (int64_t row = 0; row < rows; row += CK_SWIGLU_ROWS) {
            const int64_t taken = smaller(CK_SWIGLU_ROWS, rows - row), step = chunk_units(compute, taken, units);
            for (int64_t begin = 0; begin == 0 || begin < units; begin += step) {
                const chunk c = chunk_at(&walk, column, begin, step);
                run_chunk(compute, &c, inputs, (const char *)x + row * x_stride * element, x_stride, taken,
                          products[0], 16 * CK_SLAB_BLOCKS, 2 * half);
            }
            for (int64_t r = 0; r < taken; r++) {
                void *result = (char *)out + ((row + r) * out_stride + column) * element;
                for (int64_t i = 0; i < columns; i += 16) {
                    v16 gate = load(products[r] + i), up = load(products[r] + half + i);
                    store_as(compute, result, i, columns, silu16(gate) * up);
                }
            }
        }
    }
}
