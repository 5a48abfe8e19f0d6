// What kernels are made of: number formats, 16-byte accesses, reductions in a fixed order, addresses in KV pages, and
// the instructions that C++ has no words for (conversions, cp.async, ldmatrix, mma).
//
// Owns no kernel. It is all that a `.cu` file includes, and includes nothing: where the driver and NVRTC are, CUDA's
// headers may not be. A host build that defines CENTO_EMULATED gives the functions of "Instructions" itself.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// IEEE half precision and bfloat16, as bits. Types of their own, so that templates can tell them apart.
struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

// Bit patterns: f32 has no NAN or INFINITY without headers.
#define F32_INFINITY __int_as_float(0x7f800000)
#define F32_NAN __int_as_float(0x7fffffff)

constexpr int WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

// ---- Instructions

#ifndef CENTO_EMULATED

// The dynamic shared memory of a block, aligned to 16 bytes.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) u8 name[]

__device__ __forceinline__ float f32_of(f16 x) {
    float to;
    asm("cvt.f32.f16 %0, %1;" : "=f"(to) : "h"(x.bits));
    return to;
}

// To the nearest, ties to even; beyond the range infinity.
__device__ __forceinline__ f16 f16_of(float x) {
    f16 to;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
    return to;
}

// Two numbers in a word, `low` in the lower half.
__device__ __forceinline__ u32 f16x2_of(float low, float high) {
    u32 to;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(to) : "f"(high), "f"(low));
    return to;
}

__device__ __forceinline__ u32 bf16x2_of(float low, float high) {
    u32 to;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(to) : "f"(high), "f"(low));
    return to;
}

__device__ __forceinline__ float2 f32_of_f16x2(u32 x) {
    float2 to;
    asm("{.reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high;}"
        : "=f"(to.x), "=f"(to.y)
        : "r"(x));
    return to;
}

// x & mask | with, in one instruction: of two constants the compiler makes two.
__device__ __forceinline__ u32 and_or(u32 x, u32 mask, u32 with) {
    u32 to;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(to) : "r"(x), "r"(mask), "r"(with));
    return to;
}

// a - b, each half rounded once.
__device__ __forceinline__ u32 bf16x2_minus(u32 a, u32 b) {
    u32 to;
    asm("{.reg .b32 minus; mov.b32 minus, 0xbf80bf80; fma.rn.bf16x2 %0, %2, minus, %1;}" : "=r"(to) : "r"(a), "r"(b));
    return to;
}

// 2^x within 2 units in the last place; of negative infinity 0.
__device__ __forceinline__ float exp2_fast(float x) {
    float to;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(to) : "f"(x));
    return to;
}

// 16 bytes that are read once: not kept in L1.
__device__ __forceinline__ uint4 load16_once(const void* from) {
    uint4 to;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w)
                 : "l"(from));
    return to;
}

// The address of shared memory as instructions take it.
__device__ __forceinline__ u32 shared_address(const void* at) {
    return static_cast<u32>(__cvta_generic_to_shared(at));
}

