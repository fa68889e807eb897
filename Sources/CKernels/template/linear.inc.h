// SPDX-License-Identifier: Apache-2.0
//
// Linear layers. The outputs are cut into slabs and the input axis into chunks, a register tile (tiles.inc.h) at a time;
// between chunks the fp32 accumulators rest in the result. Neither tile nor cut changes an element's chain of
// operations, so rows, tiles and threads never change a bit.
//
// Few rows go at the speed of memory: one tile takes them all and prefetches its own weights. Many rows go at the speed
// of the multiply-adds: a chunk of weights, its rows and results stay in the second-level cache while the tiles
// prefetch the chunk that follows.
//
// A "unit" is one step of the input axis: one fp32, or a pair of bf16 (packed: 16 outputs x 64 bytes).
#pragma once
#include "tiles.inc.h"

/// Rows that go at the speed of memory.
#define CK_STREAMING_ROWS CK_TILE_ROWS
/// Rows from which on widened weights are worth their way through the second-level cache.
#define CK_WIDE_ROWS 128
/// Units of a chunk for many rows: as they lie, and where they are widened (64 KiB for 4 blocks).
#define CK_CHUNK_UNITS 256
#define CK_WIDE_UNITS 128

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

/// Rows of the next tile when `rows` remain: full tiles, the last two evened out (7 = 4 + 3, not 6 + 1).
CK_INLINE int64_t next_rows(int64_t most, int64_t rows) {
    if (rows <= most) return rows;
    return rows < 2 * most ? (rows + 1) / 2 : most;
}

/// How a call with some number of rows goes about it.
typedef struct {
    int streaming;
    int widens_rows;      // bf16 as two multiply-adds
    int widens_weights;   // beforehand, not in registers
    int64_t tile_rows;    // largest
    int64_t chunk_units;  // of a chunk
    int64_t slab_blocks;
} plan;

CK_INLINE plan plan_for(ck_compute compute, int64_t rows, int64_t units) {
    plan p = {.streaming = rows <= CK_STREAMING_ROWS, .widens_rows = compute == CK_BF16 && CK_PAIR_SOFTWARE};
    p.widens_weights = p.widens_rows && rows >= CK_WIDE_ROWS;
    // Twelve rows by two blocks widen the least in registers; six by four read the fewest rows.
    const int twelve = p.streaming || (p.widens_rows && !p.widens_weights);
    p.tile_rows = twelve || CK_TILE_ROWS < 6 ? CK_TILE_ROWS : 6;
    p.slab_blocks = p.streaming ? 4 : CK_SLAB_BLOCKS;
    if (!p.streaming) {
        p.chunk_units = p.widens_weights ? CK_WIDE_UNITS : CK_CHUNK_UNITS;
    } else {
        // All units where every weight is used once, since a cut would then only cost.
        p.chunk_units = p.widens_rows ? CK_WIDE_FLOATS / 2 / (rows > 0 ? rows : 1) / 16 * 16 : units > 0 ? units : 1;
    }
    return p;
}

