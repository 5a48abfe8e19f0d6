// The gate of a feed-forward layer: act(g) · u.
//
//   gated_<act>_f32(out, g, u, rows, cols, stride)
//   gated_<act>_bf16(out, low, g, u, rows, cols, stride)
//
// act: silu, gelu_tanh
//   g, u    f32 [rows, cols], rows `stride` numbers apart: two buffers, or halves of what one product gave
//   out     [rows, cols] without gaps, in f32 or rounded to bf16
//   low     bf16 [rows, cols] or null: the nearest to what rounding `out` left
//
// Launch: grid (div_up(rows · div_up(cols, 8), 256)), block (256), no dynamic shared memory.
#include "prelude.cuh"

struct Silu {
    __device__ __forceinline__ static float of(float g) {
        return g / (1.0f + expf(-g));
    }
};

struct GeluTanh {
    __device__ __forceinline__ static float of(float g) {
        // (1 + tanh z) / 2 = 1 / (1 + e^-2z)
        const float z = 0.7978846f * (g + 0.044715f * g * g * g);
        return g / (1.0f + expf(-2.0f * z));
    }
};

template <class Act, class Out>
__device__ __forceinline__ void gated(Out* out, bf16* low, const float* g, const float* u, int rows, int cols,
                                      int stride) {
    const u32 eighths = div_up(cols, 8);
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    const u32 row = i / eighths;
    if (row >= static_cast<u32>(rows)) {
        return;
    }
    const int at = i % eighths * 8;
    const u64 from = static_cast<u64>(row) * stride + at, to = static_cast<u64>(row) * cols + at;
    if (cols % 8 != 0 || !is_aligned16(g + from) || !is_aligned16(u + from)) {
        for (int c = 0; c < 8 && at + c < cols; c++) {
            const float x = Act::of(g[from + c]) * u[from + c];
            store(out + to + c, x);
            if (low) {
                store(low + to + c, left_by_bf16(x));
            }
        }
        return;
    }
    float gate[8], value[8];
    load8(gate, g + from);
    load8(value, u + from);
#pragma unroll
    for (int c = 0; c < 8; c++) {
        value[c] *= Act::of(gate[c]);
    }
    store8(out + to, value);
    if (low) {
#pragma unroll
        for (int c = 0; c < 8; c++) {
            value[c] = left_by_bf16(value[c]);
        }
        store8(low + to, value);
    }
}

#define GATED(name, Act)                                                                                              \
    extern "C" __global__ void gated_##name##_f32(float* out, const float* g, const float* u, int rows, int cols,    \
                                                  int stride) {                                                      \
        gated<Act>(out, nullptr, g, u, rows, cols, stride);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void gated_##name##_bf16(bf16* out, bf16* low, const float* g, const float* u, int rows,   \
                                                   int cols, int stride) {                                           \
        gated<Act>(out, low, g, u, rows, cols, stride);                                                               \
    }

GATED(silu, Silu)
GATED(gelu_tanh, GeluTanh)
