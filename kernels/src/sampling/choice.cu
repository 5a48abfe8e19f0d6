// From logits to what a choice is made of: the likeliest token, the sums of all, and the few likeliest for the host.
//
//   choice_parts(logits, vocab, temperatures, count, best, sums, keys)
//   choice_rows(best, sums, keys, temperatures, parts, count, likeliest, totals, tokens, values)
//
//   logits        f32 [rows, vocab]
//   temperatures  f32 [rows]: 0 where the likeliest token is taken
//   count         how many of the likeliest are wanted, 0 to 256; parts · count is at most 16384
//   parts         div_up(vocab, 4096)
//   best          u64 [rows, parts]   )
//   sums          f64 [rows, parts, 2]   ) between the two kernels
//   keys          u64 [rows, parts, count]   )
//   likeliest     u32 [rows, 2]: a token, and 0; or, where the logits are no distribution, 1 and the first token whose
//                 logit is NaN or infinity; or 2: none has a probability. Of equals the lowest token, -0 being 0
//   totals        f64 [rows, 3]: the largest logit m, ln Σ exp(x), and Σ exp((x - m) / temperature) (0 at temperature 0);
//                 NaN where the logits are no distribution
//   tokens        u32 [rows, count], the likeliest first, of equals the lowest; ~0 where there are no more
//   values        f32 [rows, count]: their logits
//
// A key holds a logit, as a whole number in the same order, above the token's complement: the largest key is the
// likeliest and lowest token, and no two are alike, so whatever runs first the same are found. The `count` largest are
// found by settling the smallest of them bit by bit.
//
// Launch: choice_parts grid (parts, rows), block (256); choice_rows grid (rows), block (1024). No dynamic shared memory.
#include "prelude.cuh"

constexpr int PART = 4096;
constexpr int EACH = 16; // keys of a thread
constexpr int COUNT_MAX = 256;

// Logits in the order of unsigned numbers; what is no number, or infinite, above all.
__device__ __forceinline__ u32 order_of(float x) {
    const u32 bits = __float_as_uint(x + 0.0f);
    if (x != x || bits == 0x7f800000u) {
        return ALL_LANES;
    }
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float of_order(u32 order) {
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

__device__ __forceinline__ u64 key_of(u32 order, u32 token) {
    return static_cast<u64>(order) << 32 | ~token;
}

// Largest logit that a key can hold: above is what is no number.
__device__ __forceinline__ bool is_no_number(u64 key) {
    return key >> 32 == ALL_LANES;
}

// The order of negative infinity.
constexpr u32 NEVER = 0x007fffffu;

// How many of the block's keys are at least `least`. `sums`: two sets for whole blocks, used in turn.
__device__ __forceinline__ int count_from(const u64 (&keys)[EACH], u64 least, int* sums) {
    u32 own = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        own += keys[i] >= least;
    }
    own = warp_reduce<Sum>(own);
    if (threadIdx.x % WARP == 0) {
        sums[threadIdx.x / WARP] = own;
    }
    __syncthreads();
    int all = 0;
    for (int w = 0; w < blockDim.x / WARP; w++) {
        all += sums[w];
    }
    return all;
}

// The smallest of the `count` largest keys of the block (1 where there are no more: keys that are 0 are none).
__device__ __forceinline__ u64 least_of(const u64 (&keys)[EACH], int count, int (*sums)[WARP]) {
    u64 least = 0;
    int found = count_from(keys, 1, sums[0]);
    if (found <= count) {
        return 1;
    }
    for (int bit = 63; bit >= 0; bit--) {
        const u64 more = least | 1ull << bit;
        const int from = count_from(keys, more, sums[bit % 2]);
        if (from >= count) {
            least = more;
            found = from;
        }
        if (found == count) {
            break;
        }
    }
    return least;
}

// Writes the keys of the block that are at least `least`, in the order of threads, and zeros up to `count`.
__device__ __forceinline__ void put_keys(u64* to, const u64 (&keys)[EACH], u64 least, int count, int* sums) {
    int own = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        own += keys[i] >= least;
    }
    __syncthreads(); // others may still read sums
    // The sum over the lanes before, and over the warps before.
    int before = own;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int step = 1; step < WARP; step *= 2) {
        const int other = __shfl_up_sync(ALL_LANES, before, step);
        before += lane >= step ? other : 0;
    }
    if (lane == WARP - 1) {
        sums[warp] = before;
    }
    __syncthreads();
    int at = before - own, all = 0;
    for (int w = 0; w < blockDim.x / WARP; w++) {
        at += w < warp ? sums[w] : 0;
        all += sums[w];
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (keys[i] >= least) {
            to[at++] = keys[i];
        }
    }
    for (int i = all + threadIdx.x; i < count; i += blockDim.x) {
        to[i] = 0;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    choice_parts(const float* logits, int vocab, const float* temperatures, int count, u64* best, double* sums,
                 u64* keys) {
    __shared__ u64 largest[WARP];
    __shared__ double scratch[2][WARP];
    __shared__ int counts[2][WARP];
    const float* row = logits + static_cast<u64>(blockIdx.y) * vocab;
    const int first = blockIdx.x * PART, part = blockIdx.y * gridDim.x + blockIdx.x;
    u64 own[EACH], most = 0;
    float x[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int token = first + i * 256 + threadIdx.x;
        x[i] = token < vocab ? row[token] : -F32_INFINITY;
        own[i] = token < vocab ? key_of(order_of(x[i]), token) : 0;
        most = Largest::of(most, own[i]);
    }
    most = block_reduce<Largest>(most, largest);
    const float max = of_order(most >> 32), temperature = temperatures[blockIdx.y];
    double whole = 0.0, tempered = 0.0;
    if (!is_no_number(most) && most >> 32 != NEVER) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            whole += expf(x[i] - max);
            tempered += temperature > 0.0f ? expf((x[i] - max) / temperature) : 0.0f;
        }
    }
    whole = block_reduce<Sum>(whole, scratch[0]);
    tempered = block_reduce<Sum>(tempered, scratch[1]);
    if (threadIdx.x == 0) {
        best[part] = most;
        sums[part * 2] = whole;
        sums[part * 2 + 1] = tempered;
    }
    if (count > 0) {
        const u64 least = least_of(own, count, counts);
        put_keys(keys + static_cast<u64>(part) * count, own, least, count, counts[0]);
    }
}

