// What the attention kernels have in common: the records of the host's plan, what a query sees of a run, how scores
// are scaled, and how tiles of K and V lie in shared memory.
//
// The plan is one array of 32-bit words that `attention/cuda/plan.rs` makes; places in it are offsets in words from
// its first. Scores are kept in base 2: a query is multiplied by `scale * log2(e)`, and a weight is `2^(score - max)`.
//
// Every kernel is launched on a grid of one dimension, of any length: blocks take the plan's pieces of work in turn.
#pragma once
#include "prelude.cuh"

constexpr float LOG2_E = 1.44269504f;

// The plan begins with two words for each kind of work: how many pieces there are, and where the first stands.
enum Kind { DECODE = 0, PREFILL = 1, SHARED = 2, PLAIN = 3, MERGE = 4 };

// Batch rows that look, and the pieces of runs they look at, in order: of `tiles` tiles of 16 rows.
struct Item {
    int rows_at, rows, segments_at, segments, tiles;
};

// A batch row of an item. It leaves the partial state `state`, or its whole result: -1. `run_at` is its own run where
// the rows of an item look at the same pages as different runs.
struct Row {
    int row, state, run_at, position;
};

// Rows `begin..end` of a run, whose scores are multiplied by `by`: one over their temperature.
struct Segment {
    int run_at, begin, end;
    float by;
};

// A run: row `r` stands in page `pages[r / page_rows]`, at composed position `start + r` or `positions[r]`. Of the
// rows that nobody sees each has a bit in `hidden`, in words of 16 rows, whole words a page. `before`: rows of the
// span's earlier runs.
struct Run {
    const int* pages;
    int rows, start, shift;
    const int* positions;
    const u16* hidden;
    int before;
};

// States of a batch row that are merged: `states` from `first` on, of which the first `tempered` are weighed apart:
// their log-sum-exp is multiplied by `by`.
struct Merge {
    int row, first, states, tempered;
    float by;
};

// Numbers of a layer.
struct Layer {
    int heads, kv_heads, q_stride, layer, interleaved, window;
    float scale, softcap;
};

// Where results go. Results are `[rows, heads * head_dim]`: in f32, or rounded to bf16 (and what that leaves, rounded
// again); null is not wanted. States are `[states, heads]`, their sums of values `[states, heads, head_dim]`.
struct Sinks {
    float* out;
    bf16* high;
    bf16* low;
    float* max;
    float* sum;
    float* weighted;
};

// What every kernel that looks at runs takes:
//   plan               the words above
//   q, q_stride        queries f32, not rotated: row r from r * q_stride on, there [heads, head_dim]
//   turns, style       cos and sin [positions, head_dim / 2], and which dims make a pair: 0 neighbours, 1 halves apart
//   out .. weighted    see `Sinks`
//   kv .. page_rows    see `Pages`
//   window, softcap    0: none
#define ATTENTION_PARAMETERS                                                                                        \
    const int *plan, const float *q, int q_stride, const float2 *turns, int style, float *out, bf16 *high,         \
        bf16 *low, float *max, float *sum, float *weighted, u8 *kv, int page_bytes, int panel_bytes,                \
        int scales_start, int layer, int kv_heads, int head_dim, int page_rows, int heads, int window, float scale, \
        float softcap

// The same as structs: `plan`, `q`, `pages`, `turns`, `sinks`, `in`.
#define ATTENTION_ARGUMENTS                                                                           \
    plan, q, Pages{kv, page_bytes, panel_bytes, scales_start, kv_heads, head_dim, page_rows}, turns, \
        Sinks{out, high, low, max, sum, weighted}, Layer {                                            \
        heads, kv_heads, q_stride, layer, style == 0, window, scale, softcap                          \
    }

__device__ __forceinline__ int count_of(const int* plan, Kind kind) {
    return plan[2 * kind];
}

__device__ __forceinline__ Item item_at(const int* plan, Kind kind, int index) {
    const int* at = plan + plan[2 * kind + 1] + 8 * index;
    return {at[0], at[1], at[2], at[3], at[4]};
}

__device__ __forceinline__ Merge merge_at(const int* plan, int index) {
    const int* at = plan + plan[2 * MERGE + 1] + 8 * index;
    return {at[0], at[1], at[2], at[3], __int_as_float(at[4])};
}

