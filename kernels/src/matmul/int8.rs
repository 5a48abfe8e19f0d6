//! The product of quantized weights with int8 activations.
//!
//! Invariant: an output is reduced over groups `g` in order, starting from 0, by
//! `acc = fma(dot_g · scale_g, scale_x_g, acc); acc = fma(min_g, bias_g, acc)` (with exact integer
//! `dot_g`), whatever the number of rows in a tile and the cut into panels. Where weights have a zero
//! code and no minima, `dot_g` is of codes less that zero, and the second step falls away: the sum
//! starts at `-zero · Σ codes`. After every [`DECODED`] scales, rests of refined groups are added in
//! the same way.

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
    /// How their products are summed.
    type Sums: Sums;
}

/// Sums of products of codes and bytes, see [`Simd`].
trait Sums {
    type Sum<S: Simd>: Copy;
    fn start<S: Simd>(simd: S, start: i32) -> Self::Sum<S>;
    fn add<S: Simd>(simd: S, sum: Self::Sum<S>, codes: S::Codes, x: [i8; 4]) -> Self::Sum<S>;
    fn sum<S: Simd>(simd: S, sum: Self::Sum<S>, start: i32) -> S::F32;
}

/// Of codes of 4 bits.
struct OfNibbles;

impl Sums for OfNibbles {
    type Sum<S: Simd> = S::Dot4;

    #[inline(always)]
    fn start<S: Simd>(simd: S, start: i32) -> S::Dot4 {
        simd.dot4_from(start)
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::Dot4, codes: S::Codes, x: [i8; 4]) -> S::Dot4 {
        simd.dot4(sum, codes, x)
    }

    #[inline(always)]
    fn sum<S: Simd>(simd: S, sum: S::Dot4, start: i32) -> S::F32 {
        simd.dot4_sum(sum, start)
    }
}

/// Of codes of up to 8 bits.
struct OfBytes;

impl Sums for OfBytes {
    type Sum<S: Simd> = S::Dot8;

    #[inline(always)]
    fn start<S: Simd>(simd: S, start: i32) -> S::Dot8 {
        simd.dot8_from(start)
    }

    #[inline(always)]
    fn add<S: Simd>(simd: S, sum: S::Dot8, codes: S::Codes, x: [i8; 4]) -> S::Dot8 {
        simd.dot8(sum, codes, x)
    }

    #[inline(always)]
    fn sum<S: Simd>(simd: S, sum: S::Dot8, start: i32) -> S::F32 {
        simd.dot8_sum(sum, start)
    }
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
    type Sums = OfNibbles;
}

impl Codes for FourZero {
    const WIDTH: Width = Width::Four;
    const ZERO: i32 = 8;
    type Sums = OfNibbles;
}

impl Codes for Five {
    const WIDTH: Width = Width::Five;
    const ZERO: i32 = 0;
    type Sums = OfBytes;
}

impl Codes for FiveZero {
    const WIDTH: Width = Width::Five;
    const ZERO: i32 = 16;
    type Sums = OfBytes;
}

impl Codes for SixHalves {
    const WIDTH: Width = Width::Six;
    const SCALES: usize = 2;
    const ZERO: i32 = 32;
    type Sums = OfBytes;
}

