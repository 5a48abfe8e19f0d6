// attention_prefill_{f16,bf16} and attention_shared_{f16,bf16}: tiles of many queries over tiles of K and V, on tensor
// cores (FlashAttention-2, Dao 2023, arXiv:2307.08691), over runs instead of one row of keys.
//
// A prefill item is rows of one span, which look at runs one after another: the queries are rotated anew wherever the
// shift changes. A shared item is rows of several spans that look at the same pages of one run, each from where it
// stands (the idea of Hydragen, Juravsky et al. 2024, arXiv:2402.05099, at any positions): each query is rotated for
// its own run, has its own limits, and leaves a state of its own.
//
// Launch: any grid, 128 threads, dynamic shared memory of `(QUERIES + 4 COLUMNS) LINE_BYTES + 8 QUERIES` for the
// kernel's QUERIES (97 KiB at most). Arguments: ATTENTION_PARAMETERS; head_dim is HEAD_DIM, page_rows a power of two
// from 16 on.
// A block takes one item, of at most QUERIES queries (rows outermost, then the heads of the K/V head), and a K/V head.
//
// Queries and weights are rounded to the pages' format before they are multiplied.
#include "attention_tiles.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
// Rows of K and V that a block multiplies at once.
constexpr int COLUMNS = HEAD_DIM <= 128 ? 64 : 32;
// Sixteens of queries that a warp of the prefill kernel has, and one of the kernel for shared rows.
constexpr int PREFILL_SETS = HEAD_DIM <= 128 ? 2 : 1;
constexpr int SHARED_SETS = 1;
constexpr int SET_QUERIES = 16 * WARPS;
constexpr int SLOT_BYTES = 2 * COLUMNS * LINE_BYTES;
// Behind the slots: the rows that each query sees of the run at hand.
constexpr int SIGHT_BYTES = sizeof(int2);
static_assert(PREFILL_SETS * SET_QUERIES * (LINE_BYTES + SIGHT_BYTES) + 2 * SLOT_BYTES <= 97 * 1024,
              "what every device has");

// The queries of a block.
struct Queries {
    const int* plan;
    Item item;
    int group, kv_head;

    __device__ __forceinline__ bool has(int m) const {
        return m < item.rows * group;
    }
    __device__ __forceinline__ Row row(int m) const {
        return row_at(plan, item, m / group);
    }
    __device__ __forceinline__ int head(int m) const {
        return kv_head * group + m % group;
    }
};

// Query number `m` of a block: set `set`, lane's own row, or 8 further.
__device__ __forceinline__ int query_of(int set, int half) {
    return set * SET_QUERIES + threadIdx.x / WARP * 16 + half * 8 + threadIdx.x % WARP / 4;
}

// Puts the warp's own queries into shared memory, rotated for the segment's run or each for its own.
template <class E, int SETS, bool IS_SHARED>
__device__ __forceinline__ void rotate_queries(const Queries& queries, const float* q, const float2* turns,
                                               const Layer& in, const Segment& segment, u8* to) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const float by = query_scale(in, segment.by);
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < SETS * 16 * UNITS / 2; i += WARP) {
        const int own = i / (UNITS / 2), unit = i % (UNITS / 2);
        const int m = own / 16 * SET_QUERIES + warp * 16 + own % 16;
        u32 low[4] = {}, high[4] = {};
        if (queries.has(m)) {
            const Row row = queries.row(m);
            const Run run = run_at(queries.plan, IS_SHARED ? row.run_at : segment.run_at);
            const float* from = q + static_cast<u64>(row.row) * in.q_stride + queries.head(m) * HEAD_DIM;
            const Turns angles = turns_of(turns, row.position, run.shift, HEAD_DIM);
#pragma unroll
            for (int two = 0; two < 4; two++) {
                const Turned x = turned(from, angles, 8 * unit + 2 * two, in.interleaved, by);
                low[two] = E::pack(x.low.x, x.low.y);
                high[two] = E::pack(x.high.x, x.high.y);
            }
        }
        store16(unit_at(to, m, unit), make_uint4(low[0], low[1], low[2], low[3]));
        store16(unit_at(to, m, unit + UNITS / 2), make_uint4(high[0], high[1], high[2], high[3]));
    }
    __syncwarp();
}

