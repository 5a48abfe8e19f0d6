// attention_decode_{f16,bf16}: few queries over many rows, split over the rows. Bound by the bytes of K and V, so each
// is read once for all heads that share it, and all else is hidden behind.
//
// Launch: any grid, 32 * WARPS threads, WARPS * SLOTS * SLOT_BYTES of dynamic shared memory (96 KiB at most).
// Arguments: ATTENTION_PARAMETERS; head_dim is HEAD_DIM, page_rows a multiple of 16.
// A block takes one DECODE item, K/V head and 8 of the queries: `rows * group` are at most 8, or rows are 1.
//
// Each warp goes through a stretch of the item's tiles on its own, 16 rows at a time, copies of later tiles under way.
// Products have the rows of K (or the dims of V) outermost and the 8 queries innermost, so that no part of a product is
// wasted on queries that are not there. Queries and weights are each the sum of two 16-bit numbers, a rounded one and
// what that leaves: what is lost to 16 bits is 2^-16 of a bf16 product. In the end warps' states are merged in order.
#include "attention_tiles.cuh"

constexpr int WARPS = HEAD_DIM <= 128 ? 4 : 2;
constexpr int SLOTS = HEAD_DIM <= 64 ? 4 : 3;
constexpr int SLOT_BYTES = 2 * TILE * LINE_BYTES;
constexpr int QUERIES = 8;
// A state in shared memory: the dims of a query, and some floats more that set queries apart.
constexpr int STATE_LINE = HEAD_DIM + 4;
static_assert(WARPS * SLOTS * SLOT_BYTES <= 96 * 1024, "what every device has");
static_assert((QUERIES * STATE_LINE + 2 * QUERIES) * 4 <= SLOTS * SLOT_BYTES, "states where tiles were");

// The queries of a block: `count` of them from `first` on, rows outermost, then the heads of the K/V head.
struct Queries {
    const int* plan;
    Item item;
    int first, group, kv_head;

    __device__ __forceinline__ bool has(int n) const {
        return first + n < item.rows * group;
    }
    __device__ __forceinline__ Row row(int n) const {
        return row_at(plan, item, (first + n) / group);
    }
    __device__ __forceinline__ int head(int n) const {
        return kv_head * group + (first + n) % group;
    }
    __device__ __forceinline__ int position(int n) const {
        return has(n) ? row(n).position : -1;
    }
};

// What one lane holds of the 8 queries: of query lane / 4, dims 2 (lane % 4) and the next of each unit. As products
// take it, in two parts.
struct Rotated {
    u32 whole[UNITS], rest[UNITS];

    template <class E>
    __device__ __forceinline__ void set(int unit, float2 x) {
        whole[unit] = E::pack(x.x, x.y);
        const float2 taken = E::unpack(whole[unit]);
        rest[unit] = E::pack(x.x - taken.x, x.y - taken.y);
    }

    template <class E>
    __device__ __forceinline__ void rotate(const Queries& queries, const float* q, const float2* turns,
                                           const Layer& in, int shift, float by) {
        const int n = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
        const bool has = queries.has(n);
        const Row row = queries.row(has ? n : 0);
        const float* from = q + static_cast<u64>(row.row) * in.q_stride + queries.head(has ? n : 0) * HEAD_DIM;
        const Turns angles = turns_of(turns, row.position, shift, HEAD_DIM);
#pragma unroll
        for (int unit = 0; unit < UNITS / 2; unit++) {
            const Turned two = turned(from, angles, 8 * unit + 2 * t, in.interleaved, has ? by : 0.0f);
            set<E>(unit, two.low);
            set<E>(unit + UNITS / 2, two.high);
        }
    }
};

// Begins to copy the tile at `walk` to `slot`: rows that nobody sees become zeros, for they may hold anything.
__device__ __forceinline__ void copy_tile(const Pages& pages, const int* plan, const Walk& walk, int layer, int kv_head,
                                          u8* slot) {
    const int lane = threadIdx.x % WARP;
    const int* table = plan + plan[walk.segment.run_at];
    const int page = table[walk.row / pages.page_rows], row = walk.row % pages.page_rows;
    const u8* k = pages.panel(page, layer, SIDE_K, kv_head) + row * 16 * UNITS;
    const u8* v = pages.panel(page, layer, SIDE_V, kv_head) + row * 16 * UNITS;
    const int bytes_left = (walk.segment.end - walk.row) * 16 * UNITS;
#pragma unroll
    for (int i = 0; i < TILE * UNITS / WARP; i++) {
        const int at = i * WARP + lane, r = at / UNITS, unit = at % UNITS;
        const int bytes = 16 * at < bytes_left ? 16 : 0;
        copy16_async(unit_at(slot, r, unit), k + 16 * at, bytes);
        copy16_async(unit_at(slot + TILE * LINE_BYTES, r, unit), v + 16 * at, bytes);
    }
}

