// SPDX-License-Identifier: Apache-2.0
//
// Register tiles of the linear layers: up to 6 rows x 4 or 12 rows x 2 blocks of 16 outputs of fp32 accumulators walk
// the input axis in order. Where a bf16 pair is two fused multiply-adds on widened operands, few rows widen the weights
// in registers (4 steps beside 48 multiply-adds); for many rows the weights are widened once for all of them.
#pragma once

/// How far ahead of its reads a tile prefetches its own weights. Measured on Sapphire Rapids at one row: 12 GB/s
/// without, 15.9 at 2 KiB, 15.6 at 4 KiB, of 16.5 that plain reading reaches.
#define CK_PREFETCH_BYTES 2048
/// Blocks of a slab: with many rows, widened rows are used by all of them.
#define CK_SLAB_BLOCKS 8

#if CK_LEVEL >= 4
#define CK_PAIR_SOFTWARE 0  // vdpbf16ps
#else
#define CK_PAIR_SOFTWARE 1  // two fused multiply-adds on widened operands
#endif
#if CK_LEVEL == 1 && defined(__x86_64__)
#define CK_TILE_ROWS 1  // each lane is a library call: larger tiles would only be larger
#elif CK_LEVEL >= 3
#define CK_TILE_ROWS 12
#else
#define CK_TILE_ROWS 6
#endif
/// Floats of a tile's widened rows: 24 KiB stay in the first-level cache.
#define CK_WIDE_FLOATS 6144

typedef enum { CK_TILE_FP32 = 0, CK_TILE_BF16 = 1 } tile_kind;

typedef struct {
    const char *weights[4];  // first unit of each block of 16 outputs
    const char *x;           // first unit of the first row
    int64_t x_stride;        // bytes
    int64_t units;           // units with both inputs present
    int half_unit;           // vdpbf16ps only: one more unit has an even input only
    int resume;              // accumulators continue from out
    float *out;
    int64_t out_stride;      // elements
    int64_t columns;         // valid columns of out, at most 16 per block
    int ahead;               // prefetch these blocks CK_PREFETCH_BYTES ahead,
    int64_t ahead_turn;      // from this unit on at ahead_jump bytes more: where the walk goes next
    int64_t ahead_jump;
    const char *next[2];     // otherwise two prefetches per unit from here on, next_step bytes apart
    int64_t next_step;
} tile;

