//! Activations in the forms products need.

use crate::Cpu;

/// Activations `[rows, cols]`. One `Input` is set again and again; its memory is kept.
#[derive(Clone, Debug, Default)]
pub struct Input {
    cols: usize,
    floats: Vec<f32>,
}

impl Input {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `x`, rows of `cols` numbers.
    ///
    /// # Panics
    /// When `x` is not whole rows.
    pub fn set(&mut self, _cpu: &Cpu, x: &[f32], cols: usize) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "whole rows");
        self.cols = cols;
        self.floats.clear();
        self.floats.extend_from_slice(x);
    }

    /// Tokens.
    pub fn rows(&self) -> usize {
        if self.cols == 0 { 0 } else { self.floats.len() / self.cols }
    }

    /// Numbers per token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The f32 activations of a token.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.floats[row * self.cols..][..self.cols]
    }
}
