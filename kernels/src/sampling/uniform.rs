//! A counter-based generator: the n-th number of a seed, without the n - 1 before it.
//!
//! Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), as in
//! their library Random123: the seed is the key, the counter the low half of the block.

/// A number in `[0, 1)`, a multiple of 2^-53, that depends on `seed` and `counter` alone.
pub fn uniform(seed: u64, counter: u64) -> f64 {
    let block =
        philox([counter as u32, (counter >> 32) as u32, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = u64::from(block[0]) | u64::from(block[1]) << 32;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Philox4x32 with 10 rounds.
pub(crate) fn philox(mut x: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(x[0]) * 0xD251_1F53;
        let b = u64::from(x[2]) * 0xCD9E_8D57;
        x = [
            (b >> 32) as u32 ^ x[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ x[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    x
}
