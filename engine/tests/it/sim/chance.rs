//! A counter-based generator.

use crate::hash_model::mix;
use models::TokenId;
use std::sync::Arc;

pub(super) struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.drawn += 1;
        (mix(self.seed.wrapping_mul(0x1_0001).wrapping_add(self.drawn)) % n as u64) as usize
    }

    pub(super) fn within(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(super) fn tokens(&mut self, from: usize, to: usize, vocab: usize) -> Arc<[TokenId]> {
        (0..self.within(from, to)).map(|_| self.below(vocab) as TokenId).collect()
    }
}
