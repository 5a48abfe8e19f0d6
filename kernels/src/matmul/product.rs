//! What a thread does most: some rows of activations with one or two panels of weights, in registers.

use super::codes::{Codes, QUADS, SumOf, Sums, whole};
use super::input::{Group, quad};
use super::part::Part;
use super::quantized::Line;
use super::scales::GroupScales;
use super::strip::Strip;
use crate::simd::lanes::prefetch_behind;
use crate::simd::{Simd, Vectorized};
use std::marker::PhantomData;

/// Lines between those that one row is multiplied with and those that are fetched meanwhile: what a
/// core takes in the time of an access to memory, and across the bounds of pages, where the
/// machine's own fetching ahead stops.
const AHEAD: usize = 64;

/// Activations of a product, `[groups, stride]`: of each group those from `row` on.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) x: &'a [Group],
    pub(super) stride: usize,
    pub(super) row: usize,
    /// Sums start from 0, not from what the output holds.
    pub(super) begin: bool,
}

/// Adds the products of a part of `P` panels with `R` rows to the outputs of their tokens. Loops
/// only: closures would be compiled without the caller's instruction set.
pub(super) struct Product<'a, C, const P: usize, const R: usize> {
    pub(super) strip: &'a Strip<'a>,
    /// Of panels side by side.
    pub(super) parts: &'a [Part<'a>; P],
    pub(super) at: At<'a>,
    pub(super) tokens: [usize; R],
    pub(super) codes: PhantomData<C>,
}

impl<C: Codes, const P: usize, const R: usize> Vectorized for Product<'_, C, P, R> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { strip, parts, at, tokens, .. } = self;
        for lanes in 0..S::PARTS {
            let mut acc = [[simd.splat(0.0); R]; P];
            if !at.begin {
                for t in 0..R {
                    let before = strip.load::<S, P>(simd, (parts[0].panel, tokens[t]), lanes);
                    for p in 0..P {
                        acc[p][t] = before[p];
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
            for t in 0..R {
                let mut now = [acc[0][t]; P];
                for p in 0..P {
                    now[p] = acc[p][t];
                }
                strip.store(simd, (parts[0].panel, tokens[t]), now, lanes);
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