// Sorts COUNT_MAX keys in shared memory, the largest first (Batcher's bitonic sort).
__device__ __forceinline__ void sort(u64* keys) {
    for (int run = 2; run <= COUNT_MAX; run *= 2) {
        for (int apart = run / 2; apart > 0; apart /= 2) {
            const int a = threadIdx.x, b = a ^ apart;
            if (a < COUNT_MAX && a < b) {
                const bool falls = (a & run) == 0;
                const u64 x = keys[a], y = keys[b];
                if (falls ? x < y : x > y) {
                    keys[a] = y;
                    keys[b] = x;
                }
            }
            __syncthreads();
        }
    }
}

// What is said of a row whose likeliest token has the key `most`.
__device__ __forceinline__ void put_totals(u64 most, double whole, double tempered, u32* likeliest, double* totals) {
    const bool is_none = most >> 32 <= NEVER, is_wrong = is_no_number(most);
    likeliest[0] = ~static_cast<u32>(most);
    likeliest[1] = is_wrong ? 1 : is_none ? 2 : 0;
    const double max = of_order(most >> 32);
    totals[0] = is_wrong ? F32_NAN : is_none ? -F32_INFINITY : max;
    totals[1] = is_wrong ? F32_NAN : is_none ? -F32_INFINITY : max + log(whole);
    totals[2] = is_wrong ? F32_NAN : tempered;
}

extern "C" __global__ void __launch_bounds__(1024)
    choice_rows(const u64* best, const double* sums, const u64* keys, const float* temperatures, int parts, int count,
                u32* likeliest, double* totals, u32* tokens, float* values) {
    __shared__ u64 largest[WARP];
    __shared__ double scratch[2][WARP];
    __shared__ int counts[2][WARP];
    __shared__ u64 kept[COUNT_MAX];
    const int row = blockIdx.x;
    const u64 first = static_cast<u64>(row) * parts;
    u64 most = 0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) {
        most = Largest::of(most, best[first + i]);
    }
    most = block_reduce<Largest>(most, largest);
    const double max = of_order(most >> 32), temperature = temperatures[row];
    double whole = 0.0, tempered = 0.0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) {
        const double below = of_order(best[first + i] >> 32) - max;
        if (sums[(first + i) * 2] > 0.0) {
            whole += sums[(first + i) * 2] * exp(below);
            tempered += temperature > 0.0 ? sums[(first + i) * 2 + 1] * exp(below / temperature) : 0.0;
        }
    }
    whole = block_reduce<Sum>(whole, scratch[0]);
    tempered = block_reduce<Sum>(tempered, scratch[1]);
    if (threadIdx.x == 0) {
        put_totals(most, whole, tempered, likeliest + row * 2, totals + row * 3);
    }
    if (count == 0) {
        return;
    }
    u64 own[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = i * 1024 + threadIdx.x;
        own[i] = at < parts * count ? keys[first * count + at] : 0;
    }
    for (int i = threadIdx.x; i < COUNT_MAX; i += blockDim.x) {
        kept[i] = 0;
    }
    const u64 least = least_of(own, count, counts);
    put_keys(kept, own, least, count, counts[0]);
    __syncthreads();
    sort(kept);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        tokens[row * count + i] = ~static_cast<u32>(kept[i]);
        values[row * count + i] = kept[i] == 0 ? -F32_INFINITY : of_order(kept[i] >> 32);
    }
}
