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

use super::codes::{Codes, Eight, Five, FiveZero, Four, FourZero, QUADS, SixHalves, Unpacked};
use super::input::{self, BLOCK, Group, Input, Rests};
use super::part::{DECODED, Lines, Part};
use super::product::{At, Product};
use super::quantized::{Quantized, Width};
use super::scales::{GroupScales, Scales};
use super::strip::{Strip, TILE, Tile, tiles};
use crate::simd::{Simd, Vectorized};
use std::array;
use std::marker::PhantomData;
use std::ops::Range;

/// Scales decoded at a time where codes are streamed, which leaves them L1 alone.
const DECODED_STREAMED: usize = 64;

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
                self.rests::<S, C, P>(simd, parts, rests, first);
            }
        }
    }

    /// One tile of tokens: as many rows at a time as there are registers for.
    #[inline(always)]
    fn tile<S: Simd, C: Codes, const P: usize>(&self, simd: S, parts: &[Part<'_>; P], tile: Tile) {
        let groups = parts[0].groups::<C>();
        let x = &self.x.tile(tile)[groups.start * tile.len..groups.end * tile.len];
        let begin = parts[0].first == 0;
        self.rows::<S, C, P>(simd, parts, tile.len, (x, begin), |t| tile.first + t);
    }

    /// `len` rows of the tokens that `token` tells with their activations, `[groups, len]`: as many
    /// at a time as there are registers for. Sums begin from 0 or go on.
    #[inline(always)]
    fn rows<S: Simd, C: Codes, const P: usize>(
        &self,
        simd: S,
        parts: &[Part<'_>; P],
        len: usize,
        (x, begin): (&[Group], bool),
        token: impl Fn(usize) -> usize,
    ) {
        let mut row = 0;
        while row < len {
            let left = len - row;
            let at = At { x, stride: len, row, begin };
            let token = |t: usize| token(row + t);
            if const { P == PANELS && S::PANELS >= PANELS } {
                row += if left >= 6 {
                    self.product::<S, C, P, 6>(simd, parts, at, array::from_fn(token));
                    6
                } else if left >= 2 {
                    self.product::<S, C, P, 2>(simd, parts, at, array::from_fn(token));
                    2
                } else {
                    self.product::<S, C, P, 1>(simd, parts, at, array::from_fn(token));
                    1
                };
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
                    self.product::<S, C, 1, 8>(simd, part, at, array::from_fn(token));
                } else if const { S::ROWS >= 4 } && some == 4 {
                    self.product::<S, C, 1, 4>(simd, part, at, array::from_fn(token));
                } else {
                    self.product::<S, C, 1, 1>(simd, part, at, [token(0)]);
                }
            }
            row += some;
        }
    }

    /// Adds the products of a part of `P` panels with the rests of a block's rows, which are counted
    /// from `first`.
    #[inline(always)]
    fn rests<S: Simd, C: Codes, const P: usize>(
        &self,
        simd: S,
        parts: &[Part<'_>; P],
        rests: Rests<'_>,
        first: usize,
    ) {
        let len = BLOCK.min(self.x.rows() - first);
        let groups = parts[0].groups::<C>();
        let x = rests.of_groups(groups.clone());
        if x.len() == groups.len() * len {
            // All of them are refined.
            self.rows::<S, C, P>(simd, parts, len, (x, false), |t| first + t);
        } else if !x.is_empty() {
            self.outliers::<S, C, P>(simd, parts, rests, first);
        }
    }

    /// Adds the products with rests of some groups, group by group.
    #[inline(always)]
    fn outliers<S: Simd, C: Codes, const P: usize>(
        &self,
        simd: S,
        parts: &[Part<'_>; P],
        rests: Rests<'_>,
        first: usize,
    ) {
        for (at, g) in parts[0].groups::<C>().enumerate() {
            let (rows, x) = rests.of_group(g);
            if rows.is_empty() {
                continue;
            }
            let mut of_group = [Part::EMPTY; P];
            for (of_group, part) in of_group.iter_mut().zip(parts) {
                *of_group = part.group::<C>(at);
            }
            let token = |t: usize| first + rows[t] as usize;
            self.rows::<S, C, P>(simd, &of_group, rows.len(), (x, false), token);
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
