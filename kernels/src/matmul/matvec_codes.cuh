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

// A row of a stage: `raw` bytes into shared memory, an even number. Offsets are known when this is compiled, so a word
// that begins in the middle of another costs a second load and a shift, but no arithmetic on its address.
struct Row {
    const u8* raw;
    const u8* whole; // the word that holds the first byte
    const u8* next;  // the one that holds the third
    u32 shift;

    __device__ __forceinline__ Row(const u8* shared, int at)
        : raw(shared + at), whole(shared + (at & ~3)), next(shared + ((at + 2) & ~3)), shift((at & 2) * 8) {}

    // The word `at` bytes and t words behind the first byte. WHOLE: rows begin at multiples of 4.
    template <bool WHOLE>
    __device__ __forceinline__ u32 word(int at, int t = 0) const {
        if constexpr (WHOLE) {
            return *reinterpret_cast<const u32*>(raw + 4 * t + at);
        }
        const bool middle = at % 4 == 2;
        const u32* words = reinterpret_cast<const u32*>((middle ? next - 2 : whole) + 4 * t + at);
        return __funnelshift_r(words[0], words[1], middle ? 16 - shift : shift);
    }

    __device__ __forceinline__ float half(int at) const {
        return f16_at(raw + at);
    }
};

// Low or (shift 4) high nibbles of four bytes, as two pairs.
__device__ __forceinline__ void nibble_pairs(u32 (&to)[4], int at, u32 word, int shift) {
    to[at] = and_or(word >> shift, 0x000f000fu, ABOVE);
    to[at + 1] = and_or(word >> (shift + 8), 0x000f000fu, ABOVE);
}

// What a group's sums are multiplied by: those of codes, and the activations' own (which stand as minus OFFSET times
// themselves).
struct Affine {
    float scale, add;

    // Of weights `scale · code + min`, their OFFSET being 128.
    __device__ __forceinline__ static Affine of(float2 scale_min) {
        return {scale_min.x, scale_min.y * (-1.0f / 128.0f)};
    }
};

// 32 nibbles behind HEAD bytes.
template <int SIZE, int HEAD, int APART>
struct Nibbles {
    static constexpr int LEN = 32, BYTES = SIZE, CHUNK = 256, GROUP = 32, STAGES = 3, STRIDE = APART, TABLE = 0;
    static constexpr bool WHOLE = SIZE % 4 == 0;
    static constexpr int MISALIGN = SIZE % 8 == 0 ? 8 : WHOLE ? 12 : 14;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
        const u32 word = row.word<WHOLE>(group * SIZE + HEAD, t);
        nibble_pairs(to, 0, word, 0);
        nibble_pairs(to, 2, word, 4);
    }
};

struct q4_0_codes : Nibbles<18, 2, 176> {
    static constexpr int OFFSET = 128 + 8;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static Affine affine(const Row& row, const float*, int group) {
        return {row.half(group * BYTES), 0.0f};
    }
};

struct q4_1_codes : Nibbles<20, 4, 176> {
    static constexpr int OFFSET = 128;
    static constexpr bool HAS_MIN = true;

    __device__ __forceinline__ static Affine affine(const Row& row, const float*, int group) {
        return Affine::of(f32_of_f16x2(row.word<true>(group * BYTES)));
    }
};

// The fifth bits of columns 4 t to 4 t + 3, and of those 16 further, where nibbles have room for them.
__device__ __forceinline__ void fifth_pairs(u32 (&to)[4], u32 bits, int t) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const u32 four = bits >> (4 * t + 16 * half) & 15;
        to[2 * half] = and_or(four * (1 << 4 | 1 << 18), 0x00100010u, to[2 * half]);
        to[2 * half + 1] = and_or(four * (1 << 3 | 1 << 17), 0x00100010u, to[2 * half + 1]);
    }
}

struct q5_0_codes : Nibbles<22, 6, 208> {
    static constexpr int OFFSET = 128 + 16;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
        Nibbles::codes(to, row, group, t);
        fifth_pairs(to, row.word<WHOLE>(group * BYTES + 2), t);
    }

    __device__ __forceinline__ static Affine affine(const Row& row, const float*, int group) {
        return {row.half(group * BYTES), 0.0f};
    }
};

struct q5_1_codes : Nibbles<24, 8, 208> {
    static constexpr int OFFSET = 128;
    static constexpr bool HAS_MIN = true;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
        Nibbles::codes(to, row, group, t);
        fifth_pairs(to, row.word<WHOLE>(group * BYTES + 4), t);
    }

    __device__ __forceinline__ static Affine affine(const Row& row, const float*, int group) {
        return Affine::of(f32_of_f16x2(row.word<true>(group * BYTES)));
    }
};

// Eight bits are one too many: the sign is taken off as a number of its own, which is exact.
struct q8_0_codes {
    static constexpr int LEN = 32, BYTES = 34, CHUNK = 256, GROUP = 32, STAGES = 2, STRIDE = 304, TABLE = 0;
    static constexpr int MISALIGN = 14, OFFSET = 0;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const u32 word = row.word<false>(group * BYTES + 2 + 16 * half, t);
#pragma unroll
            for (int odd = 0; odd < 2; odd++) {
                const u32 two = word >> (8 * odd);
                to[2 * half + odd] = bf16x2_minus(and_or(two, 0x007f007fu, ABOVE), and_or(two, 0x00800080u, ABOVE));
            }
        }
    }

    __device__ __forceinline__ static Affine affine(const Row& row, const float*, int group) {
        return {row.half(group * BYTES), 0.0f};
    }
};

