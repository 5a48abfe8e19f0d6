//! The product of quantized weights with int8 activations.
//!
//! Invariant: an output is reduced over groups `g` in order, starting from 0, by
//! `acc = fma(dot_g · scale_g, scale_x_g, acc); acc = fma(min_g, bias_g, acc)` (with exact integer
//! `dot_g`), whatever the number of rows in a tile and the cut into panels, and whether codes are
//! unpacked for each tile or once for all. Where weights have a zero
//! code and no minima, `dot_g` is of codes less that zero, and the second step falls away: the sum
//! starts at `-zero · Σ codes`. After every [`DECODED`] scales, rests of refined groups are added in
//! the same way.
//!
//! What a thread does most is [`Product`]: some rows of activations with one or two panels, all of
//! it in registers. Each of its forms is compiled as a function of its own, for every instruction
//! set that can use it ([`Simd::ROWS`], [`Simd::PANELS`]).

use super::input::{self, BLOCK, Group, Input, Rests, quad};
use super::quantized::{Line, Quantized, Width};
use super::scales::{GroupScales, Scales};
use super::strip::{Strip, TILE, Tile, tiles};
use crate::simd::lanes::prefetch_behind;
use crate::simd::{Simd, Vectorized};
use std::array;
use std::marker::PhantomData;
use std::ops::Range;

/// Scales decoded at a time, those of whole records, which have 16 at most: with the codes of their
/// groups unpacked they are 25 KB for two panels, which stay in L1 while all tiles use them.
const DECODED: usize = 20;

/// The same where codes are streamed, which leaves them L1 alone.
const DECODED_STREAMED: usize = 64;

/// Lines of a group whose codes are unpacked: one for each column quad.
const QUADS: usize = input::GROUP / 4;

/// Lines between those that one row is multiplied with and those that are fetched meanwhile: what a
/// core takes in the time of an access to memory, and across the bounds of pages, where the
/// machine's own fetching ahead stops.
const AHEAD: usize = 64;

/// Rows from which on codes are unpacked once for all tiles.
pub(super) const UNPACKED_ROWS: usize = 2 * TILE;

