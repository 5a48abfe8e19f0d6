// attention_mass_{f32,f16,bf16,int8}: the attention that each row of a span's runs gets from the span's queries, in
// whole numbers (see `attention_mass` in mod.rs). Shares are rounded to multiples of 2^-23 in the float that is 1
// larger, and added up as integers, so no order of blocks changes a sum.
//
// Launch: any grid, 128 threads, dynamic shared memory of `group * (head_dim + 2 * 128 + 2)` floats. A block takes one
// PLAIN item (a batch row) and K/V head, with all heads that share it: a thread takes every 128th row, counted from the
// run's first, so that what it adds up depends on no other row. It goes through the rows twice, first for the sums that
// divide them. Arguments: plan, q, q_stride, turns, style, mass (u64, a place for each row of the runs, which is added
// to), then kv .. softcap of ATTENTION_PARAMETERS.
#include "attention.cuh"

constexpr int THREADS = 128;

// Shared memory: queries `[group, dims]`; `[group, THREADS]` the largest scores and the sums of each thread's rows;
// `[group]` the same of all.
struct Room {
    float *queries, *max, *sum, *whole_max, *whole_by;
};

// Calls `row` with each of the thread's rows that the query at `position` sees, and the products with all queries.
template <class E, class F>
__device__ __forceinline__ void each_row(const int* plan, const Item& item, const float* q, const Pages& pages,
                                         const float2* turns, const Layer& in, int kv_head, const Room& room, F row) {
    const Row looks = row_at(plan, item, 0);
    const int group = in.heads / in.kv_heads, dims = pages.head_dim;
    for (int s = 0; s < item.segments; s++) {
        const Segment segment = segment_at(plan, item, s);
        const Run run = run_at(plan, segment.run_at);
        for (int h = 0; h < group; h++) {
            const float* from = q + static_cast<u64>(looks.row) * in.q_stride + (kv_head * group + h) * dims;
            rotate_query<E>(room.queries + h * dims, from, turns_of(turns, looks.position, run.shift, dims), dims,
                            in.interleaved, query_scale(in, 1.0f));
        }
        const int2 range = seen(run, looks.position, in.window);
        const RowsSeen rows{pages, run, range.x, range.y, in.layer, kv_head};
        for (int r = range.x / THREADS * THREADS + threadIdx.x; r < range.y; r += THREADS) {
            if (rows.sees(r)) {
                row(rows, r);
            }
        }
    }
}

template <class E>
__device__ __forceinline__ void attention_mass(const int* plan, const float* q, const Pages& pages,
                                               const float2* turns, u64* mass, const Layer& in) {
    DYNAMIC_SHARED(shared);
    __shared__ float scratch[WARP];
    const int group = in.heads / in.kv_heads, dims = pages.head_dim;
    float* room_at = reinterpret_cast<float*>(shared);
    float* max_at = room_at + group * dims;
    float* sum_at = max_at + group * THREADS;
    float* whole_at = sum_at + group * THREADS;
    const Room room{room_at, max_at + threadIdx.x, sum_at + threadIdx.x, whole_at, whole_at + group};
    const float cap_by = cap_scale(in, 1.0f);
    for (int work = blockIdx.x; work < count_of(plan, PLAIN) * in.kv_heads; work += gridDim.x) {
        const Item item = item_at(plan, PLAIN, work / in.kv_heads);
        const int kv_head = work % in.kv_heads;
        for (int h = 0; h < group; h++) {
            room.max[h * THREADS] = -F32_INFINITY;
            room.sum[h * THREADS] = 0.0f;
        }
        each_row<E>(plan, item, q, pages, turns, in, kv_head, room, [&](const RowsSeen& rows, int r) {
            for (int h = 0; h < group; h++) {
                const float score = score_of(product<E>(rows, r, room.queries + h * dims), cap_by);
                float &max = room.max[h * THREADS], &sum = room.sum[h * THREADS];
                const float now = Largest::of(max, score);
                sum = sum * weight_of(max, now) + weight_of(score, now);
                max = now;
            }
        });
        for (int h = 0; h < group; h++) {
            __syncthreads();
            const float max = block_reduce<Largest>(room.max[h * THREADS], scratch);
            __syncthreads();
            const float own = room.sum[h * THREADS] * weight_of(room.max[h * THREADS], max);
            const float sum = block_reduce<Sum>(own, scratch);
            if (threadIdx.x == 0) {
                room.whole_max[h] = max;
                room.whole_by[h] = sum > 0.0f ? 1.0f / sum : 0.0f;
            }
        }
        each_row<E>(plan, item, q, pages, turns, in, kv_head, room, [&](const RowsSeen& rows, int r) {
            u32 shares = 0;
            for (int h = 0; h < group; h++) {
                const float score = score_of(product<E>(rows, r, room.queries + h * dims), cap_by);
                const float share = weight_of(score, room.whole_max[h]) * room.whole_by[h];
                shares += __float_as_uint(1.0f + share) - __float_as_uint(1.0f);
            }
            atomicAdd(mass + rows.run.before + r, static_cast<u64>(shares));
        });
        __syncthreads();
    }
}

#define MASS_PARAMETERS                                                                                            \
    const int *plan, const float *q, int q_stride, const float2 *turns, int style, u64 *mass, u8 *kv,             \
        int page_bytes, int panel_bytes, int scales_start, int layer, int kv_heads, int head_dim, int page_rows, \
        int heads, int window, float scale, float softcap

#define MASS_ARGUMENTS                                                                                      \
    plan, q, Pages{kv, page_bytes, panel_bytes, scales_start, kv_heads, head_dim, page_rows}, turns, mass, \
        Layer {                                                                                             \
        heads, kv_heads, q_stride, layer, style == 0, window, scale, softcap                                \
    }

extern "C" __global__ void __launch_bounds__(THREADS) attention_mass_f32(MASS_PARAMETERS) {
    attention_mass<float>(MASS_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_mass_f16(MASS_PARAMETERS) {
    attention_mass<f16>(MASS_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_mass_bf16(MASS_PARAMETERS) {
    attention_mass<bf16>(MASS_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_mass_int8(MASS_PARAMETERS) {
    attention_mass<i8>(MASS_ARGUMENTS);
}
