// Weights as tensor cores take them: what a lane contributes to the products of 16 rows and 32 columns.
//
// Owns one struct a format: a CHUNK of columns that a warp takes at a time, its sizes, and how a lane gets at its codes in
// a row of a stage, which begins at any address that the file allows (MISALIGN bytes past a multiple of 16 at most).
// Rows of a stage are STRIDE bytes apart, so that the words of eight rows lie in different banks. Codes go into the mantissa of bf16 128, so that one logical operation makes numbers of two
// of them: OFFSET is what such a number is above the weight that is to be scaled. A lane holds, of a row and of the 32
// columns of a group, columns 4 t to 4 t + 3 (t = lane % 4) and those 16 further: the bytes of one word of every format.
// It holds them as four pairs, (0, 2) (1, 3) of each, and activations lie in the same order (`ordered`).
#pragma once
#include "blocks.cuh"

// bf16 128 twice: a number up to 127 in the low bits of each half is added to it.
constexpr u32 ABOVE = 0x43004300u;

// A word of shared memory at an even address (of 4 bytes where WHOLE).
template <bool WHOLE>
__device__ __forceinline__ u32 shared_word(const u8* at) {
    if constexpr (WHOLE) {
        return *reinterpret_cast<const u32*>(at);
    }
    const u64 address = reinterpret_cast<u64>(at);
    const u32* words = reinterpret_cast<const u32*>(address & ~static_cast<u64>(3));
    return __funnelshift_r(words[0], words[1], (address & 2) * 8);
}

// Low or (shift 4) high nibbles of four bytes, as two pairs.
__device__ __forceinline__ void nibble_pairs(u32 (&to)[4], int at, u32 word, int shift) {
    to[at] = (word >> shift & 0x000f000fu) | ABOVE;
    to[at + 1] = (word >> (shift + 8) & 0x000f000fu) | ABOVE;
}

// Where weights are multiplied by a number for each 32: (scale, what is added).
struct Affine {
    float scale, add;
};

// 32 nibbles behind HEAD bytes.
template <int SIZE, int HEAD, int APART>
struct Nibbles {
    static constexpr int LEN = 32, BYTES = SIZE, CHUNK = 256, GROUP = 32, STAGES = 4, STRIDE = APART, TABLE = 0;
    static constexpr bool WHOLE = SIZE % 4 == 0;
    static constexpr int MISALIGN = SIZE % 8 == 0 ? 8 : WHOLE ? 12 : 14;

    __device__ __forceinline__ static const u8* block(const u8* row, int group) {
        return row + group * SIZE;
    }

    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
        const u32 word = shared_word<WHOLE>(block(row, group) + HEAD + 4 * t);
        nibble_pairs(to, 0, word, 0);
        nibble_pairs(to, 2, word, 4);
    }
};

struct q4_0_codes : Nibbles<18, 2, 176> {
    static constexpr int OFFSET = 128 + 8;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static Affine affine(const u8* row, const float*, int group) {
        return {f16_at(block(row, group)), 0.0f};
    }
};

struct q4_1_codes : Nibbles<20, 4, 176> {
    static constexpr int OFFSET = 128;
    static constexpr bool HAS_MIN = true;

    __device__ __forceinline__ static Affine affine(const u8* row, const float*, int group) {
        const float2 both = f32_of_f16x2(shared_word<true>(block(row, group)));
        return {both.x, both.y};
    }
};

// The fifth bits of columns 4 t to 4 t + 3, and of those 16 further, where nibbles have room for them.
__device__ __forceinline__ void fifth_pairs(u32 (&to)[4], u32 bits, int t) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const u32 four = bits >> (4 * t + 16 * half) & 15;
        to[2 * half] |= four * (1 << 4 | 1 << 18) & 0x00100010u;
        to[2 * half + 1] |= four * (1 << 3 | 1 << 17) & 0x00100010u;
    }
}

struct q5_0_codes : Nibbles<22, 6, 208> {
    static constexpr int OFFSET = 128 + 16;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
        Nibbles::codes(to, row, group, t);
        fifth_pairs(to, shared_word<WHOLE>(block(row, group) + 2), t);
    }

    __device__ __forceinline__ static Affine affine(const u8* row, const float*, int group) {
        return {f16_at(block(row, group)), 0.0f};
    }
};

struct q5_1_codes : Nibbles<24, 8, 208> {
    static constexpr int OFFSET = 128;
    static constexpr bool HAS_MIN = true;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
        Nibbles::codes(to, row, group, t);
        fifth_pairs(to, shared_word<WHOLE>(block(row, group) + 4), t);
    }

    __device__ __forceinline__ static Affine affine(const u8* row, const float*, int group) {
        const float2 both = f32_of_f16x2(shared_word<true>(block(row, group)));
        return {both.x, both.y};
    }
};

// Eight bits are one too many: the sign is taken off as a number of its own, which is exact.
struct q8_0_codes {
    static constexpr int LEN = 32, BYTES = 34, CHUNK = 256, GROUP = 32, STAGES = 3, STRIDE = 304, TABLE = 0;
    static constexpr int MISALIGN = 14, OFFSET = 0;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const u32 word = shared_word<false>(row + group * BYTES + 2 + 16 * half + 4 * t);
#pragma unroll
            for (int odd = 0; odd < 2; odd++) {
                const u32 two = word >> (8 * odd);
                to[2 * half + odd] = bf16x2_minus((two & 0x007f007fu) | ABOVE, (two & 0x00800080u) | ABOVE);
            }
        }
    }

    __device__ __forceinline__ static Affine affine(const u8* row, const float*, int group) {
        return {f16_at(row + group * BYTES), 0.0f};
    }
};

