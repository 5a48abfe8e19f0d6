// What stands beside `matvec.cu`: rows of floats that it does not take, and the sum of slices.
//
//   matvec_ragged_<f32 f16 bf16>(out, w, x, x_low, bias, add, rows, cols, tokens)
//   matvec_merge(out, parts, bias, add, rows, tokens, slices)
//
// Arguments as in `matvec.cu`, but cols is any number and pointers are aligned to their elements; parts f32 [slices,
// tokens, rows]. tokens: any number of matvec_merge, 1 to 8 of matvec_ragged_*.
//
// Launch, without dynamic shared memory: matvec_ragged_* grid (div_up(rows, 4)), block (128), a warp for each row;
// matvec_merge grid (div_up(rows · tokens, 256)), block (256).
#include "prelude.cuh"

__device__ __forceinline__ void finish(float* out, u64 at, int row, float sum, const float* bias, const float* add) {
    if (bias) {
        sum += bias[row];
    }
    out[at] = add ? sum + add[at] : sum;
}

template <class E>
__device__ __forceinline__ void ragged(float* out, const E* w, const bf16* x, const bf16* x_low, const float* bias,
                                       const float* add, int rows, int cols, int tokens) {
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) {
        return;
    }
    for (int token = 0; token < tokens; token++) {
        float sum = 0.0f;
        for (int c = lane; c < cols; c += WARP) {
            const u64 at = static_cast<u64>(token) * cols + c;
            const float activation = f32_of(x[at]) + (x_low ? f32_of(x_low[at]) : 0.0f);
            sum += f32_of(w[static_cast<u64>(row) * cols + c]) * activation;
        }
        sum = warp_reduce<Sum>(sum);
        if (lane == 0) {
            finish(out, static_cast<u64>(token) * rows + row, row, sum, bias, add);
        }
    }
}

#define MATVEC_RAGGED(name, E)                                                                                        \
    extern "C" __global__ void matvec_ragged_##name(float* out, const E* w, const bf16* x, const bf16* x_low,         \
                                                    const float* bias, const float* add, int rows, int cols,          \
                                                    int tokens) {                                                     \
        ragged(out, w, x, x_low, bias, add, rows, cols, tokens);                                                      \
    }

MATVEC_RAGGED(f32, float)
MATVEC_RAGGED(f16, f16)
MATVEC_RAGGED(bf16, bf16)

extern "C" __global__ void matvec_merge(float* out, const float* parts, const float* bias, const float* add, int rows,
                                        int tokens, int slices) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x, count = rows * tokens;
    if (i >= count) {
        return;
    }
    float sum = 0.0f;
    for (int slice = 0; slice < slices; slice++) {
        sum += parts[static_cast<u64>(slice) * count + i];
    }
    finish(out, i, i % rows, sum, bias, add);
}