impl Codes for Eight {
    const WIDTH: Width = Width::Eight;
    const ZERO: i32 = 128;
    type Sums = OfBytes;
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
        Self::add_all::<S, C, T, false>(simd, part, (&x[range.clone()], &[]), &mut sums);
        let (refined, rests) = self.x.rests(tile);
        if !refined.is_empty() {
            let before = |end: usize| refined.partition_point(|&g| (g as usize) < end);
            let of_part = before(range.start)..before(range.end);
            let (rests, _) = rests.as_chunks::<T>();
            let x = (&rests[of_part.clone()], &refined[of_part]);
            Self::add_all::<S, C, T, true>(simd, part, x, &mut sums);
        }
        self.strip.store(part.panel, tile, &sums);
    }

    /// Adds the products of a part with codes of the tile, of all its groups or (`LISTED`) of those
    /// in a list: as many rows at a time as there are registers for.
    #[inline(always)]
    fn add_all<S: Simd, C: Codes, const T: usize, const LISTED: bool>(
        simd: S,
        part: &Part<'_>,
        x: (&[[Group; T]], &[u32]),
        sums: &mut [[f32; LANES]; T],
    ) {
        if T == 8 && S::PARTS > 1 {
            Self::add::<S, C, T, 4, LISTED>(simd, part, x, sums, 0);
            Self::add::<S, C, T, 4, LISTED>(simd, part, x, sums, 4);
        } else {
            Self::add::<S, C, T, T, LISTED>(simd, part, x, sums, 0);
        }
    }

    /// Adds the products of a part with the codes of `R` rows of the tile from `row` on. Loops only:
    /// closures would be compiled without the caller's instruction set.
    #[inline(always)]
    fn add<S: Simd, C: Codes, const T: usize, const R: usize, const LISTED: bool>(
        simd: S,
        part: &Part<'_>,
        (x, list): (&[[Group; T]], &[u32]),
        sums: &mut [[f32; LANES]; T],
        row: usize,
    ) {
        let sums = &mut sums[row..row + R];
        for lanes in 0..S::PARTS {
            let mut acc = [simd.splat(0.0); R];
            for t in 0..R {
                acc[t] = simd.load(&sums[t], lanes);
            }
            if LISTED {
                for (x, &g) in x.iter().zip(list) {
                    let g = g as usize - part.first;
                    let lines = &part.lines[g * C::LINES..][..C::LINES];
                    let scales = &part.scales[g * C::SCALES..][..C::SCALES];
                    let x = &x[row..row + R];
                    Operands { simd, lines, part: lanes, x }.add_to::<C, R>(scales, &mut acc);
                }
            } else {
                let lines = part.lines.chunks_exact(C::LINES);
                let scales = part.scales.chunks_exact(C::SCALES);
                for ((lines, scales), x) in lines.zip(scales).zip(x) {
                    let x = &x[row..row + R];
                    Operands { simd, lines, part: lanes, x }.add_to::<C, R>(scales, &mut acc);
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

/// The codes of column quad `Q` of a group, of which `nibbles` are the low 4 bits.
#[inline(always)]
fn whole<S: Simd, C: Codes, const Q: usize>(
    simd: S,
    (lines, part): (&[Line], usize),
    nibbles: S::Codes,
) -> S::Codes {
    match C::WIDTH {
        Width::Four | Width::Eight => nibbles,
        // Bit `Q` goes to bit 4.
        Width::Five => {
            let bits = simd.codes(&lines[4].0, part);
            simd.or_bits(nibbles, bits, 4 - Q as i32, 1 << 4)
        }
        // Bits `2 (Q mod 4)` and the one above go to bits 4 and 5.
        Width::Six => {
            let pairs = simd.codes(&lines[4 + Q / 4].0, part);
            simd.or_bits(nibbles, pairs, 4 - 2 * (Q as i32 % 4), 3 << 4)
        }
    }
}

/// A group of weights and the rows of a tile it is multiplied with.
struct Operands<'a, S> {
    simd: S,
    lines: &'a [Line],
    /// Which lanes, see [`Simd::PARTS`].
    part: usize,
    x: &'a [Group],
}

impl<S: Simd> Operands<'_, S> {
    /// Adds the group's part of the product with `R` rows.
    #[inline(always)]
    fn add_to<C: Codes, const R: usize>(&self, scales: &[GroupScales], acc: &mut [S::F32; R]) {
        let simd = self.simd;
        for (h, scales) in scales.iter().enumerate().take(C::SCALES) {
            let dots = self.dots::<C, R>(h);
            let scale = simd.load(&scales.scale, self.part);
            for ((acc, dot), x) in acc.iter_mut().zip(dots).zip(self.x) {
                *acc = simd.mul_add(simd.mul(dot, scale), simd.splat(x.scale), *acc);
            }
            if C::ZERO == 0 {
                let min = simd.load(&scales.min, self.part);
                for (acc, x) in acc.iter_mut().zip(self.x) {
                    *acc = simd.mul_add(min, simd.splat(x.bias), *acc);
                }
            }
        }
    }

    /// The dot products of scale `h` of the group with `R` rows, codes less their zero.
    #[inline(always)]
    fn dots<C: Codes, const R: usize>(&self, h: usize) -> [S::F32; R] {
        let simd = self.simd;
        let mut starts = [0; R];
        let mut sums = [C::Sums::start(simd, 0); R];
        for t in 0..R {
            let x = &self.x[t];
            starts[t] = -C::ZERO * if C::SCALES == 1 { x.sum } else { x.half_sums[h] };
            sums[t] = C::Sums::start(simd, starts[t]);
        }
        // Written out, so that every shift of the unpacking is by a constant. Quads are unpacked when
        // it is their turn, so that unpacking goes on beside products.
        if C::LINES == 8 {
            for (q, line) in self.lines.iter().enumerate() {
                self.add::<C, R>(&mut sums, q, simd.codes(&line.0, self.part));
            }
        } else if C::SCALES == 1 {
            self.add_quads::<C, 0, 4, R>(&mut sums, true, true);
            self.add_quads::<C, 1, 5, R>(&mut sums, true, true);
            self.add_quads::<C, 2, 6, R>(&mut sums, true, true);
            self.add_quads::<C, 3, 7, R>(&mut sums, true, true);
        } else {
            self.add_quads::<C, 0, 4, R>(&mut sums, h == 0, h == 1);
            self.add_quads::<C, 1, 5, R>(&mut sums, h == 0, h == 1);
            self.add_quads::<C, 2, 6, R>(&mut sums, h == 0, h == 1);
            self.add_quads::<C, 3, 7, R>(&mut sums, h == 0, h == 1);
        }
        let mut dots = [simd.splat(0.0); R];
        for t in 0..R {
            dots[t] = C::Sums::sum(simd, sums[t], starts[t]);
        }
        dots
    }

    /// Adds the products with quad `L`, quad `H`, or both, whose nibbles share a line.
    #[inline(always)]
    fn add_quads<C: Codes, const L: usize, const H: usize, const R: usize>(
        &self,
        sums: &mut [SumOf<S, C>; R],
        low: bool,
        high: bool,
    ) {
        let (simd, from) = (self.simd, (self.lines, self.part));
        let nibbles = simd.codes(&self.lines[L].0, self.part);
        if low {
            self.add::<C, R>(sums, L, whole::<S, C, L>(simd, from, simd.low(nibbles)));
        }
        if high {
            self.add::<C, R>(sums, H, whole::<S, C, H>(simd, from, simd.high(nibbles)));
        }
    }

    /// Adds the products with quad `q`. The sums of different rows do not wait for one another.
    #[inline(always)]
    fn add<C: Codes, const R: usize>(
        &self,
        sums: &mut [SumOf<S, C>; R],
        q: usize,
        codes: S::Codes,
    ) {
        for (sum, x) in sums.iter_mut().zip(self.x) {
            *sum = C::Sums::add(self.simd, *sum, codes, quad(&x.codes, q));
        }
    }
}

/// The sums of codes `C`.
type SumOf<S, C> = <<C as Codes>::Sums as Sums>::Sum<S>;