/// All rows of one chunk into `out` ([rows, out_stride], columns of the slab's blocks in order).
static void run_chunk(ck_compute compute, const plan *how, const chunk *c, int64_t inputs, const char *x,
                      int64_t x_stride, int64_t rows, float *out, int64_t out_stride, int64_t columns) {
    const int64_t element = compute == CK_BF16 ? 2 : 4, per_unit = compute == CK_BF16 ? 2 : 1;
    tile t = {.x_stride = x_stride * element, .units = c->units, .resume = c->begin > 0, .out_stride = out_stride,
              .columns = columns, .ahead = how->streaming};
    tile_kind kind = compute == CK_BF16 ? CK_TILE_BF16 : CK_TILE_FP32;
    const int64_t present = smaller(inputs - c->begin * per_unit, c->units * per_unit);
    t.half_unit = kind == CK_TILE_BF16 && !how->widens_rows && present % 2;
    if (t.half_unit) t.units--;
    const int turns = c->last && c->next_count;
    t.ahead_turn = turns ? c->units - CK_PREFETCH_BYTES / 64 : c->units;
    t.ahead_jump = turns ? (c->next[0] - c->blocks[0]) - c->units * 64 : 0;
    next_pieces pieces = {.blocks = c->next, .pieces_per_block = 1};
    const int64_t row_tiles = (rows + how->tile_rows - 1) / how->tile_rows;
    if (!how->streaming && c->next_count) {
        const int64_t together = tile_blocks(smaller(rows, how->tile_rows));
        const int64_t tiles = row_tiles * ((c->block_count + together - 1) / together);
        if (2 * tiles > c->next_count) pieces.pieces_per_block = 2 * tiles / c->next_count;
        pieces.count = c->next_count * pieces.pieces_per_block;
        pieces.piece_bytes = c->units * 64 / pieces.pieces_per_block;
    }
    const char *const *weights = c->blocks;
#if CK_PAIR_SOFTWARE
    _Alignas(64) float wide_rows[CK_WIDE_FLOATS];
    _Alignas(64) float wide_weights[CK_SLAB_BLOCKS][CK_WIDE_UNITS * 32];
    const char *wide_blocks[CK_SLAB_BLOCKS];
    const int64_t wide_stride = (c->units + 15) / 16 * 32;
    if (how->widens_weights) {
        for (int b = 0; b < c->block_count; b++) {
            widen_block(c->blocks[b], c->units, wide_weights[b]);
            wide_blocks[b] = (const char *)wide_weights[b];
        }
        weights = wide_blocks;
        kind = CK_TILE_FP32;
        t.units = 2 * c->units;
    }
#endif
    for (int64_t row = 0; row < rows;) {
        const int64_t taken = next_rows(how->tile_rows, rows - row);
        t.x = x + row * x_stride * element + c->begin * 4;
#if CK_PAIR_SOFTWARE
        if (how->widens_rows) {
            for (int64_t r = 0; r < taken; r++) {
                widen_row(t.x + r * x_stride * element, present, wide_rows + r * wide_stride);
            }
            t.x = (const char *)wide_rows;
            t.x_stride = wide_stride * 4;
        }
#endif
        t.out = out + row * out_stride;
        run_tile(kind, taken, weights, c->block_count, &pieces, t);
        row += taken;
    }
}

static void kernel_linear(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, const void *x,
                          int64_t x_stride, int64_t rows, float *y, int64_t y_stride, int64_t output_begin,
                          int64_t output_end) {
    (void)outputs;
    const int64_t units = compute == CK_BF16 ? (inputs + 1) / 2 : inputs;
    const plan how = plan_for(compute, rows, units);
    const weight_walk walk = {.first = packed, .units = units, .column_end = output_end,
                              .slab_columns = how.slab_blocks * 16};
    for (int64_t column = output_begin; column < output_end; column += walk.slab_columns) {
        for (int64_t begin = 0; begin == 0 || begin < units; begin += how.chunk_units) {
            const chunk c = chunk_at(&walk, column, begin, how.chunk_units);
            run_chunk(compute, &how, &c, inputs, x, x_stride, rows, y + column, y_stride,
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
    const plan how = plan_for(compute, rows, units);
    const weight_walk walk = {.first = packed_gate, .second = packed_up, .units = units, .column_end = output_end,
                              .slab_columns = how.slab_blocks * 8};
    _Alignas(64) float products[CK_SWIGLU_ROWS][16 * CK_SLAB_BLOCKS];  // gate columns, then up columns
    for (int64_t column = output_begin; column < output_end; column += walk.slab_columns) {
        const int64_t columns = smaller(walk.slab_columns, output_end - column), half = (columns + 15) / 16 * 16;
        for (int64_t row = 0; row < rows; row += CK_SWIGLU_ROWS) {
            const int64_t taken = smaller(CK_SWIGLU_ROWS, rows - row);
            for (int64_t begin = 0; begin == 0 || begin < units; begin += how.chunk_units) {
                const chunk c = chunk_at(&walk, column, begin, how.chunk_units);
                run_chunk(compute, &how, &c, inputs, (const char *)x + row * x_stride * element, x_stride, taken,
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
