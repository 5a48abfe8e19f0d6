//! A clock that some clients' answers read live, and what a newer time may cost: its own tokens.

use super::{client::Client, outcome::Outcome, tally::Tally};
use serde_json::json;

/// Every so many-th client has one.
const CLOCK_EVERY: u64 = 4;
/// Of 64 clients two and two write the same: what one clock forgets the other may want.
const CLOCK_NAMES: u64 = 32;

impl Client {
    /// Its clock's id, if it has one; it is made when it is asked for first.
    pub(crate) async fn clock(&mut self) -> Option<String> {
        if !self.number.is_multiple_of(CLOCK_EVERY) {
            return None;
        }
        if self.clock.is_none() {
            // Another text of as many tokens every second, so that each tick is a swap.
            let template = format!("By clock {} it is %H:%M:%S.\n", self.number % CLOCK_NAMES);
            let body = json!({"kind": "clock", "template": template, "tick_seconds": 1});
            self.clock = self.make_side(&body).await;
        }
        self.clock.clone()
    }
}

impl Tally {
    /// How old the clock was when the first token came.
    pub(crate) fn read_first(&mut self, clock: &str, outcome: &Outcome) {
        let sides = outcome.fragments.iter().filter_map(|placed| placed.side.as_ref());
        let staleness = sides.filter(|side| side.id == clock).filter_map(|side| side.staleness_ms);
        if !outcome.answer.tokens.is_empty() {
            self.times.staleness_first_token.extend(staleness);
        }
    }

    /// What came in its place while the answer went on.
    pub(crate) fn read_swaps(&mut self, clock: &str, request: &str, outcome: &Outcome) {
        self.swaps += outcome.swaps.len() as u64;
        self.swap_tokens += outcome.swaps.iter().map(|swap| swap.tokens as u64).sum::<u64>();
        self.times.staleness_swap.extend(outcome.swaps.iter().map(|swap| swap.staleness_ms));
        if let Some(wrong) = extra_cost(clock, outcome) {
            self.violate("a swap that costs something else", request, &wrong);
        }
    }
}

/// What swaps cost besides the tokens of the clock's text, if anything.
fn extra_cost(clock: &str, outcome: &Outcome) -> Option<String> {
    let is_clock = |side: &str| side == clock;
    let pieces = outcome.fragments.iter();
    let pieces = pieces.filter(|placed| placed.side.as_ref().is_some_and(|s| is_clock(&s.id)));
    let own: usize = pieces.map(|placed| placed.tokens).sum();
    let other = outcome.swaps.iter().find(|swap| !is_clock(&swap.side) || swap.tokens != own);
    if let Some(swap) = other {
        return Some(format!("{} tokens for {}, not {own} for {clock}", swap.tokens, swap.side));
    }
    let join = &outcome.join;
    let (Some(reused), Some(encoded)) = (join.reused, join.encoded) else {
        return Some("a result that does not count its tokens".to_owned());
    };
    let placed: usize = outcome.fragments.iter().map(|placed| placed.tokens).sum();
    let again = join.recomputed.unwrap_or(0);
    // A generation that ended before it began took nothing.
    let is_all = reused + encoded == placed || outcome.answer.tokens.is_empty();
    (again != 0 || !is_all).then(|| {
        format!("of {placed} tokens {reused} reused, {encoded} encoded, {again} computed again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::{
        outcome::{Join, Placed, Side, Swap},
        tally::Answer,
    };

    fn outcome(swapped: usize, encoded: usize, recomputed: usize) -> Outcome {
        let (side, staleness_ms) = ("sc_1".to_owned(), 5.0);
        let clock = Side { id: side.clone(), staleness_ms: Some(9.0) };
        let (reused, encoded, recomputed) = (Some(100), Some(encoded), Some(recomputed));
        Outcome {
            answer: Answer { tokens: vec![1], ..Answer::default() },
            join: Join { reused, encoded, recomputed },
            fragments: vec![
                Placed { tokens: 100, side: None },
                Placed { tokens: 12, side: Some(clock) },
            ],
            swaps: vec![Swap { side, tokens: swapped, staleness_ms }],
            ..Outcome::default()
        }
    }

    #[test]
    fn a_swap_costs_its_own_tokens_and_nothing_else() {
        for (outcome, is_fine) in [
            (outcome(12, 12, 0), true),
            (outcome(13, 12, 0), false),
            (outcome(112, 12, 0), false),
            (outcome(12, 24, 0), false),
            (outcome(12, 12, 1), false),
        ] {
            let mut tally = Tally::default();
            tally.read_first("sc_1", &outcome);
            tally.read_swaps("sc_1", "", &outcome);
            assert_eq!(tally.violations == 0, is_fine, "{:?}", extra_cost("sc_1", &outcome));
            assert_eq!((tally.swaps, tally.times.staleness_swap), (1, vec![5.0]));
            assert_eq!(tally.times.staleness_first_token, [9.0]);
        }
        assert!(extra_cost("sc_2", &outcome(12, 12, 0)).is_some(), "another side context");
    }
}