// Begins to copy 16 bytes (both ends aligned to 16) to shared memory, past L1.
__device__ __forceinline__ void copy16_async(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

// The same of the first `bytes` of them (0 to 16); the others become zeros and are not read.
__device__ __forceinline__ void copy16_async(void* to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}

// Begins to copy 4 bytes (both ends aligned to 4).
__device__ __forceinline__ void copy4_async(void* to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

// Makes a group of the copies this thread began since the last one.
__device__ __forceinline__ void copies_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's groups are under way. Other threads see the copies after a barrier.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Loads 8x8 matrices of 16-bit elements. Lane 8 i + r gives the address (aligned to 16) of row r of matrix i; word i of
// a lane is then row lane / 4, columns 2 (lane % 4) and the next, of matrix i.
__device__ __forceinline__ void ldmatrix_x4(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x2(u32 (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of the transposed matrices: word i of a lane is column lane / 4, rows 2 (lane % 4) and the next.
__device__ __forceinline__ void ldmatrix_x4_transposed(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x2_transposed(u32 (&to)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row))
                 : "memory");
}

// c += a b, of a warp: a [16, 16] by rows, b [16, 8] by columns, c [16, 8] in f32. With g = lane / 4 and t = lane % 4:
//   a[0] (row g, columns 2t, 2t + 1)   a[1] (row g + 8, the same)   a[2], a[3] as these, columns 8 further
//   b[0] (rows 2t, 2t + 1, column g)   b[1] 8 rows further
//   c[0], c[1] (row g, columns 2t, 2t + 1)   c[2], c[3] (row g + 8, the same)
__device__ __forceinline__ void mma_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// ---- Numbers

__device__ __forceinline__ float f32_of(bf16 x) {
    return __uint_as_float(static_cast<u32>(x.bits) << 16);
}

__device__ __forceinline__ float f32_of(float x) {
    return x;
}

__device__ __forceinline__ float f32_of(i8 x) {
    return static_cast<float>(x);
}

// To the nearest, ties to even.
__device__ __forceinline__ bf16 bf16_of(float x) {
    return bf16{static_cast<u16>(bf16x2_of(x, 0.0f))};
}

__device__ __forceinline__ float2 f32_of_bf16x2(u32 x) {
    return make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u));
}

// What rounding to bf16 leaves.
__device__ __forceinline__ float left_by_bf16(float x) {
    return x - f32_of(bf16_of(x));
}

// NaN stays NaN.
__device__ __forceinline__ float clamped(float x, float most) {
    return x > most ? most : (x < -most ? -most : x);
}

constexpr float F16_MAX = 65504.0f;
#define BF16_MAX __int_as_float(0x7f7f0000)

// The largest number of a format.
__device__ __forceinline__ float most_of(const float*) {
    return F32_INFINITY;
}

__device__ __forceinline__ float most_of(const f16*) {
    return F16_MAX;
}

__device__ __forceinline__ float most_of(const bf16*) {
    return BF16_MAX;
}

__device__ __forceinline__ void store(float* to, float x) {
    *to = x;
}

__device__ __forceinline__ void store(f16* to, float x) {
    *to = f16_of(x);
}

__device__ __forceinline__ void store(bf16* to, float x) {
    *to = bf16_of(x);
}

__host__ __device__ constexpr int div_up(int a, int b) {
    return (a + b - 1) / b;
}

__host__ __device__ constexpr int round_up(int a, int to) {
    return div_up(a, to) * to;
}

// ---- Accesses of 8 numbers: `at` aligned to 16 bytes (i8: to 8)

__device__ __forceinline__ uint4 load16(const void* at) {
    return *static_cast<const uint4*>(at);
}

__device__ __forceinline__ void store16(void* at, uint4 x) {
    *static_cast<uint4*>(at) = x;
}

__device__ __forceinline__ void load8(float (&to)[8], const float* at) {
    const float4 a = *reinterpret_cast<const float4*>(at);
    const float4 b = *reinterpret_cast<const float4*>(at + 4);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}

__device__ __forceinline__ void widen8(float (&to)[8], uint4 x, float2 (*pair)(u32)) {
    const u32 words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 two = pair(words[i]);
        to[2 * i] = two.x;
        to[2 * i + 1] = two.y;
    }
}

__device__ __forceinline__ void load8(float (&to)[8], const f16* at) {
    widen8(to, load16(at), f32_of_f16x2);
}

__device__ __forceinline__ void load8(float (&to)[8], const bf16* at) {
    widen8(to, load16(at), f32_of_bf16x2);
}

// Codes, not yet multiplied by their scale.
__device__ __forceinline__ void load8(float (&to)[8], const i8* at) {
    const uint2 x = *reinterpret_cast<const uint2*>(at);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[i] = static_cast<float>(static_cast<i8>(x.x >> (8 * i)));
        to[4 + i] = static_cast<float>(static_cast<i8>(x.y >> (8 * i)));
    }
}

