//! Activations in the forms products need: f32, and int8 per group of 32.
//!
//! `x ≈ scale · code` with `scale = max |x| / 127` in the group and codes from -127 to 127, rounded
//! to nearest, ties to even (ggml's `quantize_row_q8_1`). A weight `w = s · q + m` then needs
//! `Σ w x = s · scale · Σ q code + m · scale · Σ code`: the second factor, the *bias* of the group,
//! is computed here once for all weight rows. A weight `w = s · (q - z)` needs the integer
//! `Σ q code - z · Σ code`, so the sum of the codes is here too.
//!
//! A *fine* input has 16-bit codes, `256 · high + low`, in two planes of bytes, for products whose
//! rounding a model's answer would show: twice the arithmetic over the same weights.
//!
//! Groups lie as products walk them: by tile of 8 (at the end 4, 2, 1) rows, then group by group,
//! the rows of the tile side by side.

use super::strip::{TILE, Tile, tiles};
use crate::Cpu;
use crate::cpu::Disjoint;
use crate::gated::{self, Gate};
use crate::rms_norm;
use crate::simd::{Simd, Vectorized, sum_bytes};
use std::ops::Range;

/// Columns of a group.
pub(crate) const GROUP: usize = 32;

/// Elements a thread takes at least: fewer are not worth waking it.
const GRAIN: usize = 1 << 13;

/// Activations `[rows, cols]`. One `Input` is set again and again; its memory is kept.
#[derive(Clone, Debug, Default)]
pub struct Input {
    cols: usize,
    /// `[rows, cols]`.
    floats: Vec<f32>,
    /// `[tiles, cols / GROUP rounded up, rows of the tile]`.
    groups: Vec<Group>,
    /// The low bytes of 16-bit codes, in the same order; empty unless fine.
    lows: Vec<Codes>,
}

/// int8 activations of one row and [`GROUP`] columns, with all a product needs of them in one
/// place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Group {
    /// Of a fine input, the high bytes.
    pub(crate) high: Codes,
    /// What a code of 1 stands for; of a fine input, a low code of 1.
    pub(crate) scale: f32,
    /// `scale · Σ codes`, high bytes counting 256 times where there are low ones.
    pub(crate) bias: f32,
}

/// Codes of one row and [`GROUP`] columns, and their sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Codes {
    /// From -127 to 127; 0 beyond the last column.
    pub(crate) bytes: [i8; GROUP],
    /// Their sum.
    pub(crate) sum: i32,
    /// The same of either half.
    pub(crate) half_sums: [i32; 2],
}

impl Codes {
    /// Zeros.
    const ZERO: Self = Self { bytes: [0; GROUP], sum: 0, half_sums: [0; 2] };

    #[inline(always)]
    fn new(bytes: [i8; GROUP]) -> Self {
        let (halves, _) = bytes.as_chunks::<{ GROUP / 2 }>();
        let half_sums = [sum_bytes(&halves[0]), sum_bytes(&halves[1])];
        Self { bytes, sum: half_sums[0] + half_sums[1], half_sums }
    }
}

/// Bits of an activation's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeBits {
    /// To 1 part in 254 of the largest of its group.
    Eight,
    /// To 1 part in 65,000, for twice the arithmetic.
    Sixteen,
}

impl Input {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `x`, rows of `cols` numbers. A row with a NaN or an infinity gives NaN in products.
    ///
    /// # Panics
    /// When `x` is not whole rows.
    pub fn set(&mut self, cpu: &Cpu, bits: CodeBits, x: &[f32], cols: usize) {
        self.fill(cpu, bits, (x.len(), cols), |range, out| out.copy_from_slice(&x[range]));
    }

    /// Takes what [`crate::rms_norm`] makes of `x`, while it is in the caches.
    ///
    /// # Panics
    /// As [`crate::rms_norm`].
    pub fn set_normed(
        &mut self,
        cpu: &Cpu,
        bits: CodeBits,
        x: &[f32],
        (weight, eps): (&[f32], f32),
    ) {
        self.fill(cpu, bits, (x.len(), weight.len()), |range, out| {
            cpu.vectorize(rms_norm::Rows { x: &x[range], weight, eps, out });
        });
    }

    /// Takes what [`crate::gated`] makes of rows of `cols` gates and values, `g` and `u`, while it is
    /// in the caches.
    ///
    /// # Panics
    /// When the lengths differ, or are not whole rows.
    pub fn set_gated(
        &mut self,
        cpu: &Cpu,
        bits: CodeBits,
        gate: Gate,
        (g, u): (&[f32], &[f32]),
        cols: usize,
    ) {
        assert_eq!(g.len(), u.len(), "one gate per value");
        self.fill(cpu, bits, (g.len(), cols), |range, out| {
            cpu.vectorize(gated::Elements { gate, g: &g[range.clone()], u: &u[range], out });
        });
    }

    /// Takes `len` numbers in rows of `cols`: tile by tile, `make` writes the numbers of a range.
    fn fill(
        &mut self,
        cpu: &Cpu,
        bits: CodeBits,
        (len, cols): (usize, usize),
        make: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        assert!(cols > 0 && len.is_multiple_of(cols), "whole rows");
        let (rows, per_row) = (len / cols, cols.div_ceil(GROUP));
        let fine = if bits == CodeBits::Sixteen { rows * per_row } else { 0 };
        self.cols = cols;
        self.floats.resize(len, 0.0);
        self.groups.resize(rows * per_row, Group::ZERO);
        self.lows.resize(fine, Codes::ZERO);
        let floats = Disjoint::new(&mut self.floats);
        let groups = Disjoint::new(&mut self.groups);
        let lows = Disjoint::new(&mut self.lows);
        cpu.split(rows.div_ceil(TILE), GRAIN / (TILE * cols), |range| {
            for tile in tiles(range.start * TILE..(range.end * TILE).min(rows)) {
                let elements = tile.first * cols..(tile.first + tile.len) * cols;
                let of_tile = tile.first * per_row..(tile.first + tile.len) * per_row;
                let of_lows = of_tile.start.min(fine)..of_tile.end.min(fine);
                // SAFETY: every tile, and what lies in its ranges, is one task's.
                let (x, groups, lows) = unsafe {
                    (floats.range(elements.clone()), groups.range(of_tile), lows.range(of_lows))
                };
                make(elements, x);
                cpu.vectorize(Quantize { x, cols, tile, groups, lows });
            }
        });
    }

