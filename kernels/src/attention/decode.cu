// attention_decode_{f16,bf16,int8}: few queries over many rows, split over the rows. Bound by the bytes of K and V, so each
// is read once for all heads that share it, and all else is hidden behind.
//
// Launch: any grid, 32 * WARPS threads, WARPS * ROOM of dynamic shared memory (96 KiB at most).
// Arguments: ATTENTION_PARAMETERS; head_dim is HEAD_DIM, page_rows a multiple of 16.
// A block takes one DECODE item, K/V head and 8 of the queries: `rows * group` are at most 8, or rows are 1.
//
// Each warp goes through a stretch of the item's tiles on its own, 16 rows at a time, copies of later tiles under way.
// Products have the rows of K (or the dims of V) outermost and the 8 queries innermost, so that no part of a product is
// wasted on queries that are not there. Queries and weights are each the sum of two 16-bit numbers, a rounded one and
// what that leaves: what is lost to 16 bits is 2^-16 of a bf16 product. In the end warps' states are merged in order.
//
// Codes are copied as they lie, with their scales, and widened to bf16, which holds them exactly, one tile at a time.
// Products of a group's dims are summed before they meet the scale of a row of K; weights meet that of a row of V.
#include "attention_tiles.cuh"

constexpr int WARPS = HEAD_DIM <= 128 ? 4 : 2;
constexpr int SLOTS = HEAD_DIM <= 64 ? 4 : 3;
constexpr int TILE_BYTES = 2 * TILE * LINE_BYTES;
// Scales of a row, and the codes and the scales of a tile's rows of K or of V.
constexpr int GROUPS = div_up(HEAD_DIM, GROUP_DIMS);
constexpr int CODE_BYTES = TILE * HEAD_DIM;
constexpr int CODED_BYTES = CODE_BYTES + TILE * GROUPS * 2;

// What a warp's shared memory holds: tiles to come, and for codes the tile at hand, widened, before them.
template <class E>
struct Room {
    static constexpr int SLOT_BYTES = E::CODES ? 2 * CODED_BYTES : TILE_BYTES;
    static constexpr int WIDENED = E::CODES ? TILE_BYTES : 0;
    static constexpr int BYTES = WIDENED + SLOTS * SLOT_BYTES;
};
constexpr int QUERIES = 8;
// A state in shared memory: the dims of a query, and some floats more that set queries apart.
constexpr int STATE_LINE = HEAD_DIM + 4;
constexpr int STATE_BYTES = (QUERIES * STATE_LINE + 2 * QUERIES) * 4;
static_assert(WARPS * Room<Halves>::BYTES <= 96 * 1024 && WARPS * Room<Codes>::BYTES <= 96 * 1024, "all devices have it");
static_assert(STATE_BYTES <= Room<Halves>::BYTES && STATE_BYTES <= Room<Codes>::BYTES, "states where tiles were");

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

// Spreads each query over its dims as keys of codes are (see `kv/spread.rs`): a Hadamard transform of blocks of dims,
// whose length is the largest power of two that divides HEAD_DIM. Dims as `Rotated` has them.
__device__ __forceinline__ void spread(float2 (&x)[UNITS]) {
    constexpr int LENGTH = HEAD_DIM & -HEAD_DIM;
    float shrink = 1.0f;
#pragma unroll
    for (int half = 1; half < LENGTH; half *= 2) {
        shrink *= 0.707106781f;
#pragma unroll
        for (int unit = 0; unit < UNITS; unit++) {
            const float2 own = x[unit];
            if (half == 1) {
                x[unit] = make_float2(own.x + own.y, own.x - own.y);
            } else if (half < 8) {
                const float a = __shfl_xor_sync(ALL_LANES, own.x, half / 2);
                const float b = __shfl_xor_sync(ALL_LANES, own.y, half / 2);
                const bool is_second = (threadIdx.x & (half / 2)) != 0;
                x[unit] = is_second ? make_float2(a - own.x, b - own.y) : make_float2(own.x + a, own.y + b);
            } else if ((unit & (half / 8)) == 0) {
                const float2 other = x[unit + half / 8];
                x[unit] = make_float2(own.x + other.x, own.y + other.y);
                x[unit + half / 8] = make_float2(own.x - other.x, own.y - other.y);
            }
        }
    }
#pragma unroll
    for (int unit = 0; unit < UNITS; unit++) {
        x[unit] = make_float2(x[unit].x * shrink, x[unit].y * shrink);
    }
}

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
        float2 dims[UNITS];