__device__ __forceinline__ void store8(float* at, const float (&x)[8]) {
    *reinterpret_cast<float4*>(at) = make_float4(x[0], x[1], x[2], x[3]);
    *reinterpret_cast<float4*>(at + 4) = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ __forceinline__ void store8(bf16* at, const float (&x)[8]) {
    store16(at, make_uint4(bf16x2_of(x[0], x[1]), bf16x2_of(x[2], x[3]), bf16x2_of(x[4], x[5]), bf16x2_of(x[6], x[7])));
}

__device__ __forceinline__ void store8(f16* at, const float (&x)[8]) {
    store16(at, make_uint4(f16x2_of(x[0], x[1]), f16x2_of(x[2], x[3]), f16x2_of(x[4], x[5]), f16x2_of(x[6], x[7])));
}

__device__ __forceinline__ bool is_aligned16(const void* at) {
    return (reinterpret_cast<u64>(at) & 15) == 0;
}

// ---- Reductions: every lane (thread) gets the same bits, whatever runs first

struct Sum {
    template <class T>
    __device__ __forceinline__ static T of(T a, T b) {
        return a + b;
    }
};

// Of numbers: a NaN is lost or stays, as it falls.
struct Largest {
    template <class T>
    __device__ __forceinline__ static T of(T a, T b) {
        return a > b ? a : b;
    }
};

// Over the WIDTH (a power of two) lanes that stand side by side.
template <class Op, int WIDTH = WARP, class T>
__device__ __forceinline__ T warp_reduce(T x) {
#pragma unroll
    for (int half = WIDTH / 2; half > 0; half /= 2) {
        x = Op::of(x, __shfl_xor_sync(ALL_LANES, x, half));
    }
    return x;
}

// Over the threads of a block: whole warps, in their order. `scratch`: 32 in shared memory, free again after the next
// barrier.
template <class Op, class T>
__device__ __forceinline__ T block_reduce(T x, T* scratch) {
    const int warps = blockDim.x / WARP;
    x = warp_reduce<Op>(x);
    if (threadIdx.x % WARP == 0) {
        scratch[threadIdx.x / WARP] = x;
    }
    __syncthreads();
    x = scratch[0];
    for (int w = 1; w < warps; w++) {
        x = Op::of(x, scratch[w]);
    }
    return x;
}

// ---- KV pages: the device's twin of the layout in `kv.rs`, and like that the only place that computes an address
//
// Page p begins at p * page_bytes; in it [layer][side][kv_head] panels of panel_bytes; a panel holds numbers [row][dim]
// and, where these are codes (i8), from scales_start on bf16 scales [row][group], a group being GROUP_DIMS dims.

constexpr int SIDE_K = 0;
constexpr int SIDE_V = 1;
constexpr int GROUP_DIMS = 32;

struct Pages {
    u8* base;
    int page_bytes;
    int panel_bytes;
    int scales_start;
    int kv_heads;
    int head_dim;
    int page_rows;

    __device__ __forceinline__ u8* panel(int page, int layer, int side, int head) const {
        const int index = (layer * 2 + side) * kv_heads + head;
        return base + static_cast<u64>(page) * page_bytes + static_cast<u64>(index) * panel_bytes;
    }

    template <class E>
    __device__ __forceinline__ E* numbers(u8* panel, int row) const {
        return reinterpret_cast<E*>(panel) + row * head_dim;
    }

    // The scales of a row: one for each group of its dims.
    __device__ __forceinline__ bf16* scales(u8* panel, int row) const {
        return reinterpret_cast<bf16*>(panel + scales_start) + row * div_up(head_dim, GROUP_DIMS);
    }

    // What codes of the group of `dim` are multiplied by; of other formats 1.
    template <class E>
    __device__ __forceinline__ float scale(u8* panel, int row, int dim) const {
        if constexpr (sizeof(E) == 1) {
            return f32_of(scales(panel, row)[dim / GROUP_DIMS]);
        }
        return 1.0f;
    }

    // One number of a row.
    template <class E>
    __device__ __forceinline__ float number(u8* panel, int row, int dim) const {
        return f32_of(numbers<E>(panel, row)[dim]) * scale<E>(panel, row, dim);
    }

    // 8 numbers of a row, from `dim` on; head_dim and dim are multiples of 8.
    template <class E>
    __device__ __forceinline__ void load8_of(float (&to)[8], u8* panel, int row, int dim) const {
        load8(to, numbers<E>(panel, row) + dim);
        if constexpr (sizeof(E) == 1) {
            const float by = scale<E>(panel, row, dim);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                to[i] *= by;
            }
        }
    }
};