// The state of a lane: of queries 2 (lane % 4) and the next, the largest score, the sum over the lane's own rows, and
// dims lane / 4 and 8 further of each 16.
struct State {
    float max[2], sum[2], weighted[UNITS / 2][4];
};

// Products of the tile's rows lane / 4 and 8 further with the lane's two queries.
template <class E>
__device__ __forceinline__ void score_tile(u8* k, const Rotated& q, float (&scores)[4]) {
    const int lane = threadIdx.x % WARP;
    float parts[4][4] = {};
#pragma unroll
    for (int step = 0; step < UNITS / 2; step++) {
        u32 a[4];
        ldmatrix_x4(a, unit_at(k, lane % 16, 2 * step + lane / 16));
        E::multiply(parts[step % 2], a, q.whole[2 * step], q.whole[2 * step + 1]);
        E::multiply(parts[2 + step % 2], a, q.rest[2 * step], q.rest[2 * step + 1]);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        scores[e] = parts[0][e] + parts[1][e] + (parts[2][e] + parts[3][e]);
    }
}

// Turns scores into weights, and moves the state to its new largest scores.
__device__ __forceinline__ void weigh(State& state, float (&scores)[4]) {
    float decays[2];
#pragma unroll
    for (int c = 0; c < 2; c++) {
        float now = Largest::of(scores[c], scores[2 + c]);
#pragma unroll
        for (int lanes = 4; lanes < WARP; lanes *= 2) {
            now = Largest::of(now, __shfl_xor_sync(ALL_LANES, now, lanes));
        }
        now = Largest::of(now, state.max[c]);
        decays[c] = weight_of(state.max[c], now);
        state.max[c] = now;
        scores[c] = weight_of(scores[c], now);
        scores[2 + c] = weight_of(scores[2 + c], now);
        state.sum[c] = state.sum[c] * decays[c] + (scores[c] + scores[2 + c]);
    }
#pragma unroll
    for (int step = 0; step < UNITS / 2; step++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            state.weighted[step][e] *= decays[e % 2];
        }
    }
}

// Adds the tile's rows of V by their weights.
template <class E>
__device__ __forceinline__ void add_values(State& state, u8* v, const float (&weights)[4]) {
    const int lane = threadIdx.x % WARP;
    u32 whole[2], rest[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const u32 rounded = E::pack(weights[2 * h], weights[2 * h + 1]);
        const float2 taken = E::unpack(rounded);
        whole[h] = transposed8x8(rounded);
        rest[h] = transposed8x8(E::pack(weights[2 * h] - taken.x, weights[2 * h + 1] - taken.y));
    }
#pragma unroll
    for (int step = 0; step < UNITS / 2; step++) {
        u32 a[4];
        ldmatrix_x4_transposed(a, unit_at(v, lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
        E::multiply(state.weighted[step], a, whole[0], whole[1]);
        E::multiply(state.weighted[step], a, rest[0], rest[1]);
    }
}

// Leaves a warp's state in its own shared memory: `[QUERIES, STATE_LINE]`, largest scores, sums.
__device__ __forceinline__ void leave(State& state, float* to) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int c = 0; c < 2; c++) {
#pragma unroll
        for (int lanes = 4; lanes < WARP; lanes *= 2) {
            state.sum[c] += __shfl_xor_sync(ALL_LANES, state.sum[c], lanes);
        }
        if (g == 0) {
            to[QUERIES * STATE_LINE + 2 * t + c] = state.max[c];
            to[QUERIES * STATE_LINE + QUERIES + 2 * t + c] = state.sum[c];
        }
#pragma unroll
        for (int step = 0; step < UNITS / 2; step++) {
            float* query = to + (2 * t + c) * STATE_LINE + 16 * step;
            query[g] = state.weighted[step][c];
            query[g + 8] = state.weighted[step][2 + c];
        }
    }
}

