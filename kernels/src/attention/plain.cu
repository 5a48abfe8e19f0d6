// attention_plain_{f32,f16,bf16,int8}: attention over runs as the formula says it, right for pages of any number of
// rows, heads of any length up to 512 and every number format. The dumb twin of the fast kernels, and what serves the
// shapes they are not made for.
//
// Launch: any grid, 128 threads, no dynamic shared memory. A block takes one batch row and head of a PLAIN item: a
// thread scores one row of K of 128, then adds up one dim (or every 128th) of V. Arguments: ATTENTION_PARAMETERS.
#include "attention.cuh"

constexpr int THREADS = 128;
constexpr int DIMS_EACH = HEAD_DIM_MAX / THREADS;

// Adds what the query in `query` sees of 128 rows from `first` on. `max` is of all so far, `sum` of the thread's rows.
template <class E>
__device__ __forceinline__ void attend(const RowsSeen& rows, int first, const float* query, float cap_by, float& max,
                                       float& sum, float (&weighted)[DIMS_EACH], float* weights, float* scratch) {
    const int own = first + threadIdx.x;
    const float score = rows.sees(own) ? score_of(product<E>(rows, own, query), cap_by) : -F32_INFINITY;
    const float now = Largest::of(max, block_reduce<Largest>(score, scratch));
    const float decay = weight_of(max, now), weight = weight_of(score, now);
    max = now;
    sum = sum * decay + weight;
    weights[threadIdx.x] = weight;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < DIMS_EACH; i++) {
        const int dim = threadIdx.x + i * THREADS;
        if (dim < rows.pages.head_dim) {
            float adds = 0.0f;
            for (int r = 0; r < THREADS && first + r < rows.end; r++) {
                // Rows that nobody sees may hold anything.
                if (weights[r] > 0.0f) {
                    adds += weights[r] * number<E>(rows, SIDE_V, first + r, dim);
                }
            }
            weighted[i] = weighted[i] * decay + adds;
        }
    }
    __syncthreads();
}

template <class E>
__device__ __forceinline__ void attention_plain(const int* plan, const float* q, const Pages& pages,
                                                const float2* turns, const Sinks& sinks, const Layer& in) {
    __shared__ float query[HEAD_DIM_MAX], weights[THREADS], scratch[WARP];
    const int dims = pages.head_dim;
    for (int work = blockIdx.x; work < count_of(plan, PLAIN) * in.heads; work += gridDim.x) {
        const Item item = item_at(plan, PLAIN, work / in.heads);
        const Row row = row_at(plan, item, 0);
        const int head = work % in.heads;
        float max = -F32_INFINITY, sum = 0.0f, weighted[DIMS_EACH] = {};
        for (int s = 0; s < item.segments; s++) {
            const Segment segment = segment_at(plan, item, s);
            const Run run = run_at(plan, segment.run_at);
            const float* from = q + static_cast<u64>(row.row) * in.q_stride + head * dims;
            rotate_query<E>(query, from, turns_of(turns, row.position, run.shift, dims), dims, in.interleaved,
                            query_scale(in, segment.by));
            const int2 range = seen(run, row.position, in.window);
            // A segment may end where others of the run's rows go on: those are another item's.
            const int begin = Largest::of(range.x, segment.begin);
            const int end = range.y < segment.end ? range.y : segment.end;
            const RowsSeen rows{pages, run, begin, end, in.layer, head / (in.heads / in.kv_heads)};
            for (int first = segment.begin; first < segment.end; first += THREADS) {
                attend<E>(rows, first, query, cap_scale(in, segment.by), max, sum, weighted, weights, scratch);
            }
        }
        sum = block_reduce<Sum>(sum, scratch);
        const u64 at = static_cast<u64>(row.state < 0 ? row.row : row.state) * in.heads + head;
        const float by = row.state >= 0 ? 1.0f : sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
        for (int i = 0; i < DIMS_EACH; i++) {
            const int dim = threadIdx.x + i * THREADS;
            if (dim < dims) {
                write_one(sinks, row.state >= 0, at * dims + dim, weighted[i] * by);
            }
        }
        if (row.state >= 0 && threadIdx.x == 0) {
            sinks.max[at] = max;
            sinks.sum[at] = sum;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_plain_f32(ATTENTION_PARAMETERS) {
    attention_plain<float>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_plain_f16(ATTENTION_PARAMETERS) {
    attention_plain<f16>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_plain_bf16(ATTENTION_PARAMETERS) {
    attention_plain<bf16>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_plain_int8(ATTENTION_PARAMETERS) {
    attention_plain<i8>(ATTENTION_ARGUMENTS);
}
