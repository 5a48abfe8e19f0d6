// What happens to logits before a token is chosen: the cap that some models put on them, and penalties.
//
//   softcap_f32(x, count, cap)     x = cap · tanh(x / cap), x f32 [count], aligned to 16 bytes
//   penalize_f32(logits, vocab, penalties, first, tokens, times)
//
//   logits     f32 [rows, vocab]
//   penalties  f32 [rows, 3]: repetition, presence, frequency, as `Penalties` has them
//   first      u32 [rows + 1]: where the tokens of each row begin
//   tokens     u32: those that are in the row's tail or answer, each once and below vocab
//   times      u32: how often each is in the answer
//
// Launch, without dynamic shared memory: softcap_f32 grid (div_up(count, 1024)), block (256); penalize_f32 grid (rows),
// block (256).
#include "prelude.cuh"

__device__ __forceinline__ float capped(float x, float cap) {
    return cap * tanhf(x / cap);
}

extern "C" __global__ void softcap_f32(float* x, int count, float cap) {
    const u32 at = (blockIdx.x * blockDim.x + threadIdx.x) * 4, end = count;
    if (at + 4 <= end) {
        const float4 four = *reinterpret_cast<const float4*>(x + at);
        *reinterpret_cast<float4*>(x + at) =
            make_float4(capped(four.x, cap), capped(four.y, cap), capped(four.z, cap), capped(four.w, cap));
        return;
    }
    for (u32 i = at; i < end; i++) {
        x[i] = capped(x[i], cap);
    }
}

extern "C" __global__ void penalize_f32(float* logits, int vocab, const float* penalties, const u32* first,
                                        const u32* tokens, const u32* times) {
    const float repetition = penalties[blockIdx.x * 3], presence = penalties[blockIdx.x * 3 + 1];
    const float frequency = penalties[blockIdx.x * 3 + 2];
    logits += static_cast<u64>(blockIdx.x) * vocab;
    for (u32 i = first[blockIdx.x] + threadIdx.x; i < first[blockIdx.x + 1]; i += blockDim.x) {
        float x = logits[tokens[i]];
        x = x > 0.0f ? x / repetition : x * repetition;
        if (times[i] > 0) {
            x -= __fadd_rn(presence, __fmul_rn(frequency, static_cast<float>(times[i])));
        }
        logits[tokens[i]] = x;
    }
}
