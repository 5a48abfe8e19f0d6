//! The product of quantized weights with int8 activations.
//!
//! Invariant: an output is reduced over groups `g` in order, starting from 0, by
//! `acc = fma(dot_g · scale_g, scale_x_g, acc); acc = fma(min_g, bias_g, acc)` (with exact integer
//! `dot_g`), whatever the number of rows in a tile and the cut into panels and columns. A fine
//! input's second plane follows the first after each [`DECODED`] scales, again in any tile.

use super::input::{Group, Input};
use super::quantized::{Line, Quantized, Width};
use super::scales::GroupScales;
use super::strip::{Strip, Tile, tiles};
use crate::simd::{LANES, Simd, Vectorized};

/// Scales decoded at a time: 16 KB of f32, which stay in L1 while all tiles of a panel use them.
const DECODED: usize = 128;

/// Some panels of a product.
pub(super) struct Int8<'a> {
    pub(super) w: &'a Quantized,
    pub(super) x: &'a Input,
    pub(super) strip: Strip<'a>,
}

/// How codes are stored and scaled.
trait Codes {
    const WIDTH: Width;
    /// Lines of a group.
    const LINES: usize = Self::WIDTH.lines();
    /// Scales of a group: 1, or 2 for its halves.
    const SCALES: usize;
}

struct Four;
struct Five;
struct SixHalves;
struct Eight;

impl Codes for Four {
    const WIDTH: Width = Width::Four;
    const SCALES: usize = 1;
}

impl Codes for Five {
    const WIDTH: Width = Width::Five;
    const SCALES: usize = 1;
}

impl Codes for SixHalves {
    const WIDTH: Width = Width::Six;
    const SCALES: usize = 2;
}

impl Codes for Eight {
    const WIDTH: Width = Width::Eight;
    const SCALES: usize = 1;
}

impl Vectorized for Int8<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.w.width {
            Width::Four => self.panels::<S, Four>(simd),
            Width::Five => self.panels::<S, Five>(simd),
            Width::Six => self.panels::<S, SixHalves>(simd),
            Width::Eight => self.panels::<S, Eight>(simd),
        }
    }
}

impl Int8<'_> {
    #[inline(always)]
    fn panels<S: Simd, C: Codes>(&self, simd: S) {
        let record_groups = self.w.scales.span() / super::input::GROUP;
        let record_bytes = self.w.scales.record_bytes();
        // Whole records: 128 scales are at least 64 groups, and records at most 8.
        let step = DECODED / C::SCALES;
        let mut decoded = [GroupScales::ZERO; DECODED];
        for panel in self.strip.panels.clone() {
            let (lines, records) = (self.w.lines(panel), self.w.records(panel));
            for first in (0..self.w.groups).step_by(step) {
                let groups = first..(first + step).min(self.w.groups);
                let records = &records[first / record_groups * record_bytes..]
                    [..groups.len() / record_groups * record_bytes];
                let decoded = &mut decoded[..groups.len() * C::SCALES];
                self.w.scales.decode(simd, records, decoded);
                let part = Part {
                    lines: &lines[first * C::LINES..groups.end * C::LINES],
                    scales: decoded,
                    first,
                    panel,
                };
                for tile in tiles(self.strip.tokens.clone()) {
                    match tile.len {
                        8 => self.tile::<S, C, 8>(simd, &part, tile),
                        4 => self.tile::<S, C, 4>(simd, &part, tile),
                        2 => self.tile::<S, C, 2>(simd, &part, tile),
                        _ => self.tile::<S, C, 1>(simd, &part, tile),
                    }
                }
            }
        }
    }

    /// One tile of `T` tokens and one panel.
    #[inline(always)]
    fn tile<S: Simd, C: Codes, const T: usize>(&self, simd: S, part: &Part<'_>, tile: Tile) {
        let groups = part.scales.len() / C::SCALES;
        let mut sums = [[0.0; LANES]; T];
        if part.first > 0 {
            self.strip.load(part.panel, tile, &mut sums);
        }
        for plane in 0..self.x.planes() {
            let x: [&[Group]; T] = std::array::from_fn(|t| {
                &self.x.row_groups(plane, tile.first + t)[part.first..part.first + groups]
            });
            Self::add_plane::<S, C, T>(simd, part, &x, &mut sums);
        }
        self.strip.store(part.panel, tile, &sums);
    }

    /// Adds the products of one plane of the tile's codes to `sums`.
    #[inline(always)]
    fn add_plane<S: Simd, C: Codes, const T: usize>(
        simd: S,
        part: &Part<'_>,
        x: &[&[Group]; T],
        sums: &mut [[f32; LANES]; T],
    ) {
        for lanes in 0..S::PARTS {
            let mut acc = sums.each_ref().map(|sums| simd.load(sums, lanes));
            let lines = part.lines.chunks_exact(C::LINES);
            let scales = part.scales.chunks_exact(C::SCALES);
            for (g, (lines, scales)) in lines.zip(scales).enumerate() {
                let codes = unpack::<S, C>(simd, lines, lanes);
                for (h, scales) in scales.iter().enumerate() {
                    let scale = simd.load(&scales.scale, lanes);
                    let min = simd.load(&scales.min, lanes);
                    for t in 0..T {
                        let x = &x[t][g];
                        let dot = dot::<S, C>(simd, &codes, x, h);
                        let bias = if C::SCALES == 1 { x.bias } else { x.half_bias[h] };
                        acc[t] = simd.mul_add(simd.mul(dot, scale), simd.splat(x.scale), acc[t]);
                        acc[t] = simd.mul_add(min, simd.splat(bias), acc[t]);
                    }
                }
            }
            for t in 0..T {
                simd.store(acc[t], &mut sums[t], lanes);
            }
        }
    }
}

