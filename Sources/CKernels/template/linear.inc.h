// SPDX-License-Identifier: Apache-2.0
//
// Linear layers: a register tile of up to 6 rows x 4 blocks of 16 outputs walks the input axis in order. A slab of 64
// outputs stays in the second-level cache while the rows stream over it; a long input axis is cut into cache blocks
// whose fp32 accumulators rest in y between blocks. Neither the tile nor the cut changes an element's chain of
// operations, so rows, tiles and threads never change a bit.
//
// A "unit" is one step of the input axis: one fp32, or a pair of bf16 (packed: 16 outputs x 64 bytes).
#pragma once

#define CK_SLAB_BLOCKS 4
/// Bytes of packed weights per slab and cache block: half of a 1 MiB second-level cache.
#define CK_SLAB_BYTES (512 * 1024)

typedef struct {
    const char *weights[CK_SLAB_BLOCKS];  // unit 0 of each block of 16 outputs
    const char *x;                        // unit 0 of the first row
    int64_t x_stride;                     // bytes
    int64_t begin, end;                   // units with both inputs present
    int half_unit;                        // bf16, odd inputs: unit `end` has an even input only
    int resume;                           // accumulators continue from out
    float *out;
    int64_t out_stride;  // elements
    int64_t columns;     // valid columns of out, at most 16 per block
} tile;

#if CK_LEVEL >= 4
#define CK_PAIR_SOFTWARE 0
#else
#define CK_PAIR_SOFTWARE 1
#endif

/// One step of all accumulators: unit `w[b]` of each block against the rows' x units.
CK_INLINE void tile_step(const int is_bf16, const int rows, const int blocks, v16 acc[6][4], const v16u w[4],
                         const uint32_t x[6]) {
    if (!is_bf16) {
        CK_UNROLL for (int r = 0; r < rows; r++) {
            v16 xv = (v16)splat_u(x[r]);
            CK_UNROLL for (int b = 0; b < blocks; b++) acc[r][b] = fma16((v16)w[b], xv, acc[r][b]);
        }
        return;
    }
#if CK_PAIR_SOFTWARE
    v16 even[4], odd[4];
    CK_UNROLL for (int b = 0; b < blocks; b++) {
        even[b] = (v16)(w[b] << 16);
        odd[b] = (v16)(w[b] & 0xffff0000u);
    }
    CK_UNROLL for (int r = 0; r < rows; r++) {
        v16 x_even = (v16)splat_u(x[r] << 16), x_odd = (v16)splat_u(x[r] & 0xffff0000u);
        CK_UNROLL for (int b = 0; b < blocks; b++) {
            acc[r][b] = fma16(even[b], x_even, fma16(odd[b], x_odd, acc[r][b]));
        }
    }
#else
    CK_UNROLL for (int r = 0; r < rows; r++) {
        __m512bh xv = (__m512bh)splat_u(x[r]);
        CK_UNROLL for (int b = 0; b < blocks; b++) {
            acc[r][b] = (v16)_mm512_dpbf16_ps((__m512)acc[r][b], (__m512bh)w[b], xv);
        }
    }
#endif
}

