// What a kernel's source finds on the emulated device: CUDA's words, and the instructions that the prelude leaves to it.
//
// A thread of a block is a fiber. It runs until it has to wait for others: at a barrier, or where the lanes of a warp
// exchange what they hold. Nothing else makes them wait, so what relies on more than that fails here.
#pragma once
#define CENTO_EMULATED
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <immintrin.h>
#include <tuple>
#include <utility>

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct alignas(8) int2 { int x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulated {
constexpr int LANES = 32;
struct Slot { alignas(16) unsigned char bytes[64]; };

// The coordinates of the running thread.
extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;
extern unsigned char* shared;

int lane();
void barrier();
// Gives what every lane of the warp gave, once all have; they stay until the exchange after the next.
const Slot* exchange(const void* data, size_t bytes);
void copy_begun(void* to, const void* from, int bytes, int size);
void copies_grouped();
void copies_awaited(int pending);
[[noreturn]] void fail(const char* why);

template <class T> T from_lane(T x, int other) {
    const Slot* slots = exchange(&x, sizeof(T));
    T to;
    memcpy(&to, slots[other].bytes, sizeof(T));
    return to;
}
inline void check_lanes(unsigned mask) {
    if (mask != 0xffffffffu) fail("an exchange of some lanes only");
}

using Bound = std::function<void()>;
template <class... A, size_t... I>
Bound* bound(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    auto values = std::make_tuple(*static_cast<std::decay_t<A>*>(arguments[I])...);
    return new Bound([kernel, values] { std::apply(kernel, values); });
}
template <class... A> Bound* bind(void (*kernel)(A...), void** arguments) {
    return bound(kernel, arguments, std::index_sequence_for<A...>());
}
} // namespace emulated

#define __device__
#define __host__
#define __global__ __attribute__((noinline, cento_kernel))
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static
#define DYNAMIC_SHARED(name) unsigned char* const name = emulated::shared
#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size

inline void __syncthreads() { emulated::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulated::check_lanes(mask);
    emulated::exchange("", 1);
}
template <class T> T __shfl_xor_sync(unsigned mask, T x, int by) {
    emulated::check_lanes(mask);
    return emulated::from_lane(x, emulated::lane() ^ by);
}
template <class T> T __shfl_up_sync(unsigned mask, T x, unsigned by) {
    emulated::check_lanes(mask);
    const int from = emulated::lane() - static_cast<int>(by);
    return emulated::from_lane(x, from < 0 ? emulated::lane() : from);
}
inline int __any_sync(unsigned mask, int x) {
    emulated::check_lanes(mask);
    const emulated::Slot* slots = emulated::exchange(&x, sizeof x);
    for (int lane = 0; lane < 32; lane++) {
        int other;
        memcpy(&other, slots[lane].bytes, sizeof other);
        if (other) return 1;
    }
    return 0;
}

inline float __int_as_float(int x) { float to; memcpy(&to, &x, 4); return to; }
inline float __uint_as_float(unsigned x) { float to; memcpy(&to, &x, 4); return to; }
inline unsigned __float_as_uint(float x) { unsigned to; memcpy(&to, &x, 4); return to; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __float2int_rn(float x) { return static_cast<int>(nearbyintf(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned which) {
    const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
    unsigned to = 0;
    for (int i = 0; i < 4; i++) to |= static_cast<unsigned>(both >> (8 * (which >> (4 * i) & 7)) & 0xff) << (8 * i);
    return to;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (by & 31));
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
template <class T> T atomicAdd(T* at, T x) { const T before = *at; *at += x; return before; }
