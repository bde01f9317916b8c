/* Multiply-adds per second of one thread, of the widest kind that the compiler was told of: eight chains at a time. */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

#if defined(TILES)
struct config { unsigned char palette, row, rest[14]; unsigned short colsb[16]; unsigned char rows[16]; };

static double work(long rounds) {
    struct config config;
    static unsigned char bytes[64 * 16] __attribute__((aligned(64)));
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int tile = 0; tile < 8; tile++) { config.colsb[tile] = 64; config.rows[tile] = 16; }
    syscall(SYS_arch_prctl, 0x1023, 18);
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    _tile_loadd(4, bytes, 64); _tile_loadd(5, bytes, 64); _tile_loadd(6, bytes, 64); _tile_loadd(7, bytes, 64);
    for (long round = 0; round < rounds; round++) {
        MULTIPLY(0, 4, 6); MULTIPLY(1, 4, 7); MULTIPLY(2, 5, 6); MULTIPLY(3, 5, 7);
    }
    _tile_stored(0, bytes, 64);
    return 4.0 * 16 * 16 * DEPTH;
}
#else
static double work(long rounds) {
    __m512i sums[8], ones = _mm512_set1_epi8(1);
    for (int chain = 0; chain < 8; chain++) { sums[chain] = _mm512_setzero_si512(); }
    for (long round = 0; round < rounds; round++) {
        for (int chain = 0; chain < 8; chain++) { sums[chain] = _mm512_dpbusd_epi32(sums[chain], ones, ones); }
        __asm__ volatile("" : "+v"(sums[0]), "+v"(sums[1]), "+v"(sums[2]), "+v"(sums[3]), "+v"(sums[4]), "+v"(sums[5]),
                         "+v"(sums[6]), "+v"(sums[7]));
    }
    volatile int kept = 0;
    for (int chain = 0; chain < 8; chain++) { kept += _mm512_reduce_add_epi32(sums[chain]); }
    return 8.0 * 64;
}
#endif

int main(int count, char **words) {
    long rounds = count > 1 ? atol(words[1]) : 1000;
    work(rounds / 10);
    double began = now();
    double each = work(rounds);
    printf("%.6g\n", each * rounds / (now() - began));
    return 0;
}