__device__ __forceinline__ Row row_at(const int* plan, const Item& item, int index) {
    const int* at = plan + item.rows_at + 4 * index;
    return {at[0], at[1], at[2], at[3]};
}

__device__ __forceinline__ Segment segment_at(const int* plan, const Item& item, int index) {
    const int* at = plan + item.segments_at + 4 * index;
    return {at[0], at[1], at[2], __int_as_float(at[3])};
}

__device__ __forceinline__ Run run_at(const int* plan, int place) {
    const int* at = plan + place;
    const int* positions = at[4] < 0 ? nullptr : plan + at[4];
    const u16* hidden = at[5] < 0 ? nullptr : reinterpret_cast<const u16*>(plan + at[5]);
    return {plan + at[0], at[1], at[2], at[3], positions, hidden, at[6]};
}

typedef long long i64;

// `x` moved into 0..=most.
__device__ __forceinline__ i64 clamped_to(i64 x, i64 most) {
    return x < 0 ? 0 : (x > most ? most : x);
}

// How many of `count` ascending numbers are below `limit`.
__device__ __forceinline__ int count_below(const int* numbers, int count, i64 limit) {
    int low = 0;
    while (low < count) {
        const int middle = (low + count) / 2;
        if (numbers[middle] < limit) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return low;
}

// Rows of a run that a query at `position` sees, hidden or not: from x up to y. A query at -1 sees none.
__device__ __forceinline__ int2 seen(const Run& run, int position, int window) {
    if (run.positions != nullptr) {
        const int end = count_below(run.positions, run.rows, static_cast<i64>(position) + 1);
        const i64 first = static_cast<i64>(position) - window + 1;
        const int start = window > 0 ? count_below(run.positions, run.rows, first) : 0;
        return make_int2(min(start, end), end);
    }
    const i64 own = static_cast<i64>(position) - run.start; // the row at the query's own position
    const i64 end = position < 0 ? 0 : clamped_to(own + 1, run.rows);
    const i64 start = window > 0 ? clamped_to(own + 1 - window, end) : 0;
    return make_int2(static_cast<int>(start), static_cast<int>(end));
}

// What queries are multiplied by. A cap is for scores that are not divided by a temperature.
__device__ __forceinline__ float query_scale(const Layer& in, float by) {
    return in.softcap > 0.0f ? in.scale / in.softcap : in.scale * LOG2_E * by;
}

// A score made of a product with a query so scaled: `cap_by` is `softcap * log2(e) * by`, or 0 where there is no cap.
__device__ __forceinline__ float score_of(float product, float cap_by) {
    if (cap_by == 0.0f) {
        return product;
    }
    const float e = exp2_fast(fminf(2.0f * LOG2_E * product, 80.0f));
    return cap_by * (1.0f - 2.0f / (e + 1.0f)); // the hyperbolic tangent
}

__device__ __forceinline__ float cap_scale(const Layer& in, float by) {
    return in.softcap * LOG2_E * by;
}

// `2^(score - max)`: 0 where there is no score.
__device__ __forceinline__ float weight_of(float score, float max) {
    return score == -F32_INFINITY ? 0.0f : exp2_fast(score - max);
}

// cos and sin of each pair of dims, of a query that looks at a run. A run that is placed before where it was encoded
// may be looked at from before position 0.
struct Turns {
    const float2* pairs;
    float sign;

    __device__ __forceinline__ float2 of(int pair) const {
        const float2 turn = pairs[pair];
        return make_float2(turn.x, sign * turn.y);
    }
};

__device__ __forceinline__ Turns turns_of(const float2* table, int position, int shift, int head_dim) {
    const int distance = position - shift;
    const u64 angle = distance < 0 ? -distance : distance;
    return {table + angle * (head_dim / 2), distance < 0 ? -1.0f : 1.0f};
}

// Writes one number of a result (`at` counted in results), or of a state's sum of values.
__device__ __forceinline__ void write_one(const Sinks& sinks, bool is_state, u64 at, float x) {
    if (is_state) {
        sinks.weighted[at] = x;
        return;
    }
    if (sinks.out != nullptr) {
        sinks.out[at] = x;
    }
    if (sinks.high != nullptr) {
        const bf16 rounded = bf16_of(x);
        sinks.high[at] = rounded;
        if (sinks.low != nullptr) {
            sinks.low[at] = bf16_of(x - f32_of(rounded));
        }
    }
}

// ---- One query, any format, any pages: what the plain kernels are made of

constexpr int HEAD_DIM_MAX = 512;

// What one query sees of a run, in one layer and K/V head.
struct RowsSeen {
    Pages pages;
    Run run;
    int start, end, layer, kv_head;

    __device__ __forceinline__ bool sees(int r) const {
        if (r < start || r >= end) {
            return false;
        }
        if (run.hidden == nullptr) {
            return true;
        }
        const int row = r % pages.page_rows, word = r / pages.page_rows * div_up(pages.page_rows, 16) + row / 16;
        return (run.hidden[word] >> (row % 16) & 1) == 0;
    }

    __device__ __forceinline__ u8* panel(int side, int r) const {
        return pages.panel(run.pages[r / pages.page_rows], layer, side, kv_head);
    }
};

// Number `dim` of row `r`.
template <class E>
__device__ __forceinline__ float number(const RowsSeen& rows, int side, int r, int dim) {
    u8* panel = rows.panel(side, r);
    return f32_of(rows.pages.numbers<E>(panel, r % rows.pages.page_rows)[dim]);
}

template <>
__device__ __forceinline__ float number<i8>(const RowsSeen& rows, int side, int r, int dim) {
    u8* panel = rows.panel(side, r);
    const int row = r % rows.pages.page_rows;
    const float scale = f32_of(rows.pages.scales(panel, row)[dim / GROUP_DIMS]);
    return static_cast<float>(rows.pages.numbers<i8>(panel, row)[dim]) * scale;
}

// Row `r` of K times the query.
template <class E>
__device__ __forceinline__ float product(const RowsSeen& rows, int r, const float* query) {
    const Pages& pages = rows.pages;
    u8* panel = rows.panel(SIDE_K, r);
    const E* k = pages.numbers<E>(panel, r % pages.page_rows);
    float sum = 0.0f;
    if (pages.head_dim % 8 != 0) { // rows do not begin at whole 16 bytes
        for (int dim = 0; dim < pages.head_dim; dim++) {
            sum += query[dim] * number<E>(rows, SIDE_K, r, dim);
        }
        return sum;
    }
    for (int dim = 0; dim < pages.head_dim; dim += 8) {
        float eight[8], adds = 0.0f;
        load8(eight, k + dim);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            adds += query[dim + i] * eight[i];
        }
        sum += sizeof(E) == 1 ? adds * f32_of(pages.scales(panel, r % pages.page_rows)[dim / GROUP_DIMS]) : adds;
    }
    return sum;
}

