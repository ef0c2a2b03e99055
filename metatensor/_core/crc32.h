/* CRC-32 of zip files (polynomial 0xEDB88320), by carry-less multiplication.
 *
 * `folded_crc32` keeps four 128-bit remainders and moves each 512 bits ahead per step: multiplying
 * the low and high halves by x^(n+64) and x^n modulo the polynomial (V. Gopal et al., "Fast CRC
 * computation for generic polynomials using PCLMULQDQ", 2009). The last remainder is itself a
 * message of 16 bytes with the same CRC, which a table finishes. Where the instruction is missing
 * `crc32_is_fast` is 0 and the caller uses zlib.
 */
#include <stddef.h>
#include <stdint.h>

static uint32_t crc32_table[256];

static void crc32_fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; bit++) {
            state = (state >> 1) ^ (state & 1 ? 0xEDB88320u : 0);
        }
        crc32_table[byte] = state;
    }
}

static uint32_t crc32_bytes(const uint8_t *bytes, size_t size, uint32_t state) {
    for (size_t i = 0; i < size; i++) {
        state = (state >> 8) ^ crc32_table[(state ^ bytes[i]) & 0xFF];
    }
    return state;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

static int crc32_is_fast(void) {
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

#define FOLD __attribute__((target("pclmul,sse4.1")))

FOLD static inline __m128i fold(__m128i remainder, __m128i factors, __m128i next) {
    __m128i low = _mm_clmulepi64_si128(remainder, factors, 0x00);
    __m128i high = _mm_clmulepi64_si128(remainder, factors, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

FOLD static inline __m128i load(const uint8_t *bytes) {
    return _mm_loadu_si128((const __m128i *)bytes);
}

FOLD static uint32_t folded_crc32(const uint8_t *bytes, size_t size, uint32_t state) {
    const __m128i by_512_bits = _mm_set_epi64x(0x01C6E41596, 0x0154442BD4);
    const __m128i by_128_bits = _mm_set_epi64x(0x00CCAA009E, 0x01751997D0);
    uint8_t last[16];
    if (size >= 64) {
        __m128i r0 = _mm_xor_si128(load(bytes), _mm_cvtsi32_si128((int)state));
        __m128i r1 = load(bytes + 16), r2 = load(bytes + 32), r3 = load(bytes + 48);
        for (bytes += 64, size -= 64; size >= 64; bytes += 64, size -= 64) {
            r0 = fold(r0, by_512_bits, load(bytes));
            r1 = fold(r1, by_512_bits, load(bytes + 16));
            r2 = fold(r2, by_512_bits, load(bytes + 32));
            r3 = fold(r3, by_512_bits, load(bytes + 48));
        }
        r0 = fold(fold(fold(r0, by_128_bits, r1), by_128_bits, r2), by_128_bits, r3);
        for (; size >= 16; bytes += 16, size -= 16) {
            r0 = fold(r0, by_128_bits, load(bytes));
        }
        _mm_storeu_si128((__m128i *)last, r0);
        state = crc32_bytes(last, 16, 0);
    }
    return crc32_bytes(bytes, size, state);
}

#undef FOLD
#else

static int crc32_is_fast(void) { return 0; }

static uint32_t folded_crc32(const uint8_t *bytes, size_t size, uint32_t state) {
    return crc32_bytes(bytes, size, state);
}

#endif
