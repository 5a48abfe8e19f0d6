// The first rows of pages, copied to the same rows of other pages: what a fork needs of a last page.
//
//   copy_rows(pages, page_bytes, panel_bytes, scales_start, number_bytes, scale_bytes, jobs)
//
//   pages         page 0
//   scales_start  where the scales of a panel begin in it
//   number_bytes  what one row of one head takes of numbers
//   scale_bytes   and of scales; 0 where there are none
//   jobs          u32 [jobs, 3]: page to read, page to write, rows. No page is written twice, or read and written
//
// Launch: grid (2 · layers · kv_heads, jobs), block (128), no dynamic shared memory.
#include "prelude.cuh"

// Of ranges that begin at multiples of 16.
__device__ __forceinline__ void copy_bytes(u8* to, const u8* from, int bytes) {
    const int whole = is_aligned16(to) && is_aligned16(from) ? bytes / 16 * 16 : 0;
    for (int at = threadIdx.x * 16; at < whole; at += blockDim.x * 16) {
        store16(to + at, load16(from + at));
    }
    for (int at = whole + threadIdx.x; at < bytes; at += blockDim.x) {
        to[at] = from[at];
    }
}

extern "C" __global__ void copy_rows(u8* pages, int page_bytes, int panel_bytes, int scales_start, int number_bytes,
                                     int scale_bytes, const u32* jobs) {
    const u32* job = jobs + blockIdx.y * 3;
    const u64 panel = static_cast<u64>(blockIdx.x) * panel_bytes;
    const u8* from = pages + static_cast<u64>(job[0]) * page_bytes + panel;
    u8* to = pages + static_cast<u64>(job[1]) * page_bytes + panel;
    const int rows = job[2];
    copy_bytes(to, from, rows * number_bytes);
    copy_bytes(to + scales_start, from + scales_start, rows * scale_bytes);
}
