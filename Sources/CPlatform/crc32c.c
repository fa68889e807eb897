// SPDX-License-Identifier: Apache-2.0
#include "cplatform.h"

#include <pthread.h>
#include <string.h>

// Castagnoli polynomial, reflected. The table form is the definition; the instruction computes the same.
static uint32_t table[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        table[i] = c;
    }
}

static uint32_t portable(uint32_t crc, const uint8_t *p, size_t n) {
    pthread_once(&once, fill);
    while (n--) crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t hardware(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t c = crc;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    uint32_t low = (uint32_t)c;
    for (; n; p++, n--) low = __builtin_ia32_crc32qi(low, *p);
    return low;
}
#endif

uint32_t cp_crc32c(uint32_t seed, const void *bytes, size_t byte_count) {
    uint32_t crc = ~seed;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~hardware(crc, bytes, byte_count);
#endif
    return ~portable(crc, bytes, byte_count);
}
