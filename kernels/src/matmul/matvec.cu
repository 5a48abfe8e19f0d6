// Products of weights, as they lie in the file, with one to eight rows of activations: what decoding is made of.
//
//   matvec_<format>(out, w, x, x_low, bias, add, rows, cols, tokens, slice)
//
// format: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k. With -DFORMAT=<format> the source has that one alone.
//   out     f32 [tokens, rows] = Σ_c x[t, c] · w[r, c] + bias[r] + add[t, r]; of several slices [slices, tokens, rows],
//           bare sums, which matvec_merge adds up in their order
//   w       [rows, cols] in blocks, aligned to 16 bytes; nothing behind its last block is read
//   x       bf16 [tokens, cols], and x_low, the same or null: x + x_low are the activations. Aligned to 16 bytes
//   bias    f32 [rows] or null
//   add     f32 [tokens, rows] or null; may be out
//   cols    whole blocks; of floats a multiple of 8 (else matvec_ragged_* of `matvec_plain.cu`)
//   slice   columns of a slice, a multiple of the format's chunk
//
// A tile is 16 rows of w. A block walks tiles; its warps take the chunks of their columns in turn, each through stages of
// shared memory of its own that are filled ahead by cp.async, so loads wait neither for other warps nor at the end of a
// tile. Codes become bf16 in registers and meet up to eight activations in one mma: its other columns are idle, which
// costs nothing where memory is the limit. Scales multiply the f32 sums of their groups. What warps have is added in
// their order: a result depends on cols, slice and the number of warps, not on tokens or the grid.
//
// Launch: grid (blocks, div_up(cols, slice)), block (32 · warps; warps 4 or 8). blocks: up to one for each tile; as many
// as are resident, divided by the slices. Dynamic shared memory, with span = round_up(min(slice, cols), CHUNK):
//   (1 or, with x_low, 2) · tokens · (span + 32) · 2  +  span / GROUP · div_up(tokens, 2) · 16 (where there is a GROUP)
//   +  warps · (STAGES · 16 · STRIDE + 64 · TABLE + 1024)
//   format   CHUNK GROUP STAGES STRIDE TABLE        format   CHUNK GROUP STAGES STRIDE TABLE
//   q4_0       256    32      3    176     0        q4_k       256    32      3    144    18
//   q4_1       256    32      3    176     0        q5_k       256    32      3    176    18
//   q5_0       256    32      3    208     0        q6_k       256    16      2    240    17
//   q5_1       256    32      3    208     0        bf16 f16   128     -      2    320     0
//   q8_0       256     -      2    304     0        f32         64     -      2    272     0
// Two blocks of 8 warps are to be resident, so a slice is best no longer than leaves half of the memory for each.
#include "matvec_codes.cuh"

constexpr int TILE = 16;
constexpr int TOKENS_MAX = 8;

// The arguments of a launch.
struct Product {
    float* out;
    const u8* w;
    const bf16* x;
    const bf16* x_low;
    const float* bias;
    const float* add;
    int rows, cols, tokens, slice;

    __device__ __forceinline__ void put(int token, int row, float sum) const {
        const u64 at = static_cast<u64>(token) * rows + row;
        if (gridDim.y > 1) {
            out[static_cast<u64>(blockIdx.y) * tokens * rows + at] = sum;
            return;
        }
        if (bias) {
            sum += bias[row];
        }
        out[at] = add ? sum + add[at] : sum;
    }
};

// Whether sums of activations are needed: their share of an offset or a minimum.
template <class F>
__device__ constexpr bool has_sums() {
    if constexpr (F::LEN == 1) {
        return false;
    } else {
        return F::OFFSET != 0 || F::HAS_MIN;
    }
}

// Dynamic shared memory, dealt out.
template <class F>
struct Room {
    static constexpr int STAGE = TILE * F::STRIDE;