/// Some groups of a panel.
struct Part<'a> {
    panel: usize,
    /// The first group.
    first: usize,
    lines: &'a [Line],
    scales: &'a [GroupScales],
}

/// The 8 column quads of a group.
#[inline(always)]
fn unpack<S: Simd, C: Codes>(simd: S, lines: &[Line], part: usize) -> [S::Codes; 8] {
    let load = |line: usize| simd.codes(&lines[line].0, part);
    if C::LINES == 8 {
        return [load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)];
    }
    let [a, b, c, d] = [load(0), load(1), load(2), load(3)];
    let low = |line| simd.low(line);
    let high = |line| simd.high(line);
    let [a, b, c, d, e, f, g, h] =
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)];
    match C::WIDTH {
        Width::Four | Width::Eight => [a, b, c, d, e, f, g, h],
        Width::Five => {
            let bits = load(4);
            // Bit `j` of quad `j` goes to bit 4.
            let with = |nibbles, left| simd.or_bits(nibbles, bits, left, 1 << 4);
            [
                with(a, 4),
                with(b, 3),
                with(c, 2),
                with(d, 1),
                with(e, 0),
                with(f, -1),
                with(g, -2),
                with(h, -3),
            ]
        }
        Width::Six => {
            let pairs = [load(4), load(5)];
            let with = |nibbles, of: usize, left| simd.or_bits(nibbles, pairs[of], left, 3 << 4);
            [
                with(a, 0, 4),
                with(b, 0, 2),
                with(c, 0, 0),
                with(d, 0, -2),
                with(e, 1, 4),
                with(f, 1, 2),
                with(g, 1, 0),
                with(h, 1, -2),
            ]
        }
    }
}

/// The dot products of scale `h` of a group.
#[inline(always)]
fn dot<S: Simd, C: Codes>(simd: S, codes: &[S::Codes; 8], x: &Group, h: usize) -> S::F32 {
    let quads = 8 / C::SCALES;
    let (x, _) = x.codes.as_chunks::<4>();
    if C::LINES == 4 {
        let mut sum = simd.dot4_zero();
        for q in h * quads..(h + 1) * quads {
            sum = simd.dot4(sum, codes[q], x[q]);
        }
        simd.dot4_sum(sum)
    } else {
        let mut sum = simd.dot8_zero();
        for q in h * quads..(h + 1) * quads {
            sum = simd.dot8(sum, codes[q], x[q]);
        }
        simd.dot8_sum(sum)
    }
}