// Merges the warps' states, in order, and writes them.
__device__ __forceinline__ void merge(const Queries& queries, u8* shared, const Sinks& sinks, int heads) {
    for (int i = threadIdx.x; i < QUERIES * HEAD_DIM / 2; i += WARPS * WARP) {
        const int n = i / (HEAD_DIM / 2), dim = i % (HEAD_DIM / 2) * 2;
        if (!queries.has(n)) {
            break;
        }
        float max = -F32_INFINITY, sum = 0.0f, x = 0.0f, y = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float* state = reinterpret_cast<const float*>(shared + w * SLOTS * SLOT_BYTES);
            max = Largest::of(max, state[QUERIES * STATE_LINE + n]);
        }
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float* state = reinterpret_cast<const float*>(shared + w * SLOTS * SLOT_BYTES);
            const float by = weight_of(state[QUERIES * STATE_LINE + n], max);
            sum += state[QUERIES * STATE_LINE + QUERIES + n] * by;
            x += state[n * STATE_LINE + dim] * by;
            y += state[n * STATE_LINE + dim + 1] * by;
        }
        const Row row = queries.row(n);
        const bool is_state = row.state >= 0;
        const u64 at = static_cast<u64>(is_state ? row.state : row.row) * heads + queries.head(n);
        const float by = is_state ? 1.0f : sum > 0.0f ? 1.0f / sum : 0.0f;
        write_two(sinks, is_state, at * HEAD_DIM + dim, x * by, y * by);
        if (is_state && dim == 0) {
            sinks.max[at] = max;
            sinks.sum[at] = sum;
        }
    }
}

template <class E>
__device__ __forceinline__ void attention_decode(const int* plan, const float* q, const Pages& pages,
                                                 const float2* turns, const Sinks& sinks, const Layer& in) {
    DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
    const int group = in.heads / in.kv_heads, parts = div_up(group, QUERIES);
    u8* slots = shared + warp * SLOTS * SLOT_BYTES;
    for (int work = blockIdx.x; work < count_of(plan, DECODE) * parts * in.kv_heads; work += gridDim.x) {
        const Item item = item_at(plan, DECODE, work / in.kv_heads / parts);
        const int kv_head = work % in.kv_heads;
        const Queries queries{plan, item, work / in.kv_heads % parts * QUERIES, group, kv_head};
        const int positions[2] = {queries.position(2 * t), queries.position(2 * t + 1)};
        const int first = item.tiles * warp / WARPS, count = item.tiles * (warp + 1) / WARPS - first;
        State state = {{-F32_INFINITY, -F32_INFINITY}};
        Rotated rotated;
        Walk now;
        now.begin(plan, item);
        for (int tile = 0; tile < first; tile++) {
            now.step(plan, item, TILE);
        }
        Walk ahead = now;
        for (int i = 0; i < SLOTS - 1; i++) {
            if (i < count) {
                copy_tile(pages, plan, ahead, in.layer, kv_head, slots + i * SLOT_BYTES);
                ahead.step(plan, item, TILE);
            }
            copies_commit();
        }
        int segment = -1, shift = 0;
        float by = 0.0f;
        const u16* hidden = nullptr;
        int2 sees[2] = {};
        for (int i = 0; i < count; i++) {
            copies_wait<SLOTS - 2>();
            __syncwarp();
            if (i + SLOTS - 1 < count) {
                copy_tile(pages, plan, ahead, in.layer, kv_head, slots + (i + SLOTS - 1) % SLOTS * SLOT_BYTES);
                ahead.step(plan, item, TILE);
            }
            copies_commit();
            if (now.index != segment) {
                const Run run = run_at(plan, now.segment.run_at);
                if (segment < 0 || run.shift != shift || now.segment.by != by) {
                    by = now.segment.by;
                    shift = run.shift;
                    rotated.rotate<E>(queries, q, turns, in, shift, query_scale(in, by));
                }
                segment = now.index;
                hidden = run.hidden;
                sees[0] = seen(run, positions[0], in.window);
                sees[1] = seen(run, positions[1], in.window);
            }
            u8* slot = slots + i % SLOTS * SLOT_BYTES;
            float scores[4];
            score_tile<E>(slot, rotated, scores);
            const u32 hides = hidden == nullptr ? 0 : hidden[now.row / TILE];
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int r = g + e / 2 * 8, row = now.row + r;
                const bool is_seen = row >= sees[e % 2].x && row < sees[e % 2].y && (hides >> r & 1) == 0;
                scores[e] = is_seen ? score_of(scores[e], cap_scale(in, by)) : -F32_INFINITY;
            }
            weigh(state, scores);
            add_values<E>(state, slot + TILE * LINE_BYTES, scores);
            now.step(plan, item, TILE);
        }
        copies_wait<0>();
        __syncwarp();
        leave(state, reinterpret_cast<float*>(slots));
        __syncthreads();
        merge(queries, shared, sinks, in.heads);
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP) KERNEL(attention_decode_f16)(ATTENTION_PARAMETERS) {
    attention_decode<Halves>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP) KERNEL(attention_decode_bf16)(ATTENTION_PARAMETERS) {
    attention_decode<Brains>(ATTENTION_ARGUMENTS);
}