// Super blocks: a chunk is one of them, and its scales stand in a table [16 rows][TABLE] of the warp, two floats for a
// group of 32. Two lanes fill a row of it, each for half of the groups.
template <int SIZE, int CODES>
struct Super {
    static constexpr int LEN = 256, BYTES = SIZE, CHUNK = 256, GROUP = 32, STAGES = 4, STRIDE = SIZE, TABLE = 18;
    static constexpr int MISALIGN = 0, OFFSET = 128;
    static constexpr bool HAS_MIN = true;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
        const u8* run = row + CODES + group / 2 * 32 + 4 * t;
        nibble_pairs(to, 0, shared_word<true>(run), group % 2 * 4);
        nibble_pairs(to, 2, shared_word<true>(run + 16), group % 2 * 4);
    }

    __device__ __forceinline__ static void fill(float* table, const u8* row, int half) {
        const float2 by = f32_of_f16x2(shared_word<true>(row));
        const u32 a = shared_word<true>(row + 4), b = shared_word<true>(row + 8), c = shared_word<true>(row + 12);
        // Bytes of groups 4 half to 4 half + 3: six bits each, of the later ones the upper two beside the earlier's.
        const u32 scales = half ? (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u) : a & 0x3f3f3f3fu;
        const u32 mins = half ? (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u) : b & 0x3f3f3f3fu;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float scale = by.x * static_cast<float>(scales >> (8 * i) & 255);
            const float min = by.y * static_cast<float>(mins >> (8 * i) & 255);
            *reinterpret_cast<float2*>(table + (4 * half + i) * 2) = make_float2(scale, -min);
        }
    }

    __device__ __forceinline__ static Affine affine(const u8*, const float* table, int group) {
        const float2 both = *reinterpret_cast<const float2*>(table + 2 * group);
        return {both.x, both.y};
    }
};

struct q4_k_codes : Super<144, 16> {};

struct q5_k_codes : Super<176, 48> {
    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
        Super::codes(to, row, group, t);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Bit `group` of each byte, brought to bit 4.
            u32 bits = shared_word<true>(row + 16 + 16 * half + 4 * t);
            bits = group < 4 ? bits << (4 - group) : bits >> (group - 4);
            to[2 * half] |= bits & 0x00100010u;
            to[2 * half + 1] |= bits >> 8 & 0x00100010u;
        }
    }
};

// Scales are for 16: the two halves of a lane's columns are groups of their own.
struct q6_k_codes {
    static constexpr int LEN = 256, BYTES = 210, CHUNK = 256, GROUP = 16, STAGES = 4, STRIDE = 240, TABLE = 17;
    static constexpr int MISALIGN = 14, OFFSET = 128 + 32;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const u8* row, int group, int t) {
        const int quarter = group % 4;
        const u8* low = row + group / 4 * 64 + quarter % 2 * 32 + 4 * t;
        const u8* high = row + 128 + group / 4 * 32 + 4 * t;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            nibble_pairs(to, 2 * half, shared_word<false>(low + 16 * half), quarter / 2 * 4);
            // Bits 2 quarter and the next of each byte, brought to bits 4 and 5.
            u32 bits = shared_word<false>(high + 16 * half);
            bits = quarter < 2 ? bits << (4 - 2 * quarter) : bits >> (2 * quarter - 4);
            to[2 * half] |= bits & 0x00300030u;
            to[2 * half + 1] |= bits >> 8 & 0x00300030u;
        }
    }

    __device__ __forceinline__ static void fill(float* table, const u8* row, int half) {
        const float by = f16_at(row + 208);
        const u32 words[2] = {shared_word<false>(row + 192 + 8 * half), shared_word<false>(row + 196 + 8 * half)};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            table[8 * half + i] = by * static_cast<float>(static_cast<i8>(words[i / 4] >> (8 * (i % 4))));
        }
    }

    __device__ __forceinline__ static Affine affine(const u8*, const float* table, int group) {
        return {table[group], 0.0f};
    }
};

// Floats are no codes: a lane holds columns 8 t to 8 t + 7 of a group, in their order, as TERMS bf16 numbers whose sum
// is the weight exactly.
template <class E, int COUNT>
struct FloatTerms {
    static constexpr int LEN = 1, BYTES = sizeof(E), CHUNK = 256 / sizeof(E), STAGES = 3, TABLE = 0, TERMS = COUNT;
    static constexpr int MISALIGN = 0, STRIDE = sizeof(E) == 2 ? 320 : 272;

    __device__ __forceinline__ static void terms(u32 (&to)[TERMS][4], const u8* row, int group, int t) {
        float rest[8];
        load8(rest, reinterpret_cast<const E*>(row) + 32 * group + 8 * t);
#pragma unroll
        for (int term = 0; term < TERMS; term++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const u32 pair = bf16x2_of(rest[2 * i], rest[2 * i + 1]);
                const float2 taken = f32_of_bf16x2(pair);
                to[term][i] = pair;
                rest[2 * i] -= taken.x;
                rest[2 * i + 1] -= taken.y;
            }
        }
    }
};

struct f16_codes : FloatTerms<f16, 2> {};

struct f32_codes : FloatTerms<float, 3> {};

struct bf16_codes : FloatTerms<bf16, 1> {
    __device__ __forceinline__ static void terms(u32 (&to)[1][4], const u8* row, int group, int t) {
        const uint4 words = load16(row + 64 * group + 16 * t);
        to[0][0] = words.x, to[0][1] = words.y, to[0][2] = words.z, to[0][3] = words.w;
    }
};
