//! Float weights in panels of 16 rows, and their product with f32 activations.
//!
//! Weights keep the precision of the file. Invariant: an output is reduced over columns in order,
//! starting from 0, by `acc = fma(w_c, x_c, acc)`, whatever the number of rows in a tile.

use super::strip::{Strip, Tile};
use crate::memory::{Arena, Array, Plain};
use crate::simd::{LANES, Simd, Vectorized};
use crate::{BlockFormat, Cpu, Input};
use std::ops::Range;

/// Repacked weights: `[panels, cols]` times 16 rows.
#[derive(Clone)]
pub(super) enum Floats {
    F32(Array<[f32; LANES]>),
    F16(Array<[u16; LANES]>),
    Bf16(Array<[u16; LANES]>),
}

impl Floats {
    /// Repacks rows of `cols` numbers of a float format. The caller has checked the shape.
    pub(super) fn pack(
        (cpu, arena): (&Cpu, &mut Arena),
        format: BlockFormat,
        cols: usize,
        bytes: &[u8],
    ) -> Self {
        let (pairs, _) = bytes.as_chunks::<2>();
        let bits = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes);
        match format {
            BlockFormat::F16 => Self::F16(interleave((cpu, arena), cols, pairs, bits)),
            BlockFormat::Bf16 => Self::Bf16(interleave((cpu, arena), cols, pairs, bits)),
            _ => {
                let (quads, _) = bytes.as_chunks::<4>();
                let floats = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
                Self::F32(interleave((cpu, arena), cols, quads, floats))
            }
        }
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F32(lanes) => size_of_val(&**lanes),
            Self::F16(lanes) | Self::Bf16(lanes) => size_of_val(&**lanes),
        }
    }

    /// Writes row `row` as f32.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let (first, lane) = (row / LANES * out.len(), row % LANES);
        match self {
            Self::F32(w) => gather(&w[first..], lane, out, |w| *w),
            Self::F16(w) => gather(&w[first..], lane, out, |&w| half::f16::from_bits(w).to_f32()),
            Self::Bf16(w) => gather(&w[first..], lane, out, |&w| half::bf16::from_bits(w).to_f32()),
        }
    }
}

/// Rows of `cols` elements to panels of 16 rows, column by column.
fn interleave<B: Sync, T: Copy + Send>(
    (cpu, arena): (&Cpu, &mut Arena),
    cols: usize,
    elements: &[B],
    value: impl Fn(&B) -> T + Sync,
) -> Array<[T; LANES]>
where
    [T; LANES]: Plain,
{
    let panels = (elements.len() / cols).div_ceil(LANES);
    let mut lanes = arena.zeroed::<[T; LANES]>(panels * cols);
    cpu.split_rows(&mut lanes, cols, 1, |first, lanes| {
        for (panel, lanes) in lanes.chunks_exact_mut(cols).enumerate() {
            let rows = elements.chunks_exact(cols).skip((first + panel) * LANES).take(LANES);
            for (lane, row) in rows.enumerate() {
                lanes.iter_mut().zip(row).for_each(|(to, from)| to[lane] = value(from));
            }
        }
    });
    lanes.finish()
}

fn gather<T>(from: &[[T; LANES]], lane: usize, out: &mut [f32], value: impl Fn(&T) -> f32) {
    out.iter_mut().zip(from).for_each(|(out, lanes)| *out = value(&lanes[lane]));
}

/// Some panels of a product.
pub(super) struct FloatProduct<'a> {
    pub(super) w: &'a Floats,
    pub(super) x: &'a Input,
    pub(super) strip: Strip<'a>,
}

impl Vectorized for FloatProduct<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.w {
            Floats::F32(w) => self.panels(simd, w, |w, part| simd.load(w, part)),
            Floats::F16(w) => self.panels(simd, w, |w, part| simd.load_f16(w, part)),
            Floats::Bf16(w) => self.panels(simd, w, |w, part| simd.load_bf16(w, part)),
        }
    }
}

impl FloatProduct<'_> {
    #[inline(always)]
    fn panels<S: Simd, T>(&self, simd: S, w: &[T], load: impl Fn(&T, usize) -> S::F32 + Copy) {
        let cols = self.x.cols();
        for panel in self.strip.panels.clone() {
            let w = &w[panel * cols..][..cols];
            for tile in register_tiles(self.strip.tokens.clone()) {
                match tile.len {
                    8 => self.tile::<S, T, 8>(simd, (panel, w), tile, load),
                    4 => self.tile::<S, T, 4>(simd, (panel, w), tile, load),
                    2 => self.tile::<S, T, 2>(simd, (panel, w), tile, load),
                    _ => self.tile::<S, T, 1>(simd, (panel, w), tile, load),
                }
            }
        }
    }

    /// One tile of `N` tokens and one panel.
    #[inline(always)]
    fn tile<S: Simd, T, const N: usize>(
        &self,
        simd: S,
        (panel, w): (usize, &[T]),
        tile: Tile,
        load: impl Fn(&T, usize) -> S::F32,
    ) {
        let mut x = [[].as_slice(); N];
        for (t, x) in x.iter_mut().enumerate() {
            *x = &self.x.row(tile.first + t)[..w.len()];
        }
        for part in 0..S::PARTS {
            let mut acc = [simd.splat(0.0); N];
            for (c, w) in w.iter().enumerate() {
                let w = load(w, part);
                for t in 0..N {
                    acc[t] = simd.mul_add(w, simd.splat(x[t][c]), acc[t]);
                }
            }
            for (t, &acc) in acc.iter().enumerate() {
                self.strip.store(simd, (panel, tile.first + t), [acc], part);
            }
        }
    }
}

/// Cuts tokens into as many as registers hold: 8, then 4, 2 and 1 of what is left.
#[inline(always)]
fn register_tiles(tokens: Range<usize>) -> impl Iterator<Item = Tile> {
    let mut first = tokens.start;
    std::iter::from_fn(move || {
        let log = (tokens.end - first).checked_ilog2()?;
        let tile = Tile { first, len: 1 << log.min(3) };
        first += tile.len;
        Some(tile)
    })
}
