// The prelude's "Instructions", word by word.
inline float f32_of(f16 x) { return _cvtsh_ss(x.bits); }
inline f16 f16_of(float x) { return f16{static_cast<u16>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT))}; }
inline u32 f16x2_of(float low, float high) { return f16_of(low).bits | static_cast<u32>(f16_of(high).bits) << 16; }
inline u32 emulated_bf16(float x) {
    const u32 bits = __float_as_uint(x);
    if (x != x) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline u32 bf16x2_of(float low, float high) { return emulated_bf16(low) | emulated_bf16(high) << 16; }
inline float2 f32_of_f16x2(u32 x) {
    return make_float2(f32_of(f16{static_cast<u16>(x)}), f32_of(f16{static_cast<u16>(x >> 16)}));
}
inline u32 and_or(u32 x, u32 mask, u32 with) { return (x & mask) | with; }
inline u32 bf16x2_minus(u32 a, u32 b) {
    const float low = __uint_as_float(a << 16) - __uint_as_float(b << 16);
    const float high = __uint_as_float(a & 0xffff0000u) - __uint_as_float(b & 0xffff0000u);
    return bf16x2_of(low, high);
}
inline float exp2_fast(float x) { return exp2f(x); }
inline uint4 load16_once(const void* from) { return *static_cast<const uint4*>(from); }
inline void copy16_async(void* to, const void* from) { emulated::copy_begun(to, from, 16, 16); }
inline void copy16_async(void* to, const void* from, int bytes) { emulated::copy_begun(to, from, bytes, 16); }
inline void copy4_async(void* to, const void* from) { emulated::copy_begun(to, from, 4, 4); }
inline void copies_commit() { emulated::copies_grouped(); }
template <int PENDING> void copies_wait() { emulated::copies_awaited(PENDING); }

template <int COUNT> void emulated_ldmatrix(u32 (&to)[COUNT], const void* row, bool turned) {
    const size_t address = reinterpret_cast<size_t>(row);
    const int lane = emulated::lane();
    const emulated::Slot* slots = emulated::exchange(&address, sizeof address);
    const auto row_of = [&](int matrix, int r) {
        size_t at;
        memcpy(&at, slots[8 * matrix + r].bytes, sizeof at);
        if (at % 16) emulated::fail("ldmatrix of a row that is not aligned");
        return reinterpret_cast<const u16*>(at);
    };
    for (int i = 0; i < COUNT; i++) {
        const int major = lane / 4, minor = 2 * (lane % 4);
        const u16 low = turned ? row_of(i, minor)[major] : row_of(i, major)[minor];
        const u16 high = turned ? row_of(i, minor + 1)[major] : row_of(i, major)[minor + 1];
        to[i] = low | static_cast<u32>(high) << 16;
    }
    // Nobody writes the rows before all have read.
    emulated::exchange("", 1);
}
inline void ldmatrix_x4(u32 (&to)[4], const void* row) { emulated_ldmatrix(to, row, false); }
inline void ldmatrix_x2(u32 (&to)[2], const void* row) { emulated_ldmatrix(to, row, false); }
inline void ldmatrix_x4_transposed(u32 (&to)[4], const void* row) { emulated_ldmatrix(to, row, true); }
inline void ldmatrix_x2_transposed(u32 (&to)[2], const void* row) { emulated_ldmatrix(to, row, true); }
inline u32 transposed8x8(u32 x) {
    const emulated::Slot* slots = emulated::exchange(&x, sizeof x);
    const int lane = emulated::lane();
    const auto at = [&](int row, int column) {
        u32 word;
        memcpy(&word, slots[row * 4 + column / 2].bytes, sizeof word);
        return column % 2 ? word >> 16 : word & 0xffff;
    };
    return at(2 * (lane % 4), lane / 4) | at(2 * (lane % 4) + 1, lane / 4) << 16;
}
struct EmulatedHalves { static float2 of(u32 x) { return f32_of_f16x2(x); } };
struct EmulatedBrains {
    static float2 of(u32 x) { return make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u)); }
};
template <class Format> void emulated_mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    const u32 words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const emulated::Slot* slots = emulated::exchange(words, sizeof words);
    const int g = emulated::lane() / 4, t = emulated::lane() % 4;
    const auto word = [&](int lane, int i) { return reinterpret_cast<const u32*>(slots[lane].bytes)[i]; };
    for (int i = 0; i < 4; i++) {
        const int half = i / 2, column = 2 * t + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k += 2) {
            const float2 x = Format::of(word(g * 4 + k % 8 / 2, half + (k >= 8 ? 2 : 0)));
            const float2 y = Format::of(word(column * 4 + k % 8 / 2, 4 + (k >= 8)));
            sum += x.x * y.x + x.y * y.y;
        }
        c[i] += sum;
    }
}
inline void mma_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) { emulated_mma<EmulatedHalves>(c, a, b); }
inline void mma_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) { emulated_mma<EmulatedBrains>(c, a, b); }
