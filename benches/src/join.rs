//! `join`: the first token of cached fragments under each policy, against plain prefill.

use crate::{chosen::Chosen, cpu::median, session::Session};
use anyhow::ensure;
use engine::{Composition, FragmentSpec, JoinPolicy, Placement, Priority};
use serde::Serialize;
use std::sync::Arc;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Repetitions, each with the fragments in another order; the median is reported.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Fragments in the composition.
    #[arg(long, default_value_t = 8)]
    fragments: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 512)]
    fragment_tokens: usize,
    /// Tokens of the tail.
    #[arg(long, default_value_t = 32)]
    tail_tokens: usize,
    /// Policies to time. Repeat for more.
    #[arg(long = "policy", value_name = "POLICY", default_values = POLICIES)]
    policies: Vec<JoinPolicy>,
}

/// Every policy that a join is bought with; those with a floor first.
const POLICIES: [&str; 6] =
    ["reuse", "boundary:16", "parallel:1,1", "query:0.15", "deviation:0.15", "auto:0.98"];

/// How much sooner than plain prefill the first token must come.
const FLOORS: [(JoinPolicy, f64); 2] =
    [(JoinPolicy::Reuse, 50.0), (JoinPolicy::Boundary { tokens: 16 }, 10.0)];

/// The printed object. Times are milliseconds from submit to the first token.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    threads: usize,
    isa: String,
    kv_dtype: &'static str,
    fragments: usize,
    fragment_tokens: usize,
    tail_tokens: usize,
    /// Plain concatenation of the same tokens, nothing cached but the root.
    prefill_first_token_ms: f64,
    policies: Vec<Timed>,
}

/// One policy over fragments that are all cached, and rows to be computed again that are not.
#[derive(Serialize)]
struct Timed {
    policy: String,
    first_token_ms: f64,
    /// Scoring rows, and computing those again that were chosen.
    repair_ms: f64,
    /// How much sooner than plain prefill.
    ratio: f64,
    /// The least ratio, where there is one, and whether it was reached.
    floor: Option<f64>,
    is_met: Option<bool>,
    /// Rows times layers computed for the composition, over those of its fragments.
    recomputed_share: f64,
}

/// Puts the fragments once, then times every policy, and one plain prefill.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let sizes = [args.runs, args.fragments, args.fragment_tokens, args.tail_tokens];
    ensure!(!sizes.contains(&0), "--runs, --fragments and tokens must be at least 1: {sizes:?}");
    let (runs, orders) = (args.runs, args.fragments);
    ensure!(runs <= orders, "--runs is {runs}; there are {orders} orders of {orders} fragments");
    let threads = args.chosen.threads();
    let options = args.chosen.options();
    let session = Session::open(&args.chosen.model, &options)?;
    let bench = Bench { args, fragments: put(&session, args)?, session: &session };
    let prefilled = bench.prefilled()?;
    let timed = args.policies.iter().map(|&policy| bench.timed(policy, prefilled));
    Ok(Report {
        policies: timed.collect::<anyhow::Result<_>>()?,
        model: session.info.name.clone(),
        threads,
        isa: session.info.isa.clone(),
        kv_dtype: args.chosen.kv_dtype.name(),
        fragments: args.fragments,
        fragment_tokens: args.fragment_tokens,
        tail_tokens: args.tail_tokens,
        prefill_first_token_ms: prefilled,
    })
}

/// Fragments never seen before, cached.
fn put(session: &Session, args: &Args) -> anyhow::Result<Vec<Arc<[u32]>>> {
    let tokens = |i: u64| session.filler((1 << 21) + i, args.fragment_tokens);
    let fragments: Vec<Arc<[u32]>> = (0..args.fragments as u64).map(|i| tokens(i).into()).collect();
    for tokens in &fragments {
        let (root, tokens) = (session.root.clone(), tokens.clone());
        session.engine.put_fragment(FragmentSpec {
            tenant: "bench".into(),
            root,
            tokens,
            priority: Priority::Normal,
            pin: false,
        })?;
    }
    Ok(fragments)
}

/// Cached fragments, and an engine to join them.
struct Bench<'a> {
    args: &'a Args,
    session: &'a Session,
    fragments: Vec<Arc<[u32]>>,
}

impl Bench<'_> {
    /// The fragments in order number `run`, before a tail never seen before.
    fn composition(&self, run: usize) -> Composition {
        let mut placements: Vec<Placement> =
            self.fragments.iter().map(|tokens| tokens.clone().into()).collect();
        placements.rotate_left(run % self.fragments.len());
        let tail = self.session.filler((1 << 22) + run as u64, self.args.tail_tokens);
        Composition { root: self.session.root.clone(), placements, tail }
    }

    /// Once: a second one would find the first one's exact prefix.
    fn prefilled(&self) -> anyhow::Result<f64> {
        let answer = self.session.generate(self.composition(0), JoinPolicy::Recompute, 1)?;
        let (computed, all) = (answer.counts.recomputed, self.rows());
        ensure!(computed == all, "only {computed} of {all} tokens were prefilled");
        Ok(answer.timings.first_token_ms)
    }

    fn rows(&self) -> usize {
        self.args.fragments * self.args.fragment_tokens
    }

    fn timed(&self, policy: JoinPolicy, prefilled: f64) -> anyhow::Result<Timed> {
        let (mut first_token, mut repair) = (Vec::new(), Vec::new());
        let mut recomputed_share = 0.0;
        for run in 0..self.args.runs {
            let repaired = self.session.engine.stats().tokens_repaired;
            let answer = self.session.generate(self.composition(run), policy, 1)?;
            let counts = answer.counts;
            let known = counts.reused + counts.recomputed;
            ensure!(known == self.rows(), "only {known} tokens were cached");
            let repaired = self.session.engine.stats().tokens_repaired - repaired;
            let all = counts.recomputed as u64;
            ensure!(repaired == all, "{policy}: only {repaired} of {all} rows were not cached");
            first_token.push(answer.timings.first_token_ms);
            repair.push(answer.timings.repair_ms);
            recomputed_share = answer.recomputed_share;
        }
        let first_token_ms = median(first_token);
        let ratio = prefilled / first_token_ms;
        let floor = FLOORS.iter().find(|(of, _)| *of == policy).map(|&(_, floor)| floor);
        Ok(Timed {
            policy: policy.to_string(),
            first_token_ms,
            repair_ms: median(repair),
            ratio,
            floor,
            is_met: floor.map(|floor| ratio >= floor),
            recomputed_share,
        })
    }
}