    int span;    // columns of the slice, up to whole chunks
    int apart;   // numbers from one token's activations to the next's
    int low;     // and to the low parts; 0: there are none
    int pairs;   // of tokens
    bf16* x;     // [terms, tokens, apart]
    float4* sums;  // [groups, pairs], of two tokens and of the same again: what mma begins with
    u8* ring;      // [STAGES, TILE, STRIDE], of this warp
    float* table;  // [TILE, TABLE], of this warp
    float* parts;  // [2, warps, TILE, TOKENS_MAX]

    __device__ __forceinline__ Room(u8* shared, const Product& p, int width, int warp, int warps) {
        span = round_up(width, F::CHUNK);
        apart = span + 32;
        low = p.x_low ? p.tokens * apart : 0;
        pairs = div_up(p.tokens, 2);
        x = reinterpret_cast<bf16*>(shared);
        shared += (p.x_low ? 2 : 1) * p.tokens * apart * 2;
        sums = reinterpret_cast<float4*>(shared);
        if constexpr (has_sums<F>()) {
            shared += span / F::GROUP * pairs * 16;
        }
        ring = shared + warp * F::STAGES * STAGE;
        shared += warps * F::STAGES * STAGE;
        parts = reinterpret_cast<float*>(shared);
        table = parts + 2 * warps * TILE * TOKENS_MAX + warp * TILE * F::TABLE;
    }
};

// The chunks of one warp on their way from memory.
template <class F>
struct Stream {
    static constexpr int CHUNK_BYTES = F::CHUNK / F::LEN * F::BYTES;
    static constexpr int PIECES = div_up(CHUNK_BYTES + F::MISALIGN, 16);
    static constexpr int ALIKE = CHUNK_BYTES % 16 == 0 ? CHUNK_BYTES / 16 : PIECES; // where all rows begin alike
    static constexpr int SHARE = div_up(TILE * ALIKE, WARP);
    static_assert(PIECES * 16 <= F::STRIDE, "a row of a stage");

    const u8* w;     // where the slice begins in row 0
    const u8* end;   // behind the last row
    u32 row_bytes;
    int width_bytes; // of the slice
    int rows, chunks, tiles;
    u8* ring;
    int tile, chunk, stage; // what is fetched next, and where to
    u32 from[SHARE], to[SHARE];

    // How far the bytes of a row's chunk begin behind a multiple of 16.
    __device__ __forceinline__ int shift(int tile, int row, int chunk) const {
        const int last = rows - 1 - tile * TILE, in = tile * TILE + (row < last ? row : last);
        const u32 low = static_cast<u32>(reinterpret_cast<u64>(w));
        return F::MISALIGN ? (low + in * row_bytes + chunk * CHUNK_BYTES) & 15 : 0;
    }

    // Where this lane's pieces of a chunk begin, if all rows begin alike: from row 0's, and in a stage.
    __device__ __forceinline__ void place(int lane) {
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            const int row = (lane + i * WARP) / ALIKE, piece = (lane + i * WARP) % ALIKE;
            from[i] = row * row_bytes + piece * 16;
            to[i] = row * F::STRIDE + piece * 16;
        }
    }

    // Copies a chunk of 16 rows.
    __device__ __forceinline__ void copy(int lane) {
        const u8* base = w + static_cast<u64>(tile * TILE) * row_bytes + chunk * CHUNK_BYTES;
        if constexpr (CHUNK_BYTES % 16 != 0) {
            base = reinterpret_cast<const u8*>(reinterpret_cast<u64>(base) & ~static_cast<u64>(15));
        }
        u8* rows = ring + stage * Room<F>::STAGE;
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            if ((i + 1) * WARP <= TILE * ALIKE || lane + i * WARP < TILE * ALIKE) {
                copy16_async(rows + to[i], base + from[i]);
            }
        }
    }

    // The same wherever rows begin, and near the end of the weights (of a row of floats): what is behind are zeros.
    __device__ __forceinline__ void copy_guarded(int lane) const {
        const u64 first = reinterpret_cast<u64>(w) + static_cast<u64>(tile * TILE) * row_bytes + chunk * CHUNK_BYTES;
        const int last = rows - 1 - tile * TILE;
#pragma unroll 1
        for (int i = lane; i < TILE * PIECES; i += WARP) {
            const int row = i / PIECES, piece = i % PIECES;
            const u64 begin = first + static_cast<u64>(row > last ? last : row) * row_bytes;
            const u8* from = reinterpret_cast<const u8*>((begin & ~static_cast<u64>(15)) + piece * 16);
            const long long left = F::LEN == 1 ? width_bytes - chunk * CHUNK_BYTES - piece * 16 : end - from;
            copy16_async(ring + stage * Room<F>::STAGE + row * F::STRIDE + piece * 16, left > 0 ? from : w,
                         left > 16 ? 16 : left > 0 ? static_cast<int>(left) : 0);
        }
    }

    // Begins to fetch the next chunk, if there is one, of every `step`.
    __device__ __forceinline__ void fetch(int lane, int warp, int step) {
        if (tile < tiles) {
            const bool ends = (chunk + 1) * CHUNK_BYTES > width_bytes, is_last = tile + 1 == tiles;
            const bool beyond = is_last && (ends || rows % TILE != 0);
            if (beyond || row_bytes % 16 != 0 || (F::LEN == 1 && ends)) {
                copy_guarded(lane);
            } else {
                copy(lane);
            }
            chunk += step;
            if (chunk >= chunks) {
                chunk = warp;
                tile += gridDim.x;
            }
        }
        copies_commit();
        stage = stage + 1 == F::STAGES ? 0 : stage + 1;
    }
};

