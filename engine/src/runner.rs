//! The runner: the only caller of the model. Turns a plan into one batch, and logits into tokens.

use crate::{
    Clock, TokenLogprob,
    asked::Asked,
    plan::{Adopted, Forward, Plan, Probe},
    policy::Scores,
    rows::Rows,
    sampling::Sampler,
    state::State,
};
use kernels::{PageId, log_sum_exp};
use models::{Model, ModelShape, TokenId};
use std::{sync::Arc, time::Duration};

/// Holds the model, and memory that is used again in every step.
pub(crate) struct Runner {
    model: Box<dyn Model>,
    clock: Arc<dyn Clock>,
    sampler: Sampler,
    rows: Rows,
    asked: Asked,
}

/// What a run gave, in the plan's order.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) forwards: Vec<Forwarded>,
    /// What each probe gave.
    pub(crate) scores: Vec<Probed>,
    /// KV of the record to offer to the tier.
    pub(crate) kept: Option<Vec<u8>>,
    /// Building the table took this long.
    pub(crate) join: Duration,
    /// The batch took this long.
    pub(crate) took: Duration,
}

/// What the rows of a probe gave.
pub(crate) enum Probed {
    /// Of each row of the placements, what it weighs with these rows of the tail; and, with the last
    /// of them, how open the next token is over rows as they are cached: its entropy in nats.
    Weights(Vec<u64>, Option<f64>),
    /// Of each row of the probe, its deviation.
    Deviations(Vec<f64>),
}

/// What forwarding a sequence's rows gave.
#[derive(Default)]
pub(crate) struct Forwarded {
    /// Scores of tail tokens, each from the logits of the row before it.
    pub(crate) scores: Vec<TokenLogprob>,
    /// Alternatives after the tail's last row, when scores are wanted.
    pub(crate) next_top: Vec<(TokenId, f32)>,
    /// The next token of the answer.
    pub(crate) next: Option<(TokenId, Option<TokenLogprob>)>,
}

impl Runner {
    pub(crate) fn new(model: Box<dyn Model>, clock: Arc<dyn Clock>) -> Self {
        let (sampler, rows, asked) = (Sampler::default(), Rows::default(), Asked::default());
        Self { model, clock, sampler, rows, asked }
    }

    pub(crate) fn shape(&self) -> &ModelShape {
        self.model.shape()
    }

    pub(crate) fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        self.model.digest(pages, rows)
    }

    /// Forwards every row of the plan in one batch. Changes no book: a plan whose run fails
    /// leaves nothing to undo.
    pub(crate) fn run(&mut self, plan: &Plan, state: &State, outcome: &mut Outcome) {
        outcome.forwards.clear();
        outcome.scores.clear();
        self.carry(plan, state, outcome);
        outcome.scores.extend(plan.probes.iter().map(|probe| self.score(probe, state)));
        if plan.encodes.is_empty() && plan.repairs.is_empty() && plan.forwards.is_empty() {
            return;
        }
        let Self { model, clock, sampler, rows, asked } = self;
        let started = clock.now();
        rows.with_batch(plan, state, |batch| {
            outcome.join = clock.now().saturating_sub(started);
            asked.forward((plan, state), batch, &mut **model);
        });
        outcome.took = clock.now().saturating_sub(started);
        let mut places = 0..;
        outcome.forwards.extend(plan.forwards.iter().map(|forward: &Forward| {
            let sequence = state.running[&forward.id].sequence().expect("sequences are forwarded");
            let mut forwarded = Forwarded::default();
            for (row, place) in forward.logits_rows().zip(&mut places) {
                let choice = asked.choice(place);
                if !choice.is_some_and(|of| sampler.read_choice(sequence, of, &mut forwarded)) {
                    sampler.read(sequence, row, asked.row(place, &mut **model), &mut forwarded);
                }
            }
            forwarded
        }));
    }

    /// Puts KV that came from the tier in its pages, copies rows of sequences that others take over,
    /// and reads what is offered to the tier.
    fn carry(&mut self, plan: &Plan, state: &State, outcome: &mut Outcome) {
        for admission in &plan.admissions {
            let Some(Adopted { from, rows }) = admission.adopted else { continue };
            let (whole, more) = (rows / state.shape.page_rows, rows % state.shape.page_rows);
            if more > 0 {
                let giving = state.running[&from].sequence().expect("sequences give rows");
                self.model.copy_rows(giving.pages[whole], admission.own[0], more);
            }
        }
        for &id in &plan.loads {
            let record = state.fragments.held(id);
            let rows = record.content.tokens.len();
            self.model.fill_rows(&record.pages, rows, &state.stored.arrived()[&id]);
        }
        outcome.kept = plan.keep.map(|id| {
            let record = state.fragments.held(id);
            let mut kv = Vec::new();
            self.model.read_rows(&record.pages, record.encoded, &mut kv);
            kv
        });
    }

    /// Forwards the rows of a probe.
    fn score(&mut self, probe: &Probe, state: &State) -> Probed {
        let Self { model, rows, asked, .. } = self;
        let logits = &mut asked.logits;
        let sequence = state.running[&probe.id].sequence().expect("sequences are probed");
        let places = &sequence.repair.as_ref().expect("only joined rows are scored").places;
        let mut probed = Probed::Deviations(Vec::new());
        rows.with_probe(probe, state, |batch| match probe.by {
            Scores::Tail(by) => {
                let rows = batch.spans[0].runs.iter().map(|run| run.rows as usize).sum();
                let mut mass = vec![0; rows];
                model.weigh(batch, by, &mut mass, logits);
                mass.truncate(places.root + places.rows());
                let entropy = probe.logits.then(|| entropy(logits));
                probed = Probed::Weights(mass.split_off(places.root), entropy);
            }
            Scores::Deviation => {
                let mut deviations = vec![0.0; batch.tokens.len()];
                model.deviate(batch, &mut deviations);
                probed = Probed::Deviations(deviations);
            }
        });
        probed
    }
}

/// The entropy of the next token, in nats.
pub(crate) fn entropy(logits: &[f32]) -> f64 {
    let sum = f64::from(log_sum_exp(logits));
    let surprise = |&logit: &f32| {
        let logprob = f64::from(logit) - sum;
        if logprob.is_finite() { -logprob.exp() * logprob } else { 0.0 }
    };
    logits.iter().map(surprise).sum()
}