#if CK_PAIR_SOFTWARE
/// Widens 16 pairs to 32 floats: the odd element of a pair first, which is the order of its multiply-adds.
CK_INLINE void widen_pairs(v16u pairs, float *out) {
    v16 odd = (v16)(pairs & 0xffff0000u), even = (v16)(pairs << 16);
    store(out, __builtin_shufflevector(odd, even, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    store(out + 16, __builtin_shufflevector(odd, even, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
}

/// Widens `count` bf16 inputs of a row to whole groups of 32; tails are +0.
static void widen_row(const char *x, int64_t count, float *out) {
    const uint16_t *p = (const uint16_t *)x;
    int64_t i = 0;
    for (; i + 32 <= count; i += 32) widen_pairs((v16u) * (const v16u_memory *)(p + i), out + i);
    if (i < count) {
        uint16_t kept[32] = {0};
        memcpy(kept, p + i, (size_t)(count - i) * sizeof *kept);
        widen_pairs((v16u) * (const v16u_memory *)kept, out + i);
    }
}

/// Widens `units` units of a packed block: the odd half of a unit, then its even half, as fp32 blocks have units.
static void widen_block(const char *block, int64_t units, float *out) {
    for (int64_t k = 0; k < units; k++) {
        v16u pairs = (v16u) * (const v16u_memory *)(block + k * 64);
        store(out + k * 32, (v16)(pairs & 0xffff0000u));
        store(out + k * 32 + 16, (v16)(pairs << 16));
    }
}
#endif

CK_INLINE v16u load_unit(const char *p) { return (v16u) * (const v16u_memory *)p; }
CK_INLINE v16 broadcast_at(const char *p) { return splat(*(const float *)p); }

/// acc[r][b] = w[b] * x[r] + acc[r][b], x[r] read at p + r * stride.
CK_INLINE void multiply_add(const int rows, const int blocks, v16 acc[12][4], const v16 w[4], const char *p,
                            int64_t stride) {
    CK_UNROLL for (int r = 0; r < rows; r++) {
        v16 x = broadcast_at(p + r * stride);
        CK_UNROLL for (int b = 0; b < blocks; b++) acc[r][b] = fma16(w[b], x, acc[r][b]);
#if CK_LEVEL >= 3
        // All registers are taken: without a fence the compiler gathers the broadcasts first and spills half of them.
        CK_UNROLL for (int b = 0; b < blocks; b++) __asm__ volatile("" : "+v"(acc[r][b]) : : "memory");
#endif
    }
}

#if !CK_PAIR_SOFTWARE
CK_INLINE void multiply_add_pairs(const int rows, const int blocks, v16 acc[12][4], const v16u w[4],
                                  const uint32_t x[12]) {
    CK_UNROLL for (int r = 0; r < rows; r++) {
        __m512bh pairs = (__m512bh)splat_u(x[r]);
        CK_UNROLL for (int b = 0; b < blocks; b++) {
            acc[r][b] = (v16)_mm512_dpbf16_ps((__m512)acc[r][b], (__m512bh)w[b], pairs);
        }
    }
}
#endif

/// Unit k of all accumulators.
CK_INLINE void tile_step(const tile_kind kind, const int rows, const int blocks, v16 acc[12][4],
                         const char *const weights[4], const char *x, int64_t x_stride, int64_t k) {
    v16 first[4];
    if (kind == CK_TILE_FP32) {
        CK_UNROLL for (int b = 0; b < blocks; b++) first[b] = (v16)load_unit(weights[b] + k * 64);
        multiply_add(rows, blocks, acc, first, x + k * 4, x_stride);
        return;
    }
#if CK_PAIR_SOFTWARE
    CK_UNROLL for (int b = 0; b < blocks; b++) first[b] = (v16)(load_unit(weights[b] + k * 64) & 0xffff0000u);
    multiply_add(rows, blocks, acc, first, x + k * 8, x_stride);
    // The registers do not hold the weights until their even halves are due: have them loaded again.
    __asm__ volatile("" : : : "memory");
    CK_UNROLL for (int b = 0; b < blocks; b++) first[b] = (v16)(load_unit(weights[b] + k * 64) << 16);
    multiply_add(rows, blocks, acc, first, x + k * 8 + 4, x_stride);
#else
    v16u w[4];
    uint32_t pairs[12];
    CK_UNROLL for (int b = 0; b < blocks; b++) w[b] = load_unit(weights[b] + k * 64);
    CK_UNROLL for (int r = 0; r < rows; r++) pairs[r] = *(const u32_memory *)(x + r * x_stride + k * 4);
    multiply_add_pairs(rows, blocks, acc, w, pairs);
#endif
}

CK_INLINE void tile_body(const tile_kind kind, const int rows, const int blocks, const tile *t) {
    v16 acc[12][4];
    CK_UNROLL for (int r = 0; r < rows; r++) CK_UNROLL for (int b = 0; b < blocks; b++) {
        acc[r][b] = t->resume ? load_at(t->out + r * t->out_stride, 16 * b, t->columns) : splat(0.0f);
    }
    const char *const weights[4] = {t->weights[0], t->weights[1], t->weights[2], t->weights[3]};
    const char *const x = t->x;
    const int64_t x_stride = t->x_stride, units = t->units;
    if (t->ahead) {
        const int64_t turn = t->ahead_turn < 0 ? 0 : t->ahead_turn < units ? t->ahead_turn : units;
        int64_t offset = CK_PREFETCH_BYTES;
        for (int64_t k = 0, end = turn;; end = units, offset += t->ahead_jump) {
            for (; k < end; k++) {
                CK_UNROLL for (int b = 0; b < blocks; b++) __builtin_prefetch(weights[b] + offset + k * 64, 0, 3);
                tile_step(kind, rows, blocks, acc, weights, x, x_stride, k);
            }
            if (k == units) break;
        }
    } else {
        const char *next = t->next[0];
        const int64_t apart = t->next[1] - next, step = t->next_step;
        for (int64_t k = 0; k < units; k++) {
            __builtin_prefetch(next, 0, 2);
            __builtin_prefetch(next + apart, 0, 2);
            next += step;
            tile_step(kind, rows, blocks, acc, weights, x, x_stride, k);
        }
    }
#if !CK_PAIR_SOFTWARE
    if (kind == CK_TILE_BF16 && t->half_unit) {
        v16u w[4];
        uint32_t pairs[12];
        CK_UNROLL for (int b = 0; b < blocks; b++) w[b] = load_unit(weights[b] + units * 64);
        CK_UNROLL for (int r = 0; r < rows; r++) {
            uint16_t even;
            memcpy(&even, x + r * x_stride + units * 4, sizeof even);
            pairs[r] = even;
        }
        multiply_add_pairs(rows, blocks, acc, w, pairs);
    }
#endif
    CK_UNROLL for (int r = 0; r < rows; r++) CK_UNROLL for (int b = 0; b < blocks; b++) {
        store_at(t->out + r * t->out_stride, 16 * b, t->columns, acc[r][b]);
    }
}

// One compiled function per tile shape that the registers of this instruction set hold.
#define CK_TILE(name, kind, rows, blocks) \
    static void name##_##rows##x##blocks(const tile *t) { tile_body(kind, rows, blocks, t); }
#define CK_TILES(rows, blocks) \
    CK_TILE(fp32, CK_TILE_FP32, rows, blocks) CK_TILE(bf16, CK_TILE_BF16, rows, blocks)
#define CK_SIX(name, blocks)                                                                                    \
    name##_1x##blocks, name##_2x##blocks, name##_3x##blocks, name##_4x##blocks, name##_5x##blocks,               \
        name##_6x##blocks
#define CK_SIX_MORE(name, blocks)                                                                               \
    name##_7x##blocks, name##_8x##blocks, name##_9x##blocks, name##_10x##blocks, name##_11x##blocks,             \
        name##_12x##blocks

typedef void (*tile_function)(const tile *);
/// Tiles by kind, blocks (1, 2 or 4: index blocks / 2) and rows - 1; `tile_blocks` says which exist.
#if CK_TILE_ROWS == 1
CK_TILES(1, 1)
#define CK_ALL(name) {{name##_1x1}}
CK_INLINE int tile_blocks(int64_t rows) { return (void)rows, 1; }
#elif CK_LEVEL >= 3
CK_TILES(1, 1) CK_TILES(2, 1) CK_TILES(3, 1) CK_TILES(4, 1) CK_TILES(5, 1) CK_TILES(6, 1)
CK_TILES(1, 2) CK_TILES(2, 2) CK_TILES(3, 2) CK_TILES(4, 2) CK_TILES(5, 2) CK_TILES(6, 2)
CK_TILES(7, 1) CK_TILES(8, 1) CK_TILES(9, 1) CK_TILES(10, 1) CK_TILES(11, 1) CK_TILES(12, 1)
CK_TILES(7, 2) CK_TILES(8, 2) CK_TILES(9, 2) CK_TILES(10, 2) CK_TILES(11, 2) CK_TILES(12, 2)
CK_TILES(1, 4) CK_TILES(2, 4) CK_TILES(3, 4) CK_TILES(4, 4) CK_TILES(5, 4) CK_TILES(6, 4)
#define CK_ALL(name)                                                                               \
    {{CK_SIX(name, 1), CK_SIX_MORE(name, 1)}, {CK_SIX(name, 2), CK_SIX_MORE(name, 2)}, {CK_SIX(name, 4)}}
CK_INLINE int tile_blocks(int64_t rows) { return rows <= 6 ? 4 : 2; }
#else
CK_TILES(1, 1) CK_TILES(2, 1) CK_TILES(3, 1) CK_TILES(4, 1) CK_TILES(5, 1) CK_TILES(6, 1)
CK_TILES(1, 2) CK_TILES(2, 2) CK_TILES(3, 2) CK_TILES(1, 4)
#define CK_ALL(name) {{CK_SIX(name, 1)}, {name##_1x2, name##_2x2, name##_3x2}, {name##_1x4}}
CK_INLINE int tile_blocks(int64_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }
#endif
static const tile_function tiles[2][3][12] = {CK_ALL(fp32), CK_ALL(bf16)};
#undef CK_TILE
#undef CK_TILES
#undef CK_SIX
#undef CK_SIX_MORE
#undef CK_ALL

/// What the tiles of one chunk still have to prefetch of the next: pieces of blocks, two per tile.
typedef struct {
    const char *const *blocks;
    int64_t piece_bytes;
    int64_t pieces_per_block;
    int64_t done, count;
} next_pieces;

CK_INLINE const char *next_piece(next_pieces *pieces) {
    const int64_t i = pieces->done++;
    return pieces->blocks[i / pieces->pieces_per_block] + i % pieces->pieces_per_block * pieces->piece_bytes;
}

/// Runs `rows` (1 to CK_TILE_ROWS) rows over the blocks at `weights`; `part` describes the rest.
static void run_tile(tile_kind kind, int64_t rows, const char *const weights[], int blocks, next_pieces *pieces,
                     tile part) {
    const int most = tile_blocks(rows);
    for (int done = 0; done < blocks;) {
        int step = blocks - done >= 4 ? 4 : blocks - done >= 2 ? 2 : 1;
        if (step > most) step = most;
        for (int b = 0; b < step; b++) part.weights[b] = weights[done + b];
        part.next[0] = part.next[1] = weights[done];
        part.next_step = 0;
        if (pieces->done < pieces->count) {
            part.next_step = (pieces->piece_bytes + part.units - 1) / (part.units > 0 ? part.units : 1);
            part.next[0] = part.next[1] = next_piece(pieces);
            if (pieces->done < pieces->count) part.next[1] = next_piece(pieces);
        }
        tiles[kind][step >> 1][rows - 1](&part);
        done += step;
        part.out += 16 * step;
        part.columns -= 16 * step;
    }
}