// Begins to copy COLUMNS rows from `walk` on: those behind the segment become zeros, for they may hold anything.
__device__ __forceinline__ void copy_rows(const Pages& pages, const int* plan, const Walk& walk, int layer, int kv_head,
                                          u8* slot) {
    const int* table = plan + plan[walk.segment.run_at];
    const int shift = __popc(pages.page_rows - 1);
    const int left = walk.segment.end - walk.row;
#pragma unroll
    for (int i = 0; i < COLUMNS * UNITS / THREADS; i++) {
        const int at = i * THREADS + threadIdx.x, r = at / UNITS, unit = at % UNITS;
        const int row = walk.row + (r < left ? r : 0), bytes = r < left ? 16 : 0;
        const int place = ((row & (pages.page_rows - 1)) * UNITS + unit) * 16;
        u8* k = pages.panel(table[row >> shift], layer, SIDE_K, kv_head) + place;
        copy16_async(unit_at(slot, r, unit), k, bytes);
        copy16_async(unit_at(slot + COLUMNS * LINE_BYTES, r, unit), k + pages.kv_heads * pages.panel_bytes, bytes);
    }
}

// What a warp knows of its queries and the run at hand: of all rows that they see the first and the end, and the rows
// that every one of them sees.
struct Sights {
    int2 any, all;
};

// The same; what each query sees is left in `each`.
template <int SETS, bool IS_SHARED>
__device__ __forceinline__ Sights look(const Queries& queries, const Segment& segment, int window, int2* each) {
    int2 any = make_int2(0x7fffffff, 0), all = make_int2(0, 0x7fffffff);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 2 * SETS; i++) {
        const int m = query_of(i / 2, i % 2);
        int2 rows = make_int2(0, 0);
        if (queries.has(m)) {
            const Row row = queries.row(m);
            rows = seen(run_at(queries.plan, IS_SHARED ? row.run_at : segment.run_at), row.position, window);
        }
        if (threadIdx.x % 4 == 0) {
            each[m] = rows;
        }
        if (rows.x < rows.y) {
            any = make_int2(min(any.x, rows.x), max(any.y, rows.y));
        }
        all = make_int2(max(all.x, rows.x), min(all.y, rows.y));
    }
    __syncwarp();
    any = make_int2(-warp_reduce<Largest>(-any.x), warp_reduce<Largest>(any.y));
    all = make_int2(warp_reduce<Largest>(all.x), -warp_reduce<Largest>(-all.y));
    return {any, all};
}

// The state of a lane: of its queries the largest scores, the sums over the lane's columns, and of each unit of dims
// the lane's two.
template <int SETS>
struct State {
    float max[SETS][2], sum[SETS][2], weighted[SETS][UNITS][4];
};

template <int SETS>
using Scores = float[SETS][COLUMNS / 8][4];

template <class E, int SETS>
__device__ __forceinline__ void score_rows(u8* queries, u8* k, Scores<SETS>& scores) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int step = 0; step < UNITS / 2; step++) {
        u32 a[SETS][4];
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            ldmatrix_x4(a[set], unit_at(queries, set * SET_QUERIES + warp * 16 + lane % 16, 2 * step + lane / 16));
        }
#pragma unroll
        for (int pair = 0; pair < COLUMNS / 16; pair++) {
            u32 b[4];
            ldmatrix_x4(b, unit_at(k, pair * 16 + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                E::multiply(scores[set][2 * pair], a[set], b[0], b[1]);
                E::multiply(scores[set][2 * pair + 1], a[set], b[2], b[3]);
            }
        }
    }
}

// Scores of rows that a query does not see become none. `hides`: a bit for each row that nobody sees.
template <int SETS>
__device__ __forceinline__ void hide_rows(const int2* each, int first, u64 hides, Scores<SETS>& scores) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2 * SETS; i++) {
        const int2 rows = each[query_of(i / 2, i % 2)];
        const int start = rows.x - first - 2 * t, end = rows.y - first - 2 * t;
#pragma unroll
        for (int c = 0; c < COLUMNS / 8; c++) {
            const u32 pair = static_cast<u32>(hides >> (8 * c + 2 * t));
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int r = 8 * c + e;
                if (r < start || r >= end || (pair >> e & 1) != 0) {
                    scores[i / 2][c][i % 2 * 2 + e] = -F32_INFINITY;
                }
            }
        }
    }
}