/// Panels that are multiplied together where there are registers for them, and rows enough.
pub(super) const PANELS: usize = 2;

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
    /// They come from memory, and not from a part that was unpacked before.
    const STREAMED: bool = true;
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
    fn scaled<S: Simd>(simd: S, sum: Self::Sum<S>, start: i32, scale: S::F32) -> S::F32;
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
    fn scaled<S: Simd>(simd: S, sum: S::Dot4, start: i32, scale: S::F32) -> S::F32 {
        simd.dot4_scaled(sum, start, scale)
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
    fn scaled<S: Simd>(simd: S, sum: S::Dot8, start: i32, scale: S::F32) -> S::F32 {
        simd.dot8_scaled(sum, start, scale)
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

/// Codes `C`, each in a byte.
struct Unpacked<C>(PhantomData<C>);

impl<C: Codes> Codes for Unpacked<C> {
    const WIDTH: Width = C::WIDTH;
    const LINES: usize = QUADS;
    const STREAMED: bool = false;
    const SCALES: usize = C::SCALES;
    const ZERO: i32 = C::ZERO;
    type Sums = C::Sums;
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
        let mut panels = self.strip.panels.clone();
        if self.strip.tokens.len() < UNPACKED_ROWS {
            // Rests are added part by part, so what is refined has the same parts for any rows.
            let most = if self.x.is_refined() { DECODED } else { DECODED_STREAMED };
            let mut decoded = [GroupScales::ZERO; DECODED_STREAMED];
            for panel in panels {
                self.packed::<S, C>(simd, panel, &mut decoded[..most]);
            }
            return;
        }
        let (mut first, mut second) = (Lines::ZERO, Lines::ZERO);
        let mut unpacked = [&mut first, &mut second];
        while !panels.is_empty() {
            if const { S::PANELS >= PANELS } && panels.len() >= PANELS {
                self.unpacked::<S, C, PANELS>(simd, &mut panels, &mut unpacked);
            } else {
                self.unpacked::<S, C, 1>(simd, &mut panels, &mut unpacked);
            }
        }
    }

    /// A panel with codes as they are.
    #[inline(always)]
    fn packed<S: Simd, C: Codes>(&self, simd: S, panel: usize, decoded: &mut [GroupScales]) {
        let groups = self.part_groups::<C>(decoded.len());
        for first in (0..self.w.groups).step_by(groups) {
            let part = self.part::<S, C>(simd, panel, first..first + groups, decoded);
            self.tokens::<S, C, 1>(simd, &[part]);
        }
    }

    /// The next `P` panels, their codes unpacked first where that is worth it.
    #[inline(always)]
    fn unpacked<S: Simd, C: Codes, const P: usize>(
        &self,
        simd: S,
        panels: &mut Range<usize>,
        to: &mut [&mut Lines; PANELS],
    ) {
        let panel = panels.start;
        panels.start += P;
        let mut decoded = [[GroupScales::ZERO; DECODED]; P];
        let groups = self.part_groups::<C>(DECODED);
        for first in (0..self.w.groups).step_by(groups) {
            let mut parts = [Part::EMPTY; P];
            for (p, (part, decoded)) in parts.iter_mut().zip(&mut decoded).enumerate() {
                *part = self.part::<S, C>(simd, panel + p, first..first + groups, decoded);
            }
            if const { S::ROWS > 1 && C::LINES < QUADS } {
                for (part, to) in parts.iter_mut().zip(to.iter_mut()) {
                    part.lines = part.unpack::<S, C>(simd, to);
                }
                self.tokens::<S, Unpacked<C>, P>(simd, &parts);
            } else {
                self.tokens::<S, C, P>(simd, &parts);
            }
        }
    }

    /// Groups of a part of at most `scales`: whole records, and parts as even as those allow.
    fn part_groups<C: Codes>(&self, scales: usize) -> usize {
        let record = self.w.scales.span() / input::GROUP;
        let most = scales / C::SCALES / record * record;
        let parts = self.w.groups.div_ceil(most);
        self.w.groups.div_ceil(parts).next_multiple_of(record)
    }

    /// The part of a panel of these groups, as many of them as there are.
    #[inline(always)]
    fn part<'a, S: Simd, C: Codes>(
        &'a self,
        simd: S,
        panel: usize,
        groups: Range<usize>,
        decoded: &'a mut [GroupScales],
    ) -> Part<'a> {
        let record_groups = self.w.scales.span() / input::GROUP;
        let record_bytes = self.w.scales.record_bytes();
        let (first, groups) = (groups.start, groups.start..groups.end.min(self.w.groups));
        let records = &self.w.records(panel)[first / record_groups * record_bytes..]
            [..groups.len() / record_groups * record_bytes];
        let decoded = &mut decoded[..groups.len() * C::SCALES];
        self.w.scales.decode(simd, records, decoded);
        let lines = &self.w.lines(panel)[first * C::LINES..groups.end * C::LINES];
        Part { lines, scales: decoded, first, panel }
    }

    /// All tokens of the strip with a part of `P` panels: tile by tile, and after each block its
    /// rests.
    #[inline(always)]
    fn tokens<S: Simd, C: Codes, const P: usize>(&self, simd: S, parts: &[Part<'_>; P]) {
        let tokens = self.strip.tokens.clone();
        let block = if self.x.is_refined() { BLOCK } else { tokens.len() };
        for first in tokens.clone().step_by(block) {
            for tile in tiles(first..(first + block).min(tokens.end)) {
                self.tile::<S, C, P>(simd, parts, tile);
            }
            if let Some(rests) = self.x.rests(first / BLOCK) {
                for part in parts {
                    self.rests::<S, C>(simd, part, rests, first);
                }
            }
        }
    }

    /// One tile of tokens: as many rows at a time as there are registers for.
    #[inline(always)]
    fn tile<S: Simd, C: Codes, const P: usize>(&self, simd: S, parts: &[Part<'_>; P], tile: Tile) {
        let groups = parts[0].groups::<C>();
        let x = &self.x.tile(tile)[groups.start * tile.len..groups.end * tile.len];
        self.rows::<S, C, P>(simd, parts, tile, (x, parts[0].first == 0));
    }

    /// Rows `tile` with their activations, `[groups, rows]`; sums begin from 0 or go on.
    #[inline(always)]
    fn rows<S: Simd, C: Codes, const P: usize>(
        &self,
        simd: S,
        parts: &[Part<'_>; P],
        tile: Tile,
        (x, begin): (&[Group], bool),
    ) {
        let mut row = 0;
        while row < tile.len {
            let (left, token) = (tile.len - row, tile.first + row);
            let at = At { x, stride: tile.len, row, begin };
            if const { P == PANELS && S::PANELS >= PANELS } && left >= 6 {
                self.product::<S, C, P, 6>(simd, parts, at, array::from_fn(|t| token + t));
                row += 6;
                continue;
            }
            let some = match left {
                8.. if const { S::ROWS >= 8 } => 8,
                4.. if const { S::ROWS >= 4 } => 4,
                _ => 1,
            };
            for part in parts {
                let part = &[*part];
                if const { S::ROWS >= 8 } && some == 8 {
                    self.product::<S, C, 1, 8>(simd, part, at, array::from_fn(|t| token + t));
                } else if const { S::ROWS >= 4 } && some == 4 {
                    self.product::<S, C, 1, 4>(simd, part, at, array::from_fn(|t| token + t));
                } else {
                    self.product::<S, C, 1, 1>(simd, part, at, [token]);
                }
            }
            row += some;
        }
    }

    /// Adds the products of a part with the rests of a block's rows, which are counted from `first`:
    /// as many rows at a time as share a group, while there are registers for them.
    #[inline(always)]
    fn rests<S: Simd, C: Codes>(&self, simd: S, part: &Part<'_>, rests: Rests<'_>, first: usize) {
        let len = BLOCK.min(self.x.rows() - first);
        let x = rests.of_groups(part.groups::<C>());
        if x.len() == part.groups::<C>().len() * len {
            // All of them are refined.
            return self.rows::<S, C, 1>(simd, &[*part], Tile { first, len }, (x, false));
        } else if x.is_empty() {
            return;
        }
        for (g, part) in part.groups::<C>().zip(part.each_group::<C>()) {
            let (mut rows, mut x) = rests.of_group(g);
            while !rows.is_empty() {
                let token = |t: usize| first + rows[t] as usize;
                let some = if const { S::ROWS >= 8 } && rows.len() >= 8 {
                    let at = At { x: &x[..8], stride: 8, row: 0, begin: false };
                    self.product::<S, C, 1, 8>(simd, &[part], at, array::from_fn(token));
                    8
                } else if const { S::ROWS >= 4 } && rows.len() >= 4 {
                    let at = At { x: &x[..4], stride: 4, row: 0, begin: false };
                    self.product::<S, C, 1, 4>(simd, &[part], at, array::from_fn(token));
                    4
                } else {
                    let at = At { x: &x[..1], stride: 1, row: 0, begin: false };
                    self.product::<S, C, 1, 1>(simd, &[part], at, [token(0)]);
                    1
                };
                (rows, x) = (&rows[some..], &x[some..]);
            }
        }
    }

    #[inline(always)]
    fn product<S: Simd, C: Codes, const P: usize, const R: usize>(
        &self,
        simd: S,
        parts: &[Part<'_>; P],
        at: At<'_>,
        tokens: [usize; R],
    ) {
        let strip = &self.strip;
        simd.call(Product { strip, parts, at, tokens, codes: PhantomData::<C> });
    }
}

/// Room for the codes of a part, a line for each column quad.
struct Lines([Line; DECODED * QUADS]);

impl Lines {
    const ZERO: Self = Self([Line::ZERO; _]);
}

/// Some groups of a panel.
#[derive(Clone, Copy)]
struct Part<'a> {
    panel: usize,
    /// The first group.
    first: usize,
    lines: &'a [Line],
    scales: &'a [GroupScales],
}

impl<'a> Part<'a> {
    const EMPTY: Self = Self { panel: 0, first: 0, lines: &[], scales: &[] };

    /// Its codes, a line for each column quad.
    #[inline(always)]
    fn unpack<'t, S: Simd, C: Codes>(&self, simd: S, to: &'t mut Lines) -> &'t [Line] {
        let to = &mut to.0[..self.lines.len() / C::LINES * QUADS];
        for (lines, to) in self.lines.chunks_exact(C::LINES).zip(to.chunks_exact_mut(QUADS)) {
            for part in 0..S::PARTS {
                let from = (lines, part);
                unpack_quads::<S, C, 0, 4>(simd, from, to);
                unpack_quads::<S, C, 1, 5>(simd, from, to);
                unpack_quads::<S, C, 2, 6>(simd, from, to);
                unpack_quads::<S, C, 3, 7>(simd, from, to);
            }
        }
        to
    }

    #[inline(always)]
    fn groups<C: Codes>(&self) -> Range<usize> {
        self.first..self.first + self.scales.len() / C::SCALES
    }

    /// Lines and scales of each of its groups.
    #[inline(always)]
    fn weights<C: Codes>(
        &self,
    ) -> impl Iterator<Item = (&'a [Line], &'a [GroupScales])> + use<'a, C> {
        self.lines.chunks_exact(C::LINES).zip(self.scales.chunks_exact(C::SCALES))
    }

    /// Each of its groups, as a part.
    #[inline(always)]
    fn each_group<C: Codes>(&self) -> impl Iterator<Item = Self> {
        let Self { panel, .. } = *self;
        let groups = self.weights::<C>().zip(self.groups::<C>());
        groups.map(move |((lines, scales), first)| Self { panel, first, lines, scales })
    }
}

