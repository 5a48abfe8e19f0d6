// Blocks of GGUF files to the bfloat16 weights that products of many rows take.
//
//   dequantize_<format>(out, blocks, eighths)
//
// format: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k
//   out      bf16 [8 · eighths], aligned to 16 bytes; each the nearest to the f32 that `dequantize` gives
//   blocks   as they lie in the file, aligned to 16 bytes
//   eighths  weights / 8, rounded up: of floats, what is behind the last weight is read and written, so both buffers
//            are a multiple of 8 numbers long
//
// Launch: grid (div_up(eighths, 256)), block (256), no dynamic shared memory. Products of rows and columns may exceed 32
// bits; their eighths do not.
#include "blocks.cuh"

template <class Format>
__device__ void dequantize(bf16* out, const u8* blocks, int eighths) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= static_cast<u32>(eighths)) {
        return;
    }
    constexpr int EACH = Format::LEN / 8;
    float weights[8];
    Format::weights8(weights, blocks + static_cast<u64>(i / EACH) * Format::BYTES, i % EACH * 8);
    store8(out + static_cast<u64>(i) * 8, weights);
}

#define DEQUANTIZE(name, Format)                                                                                      \
    extern "C" __global__ void dequantize_##name(bf16* out, const u8* blocks, int eighths) {                          \
        dequantize<Format>(out, blocks, eighths);                                                                     \
    }

DEQUANTIZE(f32, Floats<float>)
DEQUANTIZE(f16, Floats<f16>)
DEQUANTIZE(bf16, Floats<bf16>)
DEQUANTIZE(q8_0, Q8_0)
DEQUANTIZE(q4_0, Q4_0)
DEQUANTIZE(q4_1, Q4_1)
DEQUANTIZE(q5_0, Q5_0)
DEQUANTIZE(q5_1, Q5_1)
DEQUANTIZE(q4_k, Q4_K)
DEQUANTIZE(q5_k, Q5_K)
DEQUANTIZE(q6_k, Q6_K)
