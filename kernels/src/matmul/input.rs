//! Activations in the forms products need: f32, and int8 per group of 32.
//!
//! `x ≈ scale · code` with `scale = max |x| / 127` in the group and codes from -127 to 127, rounded
//! to nearest, ties to even (ggml's `quantize_row_q8_1`). A weight `w = s · q + m` then needs
//! `Σ w x = s · scale · Σ q code + m · scale · Σ code`: the second factor, the *bias* of the group,
//! is computed here once for all weight rows.
//!
//! A *fine* input keeps what the codes leave over in a second plane of the same form, which makes 16
//! bits of both: for products whose rounding a model's answer would show.

use crate::Cpu;
use crate::cpu::Disjoint;
use crate::simd::{Simd, Vectorized, sum_bytes};

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
    /// `[rows, cols / GROUP rounded up]`.
    groups: Vec<Group>,
    /// What `groups` leaves over, in the same form; empty unless fine.
    residuals: Vec<Group>,
}

/// int8 activations of one row and [`GROUP`] columns, with all a product needs of them in one
/// place: a tile of 8 rows walks 8 pointers and not 24.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Group {
    /// From -127 to 127; 0 beyond the last column.
    pub(crate) codes: [i8; GROUP],
    /// What a code of 1 stands for.
    pub(crate) scale: f32,
    /// `scale · Σ codes`.
    pub(crate) bias: f32,
    /// The same for either half of the group.
    pub(crate) half_bias: [f32; 2],
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
    pub fn set(&mut self, cpu: &Cpu, x: &[f32], cols: usize) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "whole rows");
        let per_row = cols.div_ceil(GROUP);
        self.cols = cols;
        self.floats.resize(x.len(), 0.0);
        self.groups.resize(x.len() / cols * per_row, Group::ZERO);
        self.residuals.clear();
        let floats = Disjoint::new(&mut self.floats);
        cpu.split_rows(&mut self.groups, per_row, GRAIN / cols, |first, groups| {
            let elements = first * cols..(first + groups.len() / per_row) * cols;
            // SAFETY: split_rows gives every row to one task.
            unsafe { floats.range(elements.clone()) }.copy_from_slice(&x[elements.clone()]);
            cpu.vectorize(Quantize { x: &x[elements], cols, groups });
        });
    }

    /// As [`Input::set`], with a second plane of codes for what the first leaves over: activations
    /// to 1 part in 32,000 of their group's largest, for twice the arithmetic.
    ///
    /// # Panics
    /// When `x` is not whole rows.
    pub fn set_fine(&mut self, cpu: &Cpu, x: &[f32], cols: usize) {
        self.set(cpu, x, cols);
        let per_row = cols.div_ceil(GROUP);
        self.residuals.resize(self.groups.len(), Group::ZERO);
        let coarse = &self.groups;
        cpu.split_rows(&mut self.residuals, per_row, GRAIN / cols, |first, groups| {
            let rows = groups.len() / per_row;
            let x = &x[first * cols..(first + rows) * cols];
            let coarse = &coarse[first * per_row..(first + rows) * per_row];
            cpu.vectorize(QuantizeRest { x, cols, coarse, groups });
        });
    }

    /// Planes of codes: 1, or 2 of a fine input.
    pub(crate) fn planes(&self) -> usize {
        if self.residuals.is_empty() { 1 } else { 2 }
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
        for plane in 0..self.planes() {
            for (out, group) in out.chunks_mut(GROUP).zip(self.row_groups(plane, row)) {
                for (out, &code) in out.iter_mut().zip(&group.codes) {
                    *out += f32::from(code) * group.scale;
                }
            }
        }
    }

    /// The int8 activations of a token in one plane.
    pub(crate) fn row_groups(&self, plane: usize, row: usize) -> &[Group] {
        let per_row = self.cols.div_ceil(GROUP);
        let groups = if plane == 0 { &self.groups } else { &self.residuals };
        &groups[row * per_row..][..per_row]
    }
}

impl Group {
    /// Zeros.
    const ZERO: Self = Self { codes: [0; GROUP], scale: 0.0, bias: 0.0, half_bias: [0.0; 2] };

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
            // Adding 1.5 · 2^23 leaves the rounded number in the low bits (and NaN anything).
            *code = (x * inverse + 12_582_912.0).to_bits() as i8;
        }
        let (halves, _) = codes.as_chunks::<{ GROUP / 2 }>();
        let halves = [sum_bytes(&halves[0]), sum_bytes(&halves[1])];
        Self {
            codes,
            scale,
            bias: (halves[0] + halves[1]) as f32 * scale,
            half_bias: halves.map(|sum| sum as f32 * scale),
        }
    }
}

struct Quantize<'a> {
    x: &'a [f32],
    cols: usize,
    groups: &'a mut [Group],
}

impl Vectorized for Quantize<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let rows = self.groups.chunks_exact_mut(self.cols.div_ceil(GROUP));
        for (groups, x) in rows.zip(self.x.chunks_exact(self.cols)) {
            let (whole, rest) = x.as_chunks::<GROUP>();
            for (group, x) in groups.iter_mut().zip(whole) {
                *group = Group::quantize(x);
            }
            if !rest.is_empty() {
                let mut padded = [0.0; GROUP];
                padded[..rest.len()].copy_from_slice(rest);
                groups[whole.len()] = Group::quantize(&padded);
            }
        }
    }
}

struct QuantizeRest<'a> {
    x: &'a [f32],
    cols: usize,
    coarse: &'a [Group],
    groups: &'a mut [Group],
}

impl Vectorized for QuantizeRest<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        let per_row = self.cols.div_ceil(GROUP);
        let rows = self.groups.chunks_exact_mut(per_row).zip(self.coarse.chunks_exact(per_row));
        for ((groups, coarse), x) in rows.zip(self.x.chunks_exact(self.cols)) {
            for ((group, coarse), x) in groups.iter_mut().zip(coarse).zip(x.chunks(GROUP)) {
                let mut rest = [0.0; GROUP];
                for ((rest, x), &code) in rest.iter_mut().zip(x).zip(&coarse.codes) {
                    *rest = x - f32::from(code) * coarse.scale;
                }
                *group = Group::quantize(&rest);
            }
        }
    }
}