// Turns scores into weights, and moves the state to its new largest scores.
template <int SETS>
__device__ __forceinline__ void weigh(State<SETS>& state, Scores<SETS>& scores) {
#pragma unroll
    for (int set = 0; set < SETS; set++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float now = state.max[set][half];
#pragma unroll
            for (int c = 0; c < COLUMNS / 8; c++) {
                now = Largest::of(now, Largest::of(scores[set][c][2 * half], scores[set][c][2 * half + 1]));
            }
            now = warp_reduce<Largest, 4>(now);
            const float decay = weight_of(state.max[set][half], now);
            const float from = now == -F32_INFINITY ? 0.0f : now;
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < COLUMNS / 8; c++) {
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    scores[set][c][e] = exp2_fast(scores[set][c][e] - from);
                    sum += scores[set][c][e];
                }
            }
            state.max[set][half] = now;
            state.sum[set][half] = state.sum[set][half] * decay + sum;
#pragma unroll
            for (int unit = 0; unit < UNITS; unit++) {
                state.weighted[set][unit][2 * half] *= decay;
                state.weighted[set][unit][2 * half + 1] *= decay;
            }
        }
    }
}

template <class E, int SETS>
__device__ __forceinline__ void add_values(State<SETS>& state, u8* v, const Scores<SETS>& weights) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int step = 0; step < COLUMNS / 16; step++) {
        u32 a[SETS][4];
#pragma unroll
        for (int set = 0; set < SETS; set++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float* two = &weights[set][2 * step + i / 2][i % 2 * 2];
                a[set][i] = E::pack(two[0], two[1]);
            }
        }
#pragma unroll
        for (int pair = 0; pair < UNITS / 2; pair++) {
            u32 b[4];
            ldmatrix_x4_transposed(b, unit_at(v, step * 16 + lane % 16, 2 * pair + lane / 16));
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                E::multiply(state.weighted[set][2 * pair], a[set], b[0], b[1]);
                E::multiply(state.weighted[set][2 * pair + 1], a[set], b[2], b[3]);
            }
        }
    }
}

// Adds the COLUMNS rows from `first` on, which lie in `slot`.
template <class E, int SETS>
__device__ __forceinline__ void attend(State<SETS>& state, const Sights& sights, const int2* each, u8* queries,
                                       u8* slot, int first, u64 hides, float cap_by) {
    Scores<SETS> scores = {};
    score_rows<E, SETS>(queries, slot, scores);
    if (cap_by != 0.0f) {
#pragma unroll
        for (int i = 0; i < SETS * COLUMNS / 8 * 4; i++) {
            float& score = scores[i / (COLUMNS / 2)][i / 4 % (COLUMNS / 8)][i % 4];
            score = score_of(score, cap_by);
        }
    }
    if (first < sights.all.x || first + COLUMNS > sights.all.y || hides != 0) {
        hide_rows<SETS>(each, first, hides, scores);
    }
    weigh<SETS>(state, scores);
    add_values<E, SETS>(state, slot + COLUMNS * LINE_BYTES, scores);
}

// A bit for each of the COLUMNS rows from `walk` on that nobody sees.
__device__ __forceinline__ u64 hidden_rows(const u16* hidden, const Walk& walk) {
    u64 hides = 0;
    if (hidden != nullptr) {
        for (int i = 0; i < COLUMNS / 16 && walk.row + 16 * i < walk.segment.end; i++) {
            hides |= static_cast<u64>(hidden[walk.row / 16 + i]) << (16 * i);
        }
    }
    return hides;
}

