// The norm of rows, what is added to them before, and what products take after.
//
//   rms_norm_f32(out, x, add, add_weight, weight, cols, eps)
//   rms_norm_bf16(out, low, x, add, add_weight, weight, cols, eps)
//
//   x           f32 [rows, cols], the residual stream
//   add         f32 [rows, cols] or null: added to x, which is written
//   add_weight  f32 [cols] or null: `add` is first normed with this weight (post norms)
//   weight      f32 [cols] or null: no norm of x, `out` stays as it is
//   out         [rows, cols]: x / sqrt(mean(x²) + eps) · weight, in f32 (may be x itself) or rounded to bf16
//   low         bf16 [rows, cols] or null: the nearest to what rounding `out` left
//   cols        at most 16 · threads
//
// Launch: grid (rows), block (threads), no dynamic shared memory. threads: a multiple of 32 up to 1024;
// round_up(div_up(cols, 4), 32) where rows are few, a quarter of that where they fill the device (and cols allow it).
#include "prelude.cuh"

// Quads of a row that a thread holds.
constexpr int HELD = 4;

// Four of the numbers of a row; zeros behind its end.
__device__ __forceinline__ float4 quad_of(const float* row, int at, int cols) {
    if (cols % 4 == 0) {
        return *reinterpret_cast<const float4*>(row + at);
    }
    const float a = row[at];
    const float b = at + 1 < cols ? row[at + 1] : 0.0f;
    const float c = at + 2 < cols ? row[at + 2] : 0.0f;
    return make_float4(a, b, c, at + 3 < cols ? row[at + 3] : 0.0f);
}

__device__ __forceinline__ void put_quad(float* row, int at, int cols, float4 x) {
    if (cols % 4 == 0) {
        *reinterpret_cast<float4*>(row + at) = x;
        return;
    }
    const float of[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (at + i < cols) {
            row[at + i] = of[i];
        }
    }
}

__device__ __forceinline__ void put_quad(bf16* row, int at, int cols, float4 x) {
    const u32 words[2] = {bf16x2_of(x.x, x.y), bf16x2_of(x.z, x.w)};
    if (cols % 4 == 0) {
        *reinterpret_cast<uint2*>(row + at) = make_uint2(words[0], words[1]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (at + i < cols) {
            row[at + i].bits = words[i / 2] >> (16 * (i % 2));
        }
    }
}

// A row, dealt out to the threads of a block by quads.
struct Row {
    float4 of[HELD];

    __device__ __forceinline__ void load(const float* row, int cols) {
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const int at = place(i);
            of[i] = at < cols ? quad_of(row, at, cols) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    }

    __device__ __forceinline__ static int place(int i) {
        return (i * blockDim.x + threadIdx.x) * 4;
    }

    // Multiplied by the inverse root of the mean square, and by the weight.
    __device__ __forceinline__ void norm(const float* weight, int cols, float eps, float* scratch) {
        float squares = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            squares += of[i].x * of[i].x + of[i].y * of[i].y + (of[i].z * of[i].z + of[i].w * of[i].w);
        }
        squares = block_reduce<Sum>(squares, scratch);
        const float scale = 1.0f / sqrtf(squares / cols + eps);
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            if (place(i) < cols) {
                const float4 w = quad_of(weight, place(i), cols);
                of[i] = make_float4(of[i].x * scale * w.x, of[i].y * scale * w.y, of[i].z * scale * w.z,
                                    of[i].w * scale * w.w);
            }
        }
    }

    __device__ __forceinline__ void add(const Row& other) {
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            of[i].x += other.of[i].x, of[i].y += other.of[i].y, of[i].z += other.of[i].z, of[i].w += other.of[i].w;
        }
    }

    template <class Out>
    __device__ __forceinline__ void store(Out* row, int cols) const {
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            if (place(i) < cols) {
                put_quad(row, place(i), cols, of[i]);
            }
        }
    }

    __device__ __forceinline__ void keep_left() {
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            of[i] = make_float4(left_by_bf16(of[i].x), left_by_bf16(of[i].y), left_by_bf16(of[i].z), left_by_bf16(of[i].w));
        }
    }
};

template <class Out>
__device__ __forceinline__ void rms_norm(Out* out, bf16* low, float* x, const float* add, const float* add_weight,
                                         const float* weight, int cols, float eps) {
    __shared__ float scratch[2][WARP];
    const u64 start = static_cast<u64>(blockIdx.x) * cols;
    Row row;
    row.load(x + start, cols);
    if (add) {
        Row added;
        added.load(add + start, cols);
        if (add_weight) {
            added.norm(add_weight, cols, eps, scratch[0]);
        }
        row.add(added);
        row.store(x + start, cols);
    }
    if (!weight) {
        return;
    }
    row.norm(weight, cols, eps, scratch[1]);
    row.store(out + start, cols);
    if (low) {
        row.keep_left();
        row.store(low + start, cols);
    }
}

extern "C" __global__ void __launch_bounds__(1024)
    rms_norm_f32(float* out, float* x, const float* add, const float* add_weight, const float* weight, int cols, float eps) {
    rms_norm(out, nullptr, x, add, add_weight, weight, cols, eps);
}

extern "C" __global__ void __launch_bounds__(1024)
    rms_norm_bf16(bf16* out, bf16* low, float* x, const float* add, const float* add_weight, const float* weight,
                  int cols, float eps) {
    rms_norm(out, low, x, add, add_weight, weight, cols, eps);
}
