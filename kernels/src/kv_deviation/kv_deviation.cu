// How far values are from those that pages hold: for each row, over all heads and dims, the sum of (v - V)².
//
//   kv_deviation_<format>(out, v, stride, at, count, pages, page_bytes, panel_bytes, scales_start, layer, kv_heads,
//                         head_dim, page_rows)
//
// format (of the pages): f32 f16 bf16 int8
//   out  f64 [count]
//   v    f32 [count, kv_heads · head_dim], rows `stride` numbers apart
//   at   uint2 [count]: page and row in it
//
// Launch: grid (div_up(count, 4)), block (128), no dynamic shared memory; a warp for each row.
#include "prelude.cuh"

template <class E>
__device__ __forceinline__ double deviation_of(const Pages& pages, u8* panel, int row, const float* v, int lane) {
    double sum = 0.0;
    if (pages.head_dim % 8 == 0 && is_aligned16(v)) {
        for (int d = lane * 8; d < pages.head_dim; d += WARP * 8) {
            float held[8], fresh[8];
            pages.load8_of<E>(held, panel, row, d);
            load8(fresh, v + d);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const double off = fresh[i] - held[i];
                sum += off * off;
            }
        }
        return sum;
    }
    for (int d = lane; d < pages.head_dim; d += WARP) {
        const double off = __fsub_rn(v[d], pages.number<E>(panel, row, d));
        sum += off * off;
    }
    return sum;
}

template <class E>
__device__ __forceinline__ void kv_deviation(double* out, const float* v, int stride, const uint2* at, int count,
                                             const Pages& pages, int layer) {
    const int i = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (i >= count) {
        return;
    }
    const uint2 place = at[i];
    double sum = 0.0;
    for (int head = 0; head < pages.kv_heads; head++) {
        const float* fresh = v + static_cast<u64>(i) * stride + head * pages.head_dim;
        sum += deviation_of<E>(pages, pages.panel(place.x, layer, SIDE_V, head), place.y, fresh, lane);
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) {
        out[i] = sum;
    }
}

#define KV_DEVIATION(name, E)                                                                                         \
    extern "C" __global__ void kv_deviation_##name(double* out, const float* v, int stride, const uint2* at,         \
                                                   int count, u8* pages, int page_bytes, int panel_bytes,            \
                                                   int scales_start, int layer, int kv_heads, int head_dim,          \
                                                   int page_rows) {                                                  \
        kv_deviation<E>(out, v, stride, at, count,                                                                    \
                        {pages, page_bytes, panel_bytes, scales_start, kv_heads, head_dim, page_rows}, layer);        \
    }

KV_DEVIATION(f32, float)
KV_DEVIATION(f16, f16)
KV_DEVIATION(bf16, bf16)
KV_DEVIATION(int8, i8)
