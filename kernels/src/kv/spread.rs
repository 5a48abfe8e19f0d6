//! Spreads the dims of a head, so that a scale fits all of them.
//!
//! Keys of some models hold a few dims a hundred times larger than the others, and one scale for
//! all leaves those others few bits. An orthonormal transform of keys and queries alike changes no
//! score and gives every dim a share of each (QuaRot, arXiv:2404.00456). It comes after the
//! rotation to a position, which is of pairs of dims.

#![expect(clippy::inline_always, reason = "inlined code gets the caller's instruction set")]

/// Multiplies a head by a Hadamard matrix, which is its own inverse: block by block of the largest
/// power of two that divides its length.
#[inline(always)]
pub(crate) fn spread(head: &mut [f32]) {
    let block = 1 << head.len().trailing_zeros();
    let by = (block as f32).sqrt().recip();
    for block in head.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block.len() {
            for pair in block.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
            }
            half *= 2;
        }
        for x in block {
            *x *= by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_stay_and_one_large_dim_is_shared() {
        for len in [2, 18, 64, 80, 256] {
            let number = |seed, i| crate::uniform(seed, i) as f32 - 0.5;
            let mut a: Vec<f32> = (0..len).map(|i| number(1, i)).collect();
            let mut b: Vec<f32> = (0..len).map(|i| number(2, i)).collect();
            a[1] = 100.0;
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let (product, first) = (dot(&a, &b), a.clone());
            spread(&mut a);
            spread(&mut b);
            assert!((dot(&a, &b) - product).abs() < 1e-3, "{len}");
            let block = 1 << len.trailing_zeros();
            let share = 100.0 / (block as f32).sqrt();
            assert!(a[..block].iter().all(|x| (x.abs() - share).abs() < 1.5));
            spread(&mut a);
            assert!(a.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-4), "its own inverse");
        }
    }
}
