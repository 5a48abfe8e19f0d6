// Sums in place: the residual stream, and biases.
//
//   add_f32(x, y, count)               x += y, both f32 [count]
//   add_bias_f32(x, bias, rows, cols)  x += bias, x f32 [rows, cols], bias f32 [cols]
//
// All pointers aligned to 16 bytes. Launch: block (256), no dynamic shared memory; grid (div_up(count, 1024)) and
// (div_up(rows · div_up(cols, 4), 256)).
#include "prelude.cuh"

// Four elements of `count` from `at` on; where rows are no multiple of 4 long, one after another.
__device__ __forceinline__ void add4(float* x, const float* y, int at, int count, bool whole) {
    if (whole) {
        float4 a = *reinterpret_cast<float4*>(x + at);
        const float4 b = *reinterpret_cast<const float4*>(y + at);
        a.x += b.x, a.y += b.y, a.z += b.z, a.w += b.w;
        *reinterpret_cast<float4*>(x + at) = a;
        return;
    }
    for (int i = at; i < count && i < at + 4; i++) {
        x[i] += y[i];
    }
}

extern "C" __global__ void add_f32(float* x, const float* y, int count) {
    const u32 at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (at < static_cast<u32>(count)) {
        add4(x, y, at, count, at + 4 <= static_cast<u32>(count));
    }
}

extern "C" __global__ void add_bias_f32(float* x, const float* bias, int rows, int cols) {
    const u32 quads = div_up(cols, 4);
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    const u32 row = i / quads;
    if (row < static_cast<u32>(rows)) {
        add4(x + static_cast<u64>(row) * cols, bias, i % quads * 4, cols, cols % 4 == 0);
    }
}