CK_INLINE void tile_body(const int is_bf16, const int rows, const int blocks, const tile *t) {
    v16 acc[6][4];
    CK_UNROLL for (int r = 0; r < rows; r++) CK_UNROLL for (int b = 0; b < blocks; b++) {
        acc[r][b] = t->resume ? load_at(t->out + r * t->out_stride, 16 * b, t->columns) : splat(0.0f);
    }
    const char *w0 = t->weights[0], *w1 = t->weights[1], *w2 = t->weights[2], *w3 = t->weights[3];
    const char *x0 = t->x;
    const int64_t stride = t->x_stride;
    v16u w[4];
    uint32_t x[6];
    for (int64_t k = t->begin; k < t->end; k++) {
        w[0] = (v16u) * (const v16u_memory *)(w0 + k * 64);
        if (blocks > 1) w[1] = (v16u) * (const v16u_memory *)(w1 + k * 64);
        if (blocks > 2) w[2] = (v16u) * (const v16u_memory *)(w2 + k * 64);
        if (blocks > 3) w[3] = (v16u) * (const v16u_memory *)(w3 + k * 64);
        CK_UNROLL for (int r = 0; r < rows; r++) x[r] = *(const u32_memory *)(x0 + r * stride + k * 4);
        tile_step(is_bf16, rows, blocks, acc, w, x);
    }
    if (t->half_unit) {
        const int64_t k = t->end;
        CK_UNROLL for (int b = 0; b < blocks; b++) w[b] = (v16u) * (const v16u_memory *)(t->weights[b] + k * 64);
        CK_UNROLL for (int r = 0; r < rows; r++) {
            uint16_t last;
            memcpy(&last, x0 + r * stride + k * 4, sizeof last);
            x[r] = last;
        }
        tile_step(is_bf16, rows, blocks, acc, w, x);
    }
    CK_UNROLL for (int r = 0; r < rows; r++) CK_UNROLL for (int b = 0; b < blocks; b++) {
        store_at(t->out + r * t->out_stride, 16 * b, t->columns, acc[r][b]);
    }
}

// One compiled function per tile shape that the registers of this instruction set hold.
#define CK_TILE(kind, is_bf16, rows, blocks) \
    static void kind##_##rows##x##blocks(const tile *t) { tile_body(is_bf16, rows, blocks, t); }
#define CK_TILES(rows, blocks) CK_TILE(fp32, 0, rows, blocks) CK_TILE(bf16, 1, rows, blocks)
#define CK_TILES_OF(blocks) \
    CK_TILES(1, blocks) CK_TILES(2, blocks) CK_TILES(3, blocks) CK_TILES(4, blocks) CK_TILES(5, blocks) \
    CK_TILES(6, blocks)
