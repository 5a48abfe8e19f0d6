// What happens to heads between their product and attention: norms of queries and keys, and keys and values into pages.
//
//   kv_append_<format>(q, k, v, q_stride, k_stride, v_stride, q_norm, k_norm, eps, angles, style, positions, writes,
//                      rows, heads, pages, page_bytes, panel_bytes, scales_start, layer, kv_heads, head_dim, page_rows)
//   head_norm_f32(x, stride, weight, eps, rows, heads, head_dim)
//
// format (of the pages): f32 f16 bf16 int8
//   q, k, v      f32 [rows, heads · head_dim] and twice [rows, kv_heads · head_dim], rows *_stride numbers apart
//   q_norm       f32 [head_dim]: q is normed in place, head by head. Where there is no such norm, heads is 0
//   k_norm       f32 [head_dim] or null: keys are normed before they are rotated (k itself stays)
//   angles       float2 [positions, head_dim / 2]: cos and sin of every pair
//   style        0: pairs are (2i, 2i + 1); 1: (i, i + head_dim / 2)
//   positions    u32 [rows]: where each key is rotated to
//   writes       uint2 [rows]: page and row in it
//   x            f32 [rows, heads · head_dim], rows `stride` apart, normed in place
//   head_dim     at most 512, and even
//
// Pages of int8 get keys multiplied by the Hadamard matrix of `kv/spread.rs`. No product is fused with a sum, so keys
// without a norm are those of the CPU to the bit.
//
// Launch: block (128), no dynamic shared memory; a warp for each head of a row: grid (div_up(rows · (heads + 2 kv_heads),
// 4)), of head_norm_f32 (div_up(rows · heads, 4)).
#include "prelude.cuh"

constexpr int WARPS = 4;
constexpr int HEAD_DIM_MAX = 512;

// One head of one row, in shared memory, held by a warp.
struct Head {
    float* of;
    int dims;
    int lane;

    __device__ __forceinline__ void load(const float* from) {
        if (dims % 4 == 0 && is_aligned16(from)) {
#pragma unroll 1
            for (int d = lane * 4; d < dims; d += WARP * 4) {
                *reinterpret_cast<float4*>(of + d) = *reinterpret_cast<const float4*>(from + d);
            }
        } else {
#pragma unroll 1
            for (int d = lane; d < dims; d += WARP) {
                of[d] = from[d];
            }
        }
        __syncwarp();
    }

    __device__ __forceinline__ void norm(const float* weight, float eps) {
        float squares = 0.0f;
#pragma unroll 1
        for (int d = lane; d < dims; d += WARP) {
            squares += of[d] * of[d];
        }
        const float scale = 1.0f / sqrtf(warp_reduce<Sum>(squares) / dims + eps);
#pragma unroll 1
        for (int d = lane; d < dims; d += WARP) {
            of[d] = of[d] * scale * weight[d];
        }
        __syncwarp();
    }

    __device__ __forceinline__ void rotate(const float2* angles, int style) {
        const int pairs = dims / 2;
#pragma unroll 1
        for (int i = lane; i < pairs; i += WARP) {
            const int a = style ? i : 2 * i;
            const int b = style ? i + pairs : 2 * i + 1;
            const float2 turn = angles[i];
            const float x = of[a], y = of[b];
            of[a] = __fsub_rn(__fmul_rn(x, turn.x), __fmul_rn(y, turn.y));
            of[b] = __fadd_rn(__fmul_rn(x, turn.y), __fmul_rn(y, turn.x));
        }
        __syncwarp();
    }

    // By blocks of the largest power of two that divides the dims.
    __device__ __forceinline__ void spread() {
        const int block = dims & -dims;
#pragma unroll 1
        for (int half = 1; half < block; half *= 2) {
#pragma unroll 1
            for (int i = lane; i < dims / 2; i += WARP) {
                const int at = i / half * 2 * half + i % half;
                const float a = of[at], b = of[at + half];
                of[at] = a + b;
                of[at + half] = a - b;
            }
            __syncwarp();
        }
        const float by = 1.0f / sqrtf(static_cast<float>(block));
#pragma unroll 1
        for (int d = lane; d < dims; d += WARP) {
            of[d] *= by;
        }
        __syncwarp();
    }

    __device__ __forceinline__ void put(float* to) const {
#pragma unroll 1
        for (int d = lane; d < dims; d += WARP) {
            to[d] = of[d];
        }
    }

