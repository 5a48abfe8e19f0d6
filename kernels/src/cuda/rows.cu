// Rows of activations: picked out of a batch, and rounded to what products take.
//
//   gather_rows_f32(out, x, rows, cols)     out [count, cols] = x[rows[i]], both f32; rows u32 [count]
//   round_bf16(out, low, x, count)          out bf16 [count], the nearest to x f32 [count]; low bf16 [count] or null: the
//                                           nearest to what rounding left
//
// `out` of gather_rows_f32 is not x. Launch: block (256), no dynamic shared memory; grid (count) of gather_rows_f32,
// (div_up(count, 2048)) of round_bf16.
#include "prelude.cuh"

extern "C" __global__ void gather_rows_f32(float* out, const float* x, const u32* rows, int cols) {
    const float* from = x + static_cast<u64>(rows[blockIdx.x]) * cols;
    float* to = out + static_cast<u64>(blockIdx.x) * cols;
    const int whole = cols % 4 == 0 ? cols : 0;
    for (int c = threadIdx.x * 4; c < whole; c += blockDim.x * 4) {
        store16(to + c, load16(from + c));
    }
    for (int c = whole + threadIdx.x; c < cols; c += blockDim.x) {
        to[c] = from[c];
    }
}

__device__ __forceinline__ void round_one(bf16* out, bf16* low, const float* x, u32 i) {
    store(out + i, x[i]);
    if (low) {
        store(low + i, left_by_bf16(x[i]));
    }
}

extern "C" __global__ void round_bf16(bf16* out, bf16* low, const float* x, int count) {
    const u32 at = (blockIdx.x * blockDim.x + threadIdx.x) * 8, end = count;
    if (at + 8 > end) {
        for (u32 i = at; i < end; i++) {
            round_one(out, low, x, i);
        }
        return;
    }
    float eight[8];
    load8(eight, x + at);
    store8(out + at, eight);
    if (low) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            eight[i] = left_by_bf16(eight[i]);
        }
        store8(low + at, eight);
    }
}