#define CK_ROW(kind, blocks) \
    {kind##_1x##blocks, kind##_2x##blocks, kind##_3x##blocks, kind##_4x##blocks, kind##_5x##blocks, kind##_6x##blocks}

CK_TILES_OF(1)
#if CK_LEVEL >= 3
CK_TILES_OF(2)
CK_TILES_OF(4)
static void (*const tiles[2][3][6])(const tile *) = {
    {CK_ROW(fp32, 1), CK_ROW(fp32, 2), CK_ROW(fp32, 4)}, {CK_ROW(bf16, 1), CK_ROW(bf16, 2), CK_ROW(bf16, 4)}};
/// Largest number of blocks (1, 2 or 4) of a tile of `rows` rows.
CK_INLINE int tile_blocks(int64_t rows) { return (void)rows, 4; }
#else
CK_TILES(1, 4)
CK_TILES(1, 2) CK_TILES(2, 2) CK_TILES(3, 2)
static void (*const tiles[2][3][6])(const tile *) = {
    {CK_ROW(fp32, 1), {fp32_1x2, fp32_2x2, fp32_3x2}, {fp32_1x4}},
    {CK_ROW(bf16, 1), {bf16_1x2, bf16_2x2, bf16_3x2}, {bf16_1x4}}};
CK_INLINE int tile_blocks(int64_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }
#endif
#undef CK_TILE
#undef CK_TILES
#undef CK_TILES_OF
#undef CK_ROW

/// Runs `rows` (1 to 6) rows over `blocks` (1 to 4) blocks.
static void run_tile(int is_bf16, int64_t rows, int blocks, const tile *whole) {
    const int most = tile_blocks(rows);
    for (int done = 0; done < blocks;) {
        int step = blocks - done >= 4 ? 4 : blocks - done >= 2 ? 2 : 1;
        if (step > most) step = most;
        tile part = *whole;
        for (int b = 0; b < step; b++) part.weights[b] = whole->weights[done + b];
        part.out = whole->out + 16 * done;
        part.columns = whole->columns - 16 * done;
        tiles[is_bf16][step >> 1][rows - 1](&part);
        done += step;
    }
}

/// Rows of the next tile when `rows` remain: full tiles of 6, the last two evened out (7 = 4 + 3, not 6 + 1).
CK_INLINE int64_t next_rows(int64_t rows) {
    if (rows <= 6) return rows;
    return rows < 12 ? (rows + 1) / 2 : 6;
}

static void kernel_linear(ck_compute compute, const void *packed, int64_t outputs, int64_t inputs, const void *x,
                          int64_t x_stride, int64_t rows, float *y, int64_t y_stride, int64_t output_begin,
                          int64_t output_end) {
    (void)outputs;
    const int is_bf16 = compute == CK_BF16;
    const int64_t units = is_bf16 ? (inputs + 1) / 2 : inputs, whole_units = is_bf16 ? inputs / 2 : inputs;
    const int64_t element = is_bf16 ? 2 : 4;
    // One pass over the rows needs no cache blocking: every weight is read once.
    const int64_t step = rows <= 6 ? units : CK_SLAB_BYTES / (64 * CK_SLAB_BLOCKS);
    for (int64_t column = output_begin; column < output_end; column += 16 * CK_SLAB_BLOCKS) {
        const int64_t columns = output_end - column < 16 * CK_SLAB_BLOCKS ? output_end - column : 16 * CK_SLAB_BLOCKS;
        const int blocks = (int)((columns + 15) / 16);
        tile t = {.x_stride = x_stride * element, .out_stride = y_stride, .columns = columns};
        for (int b = 0; b < blocks; b++) t.weights[b] = (const char *)packed + (column / 16 + b) * units * 64;
        int64_t begin = 0;
        do {
            t.begin = begin;
            t.end = whole_units - begin < step ? whole_units : begin + step;
            t.half_unit = t.end == whole_units && whole_units < units;
            t.resume = begin > 0;
            for (int64_t row = 0; row < rows;) {
                const int64_t taken = next_rows(rows - row);
                t.x = (const char *)x + row * t.x_stride;
                t.out = y + row * y_stride + column;
                run_tile(is_bf16, taken, blocks, &t);
                row += taken;
            }
            begin = t.end;
        } while (begin < whole_units);
    }
}

static void kernel_swiglu(ck_compute compute, const void *packed_gate, const void *packed_up, int64_t outputs,
                          int64_t inputs, const void *x, int64_t x_stride, int64_t rows, void *out, int64_t out_stride,
                          int64_t output_begin, int64_t output_end) {
    (void)outputs;
    const int is_bf16 = compute == CK_BF16;
    const int64_t units = is_bf16 ? (inputs + 1) / 2 : inputs, whole_units = is_bf16 ? inputs / 2 : inputs;
    const int64_t element = is_bf16 ? 2 : 4;
    float products[6][16 * CK_SLAB_BLOCKS];  // of one tile: gate columns, then up columns
    for (int64_t column = output_begin; column < output_end; column += 8 * CK_SLAB_BLOCKS) {
        const int64_t columns = output_end - column < 8 * CK_SLAB_BLOCKS ? output_end - column : 8 * CK_SLAB_BLOCKS;
        const int half = (int)((columns + 15) / 16);
        tile t = {.x_stride = x_stride * element, .begin = 0, .end = whole_units, .half_unit = whole_units < units,
                  .out = products[0], .out_stride = 16 * CK_SLAB_BLOCKS, .columns = 32 * half};
        for (int b = 0; b < half; b++) {
            const int64_t offset = (column / 16 + b) * units * 64;
            t.weights[b] = (const char *)packed_gate + offset;
            t.weights[half + b] = (const char *)packed_up + offset;
        }
        for (int64_t row = 0; row < rows;) {
            const int64_t taken = next_rows(rows - row);
            t.x = (const char *)x + row * t.x_stride;
            run_tile(is_bf16, taken, 2 * half, &t);
            for (int64_t r = 0; r < taken; r++) {
                void *result = (char *)out + ((row + r) * out_stride + column) * element;
                for (int64_t i = 0; i < columns; i += 16) {
                    v16 gate = load(products[r] + i), up = load(products[r] + 16 * half + i);
                    store_as(compute, result, i, columns, silu16(gate) * up);
                }
            }
            row += taken;
        }
    }
}