    // Beyond the range of the format the largest.
    template <class E>
    __device__ __forceinline__ void write(E* to) const {
        const float most = most_of(to);
        if (dims % 8 != 0) {
#pragma unroll 1
            for (int d = lane; d < dims; d += WARP) {
                store(to + d, clamped(of[d], most));
            }
            return;
        }
#pragma unroll 1
        for (int d = lane * 8; d < dims; d += WARP * 8) {
            float eight[8];
            load8(eight, of + d);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                eight[i] = clamped(eight[i], most);
            }
            store8(to + d, eight);
        }
    }

    // Codes, and the smallest scales that bring every group into 127 of them.
    __device__ __forceinline__ void write(i8* to, bf16* scales) const {
#pragma unroll 1
        for (int group = 0; group < dims; group += GROUP_DIMS) {
            const int d = group + lane;
            const float x = d < dims ? of[d] : 0.0f;
            const bool nan = __any_sync(ALL_LANES, x != x);
            const float size = fabsf(x) < F16_MAX ? fabsf(x) : F16_MAX;
            const float magnitude = warp_reduce<Largest>(size);
            const u32 up = (__float_as_uint(__fdiv_rn(magnitude, 127.0f)) + 0xffffu) >> 16;
            const bf16 scale = {static_cast<u16>(nan ? 0x7fc0u : up)};
            const float by = f32_of(scale);
            const float code = by > 0.0f ? __fdiv_rn(clamped(x, F16_MAX), by) : 0.0f;
            if (d < dims) {
                to[d] = static_cast<i8>(__float2int_rn(code));
            }
            if (lane == 0) {
                scales[group / GROUP_DIMS] = scale;
            }
        }
    }
};

template <class E>
__device__ __forceinline__ void write(const Pages& pages, const Head& head, u8* panel, int row) {
    if constexpr (sizeof(E) == 1) {
        head.write(pages.numbers<i8>(panel, row), pages.scales(panel, row));
    } else {
        head.write(pages.numbers<E>(panel, row));
    }
}

// Heads that lie side by side in rows.
struct Heads {
    float* of;
    int stride;
    const float* norm;

    __device__ __forceinline__ float* at(int row, int head, int dims) const {
        return of + static_cast<u64>(row) * stride + head * dims;
    }
};

// The arguments of a launch.
struct Batch {
    Heads q, k, v;
    float eps;
    const float2* angles;
    int style;
    const u32* positions;
    const uint2* writes;
    int rows, heads, layer;
};

template <class E>
__device__ __forceinline__ void kv_append(const Batch& batch, const Pages& pages) {
    __shared__ __align__(16) float held[WARPS][HEAD_DIM_MAX];
    const int warp = threadIdx.x / WARP, each = batch.heads + 2 * pages.kv_heads, dims = pages.head_dim;
    const int row = (blockIdx.x * WARPS + warp) / each, part = (blockIdx.x * WARPS + warp) % each;
    if (row >= batch.rows) {
        return;
    }
    Head head = {held[warp], dims, static_cast<int>(threadIdx.x % WARP)};
    if (part < batch.heads) {
        float* from = batch.q.at(row, part, dims);
        head.load(from);
        head.norm(batch.q.norm, batch.eps);
        return head.put(from);
    }
    const int side = (part - batch.heads) / pages.kv_heads, index = (part - batch.heads) % pages.kv_heads;
    const uint2 to = batch.writes[row];
    u8* panel = pages.panel(to.x, batch.layer, side, index);
    if (side == SIDE_V) {
        head.load(batch.v.at(row, index, dims));
        return write<E>(pages, head, panel, to.y);
    }
    head.load(batch.k.at(row, index, dims));
    if (batch.k.norm) {
        head.norm(batch.k.norm, batch.eps);
    }
    head.rotate(batch.angles + static_cast<u64>(batch.positions[row]) * (dims / 2), batch.style);
    if (sizeof(E) == 1) {
        head.spread();
    }
    write<E>(pages, head, panel, to.y);
}

#define KV_APPEND(name, E)                                                                                            \
    extern "C" __global__ void kv_append_##name(                                                                      \
        float* q, float* k, float* v, int q_stride, int k_stride, int v_stride, const float* q_norm,                  \
        const float* k_norm, float eps, const float2* angles, int style, const u32* positions, const uint2* writes,   \
        int rows, int heads, u8* pages, int page_bytes, int panel_bytes, int scales_start, int layer, int kv_heads,   \
        int head_dim, int page_rows) {                                                                                \
        const Batch batch = {{q, q_stride, q_norm}, {k, k_stride, k_norm}, {v, v_stride, nullptr},                    \
                             eps, angles, style, positions, writes, rows, heads, layer};                              \
        kv_append<E>(batch, {pages, page_bytes, panel_bytes, scales_start, kv_heads, head_dim, page_rows});           \
    }

KV_APPEND(f32, float)
KV_APPEND(f16, f16)
KV_APPEND(bf16, bf16)
KV_APPEND(int8, i8)

extern "C" __global__ void head_norm_f32(float* x, int stride, const float* weight, float eps, int rows, int heads,
                                         int head_dim) {
    __shared__ __align__(16) float held[WARPS][HEAD_DIM_MAX];
    const int warp = threadIdx.x / WARP;
    const int row = (blockIdx.x * WARPS + warp) / heads, index = (blockIdx.x * WARPS + warp) % heads;
    if (row >= rows) {
        return;
    }
    Head head = {held[warp], head_dim, static_cast<int>(threadIdx.x % WARP)};
    float* from = Heads{x, stride, weight}.at(row, index, head_dim);
    head.load(from);
    head.norm(weight, eps);
    head.put(from);
}