// Eight activations, in the order of a lane's weights: of codes see `matvec_codes.cuh`.
template <class F>
__device__ __forceinline__ void put_ordered(bf16* group, int eighth, uint4 x) {
    if constexpr (F::LEN == 1) {
        store16(group + 8 * eighth, x);
        return;
    }
    bf16* to = group + eighth % 2 * 16 + eighth / 2 * 4;
    const u32 words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const u32 even = __byte_perm(words[2 * i], words[2 * i + 1], 0x5410);
        const u32 odd = __byte_perm(words[2 * i], words[2 * i + 1], 0x7632);
        *reinterpret_cast<uint2*>(to + 8 * i) = make_uint2(even, odd);
    }
}

__device__ __forceinline__ float sum8(uint4 x) {
    const float2 a = f32_of_bf16x2(x.x), b = f32_of_bf16x2(x.y), c = f32_of_bf16x2(x.z), d = f32_of_bf16x2(x.w);
    return ((a.x + a.y) + (b.x + b.y)) + ((c.x + c.y) + (d.x + d.y));
}

// Puts the activations of the slice into shared memory, zeros behind them, and the sums of their groups.
template <class F>
__device__ __forceinline__ void stage_activations(const Product& p, const Room<F>& room, int first, int width) {
    const int eighths = room.span / 8, total = (has_sums<F>() ? 2 * room.pairs : p.tokens) * eighths;
    for (int base = 0; base < total; base += blockDim.x) {
        const int i = base + threadIdx.x, token = i / eighths, eighth = i % eighths;
        float sum = 0.0f;
        if (token < p.tokens) {
            for (int term = 0; term < (p.x_low ? 2 : 1); term++) {
                const bf16* from = (term ? p.x_low : p.x) + static_cast<u64>(token) * p.cols + first + eighth * 8;
                const uint4 x = eighth * 8 < width ? load16(from) : make_uint4(0, 0, 0, 0);
                put_ordered<F>(room.x + term * room.low + token * room.apart + eighth / 4 * 32, eighth % 4, x);
                sum += sum8(x);
            }
        }
        if constexpr (has_sums<F>()) {
            sum = warp_reduce<Sum, F::GROUP / 8>(sum);
            if (i < total && eighth % (F::GROUP / 8) == 0) {
                // Numbers made of codes are too large by OFFSET.
                float4* at = room.sums + eighth / (F::GROUP / 8) * room.pairs + token / 2;
                float* of = reinterpret_cast<float*>(at) + token % 2;
                of[0] = of[2] = -F::OFFSET * sum;
            }
        }
    }
}