// Super blocks: a chunk is one of them, and its scales stand in a table [16 rows][TABLE] of the warp, two floats for a
// group of 32. Two lanes fill a row of it, each for half of the groups.
template <int SIZE, int CODES>
struct Super {
    static constexpr int LEN = 256, BYTES = SIZE, CHUNK = 256, GROUP = 32, STAGES = 3, STRIDE = SIZE, TABLE = 18;
    static constexpr int MISALIGN = 0, OFFSET = 128;
    static constexpr bool HAS_MIN = true;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
        const int run = CODES + group / 2 * 32;
        nibble_pairs(to, 0, row.word<true>(run, t), group % 2 * 4);
        nibble_pairs(to, 2, row.word<true>(run + 16, t), group % 2 * 4);
    }

    __device__ __forceinline__ static void fill(float* table, const Row& row, int half) {
        const float2 by = f32_of_f16x2(row.word<true>(0));
        const u32 a = row.word<true>(4), b = row.word<true>(8), c = row.word<true>(12);
        // Bytes of groups 4 half to 4 half + 3: six bits each, of the later ones the upper two beside the earlier's.
        const u32 scales = half ? (c & 0x0f0f0f0fu) | (a >> 2 & 0x30303030u) : a & 0x3f3f3f3fu;
        const u32 mins = half ? (c >> 4 & 0x0f0f0f0fu) | (b >> 2 & 0x30303030u) : b & 0x3f3f3f3fu;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float scale = by.x * static_cast<float>(scales >> (8 * i) & 255);
            const float min = by.y * static_cast<float>(mins >> (8 * i) & 255);
            const Affine affine = Affine::of(make_float2(scale, -min));
            *reinterpret_cast<float2*>(table + (4 * half + i) * 2) = make_float2(affine.scale, affine.add);
        }
    }

    __device__ __forceinline__ static Affine affine(const Row&, const float* table, int group) {
        const float2 both = *reinterpret_cast<const float2*>(table + 2 * group);
        return {both.x, both.y};
    }
};

struct q4_k_codes : Super<144, 16> {};

struct q5_k_codes : Super<176, 48> {
    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
        Super::codes(to, row, group, t);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Bit `group` of each byte, brought to bit 4.
            u32 bits = row.word<true>(16 + 16 * half, t);
            bits = group < 4 ? bits << (4 - group) : bits >> (group - 4);
            to[2 * half] = and_or(bits, 0x00100010u, to[2 * half]);
            to[2 * half + 1] = and_or(bits >> 8, 0x00100010u, to[2 * half + 1]);
        }
    }
};

// Scales are for 16: the two halves of a lane's columns are groups of their own.
struct q6_k_codes {
    static constexpr int LEN = 256, BYTES = 210, CHUNK = 256, GROUP = 16, STAGES = 2, STRIDE = 240, TABLE = 17;
    static constexpr int MISALIGN = 14, OFFSET = 128 + 32;
    static constexpr bool HAS_MIN = false;

    __device__ __forceinline__ static void codes(u32 (&to)[4], const Row& row, int group, int t) {
        const int quarter = group % 4;
        const int low = group / 4 * 64 + quarter % 2 * 32, high = 128 + group / 4 * 32;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            nibble_pairs(to, 2 * half, row.word<false>(low + 16 * half, t), quarter / 2 * 4);
            // Bits 2 quarter and the next of each byte, brought to bits 4 and 5.
            u32 bits = row.word<false>(high + 16 * half, t);
            bits = quarter < 2 ? bits << (4 - 2 * quarter) : bits >> (2 * quarter - 4);
            to[2 * half] = and_or(bits, 0x00300030u, to[2 * half]);
            to[2 * half + 1] = and_or(bits >> 8, 0x00300030u, to[2 * half + 1]);
        }
    }

    __device__ __forceinline__ static void fill(float* table, const Row& row, int half) {
        const float by = row.half(208);
        const u32 words[2] = {row.word<false>(192 + 8 * half), row.word<false>(196 + 8 * half)};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            table[8 * half + i] = by * static_cast<float>(static_cast<i8>(words[i / 4] >> (8 * (i % 4))));
        }
    }

    __device__ __forceinline__ static Affine affine(const Row&, const float* table, int group) {
        return {table[group], 0.0f};
    }
};

// Floats are no codes: a lane holds columns 8 t to 8 t + 7 of a group, in their order, as TERMS bf16 numbers whose sum
// is the weight exactly.
template <class E, int COUNT>
struct FloatTerms {
    static constexpr int LEN = 1, BYTES = sizeof(E), CHUNK = 256 / sizeof(E), STAGES = 2, TABLE = 0, TERMS = COUNT;
    static constexpr int MISALIGN = 0, STRIDE = sizeof(E) == 2 ? 320 : 272;

    __device__ __forceinline__ static void terms(u32 (&to)[TERMS][4], const Row& row, int group, int t) {
        float rest[8];
        load8(rest, reinterpret_cast<const E*>(row.raw) + 32 * group + 8 * t);
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
    __device__ __forceinline__ static void terms(u32 (&to)[1][4], const Row& row, int group, int t) {
        const uint4 words = load16(row.raw + 64 * group + 16 * t);
        to[0][0] = words.x, to[0][1] = words.y, to[0][2] = words.z, to[0][3] = words.w;
    }
};
