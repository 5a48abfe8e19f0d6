// Numbers made of a seed and of where they stand: weights of models that are only measured.
//
//   random_bf16(out, scale, seed_low, seed_high, count)
//
//   out    bf16 [count], aligned to 16 bytes: scale · (the bytes of a random word, added up, less their mean)
//   scale  the deviation over that of four bytes
//   seed   64 bits, in two halves
//
// Integers, one product in f32 and one rounding: the bits are the host's. Launch: grid (div_up(count, 2048)), block
// (256), no dynamic shared memory.
#include "prelude.cuh"

constexpr float MEAN = 510.0f;

// Philox4x32-10 of Salmon et al. (2011), block number `x`: see `sampling/uniform.rs`.
__device__ __forceinline__ uint4 philox(u32 x, u32 seed_low, u32 seed_high) {
    uint4 words = make_uint4(x, 0, 0, 0);
#pragma unroll
    for (u32 round = 0; round < 10; round++) {
        const u64 a = static_cast<u64>(words.x) * 0xd2511f53u, b = static_cast<u64>(words.z) * 0xcd9e8d57u;
        const u32 low = seed_low + round * 0x9e3779b9u, high = seed_high + round * 0xbb67ae85u;
        words = make_uint4(static_cast<u32>(b >> 32) ^ words.y ^ low, static_cast<u32>(b),
                           static_cast<u32>(a >> 32) ^ words.w ^ high, static_cast<u32>(a));
    }
    return words;
}

// Near a normal distribution, as sums of uniform numbers are.
__device__ __forceinline__ float number_of(u32 word, float scale) {
    const u32 pairs = (word & 0x00ff00ffu) + (word >> 8 & 0x00ff00ffu);
    return (static_cast<float>((pairs & 0xffffu) + (pairs >> 16)) - MEAN) * scale;
}

extern "C" __global__ void random_bf16(bf16* out, float scale, u32 seed_low, u32 seed_high, int count) {
    const u32 at = (blockIdx.x * blockDim.x + threadIdx.x) * 8, end = count;
    if (at >= end) {
        return;
    }
    const uint4 first = philox(at / 4, seed_low, seed_high), second = philox(at / 4 + 1, seed_low, seed_high);
    const u32 words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
    float eight[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        eight[i] = number_of(words[i], scale);
    }
    if (at + 8 <= end) {
        store8(out + at, eight);
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        if (at + i < end) {
            store(out + at + i, eight[i]);
        }
    }
}
