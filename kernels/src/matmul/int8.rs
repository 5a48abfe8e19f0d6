//! The product of quantized weights with int8 activations.
//!
//! Invariant: an output is reduced over groups `g` in order, starting from 0, by
//! `acc = fma(dot_g · scale_g, scale_x_g, acc); acc = fma(min_g, bias_g, acc)` (with exact integer
//! `dot_g`, of a fine input `256 · high + low` rounded once), whatever the number of rows in a tile
//! and the cut into panels and columns. Where weights have a zero code and no minima, `dot_g` is of
//! codes less that zero, and the second step falls away: the sum starts at `-zero · Σ codes`.

use super::input::{self, Group, Input, quad};
use super::quantized::{Line, Quantized, Width};
use super::scales::{GroupScales, Scales};
use super::strip::{Strip, Tile, tiles};
use crate::simd::{LANES, Simd, Vectorized};

/// Scales decoded at a time: 4 KB of f32, which stay in L1 while all tiles of a panel use them. Those
/// of at least 16 groups, so of whole records, which are of 8 at most.
const DECODED: usize = 32;

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
    const SCALES: usize = 1;
    /// The code that stands for 0; 0 where there are minima instead.
    const ZERO: i32;
}

struct Four;
struct FourZero;
struct Five;
struct FiveZero;
struct SixHalves;
struct Eight;

impl Codes for Four {
    const WIDTH: Width = Width::Four;
    const ZERO: i32 = 0;
}

impl Codes for FourZero {
    const WIDTH: Width = Width::Four;
    const ZERO: i32 = 8;
}

impl Codes for Five {
    const WIDTH: Width = Width::Five;
    const ZERO: i32 = 0;
}

impl Codes for FiveZero {
    const WIDTH: Width = Width::Five;
    const ZERO: i32 = 16;
}

impl Codes for SixHalves {
    const WIDTH: Width = Width::Six;
    const SCALES: usize = 2;
    const ZERO: i32 = 32;
}

impl Codes for Eight {
    const WIDTH: Width = Width::Eight;
    const ZERO: i32 = 128;
}

impl Vectorized for Int8<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let has_minima = matches!(self.w.scales, Scales::HalfMin | Scales::Super);
        match self.w.width {
            Width::Four if has_minima => self.panels::<S, Four>(simd),
            Width::Four => self.panels::<S, FourZero>(simd),
            Width::Five if has_minima => self.panels::<S, Five>(simd),
            Width::Five => self.panels::<S, FiveZero>(simd),
            Width::Six => self.panels::<S, SixHalves>(simd),
            Width::Eight => self.panels::<S, Eight>(simd),
        }
    }
}

