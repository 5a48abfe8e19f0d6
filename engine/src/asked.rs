//! The rows with logits of a step: what is asked of each, and what the model gave.
//!
//! A row is a long array that may lie far away, and most requests need one token of it: where the model
//! can say what a choice is made of, that is asked for, and the row only where it was not enough.

use crate::{plan::Plan, sampling, state::State};
use kernels::Choice;
use models::{Batch, Model};

/// Arrays that keep their memory between steps.
#[derive(Default)]
pub(crate) struct Asked {
    /// Of each row, the temperature of its choice; none where the row itself is wanted.
    wishes: Vec<Option<f32>>,
    temperatures: Vec<f32>,
    /// What choices are made of; empty where the model gave rows.
    choices: Vec<Choice>,
    /// All rows, or the one that was wanted last.
    pub(crate) logits: Vec<f32>,
}

impl Asked {
    /// Forwards a plan's batch, and has of its rows with logits what they are asked.
    pub(crate) fn forward(
        &mut self,
        (plan, state): (&Plan, &State),
        batch: &Batch<'_>,
        model: &mut dyn Model,
    ) {
        self.wishes.clear();
        self.wishes.extend(plan.forwards.iter().flat_map(|forward| {
            let sequence = state.running[&forward.id].sequence().expect("sequences are forwarded");
            let rows = forward.logits_rows();
            rows.map(|row| sampling::temperature_of_choice(sequence, row))
        }));
        let rows = self.wishes.len();
        assert_eq!(rows, batch.logits_rows.len(), "the rows with logits are those of sequences");
        self.choices.clear();
        // Rows that are fetched one by one take about twice as long each as all together.
        let alone = self.wishes.iter().filter(|wish| wish.is_none()).count();
        if 2 * alone < rows
            && let Some(model) = model.choices()
        {
            self.temperatures.clear();
            self.temperatures.extend(self.wishes.iter().map(|wish| wish.unwrap_or(0.0)));
            model.forward_to_choices(batch, &self.temperatures, &mut self.choices);
            assert_eq!(self.choices.len(), rows, "a choice of every asked row");
            return;
        }
        model.forward(batch, &mut self.logits);
        assert_eq!(self.logits.len(), rows * state.shape.vocab, "logits of every asked row");
    }

    /// What the choice of the row at this place is made of, where that was asked for and given.
    pub(crate) fn choice(&self, place: usize) -> Option<&Choice> {
        self.wishes[place].and(self.choices.get(place))
    }

    /// The logits of the row at this place.
    pub(crate) fn row(&mut self, place: usize, model: &mut dyn Model) -> &mut [f32] {
        let vocab = model.shape().vocab;
        if self.choices.is_empty() {
            return &mut self.logits[place * vocab..(place + 1) * vocab];
        }
        let model = model.choices().expect("a model that gave choices gives them");
        model.logits_of(place, &mut self.logits);
        assert_eq!(self.logits.len(), vocab, "the logits of one row");
        &mut self.logits
    }
}
