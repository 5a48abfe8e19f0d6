// What the fast attention kernels have in common: 16-bit formats and their products on tensor cores, tiles of K and V
// in shared memory, and queries rotated for a run.
//
// A module is compiled for one head length, HEAD_DIM: a multiple of 16, so that rows are whole units of 16 bytes.
#pragma once
#include "attention.cuh"

#ifndef HEAD_DIM
#define HEAD_DIM 128
#endif
static_assert(HEAD_DIM % 16 == 0, "units of 8 dims, in pairs");

// The name of a kernel of this module: `attention_decode_f16_128`.
#define NAMED_BY(name, dim) name##_##dim
#define NAMED_BY_LENGTH(name, dim) NAMED_BY(name, dim)
#define KERNEL(name) NAMED_BY_LENGTH(name, HEAD_DIM)

// A unit is 8 dims: 16 bytes of a 16-bit format.
constexpr int UNITS = HEAD_DIM / 8;

// Rows of K and V are read by 16: what one product takes, and always within a page.
constexpr int TILE = 16;

// Where unit `unit` of row `row` lies, in units. The 8 rows that are read at once must lie in 8 different sixteenths of
// 128 bytes: units are shuffled where a row is whole lines of 128 bytes, else one is left free behind each row.
constexpr bool SHUFFLED = HEAD_DIM % 64 == 0;
constexpr int LINE_UNITS = SHUFFLED ? UNITS : UNITS + 1;
constexpr int LINE_BYTES = 16 * LINE_UNITS;

__device__ __forceinline__ u8* unit_at(u8* rows, int row, int unit) {
    return rows + 16 * (row * LINE_UNITS + (SHUFFLED ? unit ^ (row & 7) : unit));
}

#ifndef CENTO_EMULATED
// The transpose of an 8x8 matrix of 16-bit elements that a warp holds: a lane has row lane / 4, columns 2 (lane % 4)
// and the next.
__device__ __forceinline__ u32 transposed8x8(u32 x) {
    u32 to;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(to) : "r"(x));
    return to;
}
#endif

// A 16-bit format: two numbers in a word, and the product.
struct Halves {
    static constexpr bool CODES = false;
    __device__ __forceinline__ static u32 pack(float low, float high) {
        return f16x2_of(clamped(low, F16_MAX), clamped(high, F16_MAX));
    }
    __device__ __forceinline__ static float2 unpack(u32 x) {
        return f32_of_f16x2(x);
    }
    __device__ __forceinline__ static void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        const u32 b[2] = {b0, b1};
        mma_f16(c, a, b);
    }
};

struct Brains {
    static constexpr bool CODES = false;
    __device__ __forceinline__ static u32 pack(float low, float high) {
        return bf16x2_of(low, high);
    }
    __device__ __forceinline__ static float2 unpack(u32 x) {
        return f32_of_bf16x2(x);
    }
    __device__ __forceinline__ static void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        const u32 b[2] = {b0, b1};
        mma_bf16(c, a, b);
    }
};

// Codes of 8 bits, each a number of bf16 as it is; their scales are for products' sums and for weights.
struct Codes : Brains {
    static constexpr bool CODES = true;
};

// Dims `at` and the next of a query, and their partners in a rotation: with `interleaved` pairs they are each other's,
// else those `HEAD_DIM / 2` further. Rotated by `turns` and multiplied by `by`.
struct Turned {
    float2 low, high;
};

__device__ __forceinline__ Turned turned(const float* q, const Turns& turns, int at, int interleaved, float by) {
    const int far = at + HEAD_DIM / 2;
    const float2 x = *reinterpret_cast<const float2*>(q + at), y = *reinterpret_cast<const float2*>(q + far);
    Turned to;
    if (interleaved) {
        const float2 a = turns.of(at / 2), b = turns.of(far / 2);
        to.low = make_float2((x.x * a.x - x.y * a.y) * by, (x.x * a.y + x.y * a.x) * by);
        to.high = make_float2((y.x * b.x - y.y * b.y) * by, (y.x * b.y + y.y * b.x) * by);
    } else {
        const float2 a = turns.of(at), b = turns.of(at + 1);
        to.low = make_float2((x.x * a.x - y.x * a.y) * by, (x.y * b.x - y.y * b.y) * by);
        to.high = make_float2((x.x * a.y + y.x * a.x) * by, (x.y * b.y + y.y * b.x) * by);
    }
    return to;
}

// Where a warp or block is in the tiles of an item.
struct Walk {
    Segment segment;
    int index, row;

    __device__ __forceinline__ void begin(const int* plan, const Item& item) {
        index = 0;
        row = 0;
        if (item.segments > 0) {
            segment = segment_at(plan, item, 0);
            row = segment.begin;
        }
    }

    // `rows` further: at the first row of the next segment where this one ends.
    __device__ __forceinline__ void step(const int* plan, const Item& item, int rows) {
        row += rows;
        if (row >= segment.end && index + 1 < item.segments) {
            index++;
            segment = segment_at(plan, item, index);
            row = segment.begin;
        }
    }
};

// Two dims of a query's result, or of its state.
__device__ __forceinline__ void write_two(const Sinks& sinks, bool is_state, u64 at, float x, float y) {
    if (is_state) {
        *reinterpret_cast<float2*>(sinks.weighted + at) = make_float2(x, y);
        return;
    }
    if (sinks.out != nullptr) {
        *reinterpret_cast<float2*>(sinks.out + at) = make_float2(x, y);
    }
    if (sinks.high != nullptr) {
        const u32 rounded = bf16x2_of(x, y);
        *reinterpret_cast<u32*>(sinks.high + at) = rounded;
        if (sinks.low != nullptr) {
            const float2 taken = f32_of_bf16x2(rounded);
            *reinterpret_cast<u32*>(sinks.low + at) = bf16x2_of(x - taken.x, y - taken.y);
        }
    }
}