// One mma, and another for the low parts of activations.
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    const u32 b[2] = {b0, b1};
    mma_bf16(c, a, b);
}

// What a lane looks at in a chunk: rows g and g + 8, activations of token g, sums of tokens 2 t and 2 t + 1.
struct View {
    Row rows[2];
    const float* tables[2];
    const bf16* x;
    int low;
    const float4* sums;
    int pairs;
    int t;
};

// Adds the products of a chunk of codes. c: rows g, g + 8, tokens 2 t, 2 t + 1, as mma has them.
template <class F, bool LOW>
__device__ __forceinline__ void multiply_codes(float (&sum)[4], const View& v) {
    constexpr bool HALVES = F::GROUP == 16;
#pragma unroll
    for (int group = 0; group < F::CHUNK / 32; group++) {
        u32 p[4], q[4];
        F::codes(p, v.rows[0], group, v.t);
        F::codes(q, v.rows[1], group, v.t);
        const uint4 x = load16(v.x + 32 * group);
        const uint4 y = LOW ? load16(v.x + v.low + 32 * group) : make_uint4(0, 0, 0, 0);
        float c[4];
        float4 of_group = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int index = HALVES ? 2 * group + half : group;
            if (HALVES || half == 0) {
                if constexpr (has_sums<F>()) {
                    of_group = v.sums[index * v.pairs];
                }
                c[0] = of_group.x, c[1] = of_group.y, c[2] = of_group.z, c[3] = of_group.w;
            }
            const u32 a[4] = {p[2 * half], q[2 * half], p[2 * half + 1], q[2 * half + 1]};
            multiply(c, a, half ? x.z : x.x, half ? x.w : x.y);
            if constexpr (LOW) {
                multiply(c, a, half ? y.z : y.x, half ? y.w : y.y);
            }
            if (!HALVES && half == 0) {
                continue;
            }
#pragma unroll
            for (int row = 0; row < 2; row++) {
                const Affine by = F::affine(v.rows[row], v.tables[row], index);
                sum[2 * row] += by.scale * c[2 * row];
                sum[2 * row + 1] += by.scale * c[2 * row + 1];
                if constexpr (F::HAS_MIN) {
                    sum[2 * row] += by.add * of_group.x;
                    sum[2 * row + 1] += by.add * of_group.y;
                }
            }
        }
    }
}

// The same of a chunk of floats.
template <class F, bool LOW>
__device__ __forceinline__ void multiply_floats(float (&sum)[4], const View& v) {
#pragma unroll
    for (int group = 0; group < F::CHUNK / 32; group++) {
        u32 p[F::TERMS][4], q[F::TERMS][4];
        F::terms(p, v.rows[0], group, v.t);
        F::terms(q, v.rows[1], group, v.t);
        const uint4 x = load16(v.x + 32 * group);
        const uint4 y = LOW ? load16(v.x + v.low + 32 * group) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int term = 0; term < F::TERMS; term++) {
            const u32 a[4] = {p[term][0], q[term][0], p[term][1], q[term][1]};
            const u32 b[4] = {p[term][2], q[term][2], p[term][3], q[term][3]};
            multiply(sum, a, x.x, x.y);
            multiply(sum, b, x.z, x.w);
            if constexpr (LOW) {
                multiply(sum, a, y.x, y.y);
                multiply(sum, b, y.z, y.w);
            }
        }
    }
}

template <class F, bool LOW>
__device__ __forceinline__ void multiply_chunk(float (&sum)[4], const View& v) {
    if constexpr (F::LEN == 1) {
        multiply_floats<F, LOW>(sum, v);
    } else {
        multiply_codes<F, LOW>(sum, v);
    }
}

