//! Activations in the forms products need: f32, and int8 per group of 32.
//!
//! `x ≈ scale · code` with `scale = max |x| / 127` in the group and codes from -127 to 127, rounded
//! to nearest, ties to even (ggml's `quantize_row_q8_1`). A weight `w = s · q + m` then needs
//! `Σ w x = s · scale · Σ q code + m · scale · Σ code`: the second factor, the *bias* of the group,
//! is computed here once for all weight rows. A weight `w = s · (q - z)` needs the integer
//! `Σ q code - z · Σ code`, so the sum of the codes is here too.
//!
//! Where a model's answer would show the rounding, groups are *refined*: what the codes left of them
//! is quantized once more, and products add it. Error lies where numbers are large, so [`Refine`]
//! may ask it for outliers alone: for the groups that hold more than [`OUTLIER`] of their row's error,
//! a few of them where a model has outliers at all.
//!
//! Groups lie as products walk them: by tile of [`TILE`] rows (fewer at the end), then group by group,
//! the rows of the tile side by side. Rests lie by [`BLOCK`] of rows, then group by group, since
//! outliers of many rows are in the same groups.

use super::strip::{TILE, Tile, tiles};
use crate::Cpu;
use crate::cpu::Disjoint;
use crate::gated::{self, Gate};
use crate::rms_norm;
use crate::simd::{Simd, Vectorized, sum_bytes};
use std::ops::Range;

/// Columns of a group.
pub(crate) const GROUP: usize = 32;

/// Rows whose rests lie together: whole tiles.
pub(super) const BLOCK: usize = 5 * TILE;

/// Share of a row's error above which a group is an outlier.
const OUTLIER: f32 = 0.1;

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
    /// What those left that are refined: of a block from `cols / GROUP` times its first row on, group
    /// by group. Empty when nothing is refined.
    rests: Vec<Group>,
    /// Which row of the block each is of.
    rest_rows: Vec<u32>,
    /// `[blocks, groups of a row + 1]`: where the rests of a group start in those of the block.
    rest_starts: Vec<u32>,
}

/// int8 activations of one row and [`GROUP`] columns, with all a product needs of them in one
/// place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Group {
    /// From -127 to 127; 0 beyond the last column.
    pub(crate) codes: [i8; GROUP],
    /// Sum of the codes.
    pub(crate) sum: i32,
    /// The same of either half.
    pub(crate) half_sums: [i32; 2],
    /// What a code of 1 stands for.
    pub(crate) scale: f32,
    /// `scale · Σ codes`.
    pub(crate) bias: f32,
}

/// The rests of a block of rows.
#[derive(Clone, Copy)]
pub(super) struct Rests<'a> {
    starts: &'a [u32],
    rows: &'a [u32],
    groups: &'a [Group],
}