/// Writes the codes of quads `L` and `H`, whose nibbles share a line.
#[inline(always)]
fn unpack_quads<S: Simd, C: Codes, const L: usize, const H: usize>(
    simd: S,
    (lines, part): (&[Line], usize),
    to: &mut [Line],
) {
    let nibbles = simd.codes(&lines[L].0, part);
    let low = whole::<S, C, L>(simd, (lines, part), simd.low(nibbles));
    let high = whole::<S, C, H>(simd, (lines, part), simd.high(nibbles));
    simd.store_codes(low, &mut to[L].0, part);
    simd.store_codes(high, &mut to[H].0, part);
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

/// Activations of a product, `[groups, stride]`: of each group those from `row` on.
#[derive(Clone, Copy)]
struct At<'a> {
    x: &'a [Group],
    stride: usize,
    row: usize,
    /// Sums start from 0, not from what the output holds.
    begin: bool,
}

/// Adds the products of a part of `P` panels with `R` rows to the outputs of their tokens. Loops
/// only: closures would be compiled without the caller's instruction set.
struct Product<'a, C, const P: usize, const R: usize> {
    strip: &'a Strip<'a>,
    parts: &'a [Part<'a>; P],
    at: At<'a>,
    tokens: [usize; R],
    codes: PhantomData<C>,
}

