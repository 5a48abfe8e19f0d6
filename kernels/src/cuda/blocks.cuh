// The weights of GGUF blocks, eight at a time: the device's twin of `kernels/src/blocks`.
//
// Owns one struct a format: LEN weights in BYTES, and `weights8`, which gives weights `at` to `at + 7` of one block (`at`
// a multiple of 8) to the bit as `dequantize` does: no product is fused with the sum after it.
#pragma once
#include "prelude.cuh"

// Blocks begin at even addresses.
__device__ __forceinline__ u32 word_at(const u8* at) {
    const u16* half = reinterpret_cast<const u16*>(at);
    return half[0] | static_cast<u32>(half[1]) << 16;
}

__device__ __forceinline__ float f16_at(const u8* at) {
    return f32_of(*reinterpret_cast<const f16*>(at));
}

// Four bits of each of 8 bytes: the low ones, or (shift 4) the high ones.
__device__ __forceinline__ void nibbles8(int (&to)[8], const u8* bytes, int shift) {
    const u32 words[2] = {word_at(bytes), word_at(bytes + 4)};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        to[i] = words[i / 4] >> (8 * (i % 4) + shift) & 15;
    }
}

__device__ __forceinline__ void affine8(float (&to)[8], const int (&codes)[8], int zero, float scale) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        to[i] = __fmul_rn(static_cast<float>(codes[i] - zero), scale);
    }
}

__device__ __forceinline__ void add8(float (&to)[8], float by) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        to[i] = __fadd_rn(to[i], by);
    }
}

// Formats of 32: low nibbles are weights 0 to 15, high ones 16 to 31.
template <int HEAD>
__device__ __forceinline__ void nibbles_of_32(int (&to)[8], const u8* block, int at) {
    nibbles8(to, block + HEAD + at % 16, at / 16 * 4);
}

// The fifth bits of 8 of 32 codes.
__device__ __forceinline__ void fifth_bits(int (&to)[8], const u8* high, int at) {
    const u32 bits = word_at(high) >> at;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        to[i] |= (bits >> i & 1) << 4;
    }
}

struct Q4_0 {
    static constexpr int LEN = 32, BYTES = 18;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        int codes[8];
        nibbles_of_32<2>(codes, block, at);
        affine8(to, codes, 8, f16_at(block));
    }
};

struct Q4_1 {
    static constexpr int LEN = 32, BYTES = 20;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        int codes[8];
        nibbles_of_32<4>(codes, block, at);
        affine8(to, codes, 0, f16_at(block));
        add8(to, f16_at(block + 2));
    }
};

struct Q5_0 {
    static constexpr int LEN = 32, BYTES = 22;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        int codes[8];
        nibbles_of_32<6>(codes, block, at);
        fifth_bits(codes, block + 2, at);
        affine8(to, codes, 16, f16_at(block));
    }
};

struct Q5_1 {
    static constexpr int LEN = 32, BYTES = 24;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        int codes[8];
        nibbles_of_32<8>(codes, block, at);
        fifth_bits(codes, block + 4, at);
        affine8(to, codes, 0, f16_at(block));
        add8(to, f16_at(block + 2));
    }
};

struct Q8_0 {
    static constexpr int LEN = 32, BYTES = 34;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        const u32 words[2] = {word_at(block + 2 + at), word_at(block + 6 + at)};
        int codes[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] = static_cast<i8>(words[i / 4] >> (8 * (i % 4)));
        }
        affine8(to, codes, 0, f16_at(block));
    }
};

// The 6-bit scale (x) and minimum (y) of a group of 32 in the 12 bytes of Q4_K and Q5_K.
__device__ __forceinline__ int2 scale_min_k4(const u8* bytes, int group) {
    if (group < 4) {
        return make_int2(bytes[group] & 63, bytes[group + 4] & 63);
    }
    const int low = bytes[group + 4];
    return make_int2((low & 15) | bytes[group - 4] >> 6 << 4, low >> 4 | bytes[group] >> 6 << 4);
}

// d · scale · code - dmin · min
__device__ __forceinline__ void affine_k(float (&to)[8], const int (&codes)[8], const u8* block, int at) {
    const int2 small = scale_min_k4(block + 4, at / 32);
    affine8(to, codes, 0, __fmul_rn(f16_at(block), static_cast<float>(small.x)));
    add8(to, -__fmul_rn(f16_at(block + 2), static_cast<float>(small.y)));
}

struct Q4_K {
    static constexpr int LEN = 256, BYTES = 144;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        int codes[8];
        nibbles8(codes, block + 16 + at / 64 * 32 + at % 32, at / 32 % 2 * 4);
        affine_k(to, codes, block, at);
    }
};

struct Q5_K {
    static constexpr int LEN = 256, BYTES = 176;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        int codes[8];
        nibbles8(codes, block + 48 + at / 64 * 32 + at % 32, at / 32 % 2 * 4);
        const u8* high = block + 16 + at % 32;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] |= (high[i] >> (at / 32) & 1) << 4;
        }
        affine_k(to, codes, block, at);
    }
};

struct Q6_K {
    static constexpr int LEN = 256, BYTES = 210;
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int at) {
        const int half = at / 128, in = at % 128;
        int codes[8];
        nibbles8(codes, block + half * 64 + in % 64, in / 64 * 4);
        const u8* high = block + 128 + half * 32 + in % 32;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            codes[i] |= (high[i] >> (in / 32 * 2) & 3) << 4;
        }
        const float scale = static_cast<float>(reinterpret_cast<const i8*>(block)[192 + at / 16]);
        affine8(to, codes, 32, __fmul_rn(f16_at(block + 208), scale));
    }
};

// Floats are blocks of 8 here, at any address their own size allows.
template <class E>
struct Floats {
    static constexpr int LEN = 8, BYTES = 8 * sizeof(E);
    __device__ __forceinline__ static void weights8(float (&to)[8], const u8* block, int) {
        const E* numbers = reinterpret_cast<const E*>(block);
        if (is_aligned16(block)) {
            return load8(to, numbers);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            to[i] = f32_of(numbers[i]);
        }
    }
};