#pragma unroll
        for (int unit = 0; unit < UNITS / 2; unit++) {
            const Turned two = turned(from, angles, 8 * unit + 2 * t, in.interleaved, has ? by : 0.0f);
            dims[unit] = two.low;
            dims[unit + UNITS / 2] = two.high;
        }
        if constexpr (E::CODES) {
            spread(dims);
        }
#pragma unroll
        for (int unit = 0; unit < UNITS; unit++) {
            set<E>(unit, dims[unit]);
        }
    }
};

// Begins to copy `all` bytes, of which those behind `left` become zeros.
__device__ __forceinline__ void copy_coded(u8* to, const void* from, int all, int left, int lane) {
    for (int at = 16 * lane; at < all; at += 16 * WARP) {
        const int bytes = left - at < 0 ? 0 : left - at < 16 ? left - at : 16;
        copy16_async(to + at, static_cast<const u8*>(from) + at, bytes);
    }
}

// Begins to copy the tile at `walk` to `slot`: rows that nobody sees become zeros, for they may hold anything.
template <class E>
__device__ __forceinline__ void copy_tile(const Pages& pages, const int* plan, const Walk& walk, int layer, int kv_head,
                                          u8* slot) {
    const int lane = threadIdx.x % WARP;
    const int* table = plan + plan[walk.segment.run_at];
    const int page = table[walk.row / pages.page_rows], row = walk.row % pages.page_rows;
    const int rows_left = walk.segment.end - walk.row;
    if constexpr (E::CODES) {
        for (int side = SIDE_K; side <= SIDE_V; side++) {
            u8* panel = pages.panel(page, layer, side, kv_head);
            copy_coded(slot + side * CODED_BYTES, pages.numbers<u8>(panel, row), CODE_BYTES, rows_left * HEAD_DIM, lane);
            copy_coded(slot + side * CODED_BYTES + CODE_BYTES, pages.scales(panel, row), TILE * GROUPS * 2,
                       rows_left * GROUPS * 2, lane);
        }
        return;
    }
    const u8* k = pages.panel(page, layer, SIDE_K, kv_head) + row * 16 * UNITS;
    const u8* v = pages.panel(page, layer, SIDE_V, kv_head) + row * 16 * UNITS;
    const int bytes_left = rows_left * 16 * UNITS;
#pragma unroll
    for (int i = 0; i < TILE * UNITS / WARP; i++) {
        const int at = i * WARP + lane, r = at / UNITS, unit = at % UNITS;
        const int bytes = 16 * at < bytes_left ? 16 : 0;
        copy16_async(unit_at(slot, r, unit), k + 16 * at, bytes);
        copy16_async(unit_at(slot + TILE * LINE_BYTES, r, unit), v + 16 * at, bytes);
    }
}

// A tile of codes as bf16: K, and V behind it.
__device__ __forceinline__ void widen_tile(u8* to, const u8* slot) {
    // The tile before is done with, and what this one is made of was seen to come.
    __syncwarp();
    for (int i = threadIdx.x % WARP; i < 2 * TILE * UNITS; i += WARP) {
        const int side = i / (TILE * UNITS), at = i % (TILE * UNITS);
        float eight[8];
        load8(eight, reinterpret_cast<const i8*>(slot + side * CODED_BYTES + 8 * at));
        store8(reinterpret_cast<bf16*>(unit_at(to + side * TILE * LINE_BYTES, at / UNITS, at % UNITS)), eight);
    }
    __syncwarp();
}