// Writes the results of the lane's queries, or their states.
template <int SETS>
__device__ __forceinline__ void write_state(const State<SETS>& state, const Queries& queries, const Sinks& sinks,
                                            int heads) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2 * SETS; i++) {
        const int m = query_of(i / 2, i % 2);
        const float sum = warp_reduce<Sum, 4>(state.sum[i / 2][i % 2]);
        if (!queries.has(m)) {
            continue;
        }
        const Row row = queries.row(m);
        const bool is_state = row.state >= 0;
        const u64 at = static_cast<u64>(is_state ? row.state : row.row) * heads + queries.head(m);
        const float by = is_state ? 1.0f : sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
        for (int unit = 0; unit < UNITS; unit++) {
            const float* two = &state.weighted[i / 2][unit][i % 2 * 2];
            write_two(sinks, is_state, at * HEAD_DIM + 8 * unit + 2 * t, two[0] * by, two[1] * by);
        }
        if (is_state && t == 0) {
            sinks.max[at] = state.max[i / 2][i % 2];
            sinks.sum[at] = sum;
        }
    }
}

template <class E, int SETS, bool IS_SHARED>
__device__ __forceinline__ void attention_tiles(const int* plan, const float* q, const Pages& pages,
                                                const float2* turns, const Sinks& sinks, const Layer& in) {
    DYNAMIC_SHARED(shared);
    u8* slots = shared + SETS * SET_QUERIES * LINE_BYTES;
    int2* each = reinterpret_cast<int2*>(slots + 2 * SLOT_BYTES);
    constexpr Kind KIND = IS_SHARED ? SHARED : PREFILL;
    for (int work = blockIdx.x; work < count_of(plan, KIND) * in.kv_heads; work += gridDim.x) {
        const Item item = item_at(plan, KIND, work / in.kv_heads);
        const int kv_head = work % in.kv_heads;
        const Queries queries{plan, item, in.heads / in.kv_heads, kv_head};
        State<SETS> state = {};
        for (int i = 0; i < 2 * SETS; i++) {
            state.max[i / 2][i % 2] = -F32_INFINITY;
        }
        Sights sights = {};
        Walk now;
        now.begin(plan, item);
        Walk ahead = now;
        // The tile at hand is waited for before the next one is begun: of two slots, one fills while the other is read.
        if (item.segments > 0) {
            copy_rows(pages, plan, ahead, in.layer, kv_head, slots);
        }
        copies_commit();
        int segment = -1, shift = 0;
        float by = 0.0f;
        const u16* hidden = nullptr;
        for (int i = 0; item.segments > 0; i++) {
            copies_wait<0>();
            __syncthreads();
            const bool is_last = ahead.row + COLUMNS >= ahead.segment.end && ahead.index + 1 == item.segments;
            if (!is_last) {
                ahead.step(plan, item, COLUMNS);
                copy_rows(pages, plan, ahead, in.layer, kv_head, slots + (i + 1) % 2 * SLOT_BYTES);
            }
            copies_commit();
            if (now.index != segment) {
                const Run run = run_at(plan, now.segment.run_at);
                if (segment < 0 || run.shift != shift || now.segment.by != by) {
                    by = now.segment.by;
                    shift = run.shift;
                    rotate_queries<E, SETS, IS_SHARED>(queries, q, turns, in, now.segment, shared);
                }
                segment = now.index;
                hidden = run.hidden;
                sights = look<SETS, IS_SHARED>(queries, now.segment, in.window, each);
            }
            if (now.row < sights.any.y && now.row + COLUMNS > sights.any.x) {
                attend<E, SETS>(state, sights, each, shared, slots + i % 2 * SLOT_BYTES, now.row,
                                hidden_rows(hidden, now), cap_scale(in, by));
            }
            if (is_last) {
                break;
            }
            now = ahead;
        }
        write_state<SETS>(state, queries, sinks, in.heads);
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(attention_prefill_f16)(ATTENTION_PARAMETERS) {
    attention_tiles<Halves, PREFILL_SETS, false>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(attention_prefill_bf16)(ATTENTION_PARAMETERS) {
    attention_tiles<Brains, PREFILL_SETS, false>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(attention_shared_f16)(ATTENTION_PARAMETERS) {
    attention_tiles<Halves, SHARED_SETS, true>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(attention_shared_bf16)(ATTENTION_PARAMETERS) {
    attention_tiles<Brains, SHARED_SETS, true>(ATTENTION_ARGUMENTS);
}