impl<C: Codes, const P: usize, const R: usize> Vectorized for Product<'_, C, P, R> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { strip, parts, at, tokens, .. } = self;
        for lanes in 0..S::PARTS {
            let mut acc = [[simd.splat(0.0); R]; P];
            if !at.begin {
                for p in 0..P {
                    for t in 0..R {
                        acc[p][t] = strip.load(simd, (parts[p].panel, tokens[t]), lanes);
                    }
                }
            }
            let x = at.x.chunks_exact(at.stride);
            let (first, last) = (parts[0].weights::<C>(), parts[P - 1].weights::<C>());
            if const { P == 1 } {
                for ((lines, scales), x) in first.zip(x) {
                    let x = rows_of(x, at.row);
                    if const { C::STREAMED && R == 1 } && lanes == 0 {
                        prefetch_behind(lines, AHEAD);
                    }
                    let group = Operands { simd, lines: [lines; P], part: lanes, x };
                    group.add_to::<C>([scales; P], &mut acc);
                }
            } else {
                for (((lines, scales), (lines_2, scales_2)), x) in first.zip(last).zip(x) {
                    let x = rows_of(x, at.row);
                    let (mut both, mut both_scales) = ([lines; P], [scales; P]);
                    (both[P - 1], both_scales[P - 1]) = (lines_2, scales_2);
                    let group = Operands { simd, lines: both, part: lanes, x };
                    group.add_to::<C>(both_scales, &mut acc);
                }
            }
            for p in 0..P {
                for t in 0..R {
                    strip.store(simd, (parts[p].panel, tokens[t]), acc[p][t], lanes);
                }
            }
        }
    }
}

/// `R` rows of a group, from `row` on.
#[inline(always)]
fn rows_of<const R: usize>(x: &[Group], row: usize) -> &[Group; R] {
    x[row..].first_chunk().expect("a tile has the rows of its products")
}

/// A group of weights of `P` panels, 1 or 2, and `R` rows of activations.
struct Operands<'a, S, const P: usize, const R: usize> {
    simd: S,
    lines: [&'a [Line]; P],
    /// Which lanes, see [`Simd::PARTS`].
    part: usize,
    x: &'a [Group; R],
}

