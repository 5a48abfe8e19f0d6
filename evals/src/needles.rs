//! Needles: each fragment tells one person's locker number; one is asked for.
//!
//! Teacher-forced on the right answer, so that a small model's likelihood is measured and not its
//! luck. What would fool it: a model that copies the nearest number; the gold fragment's place is
//! drawn evenly, and the other fragments hold numbers of the same form.

use crate::session::Session;
use anyhow::ensure;
use engine::JoinPolicy;
use serde::Serialize;
use std::sync::Arc;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A catalogue name, a path, or hf:owner/repo/file.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Questions.
    #[arg(long, default_value_t = 20)]
    n: u64,
    /// Fragments of each question, at most as many as there are names.
    #[arg(long, default_value_t = 6)]
    fragments: usize,
    /// The same seed makes the same questions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The printed object: means over the questions.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    seed: u64,
    n: u64,
    fragments: usize,
    recompute: Arm,
    reuse: Arm,
    /// Mean over questions of `reuse` minus `recompute`, nats per answer token.
    nll_difference: f64,
}

/// One policy.
#[derive(Default, Serialize)]
pub(crate) struct Arm {
    /// Negative log-likelihood per token of the right answer.
    nll: f64,
    /// Share of answer tokens that were the likeliest.
    top1: f64,
}

const NAMES: [&str; 12] = [
    "Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Henry", "Irene", "Jonas",
    "Karla", "Louis",
];

/// Both policies on the same token ids.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let (most, given) = (NAMES.len(), args.fragments);
    ensure!((1..=most).contains(&given), "--fragments is {given}; it must be 1 to {most}");
    ensure!(args.n > 0, "--n is 0; it must be at least 1");
    let session = Session::open(&args.model)?;
    let (mut recompute, mut reuse) = (Arm::default(), Arm::default());
    for index in 0..args.n {
        let question = Question::make(&session, args.seed << 20 | index, args.fragments)?;
        recompute.add(&session, &question, JoinPolicy::Recompute, args.n)?;
        reuse.add(&session, &question, JoinPolicy::Reuse, args.n)?;
        eprintln!("{} of {}", index + 1, args.n);
    }
    let nll_difference = reuse.nll - recompute.nll;
    let (model, seed, n, fragments) = (args.model.clone(), args.seed, args.n, args.fragments);
    Ok(Report { model, seed, n, fragments, recompute, reuse, nll_difference })
}

/// Fragments, a question about one of them, and its answer at the end of the tail.
struct Question {
    placements: Vec<Arc<[u32]>>,
    tail: Vec<u32>,
    answer_tokens: usize,
}

impl Question {
    fn make(session: &Session, seed: u64, fragments: usize) -> anyhow::Result<Self> {
        let turns = &session.turns;
        let draw = |counter: u64, below: u64| mix(seed << 8 | counter) % below;
        let number = |name: usize| 1000 + draw(name as u64, 9000);
        let first = draw(100, NAMES.len() as u64) as usize;
        let people: Vec<_> = (0..fragments).map(|i| (first + i) % NAMES.len()).collect();
        let asked = people[draw(101, fragments as u64) as usize];
        let placements = people
            .iter()
            .map(|&name| {
                let (person, number) = (NAMES[name], number(name));
                let text = format!("The locker of {person} is number {number}.\n");
                Ok(turns.part(None, &text)?.into())
            })
            .collect::<anyhow::Result<_>>()?;
        let mut tail = turns.part(None, &format!("So the locker of {} is number", NAMES[asked]))?;
        let answer = turns.part(None, &format!(" {}", number(asked)))?;
        let answer_tokens = answer.len();
        tail.extend(answer);
        Ok(Self { placements, tail, answer_tokens })
    }
}

impl Arm {
    fn add(
        &mut self,
        session: &Session,
        question: &Question,
        policy: JoinPolicy,
        n: u64,
    ) -> anyhow::Result<()> {
        let scores = session.score(&question.placements, &question.tail, policy)?;
        let answer = &scores[scores.len() - question.answer_tokens..];
        let share = 1.0 / (n as usize * answer.len()) as f64;
        for score in answer {
            self.nll -= f64::from(score.logprob) * share;
            self.top1 +=
                if score.top.first().is_some_and(|top| top.0 == score.token) { share } else { 0.0 };
        }
        Ok(())
    }
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014): a counter to a number without pattern.
fn mix(counter: u64) -> u64 {
    let x = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
