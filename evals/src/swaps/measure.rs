//! One story under every arm: how likely the right value is behind each change, and what the model
//! says there.

use super::{
    arms::{Arm, Asked},
    drive::{Ran, Run, Stepped},
    record::{Numbers, StoryNumbers},
    story::{Said, Story},
    told::Told,
};
use crate::{metrics::distribution::Forced, prompt::Texts};
use anyhow::ensure;
use engine::TokenLogprob;

/// Measures stories.
pub(crate) struct Measure<'a> {
    pub(crate) stepped: &'a mut Stepped,
    pub(crate) texts: &'a Texts,
    pub(crate) arms: &'a [Arm],
    /// Begins the names of tenants: stories share nothing that is cached.
    pub(crate) run: String,
}

/// An arm at a change.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    arm: Arm,
    version: usize,
}

impl Measure<'_> {
    /// All arms' numbers at all changes.
    pub(crate) fn story(&mut self, story: &Story) -> anyhow::Result<StoryNumbers> {
        let told = Told::of(story, self.texts)?;
        let tenant = format!("{}/{}", self.run, story.id());
        self.stepped.encode(&tenant, &told.root, told.fragments())?;
        let moments: Vec<Moment> = (self.arms.iter())
            .flat_map(|&arm| (1..=story.changes()).map(move |version| Moment { arm, version }))
            .collect();
        let scored = self.ran(&tenant, &told, (&moments, Asked::Score))?;
        let said = self.said(&tenant, (story, &told), (&moments, &scored))?;
        let mut arms = Vec::new();
        for (at, moment) in moments.iter().enumerate() {
            let oracle = Moment { arm: moment.arm.oracle(), ..*moment };
            let oracle = moments.iter().position(|other| *other == oracle).expect("an oracle");
            let gold = |at: usize| value_scores(&told, moments[at], &scored[at]);
            let forced = Forced::of(gold(at), gold(oracle));
            arms.push(Numbers {
                said: said[at],
                nll: forced.nll,
                kl: forced.kl,
                swaps: scored[at].swapped.len(),
                tokens: moment.arm.tokens_of_change(&told, moment.version),
            });
        }
        let arms = arms.chunks(story.changes()).map(<[Numbers]>::to_vec).collect();
        let (task, question) = (story.task.to_owned(), story.question);
        Ok(StoryNumbers { id: story.id(), task, question, arms })
    }

    fn ran(
        &mut self,
        tenant: &str,
        told: &Told,
        (moments, asked): (&[Moment], Asked),
    ) -> anyhow::Result<Vec<Ran>> {
        let run = |moment: &Moment| moment.arm.run(told, moment.version, asked);
        let runs: Vec<Run> = moments.iter().map(run).collect();
        let most = self.stepped.card.context_max;
        let needs = runs.iter().map(Run::positions).max().unwrap_or(0);
        ensure!(needs <= most, "it needs {needs} positions; the context holds {most}");
        self.stepped.run(tenant, &runs)
    }

    /// What each arm says. Where the right value's tokens are the likeliest one by one, a greedy
    /// answer is them, and is not generated.
    fn said(
        &mut self,
        tenant: &str,
        (story, told): (&Story, &Told),
        (moments, scored): (&[Moment], &[Ran]),
    ) -> anyhow::Result<Vec<Said>> {
        let is_likeliest = |score: &TokenLogprob| score.top[0].0 == score.token;
        let is_right = |(moment, ran): (&Moment, &Ran)| {
            value_scores(told, *moment, ran).iter().all(is_likeliest)
        };
        let rights: Vec<bool> = moments.iter().zip(scored).map(is_right).collect();
        let open = moments.iter().zip(&rights).filter(|(_, right)| !**right);
        let open: Vec<Moment> = open.map(|(moment, _)| *moment).collect();
        let mut answers = self.ran(tenant, told, (&open, Asked::Say))?.into_iter();
        let said = moments.iter().zip(rights).map(|(moment, right)| {
            if right {
                return Said::New;
            }
            let answer = answers.next().expect("an answer for each that is open");
            let tokens = &answer.tokens[moment.arm.forced(told, moment.version)..];
            story.said(&self.texts.tokenizer.decode(tokens, false), moment.version)
        });
        Ok(said.collect())
    }
}

/// Scores of the right value's tokens, the last that were forced.
fn value_scores<'a>(told: &Told, moment: Moment, ran: &'a Ran) -> &'a [TokenLogprob] {
    &ran.scores[ran.scores.len() - told.value(moment.version).len()..]
}