// The scale of a group of a row of K or V in a slot.
__device__ __forceinline__ float scale_in(const u8* slot, int side, int row, int group) {
    return f32_of(reinterpret_cast<const bf16*>(slot + side * CODED_BYTES + CODE_BYTES)[row * GROUPS + group]);
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

// The same of codes.
__device__ __forceinline__ void score_codes(u8* k, const u8* slot, const Rotated& q, float (&scores)[4]) {
    const int lane = threadIdx.x % WARP;
    for (int e = 0; e < 4; e++) {
        scores[e] = 0.0f;
    }
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        float whole[4] = {}, rest[4] = {};
#pragma unroll
        for (int step = 2 * group; step < UNITS / 2 && step < 2 * group + 2; step++) {
            u32 a[4];
            ldmatrix_x4(a, unit_at(k, lane % 16, 2 * step + lane / 16));
            Codes::multiply(whole, a, q.whole[2 * step], q.whole[2 * step + 1]);
            Codes::multiply(rest, a, q.rest[2 * step], q.rest[2 * step + 1]);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            scores[e] += (whole[e] + rest[e]) * scale_in(slot, SIDE_K, lane / 4 + e / 2 * 8, group);
        }
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

// Adds dims of the tile's rows of V, 16 a step, by their weights.
template <class E>
__device__ __forceinline__ void add_dims(State& state, u8* v, const float (&weights)[4], int first, int end) {
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
    for (int step = first; step < end; step++) {
        u32 a[4];
        ldmatrix_x4_transposed(a, unit_at(v, lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
        E::multiply(state.weighted[step], a, whole[0], whole[1]);
        E::multiply(state.weighted[step], a, rest[0], rest[1]);
    }
}

// Adds the tile's rows of V by their weights; `slot` holds the scales of codes.
template <class E>
__device__ __forceinline__ void add_values(State& state, u8* v, const u8* slot, const float (&weights)[4]) {
    if constexpr (!E::CODES) {
        add_dims<E>(state, v, weights, 0, UNITS / 2);
        return;
    }
    const int row = threadIdx.x % WARP / 4;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        const float low = scale_in(slot, SIDE_V, row, group), high = scale_in(slot, SIDE_V, row + 8, group);
        const float scaled[4] = {weights[0] * low, weights[1] * low, weights[2] * high, weights[3] * high};
        const int end = 2 * group + 2 < UNITS / 2 ? 2 * group + 2 : UNITS / 2;
        add_dims<E>(state, v, scaled, 2 * group, end);
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
template <class E>
__device__ __forceinline__ void merge(const Queries& queries, u8* shared, const Sinks& sinks, int heads) {
    for (int i = threadIdx.x; i < QUERIES * HEAD_DIM / 2; i += WARPS * WARP) {
        const int n = i / (HEAD_DIM / 2), dim = i % (HEAD_DIM / 2) * 2;
        if (!queries.has(n)) {
            break;
        }
        float max = -F32_INFINITY, sum = 0.0f, x = 0.0f, y = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float* state = reinterpret_cast<const float*>(shared + w * Room<E>::BYTES);
            max = Largest::of(max, state[QUERIES * STATE_LINE + n]);
        }
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float* state = reinterpret_cast<const float*>(shared + w * Room<E>::BYTES);
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
    constexpr int SLOT_BYTES = Room<E>::SLOT_BYTES;
    u8* own = shared + warp * Room<E>::BYTES;
    u8* slots = own + Room<E>::WIDENED;
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
                copy_tile<E>(pages, plan, ahead, in.layer, kv_head, slots + i * SLOT_BYTES);
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
                copy_tile<E>(pages, plan, ahead, in.layer, kv_head, slots + (i + SLOTS - 1) % SLOTS * SLOT_BYTES);
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
            u8* tile = E::CODES ? own : slot;
            float scores[4];
            if constexpr (E::CODES) {
                widen_tile(tile, slot);
                score_codes(tile, slot, rotated, scores);
            } else {
                score_tile<E>(tile, rotated, scores);
            }
            const u32 hides = hidden == nullptr ? 0 : hidden[now.row / TILE];
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int r = g + e / 2 * 8, row = now.row + r;
                const bool is_seen = row >= sees[e % 2].x && row < sees[e % 2].y && (hides >> r & 1) == 0;
                scores[e] = is_seen ? score_of(scores[e], cap_scale(in, by)) : -F32_INFINITY;
            }
            weigh(state, scores);
            add_values<E>(state, tile + TILE * LINE_BYTES, slot, scores);
            now.step(plan, item, TILE);
        }
        copies_wait<0>();
        __syncwarp();
        leave(state, reinterpret_cast<float*>(own));
        __syncthreads();
        merge<E>(queries, shared, sinks, in.heads);
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP) KERNEL(attention_decode_f16)(ATTENTION_PARAMETERS) {
    attention_decode<Halves>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP) KERNEL(attention_decode_bf16)(ATTENTION_PARAMETERS) {
    attention_decode<Brains>(ATTENTION_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(WARPS* WARP) KERNEL(attention_decode_int8)(ATTENTION_PARAMETERS) {
    attention_decode<Codes>(ATTENTION_ARGUMENTS);
}