// Puts a head of a query, rotated by `turns` and multiplied by `by`, into shared memory for the whole block; where
// keys are codes, it is spread over its dims as they are (see `kv/spread.rs`).
template <class E>
__device__ __forceinline__ void rotate_query(float* to, const float* from, const Turns& turns, int dims,
                                             int interleaved, float by) {
    __syncthreads();
    for (int pair = threadIdx.x; pair < dims / 2; pair += blockDim.x) {
        const int a = interleaved ? 2 * pair : pair, b = interleaved ? a + 1 : pair + dims / 2;
        const float2 turn = turns.of(pair);
        const float x = from[a], y = from[b];
        to[a] = (x * turn.x - y * turn.y) * by;
        to[b] = (x * turn.y + y * turn.x) * by;
    }
    __syncthreads();
    const int spreads = sizeof(E) == 1 ? dims & -dims : 1; // the largest power of two that divides them
    for (int half = 1; half < spreads; half *= 2) {
        const float shrink = 0.707106781f; // each halving by the root of two: in all by that of the block's length
        for (int pair = threadIdx.x; pair < dims / 2; pair += blockDim.x) {
            const int a = pair / half * 2 * half + pair % half, b = a + half;
            const float x = to[a], y = to[b];
            to[a] = (x + y) * shrink;
            to[b] = (x - y) * shrink;
        }
        __syncthreads();
    }
}