/// Which groups are quantized twice. A product costs as much more as there are of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refine {
    /// None: codes are true to 1 part in 254 of the largest of their group.
    Never,
    /// Those that hold more than a tenth of their row's error.
    Outliers,
    /// All: to 1 part in 64,000.
    Always,
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
    pub fn set(&mut self, cpu: &Cpu, refine: Refine, x: &[f32], cols: usize) {
        self.fill(cpu, refine, (x.len(), cols), |range, out| out.copy_from_slice(&x[range]));
    }

    /// Takes what [`crate::rms_norm`] makes of `x`, while it is in the caches.
    ///
    /// # Panics
    /// As [`crate::rms_norm`].
    pub fn set_normed(
        &mut self,
        cpu: &Cpu,
        refine: Refine,
        x: &[f32],
        (weight, eps): (&[f32], f32),
    ) {
        self.fill(cpu, refine, (x.len(), weight.len()), |range, out| {
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
        refine: Refine,
        gate: Gate,
        (g, u): (&[f32], &[f32]),
        cols: usize,
    ) {
        assert_eq!(g.len(), u.len(), "one gate per value");
        self.fill(cpu, refine, (g.len(), cols), |range, out| {
            cpu.vectorize(gated::Elements { gate, g: &g[range.clone()], u: &u[range], out });
        });
    }

    /// Takes `len` numbers in rows of `cols`: tile by tile, `make` writes the numbers of a range.
    fn fill(
        &mut self,
        cpu: &Cpu,
        refine: Refine,
        (len, cols): (usize, usize),
        make: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        assert!(cols > 0 && len.is_multiple_of(cols), "whole rows");
        let (rows, per_row) = (len / cols, cols.div_ceil(GROUP));
        self.cols = cols;
        self.floats.resize(len, 0.0);
        self.groups.resize(rows * per_row, Group::ZERO);
        let floats = Disjoint::new(&mut self.floats);
        let groups = Disjoint::new(&mut self.groups);
        cpu.split(rows.div_ceil(TILE), GRAIN / (TILE * cols), |range| {
            for tile in tiles(range.start * TILE..(range.end * TILE).min(rows)) {
                let of_rows = tile.first..tile.first + tile.len;
                let elements = of_rows.start * cols..of_rows.end * cols;
                let of_tile = of_rows.start * per_row..of_rows.end * per_row;
                // SAFETY: every tile, and what lies in its ranges, is one task's.
                let (x, groups) =
                    unsafe { (floats.range(elements.clone()), groups.range(of_tile)) };
                make(elements, x);
                cpu.vectorize(Quantize { x, cols, tile, groups });
            }
        });
        self.refine(cpu, refine);
    }

    /// Quantizes what the codes left of the groups that are to be refined.
    fn refine(&mut self, cpu: &Cpu, refine: Refine) {
        let (rows, per_row) = (self.rows(), self.cols.div_ceil(GROUP));
        let again = if refine == Refine::Never { 0 } else { rows };
        let blocks = again.div_ceil(BLOCK);
        let mut rests = std::mem::take(&mut self.rests);
        let mut rest_rows = std::mem::take(&mut self.rest_rows);
        let mut starts = std::mem::take(&mut self.rest_starts);
        rests.resize(again * per_row, Group::ZERO);
        rest_rows.resize(again * per_row, 0);
        starts.resize(blocks * (per_row + 1), 0);
        let least = if refine == Refine::Always { -1.0 } else { OUTLIER };
        let each = Disjoint::new(&mut rests);
        let each_row = Disjoint::new(&mut rest_rows);
        let each_start = Disjoint::new(&mut starts);
        cpu.for_each(blocks, |block| {
            let of_rows = block * BLOCK..((block + 1) * BLOCK).min(rows);
            let room = of_rows.start * per_row..of_rows.end * per_row;
            let of_starts = block * (per_row + 1)..(block + 1) * (per_row + 1);
            // SAFETY: every block, and what lies in its ranges, is one task's.
            let (rests, rows, starts) = unsafe {
                (each.range(room.clone()), each_row.range(room), each_start.range(of_starts))
            };
            let of = &*self;
            cpu.vectorize(QuantizeRests { of, of_rows, least, rests, rows, starts });
        });
        (self.rests, self.rest_rows, self.rest_starts) = (rests, rest_rows, starts);
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
            self.tile(tile)[g * tile.len + row - tile.first].add_to(out);
        }
        let Some(rests) = self.rests(row / BLOCK) else { return };
        for (g, out) in out.chunks_mut(GROUP).enumerate() {
            let (rows, rests) = rests.of_group(g);
            for (_, rest) in rows.iter().zip(rests).filter(|(of, _)| **of as usize == row % BLOCK) {
                rest.add_to(out);
            }
        }
    }

    /// The int8 activations of a tile, `[groups of a row, rows of the tile]`. Tiles are those of
    /// [`tiles`] over all rows.
    #[inline(always)]
    pub(super) fn tile(&self, tile: Tile) -> &[Group] {
        &self.groups[self.range(tile)]
    }

    /// What was left of the groups of a block's rows that are refined; `None` where none ever is.
    #[inline(always)]
    pub(super) fn rests(&self, block: usize) -> Option<Rests<'_>> {
        let per_row = self.cols.div_ceil(GROUP);
        let starts = self.rest_starts.chunks_exact(per_row + 1).nth(block)?;
        let first = block * BLOCK * per_row;
        Some(Rests { starts, rows: &self.rest_rows[first..], groups: &self.rests[first..] })
    }

    /// Whether groups may have rests.
    pub(super) fn is_refined(&self) -> bool {
        !self.rest_starts.is_empty()
    }

    #[inline(always)]
    fn range(&self, tile: Tile) -> Range<usize> {
        let per_row = self.cols.div_ceil(GROUP);
        tile.first * per_row..(tile.first + tile.len) * per_row
    }
}