// Adds up what the warps have of a tile, in their order, and writes it.
__device__ __forceinline__ void merge_warps(const Product& p, float* parts, const float (&sum)[4], int tile, int warps) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float* own = parts + warp * TILE * TOKENS_MAX + lane / 4 * TOKENS_MAX + lane % 4 * 2;
    *reinterpret_cast<float2*>(own) = make_float2(sum[0], sum[1]);
    *reinterpret_cast<float2*>(own + 8 * TOKENS_MAX) = make_float2(sum[2], sum[3]);
    __syncthreads();
    const int token = threadIdx.x / TILE, row = threadIdx.x % TILE;
    if (token >= p.tokens || tile * TILE + row >= p.rows) {
        return;
    }
    float all = 0.0f;
    for (int w = 0; w < warps; w++) {
        all += parts[(w * TILE + row) * TOKENS_MAX + token];
    }
    p.put(token, tile * TILE + row, all);
}

template <class F>
__device__ __forceinline__ void matvec(const Product& p) {
    DYNAMIC_SHARED(shared);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const int first = blockIdx.y * p.slice, left = p.cols - first, width = left < p.slice ? left : p.slice;
    const Room<F> room(shared, p, width, warp, warps);
    const u32 row_bytes = p.cols / F::LEN * F::BYTES;
    const int chunks = room.span / F::CHUNK, tiles = div_up(p.rows, TILE);
    Stream<F> stream = {p.w + static_cast<u64>(first / F::LEN) * F::BYTES, p.w + static_cast<u64>(p.rows) * row_bytes, row_bytes,
                        width / F::LEN * F::BYTES, p.rows, chunks, tiles, room.ring,
                        warp < chunks ? static_cast<int>(blockIdx.x) : tiles, warp, 0};
    stream.place(lane);
#pragma unroll 1
    for (int i = 0; i < F::STAGES - 1; i++) {
        stream.fetch(lane, warp, warps);
    }
    stage_activations(p, room, first, width);
    __syncthreads();
    const int g = lane / 4, t = lane % 4, token = g < p.tokens ? g : p.tokens - 1;
    const int pair = t < room.pairs ? t : room.pairs - 1;
    int stage = 0, side = 0;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int chunk = warp; chunk < chunks; chunk += warps) {
            copies_wait<F::STAGES - 2>();
            __syncwarp();
            const int rows = static_cast<int>(room.ring - shared) + stage * Room<F>::STAGE;
            stage = stage + 1 == F::STAGES ? 0 : stage + 1;
            stream.fetch(lane, warp, warps);
            const auto row = [&](int r) { return Row(shared, rows + r * F::STRIDE + stream.shift(tile, r, chunk)); };
            View view = {{row(g), row(g + 8)}, {room.table + g * F::TABLE, room.table + (g + 8) * F::TABLE},
                         room.x + token * room.apart + chunk * F::CHUNK + 8 * t, room.low, room.sums + pair, room.pairs, t};
            if constexpr (F::TABLE != 0) {
                F::fill(room.table + lane / 2 * F::TABLE, row(lane / 2), lane % 2);
                __syncwarp();
            }
            if constexpr (F::LEN != 1) {
                view.sums += chunk * (F::CHUNK / F::GROUP) * room.pairs;
            }
            if (room.low) {
                multiply_chunk<F, true>(sum, view);
            } else {
                multiply_chunk<F, false>(sum, view);
            }
        }
        merge_warps(p, room.parts + side * warps * TILE * TOKENS_MAX, sum, tile, warps);
        side ^= 1;
    }
}

#define MATVEC_NAMED(name, Format)                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                              \
        matvec_##name(float* out, const u8* w, const bf16* x, const bf16* x_low, const float* bias, const float* add, \
                      int rows, int cols, int tokens, int slice) {                                                    \
        matvec<Format>({out, w, x, x_low, bias, add, rows, cols, tokens, slice});                                     \
    }
#define MATVEC(format) MATVEC_NAMED(format, format##_codes)
#define MATVEC_EXPANDED(format) MATVEC(format)

#ifdef FORMAT
MATVEC_EXPANDED(FORMAT)
#else
MATVEC(f32)
MATVEC(f16)
MATVEC(bf16)
MATVEC(q8_0)
MATVEC(q4_0)
MATVEC(q4_1)
MATVEC(q5_0)
MATVEC(q5_1)
MATVEC(q4_k)
MATVEC(q5_k)
MATVEC(q6_k)
#endif
