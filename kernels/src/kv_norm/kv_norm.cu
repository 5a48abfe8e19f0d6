// How long values are: for each row, over all heads and dims, the sum of V².
//
//   kv_norm_<format>(out, at, count, pages, page_bytes, panel_bytes, scales_start, layer, kv_heads, head_dim, page_rows)
//
// format (of the pages): f32 f16 bf16 int8
//   out  f64 [count]
//   at   uint2 [count]: page and row in it
//
// Launch: grid (div_up(count, 4)), block (128), no dynamic shared memory; a warp for each row.
#include "prelude.cuh"

template <class E>
__device__ __forceinline__ double squares_of(const Pages& pages, u8* panel, int row, int lane) {
    double sum = 0.0;
    if (pages.head_dim % 8 == 0) {
        for (int d = lane * 8; d < pages.head_dim; d += WARP * 8) {
            float eight[8];
            pages.load8_of<E>(eight, panel, row, d);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                sum += static_cast<double>(eight[i]) * eight[i];
            }
        }
        return sum;
    }
    for (int d = lane; d < pages.head_dim; d += WARP) {
        const double x = pages.number<E>(panel, row, d);
        sum += x * x;
    }
    return sum;
}

template <class E>
__device__ __forceinline__ void kv_norm(double* out, const uint2* at, int count, const Pages& pages, int layer) {
    const int i = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (i >= count) {
        return;
    }
    const uint2 place = at[i];
    double sum = 0.0;
    for (int head = 0; head < pages.kv_heads; head++) {
        sum += squares_of<E>(pages, pages.panel(place.x, layer, SIDE_V, head), place.y, lane);
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) {
        out[i] = sum;
    }
}

#define KV_NORM(name, E)                                                                                              \
    extern "C" __global__ void kv_norm_##name(double* out, const uint2* at, int count, u8* pages, int page_bytes,    \
                                              int panel_bytes, int scales_start, int layer, int kv_heads,            \
                                              int head_dim, int page_rows) {                                         \
        kv_norm<E>(out, at, count, {pages, page_bytes, panel_bytes, scales_start, kv_heads, head_dim, page_rows},     \
                   layer);                                                                                            \
    }

KV_NORM(f32, float)
KV_NORM(f16, f16)
KV_NORM(bf16, bf16)
KV_NORM(int8, i8)
