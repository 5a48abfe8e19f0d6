// attention_merge: the states of batch rows that were attended in parts, merged in the order of their keys. Those of
// tempered runs come first; together they weigh what the scale `S` and the temperature `T` give them: their
// log-sum-exp `l` becomes `S T l`.
//
// Launch: any grid, 256 threads, no dynamic shared memory. A block takes one row and head of a MERGE item: its warps
// each add up every eighth state, lanes a dim of 32. Arguments: plan, out, high, low, max, sum, weighted (see `Sinks`),
// heads, head_dim.
#include "attention.cuh"

constexpr int THREADS = 256;
constexpr int SLICES = THREADS / WARP;
constexpr int DIMS_EACH = 4;

// The largest score and the sum of weights of `count` states, `heads` apart.
__device__ __forceinline__ float2 sum_of(const Sinks& sinks, u64 first, int heads, int count, float* scratch) {
    float max = -F32_INFINITY, sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        max = Largest::of(max, sinks.max[first + static_cast<u64>(i) * heads]);
    }
    max = block_reduce<Largest>(max, scratch);
    for (int i = threadIdx.x; i < count; i += THREADS) {
        const u64 at = first + static_cast<u64>(i) * heads;
        sum += sinks.sum[at] * weight_of(sinks.max[at], max);
    }
    __syncthreads();
    sum = block_reduce<Sum>(sum, scratch);
    __syncthreads();
    return make_float2(max, sum);
}

// What a state's sum of values is multiplied by: states of an earlier part by `early`, others as they come.
struct Weights {
    float2 early, all;
    float moved;
    int tempered;

    __device__ __forceinline__ float of(int i, float max) const {
        if (i < tempered) {
            return early.y > 0.0f ? weight_of(max, early.x) / early.y * weight_of(moved, all.x) : 0.0f;
        }
        return weight_of(max, all.x);
    }
};

__device__ __forceinline__ Weights weights_of(const Sinks& sinks, const Merge& merge, u64 first, int heads,
                                              float* scratch) {
    const float2 early = sum_of(sinks, first, heads, merge.tempered, scratch);
    const u64 others = first + static_cast<u64>(merge.tempered) * heads;
    const float2 late = sum_of(sinks, others, heads, merge.states - merge.tempered, scratch);
    const float moved = early.y > 0.0f ? merge.by * (early.x + log2f(early.y)) : -F32_INFINITY;
    const float max = Largest::of(moved, late.x);
    const float sum = weight_of(moved, max) + late.y * weight_of(late.x, max);
    return {early, make_float2(max, sum), moved, merge.tempered};
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_merge(const int* plan, float* out, bf16* high, bf16* low, float* max, float* sum, float* weighted,
                    int heads, int head_dim) {
    __shared__ float scratch[WARP], slices[SLICES][DIMS_EACH][WARP];
    const Sinks sinks{out, high, low, max, sum, weighted};
    const int lane = threadIdx.x % WARP, slice = threadIdx.x / WARP;
    for (int work = blockIdx.x; work < count_of(plan, MERGE) * heads; work += gridDim.x) {
        const Merge merge = merge_at(plan, work / heads);
        const int head = work % heads;
        const u64 first = static_cast<u64>(merge.first) * heads + head;
        const Weights weights = weights_of(sinks, merge, first, heads, scratch);
        const float by = weights.all.y > 0.0f ? 1.0f / weights.all.y : 0.0f;
        for (int from = 0; from < head_dim; from += DIMS_EACH * WARP) {
            float adds[DIMS_EACH] = {};
#pragma unroll 4
            for (int i = slice; i < merge.states; i += SLICES) {
                const u64 at = first + static_cast<u64>(i) * heads;
                const float weight = weights.of(i, sinks.max[at]);
#pragma unroll
                for (int d = 0; d < DIMS_EACH; d++) {
                    const int dim = from + d * WARP + lane;
                    if (dim < head_dim) {
                        adds[d] += weight * sinks.weighted[at * head_dim + dim];
                    }
                }
            }
#pragma unroll
            for (int d = 0; d < DIMS_EACH; d++) {
                slices[slice][d][lane] = adds[d];
            }
            __syncthreads();
            const int d = slice, dim = from + d * WARP + lane;
            if (d < DIMS_EACH && dim < head_dim) {
                float x = 0.0f;
                for (int s = 0; s < SLICES; s++) {
                    x += slices[s][d][lane];
                }
                write_one(sinks, false, (static_cast<u64>(merge.row) * heads + head) * head_dim + dim, x * by);
            }
            __syncthreads();
        }
    }
}
