// Rows of an embedding table, of any format a GGUF file has.
//
//   embed_<format>(out, table, tokens, scale, count, cols)
//
// format: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k
//   out     f32 [count, cols]      scale · table[tokens[t]]
//   table   [rows, cols] as it lies in the file, aligned to 16 bytes
//   tokens  u32 [count], each below the table's rows
//   cols    whole blocks
//
// Launch: grid (count), block (256), no dynamic shared memory.
#include "blocks.cuh"

template <class Format>
__device__ void embed(float* out, const u8* table, const u32* tokens, float scale, int cols) {
    // Floats may have rows that end inside their 8.
    const u64 row_bytes = static_cast<u64>(cols) * Format::BYTES / Format::LEN;
    const u8* row = table + tokens[blockIdx.x] * row_bytes;
    out += static_cast<u64>(blockIdx.x) * cols;
    const int whole = cols % 8 == 0 ? cols : 0;
    for (int c = threadIdx.x * 8; c < whole; c += blockDim.x * 8) {
        float weights[8];
        Format::weights8(weights, row + static_cast<u64>(c / Format::LEN) * Format::BYTES, c % Format::LEN);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            weights[i] *= scale;
        }
        store8(out + c, weights);
    }
}

// Rows of floats that are no multiple of 8 long.
template <class E>
__device__ void embed_ragged(float* out, const E* table, const u32* tokens, float scale, int cols) {
    const u64 row = tokens[blockIdx.x];
    for (int c = threadIdx.x; c < cols; c += blockDim.x) {
        out[static_cast<u64>(blockIdx.x) * cols + c] = f32_of(table[row * cols + c]) * scale;
    }
}

#define EMBED_FLOATS(name, E)                                                                                         \
    extern "C" __global__ void embed_##name(float* out, const u8* table, const u32* tokens, float scale, int count,  \
                                            int cols) {                                                              \
        if (cols % 8 == 0) {                                                                                          \
            embed<Floats<E>>(out, table, tokens, scale, cols);                                                        \
        } else {                                                                                                      \
            embed_ragged(out, reinterpret_cast<const E*>(table), tokens, scale, cols);                                \
        }                                                                                                             \
    }

#define EMBED_BLOCKS(name, Format)                                                                                    \
    extern "C" __global__ void embed_##name(float* out, const u8* table, const u32* tokens, float scale, int count,  \
                                            int cols) {                                                              \
        embed<Format>(out, table, tokens, scale, cols);                                                               \
    }

EMBED_FLOATS(f32, float)
EMBED_FLOATS(f16, f16)
EMBED_FLOATS(bf16, bf16)
EMBED_BLOCKS(q8_0, Q8_0)
EMBED_BLOCKS(q4_0, Q4_0)
EMBED_BLOCKS(q4_1, Q4_1)
EMBED_BLOCKS(q5_0, Q5_0)
EMBED_BLOCKS(q5_1, Q5_1)
EMBED_BLOCKS(q4_k, Q4_K)
EMBED_BLOCKS(q5_k, Q5_K)
EMBED_BLOCKS(q6_k, Q6_K)