impl<'a> Rests<'a> {
    /// Those of group `g`, and which row of the block each is of.
    #[inline(always)]
    pub(super) fn of_group(self, g: usize) -> (&'a [u32], &'a [Group]) {
        let range = self.starts[g] as usize..self.starts[g + 1] as usize;
        (&self.rows[range.clone()], &self.groups[range])
    }

    /// Those of some groups, group by group.
    #[inline(always)]
    pub(super) fn of_groups(self, groups: Range<usize>) -> &'a [Group] {
        &self.groups[self.starts[groups.start] as usize..self.starts[groups.end] as usize]
    }
}

impl Group {
    /// Zeros.
    const ZERO: Self = Self { codes: [0; GROUP], sum: 0, half_sums: [0; 2], scale: 0.0, bias: 0.0 };

    /// Of up to [`GROUP`] numbers.
    #[inline(always)]
    fn of(x: &[f32]) -> Self {
        if let Some(x) = x.as_array() {
            return Self::quantize(x);
        }
        let mut padded = [0.0; GROUP];
        padded[..x.len()].copy_from_slice(x);
        Self::quantize(&padded)
    }

    #[inline(always)]
    fn quantize(x: &[f32; GROUP]) -> Self {
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
        let (halves, _) = codes.as_chunks::<{ GROUP / 2 }>();
        let half_sums = [sum_bytes(&halves[0]), sum_bytes(&halves[1])];
        let sum = half_sums[0] + half_sums[1];
        Self { codes, sum, half_sums, scale, bias: sum as f32 * scale }
    }

    /// What the codes leave of the numbers they were made from.
    #[inline(always)]
    fn rest(&self, x: &[f32]) -> Self {
        let mut left = [0.0; GROUP];
        for ((left, x), &code) in left.iter_mut().zip(x).zip(&self.codes) {
            *left = x - f32::from(code) * self.scale;
        }
        Self::quantize(&left)
    }

    /// Adds the numbers that the codes stand for.
    fn add_to(&self, out: &mut [f32]) {
        for (out, &code) in out.iter_mut().zip(&self.codes) {
            *out += f32::from(code) * self.scale;
        }
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
}

impl Vectorized for Quantize<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for (row, x) in self.x.chunks_exact(self.cols).enumerate() {
            for (g, x) in x.chunks(GROUP).enumerate() {
                self.groups[g * self.tile.len + row] = Group::of(x);
            }
        }
    }
}

/// Quantizes again what is left of a block's rows.
struct QuantizeRests<'a> {
    of: &'a Input,
    of_rows: Range<usize>,
    /// Share of a row's error that a group must hold more than.
    least: f32,
    rests: &'a mut [Group],
    rows: &'a mut [u32],
    starts: &'a mut [u32],
}

impl Vectorized for QuantizeRests<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let Input { cols, floats, .. } = self.of;
        let mut least = [[0.0; TILE]; BLOCK / TILE];
        for (least, tile) in least.iter_mut().zip(tiles(self.of_rows.clone())) {
            *least = errors(self.of.tile(tile), tile).map(|sum| sum * self.least);
        }
        let mut len = 0;
        for g in 0..cols.div_ceil(GROUP) {
            self.starts[g] = len as u32;
            for (least, tile) in least.iter().zip(tiles(self.of_rows.clone())) {
                let groups = &self.of.tile(tile)[g * tile.len..][..tile.len];
                for (t, (group, least)) in groups.iter().zip(least).enumerate() {
                    if error(group) <= *least {
                        continue;
                    }
                    let row = tile.first + t;
                    let end = ((g + 1) * GROUP).min(*cols);
                    self.rests[len] = group.rest(&floats[row * cols + g * GROUP..row * cols + end]);
                    self.rows[len] = (row - self.of_rows.start) as u32;
                    len += 1;
                }
            }
        }
        self.starts[cols.div_ceil(GROUP)] = len as u32;
    }
}

/// The error of each row of a tile.
#[inline(always)]
fn errors(groups: &[Group], tile: Tile) -> [f32; TILE] {
    let mut errors = [0.0; TILE];
    for groups in groups.chunks_exact(tile.len) {
        for (sum, group) in errors.iter_mut().zip(groups) {
            *sum += error(group);
        }
    }
    errors
}

/// The mean square that rounding takes from a group, but for a constant factor.
#[inline(always)]
fn error(group: &Group) -> f32 {
    group.scale * group.scale
}