impl Int8<'_> {
    #[inline(always)]
    fn panels<S: Simd, C: Codes>(&self, simd: S) {
        let mut decoded = [GroupScales::ZERO; DECODED];
        for panel in self.strip.panels.clone() {
            for first in (0..self.w.groups).step_by(DECODED / C::SCALES) {
                let part = self.part::<S, C>(simd, panel, first, &mut decoded);
                self.tiles::<S, C>(simd, &part);
            }
        }
    }

    /// The part of a panel from group `first` on, as long as there is room for scales.
    #[inline(always)]
    fn part<'a, S: Simd, C: Codes>(
        &'a self,
        simd: S,
        panel: usize,
        first: usize,
        decoded: &'a mut [GroupScales; DECODED],
    ) -> Part<'a> {
        let record_groups = self.w.scales.span() / input::GROUP;
        let record_bytes = self.w.scales.record_bytes();
        let groups = first..(first + DECODED / C::SCALES).min(self.w.groups);
        let records = &self.w.records(panel)[first / record_groups * record_bytes..]
            [..groups.len() / record_groups * record_bytes];
        let decoded = &mut decoded[..groups.len() * C::SCALES];
        self.w.scales.decode(simd, records, decoded);
        let lines = &self.w.lines(panel)[first * C::LINES..groups.end * C::LINES];
        Part { lines, scales: decoded, first, panel }
    }

    /// All tiles of the strip with one part.
    #[inline(always)]
    fn tiles<S: Simd, C: Codes>(&self, simd: S, part: &Part<'_>) {
        for tile in tiles(self.strip.tokens.clone()) {
            match tile.len {
                8 => self.tile::<S, C, 8>(simd, part, tile),
                4 => self.tile::<S, C, 4>(simd, part, tile),
                2 => self.tile::<S, C, 2>(simd, part, tile),
                _ => self.tile::<S, C, 1>(simd, part, tile),
            }
        }
    }

    /// One tile of `T` tokens and one panel.
    #[inline(always)]
    fn tile<S: Simd, C: Codes, const T: usize>(&self, simd: S, part: &Part<'_>, tile: Tile) {
        let range = part.first..part.first + part.scales.len() / C::SCALES;
        let mut sums = [[0.0; LANES]; T];
        if part.first > 0 {
            self.strip.load(part.panel, tile, &mut sums);
        }
        let (x, _) = self.x.tile(tile).as_chunks::<T>();
        match self.x.tile_lows(tile) {
            None => Self::add_all::<S, C, T, false>(simd, part, (&x[range], &[]), &mut sums),
            Some(lows) => {
                let (lows, _) = lows.as_chunks::<T>();
                let x = (&x[range.clone()], &lows[range]);
                Self::add_all::<S, C, T, true>(simd, part, x, &mut sums);
            }
        }
        self.strip.store(part.panel, tile, &sums);
    }

    /// Adds the products of a part with the tile's codes: as many rows at a time as there are
    /// registers for.
    #[inline(always)]
    fn add_all<S: Simd, C: Codes, const T: usize, const FINE: bool>(
        simd: S,
        part: &Part<'_>,
        x: (&[[Group; T]], &[[input::Codes; T]]),
        sums: &mut [[f32; LANES]; T],
    ) {
        if T == 8 && S::PARTS > 1 {
            Self::add::<S, C, T, 4, FINE>(simd, part, x, sums, 0);
            Self::add::<S, C, T, 4, FINE>(simd, part, x, sums, 4);
        } else {
            Self::add::<S, C, T, T, FINE>(simd, part, x, sums, 0);
        }
    }

    /// Adds the products of a part with the codes of `R` rows of the tile from `row` on, with low
    /// bytes where `FINE`. Loops only: closures would be compiled without the caller's instruction
    /// set.
    #[inline(always)]
    fn add<S: Simd, C: Codes, const T: usize, const R: usize, const FINE: bool>(
        simd: S,
        part: &Part<'_>,
        (x, lows): (&[[Group; T]], &[[input::Codes; T]]),
        sums: &mut [[f32; LANES]; T],
        row: usize,
    ) {
        let sums = &mut sums[row..row + R];
        for lanes in 0..S::PARTS {
            let mut acc = [simd.splat(0.0); R];
            for t in 0..R {
                acc[t] = simd.load(&sums[t], lanes);
            }
            let lines = part.lines.chunks_exact(C::LINES);
            let scales = part.scales.chunks_exact(C::SCALES);
            for (g, ((lines, scales), x)) in lines.zip(scales).zip(x).enumerate() {
                let codes = unpack::<S, C>(simd, lines, lanes);
                let x = &x[row..row + R];
                let mut high = [&x[0].high; R];
                for t in 0..R {
                    high[t] = &x[t].high;
                }
                for (h, scales) in scales.iter().enumerate() {
                    let mut dots = dots::<S, C, R>(simd, &codes, &high, h);
                    if FINE {
                        let mut low = [&lows[g][0]; R];
                        for t in 0..R {
                            low[t] = &lows[g][row + t];
                        }
                        let lows = self::dots::<S, C, R>(simd, &codes, &low, h);
                        for t in 0..R {
                            dots[t] = simd.mul_add(dots[t], simd.splat(256.0), lows[t]);
                        }
                    }
                    let scale = simd.load(&scales.scale, lanes);
                    for t in 0..R {
                        let dot = simd.mul(dots[t], scale);
                        acc[t] = simd.mul_add(dot, simd.splat(x[t].scale), acc[t]);
                    }
                    if C::ZERO == 0 {
                        let min = simd.load(&scales.min, lanes);
                        for t in 0..R {
                            acc[t] = simd.mul_add(min, simd.splat(x[t].bias), acc[t]);
                        }
                    }
                }
            }
            for t in 0..R {
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
    let first = simd.codes(&lines[0].0, part);
    let mut codes = [first; 8];
    if C::LINES == 8 {
        for (codes, line) in codes.iter_mut().zip(lines) {
            *codes = simd.codes(&line.0, part);
        }
        return codes;
    }
    for j in 0..4 {
        let nibbles = simd.codes(&lines[j].0, part);
        (codes[j], codes[j + 4]) = (simd.low(nibbles), simd.high(nibbles));
    }
    match C::WIDTH {
        Width::Four | Width::Eight => {}
        Width::Five => {
            // Written out, so that every shift is by a constant. Bit `j` of quad `j` goes to bit 4.
            let bits = simd.codes(&lines[4].0, part);
            let [a, b, c, d, e, f, g, h] = codes;
            codes = [
                simd.or_bits(a, bits, 4, 1 << 4),
                simd.or_bits(b, bits, 3, 1 << 4),
                simd.or_bits(c, bits, 2, 1 << 4),
                simd.or_bits(d, bits, 1, 1 << 4),
                simd.or_bits(e, bits, 0, 1 << 4),
                simd.or_bits(f, bits, -1, 1 << 4),
                simd.or_bits(g, bits, -2, 1 << 4),
                simd.or_bits(h, bits, -3, 1 << 4),
            ];
        }
        Width::Six => {
            let pairs = (simd.codes(&lines[4].0, part), simd.codes(&lines[5].0, part));
            let [a, b, c, d, e, f, g, h] = codes;
            codes = [
                simd.or_bits(a, pairs.0, 4, 3 << 4),
                simd.or_bits(b, pairs.0, 2, 3 << 4),
                simd.or_bits(c, pairs.0, 0, 3 << 4),
                simd.or_bits(d, pairs.0, -2, 3 << 4),
                simd.or_bits(e, pairs.1, 4, 3 << 4),
                simd.or_bits(f, pairs.1, 2, 3 << 4),
                simd.or_bits(g, pairs.1, 0, 3 << 4),
                simd.or_bits(h, pairs.1, -2, 3 << 4),
            ];
        }
    }
    codes
}

/// The dot products of scale `h` of a group, codes less their zero, with every row of a tile. Row by
/// row within a quad: the sums of different rows do not wait for one another.
#[inline(always)]
fn dots<S: Simd, C: Codes, const T: usize>(
    simd: S,
    codes: &[S::Codes; 8],
    x: &[&input::Codes; T],
    h: usize,
) -> [S::F32; T] {
    let quads = 8 / C::SCALES;
    let mut dots = [simd.splat(0.0); T];
    let mut starts = [0; T];
    for t in 0..T {
        starts[t] = -C::ZERO * if C::SCALES == 1 { x[t].sum } else { x[t].half_sums[h] };
    }
    if C::LINES == 4 {
        let mut sums = [simd.dot4_from(0); T];
        for t in 0..T {
            sums[t] = simd.dot4_from(starts[t]);
        }
        for (q, &codes) in codes.iter().enumerate().skip(h * quads).take(quads) {
            for t in 0..T {
                sums[t] = simd.dot4(sums[t], codes, quad(&x[t].bytes, q));
            }
        }
        for t in 0..T {
            dots[t] = simd.dot4_sum(sums[t], starts[t]);
        }
    } else {
        let mut sums = [simd.dot8_from(0); T];
        for t in 0..T {
            sums[t] = simd.dot8_from(starts[t]);
        }
        for (q, &codes) in codes.iter().enumerate().skip(h * quads).take(quads) {
            for t in 0..T {
                sums[t] = simd.dot8(sums[t], codes, quad(&x[t].bytes, q));
            }
        }
        for t in 0..T {
            dots[t] = simd.dot8_sum(sums[t], starts[t]);
        }
    }
    dots
}