impl<S: Simd, const P: usize, const R: usize> Operands<'_, S, P, R> {
    /// Adds the group's part of the product.
    #[inline(always)]
    fn add_to<C: Codes>(&self, scales: [&[GroupScales]; P], acc: &mut [[S::F32; R]; P]) {
        let simd = self.simd;
        let mut h = 0;
        while h < C::SCALES {
            let mut starts = [0; R];
            let mut sums = [[C::Sums::start(simd, 0); R]; P];
            for (t, x) in self.x.iter().enumerate() {
                starts[t] = -C::ZERO * if C::SCALES == 1 { x.sum } else { x.half_sums[h] };
                for sums in &mut sums {
                    sums[t] = C::Sums::start(simd, starts[t]);
                }
            }
            self.dots::<C>(h, &mut sums);
            for p in 0..P {
                let scale = simd.load(&scales[p][h].scale, self.part);
                for t in 0..R {
                    let scaled = C::Sums::scaled(simd, sums[p][t], starts[t], scale);
                    acc[p][t] = simd.mul_add(scaled, simd.splat(self.x[t].scale), acc[p][t]);
                }
                if C::ZERO == 0 {
                    let min = simd.load(&scales[p][h].min, self.part);
                    for (acc, x) in acc[p].iter_mut().zip(self.x) {
                        *acc = simd.mul_add(min, simd.splat(x.bias), *acc);
                    }
                }
            }
            h += 1;
        }
    }

    /// Adds the dot products of scale `h` of the group. Written out, so that every shift of the
    /// unpacking is by a constant; quads are unpacked when it is their turn, so that unpacking goes
    /// on beside products.
    #[inline(always)]
    fn dots<C: Codes>(&self, h: usize, sums: &mut [[SumOf<S, C>; R]; P]) {
        if C::LINES == QUADS {
            let of_scale = QUADS / C::SCALES;
            for q in h * of_scale..(h + 1) * of_scale {
                let mut codes = [self.simd.codes(&self.lines[0][q].0, self.part); P];
                for (codes, lines) in codes.iter_mut().zip(&self.lines) {
                    *codes = self.simd.codes(&lines[q].0, self.part);
                }
                self.add::<C>(sums, q, codes);
            }
        } else if C::SCALES == 1 {
            self.add_quads::<C, 0, 4>(sums, true, true);
            self.add_quads::<C, 1, 5>(sums, true, true);
            self.add_quads::<C, 2, 6>(sums, true, true);
            self.add_quads::<C, 3, 7>(sums, true, true);
        } else {
            self.add_quads::<C, 0, 4>(sums, h == 0, h == 1);
            self.add_quads::<C, 1, 5>(sums, h == 0, h == 1);
            self.add_quads::<C, 2, 6>(sums, h == 0, h == 1);
            self.add_quads::<C, 3, 7>(sums, h == 0, h == 1);
        }
    }

    /// Adds the products with quad `L`, quad `H`, or both, whose nibbles share a line.
    #[inline(always)]
    fn add_quads<C: Codes, const L: usize, const H: usize>(
        &self,
        sums: &mut [[SumOf<S, C>; R]; P],
        low: bool,
        high: bool,
    ) {
        let simd = self.simd;
        let mut nibbles = [simd.codes(&self.lines[0][L].0, self.part); P];
        for (nibbles, lines) in nibbles.iter_mut().zip(&self.lines) {
            *nibbles = simd.codes(&lines[L].0, self.part);
        }
        if low {
            let mut codes = nibbles;
            for p in 0..P {
                let from = (self.lines[p], self.part);
                codes[p] = whole::<S, C, L>(simd, from, simd.low(nibbles[p]));
            }
            self.add::<C>(sums, L, codes);
        }
        if high {
            let mut codes = nibbles;
            for p in 0..P {
                let from = (self.lines[p], self.part);
                codes[p] = whole::<S, C, H>(simd, from, simd.high(nibbles[p]));
            }
            self.add::<C>(sums, H, codes);
        }
    }

    /// Adds the products with quad `q`. Panels share what is read of activations; sums do not wait
    /// for one another.
    #[inline(always)]
    fn add<C: Codes>(&self, sums: &mut [[SumOf<S, C>; R]; P], q: usize, codes: [S::Codes; P]) {
        for (t, x) in self.x.iter().enumerate() {
            for p in 0..P {
                let x = quad(&x.codes, q);
                sums[p][t] = C::Sums::add(self.simd, sums[p][t], codes[p], x);
            }
        }
    }
}

/// The sums of codes `C`.
type SumOf<S, C> = <<C as Codes>::Sums as Sums>::Sum<S>;