    /// Tokens.
    pub fn rows(&self) -> usize {
        self.floats.len().checked_div(self.cols).unwrap_or(0)
    }

    /// Numbers per token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The f32 activations of a token.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.floats[row * self.cols..][..self.cols]
    }

    /// The int8 activations of a token as the numbers they stand for: what products with
    /// quantized weights really multiply.
    ///
    /// # Panics
    /// When `out` is not `cols` long.
    pub fn row_quantized(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "one number per column");
        out.fill(0.0);
        let tile = tiles(0..self.rows()).find(|tile| row < tile.first + tile.len);
        let tile = tile.expect("a row of the input");
        for (g, out) in out.chunks_mut(GROUP).enumerate() {
            let at = g * tile.len + row - tile.first;
            let group = &self.tile(tile)[at];
            for (i, out) in out.iter_mut().enumerate() {
                let high = i32::from(group.high.bytes[i]);
                let code = self
                    .tile_lows(tile)
                    .map_or(high, |lows| high * 256 + i32::from(lows[at].bytes[i]));
                *out = code as f32 * group.scale;
            }
        }
    }

    /// The int8 activations of a tile, `[groups of a row, rows of the tile]`. Tiles are those of
    /// [`tiles`] over all rows.
    #[inline(always)]
    pub(super) fn tile(&self, tile: Tile) -> &[Group] {
        &self.groups[self.range(tile)]
    }

    /// The low bytes of the codes of a tile; none unless fine.
    #[inline(always)]
    pub(super) fn tile_lows(&self, tile: Tile) -> Option<&[Codes]> {
        self.lows.get(self.range(tile)).filter(|lows| !lows.is_empty())
    }

    #[inline(always)]
    fn range(&self, tile: Tile) -> Range<usize> {
        let per_row = self.cols.div_ceil(GROUP);
        tile.first * per_row..(tile.first + tile.len) * per_row
    }
}

impl Group {
    /// Zeros.
    const ZERO: Self = Self { high: Codes::ZERO, scale: 0.0, bias: 0.0 };

    /// Codes and scale of 8 bits; with `LOWS`, of 16.
    #[inline(always)]
    fn quantize<const LOWS: bool>(x: &[f32; GROUP], lows: &mut Codes) -> Self {
        // The bits of |x| order as the numbers do, with infinity and NaN above all: a NaN makes
        // the scale NaN. Integer maxima are vectorized, float ones are not.
        let max = x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
        let max = f32::from_bits(max);
        // Below, 127 / max overflows.
        let (scale, inverse) = if max < 1e-30 { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) };
        let mut codes = [0; GROUP];
        for (code, x) in codes.iter_mut().zip(x) {
            *code = rounded(x * inverse) as i8;
        }
        let high = Codes::new(codes);
        let (mut unit, mut sum) = (scale, high.sum);
        if LOWS {
            let mut low_codes = [0; GROUP];
            for ((low, &high), x) in low_codes.iter_mut().zip(&codes).zip(x) {
                // At most half a high code is left, 128 low ones: one more than there are.
                let left = rounded((x - f32::from(high) * scale) * inverse * 256.0);
                *low = left.min(127) as i8;
            }
            *lows = Codes::new(low_codes);
            unit = scale / 256.0;
            sum = high.sum * 256 + lows.sum;
        }
        Self { high, scale: unit, bias: sum as f32 * unit }
    }
}

/// `x`, which lies well within 22 bits, as the nearest integer, ties to even; of NaN anything.
#[inline(always)]
fn rounded(x: f32) -> i32 {
    // Adding 1.5 · 2^23 leaves the rounded number in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits().cast_signed().wrapping_sub(SHIFT.to_bits().cast_signed())
}

/// Codes `4q` to `4q + 3`.
#[inline(always)]
pub(super) fn quad(codes: &[i8; GROUP], q: usize) -> [i8; 4] {
    let [a, b, c, d] = codes[4 * q..4 * q + 4] else { unreachable!("four of them") };
    [a, b, c, d]
}

struct Quantize<'a> {
    /// The rows of one tile.
    x: &'a [f32],
    cols: usize,
    tile: Tile,
    groups: &'a mut [Group],
    /// Empty unless fine.
    lows: &'a mut [Codes],
}

impl Vectorized for Quantize<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        if self.lows.is_empty() { self.rows::<false>() } else { self.rows::<true>() }
    }
}

impl Quantize<'_> {
    #[inline(always)]
    fn rows<const LOWS: bool>(self) {
        let mut none = Codes::ZERO;
        for (row, x) in self.x.chunks_exact(self.cols).enumerate() {
            for (g, x) in x.chunks(GROUP).enumerate() {
                let at = g * self.tile.len + row;
                let lows = if LOWS { &mut self.lows[at] } else { &mut none };
                self.groups[at] = if let Some(x) = x.as_array() {
                    Group::quantize::<LOWS>(x, lows)
                } else {
                    let mut padded = [0.0; GROUP];
                    padded[..x.len()].copy_from_slice(x);
                    Group::quantize::<LOWS>(&padded, lows)
                };
            }
        }
    }
}
