//! Attention of batch rows over runs of KV pages placed in a composition.
//!
//! For a query row at composed position `q` and head `h` (which reads K/V head
//! `h / (heads / kv_heads)`), over every row `r` of every run of its span that it sees:
//!
//! ```text
//! score(r) = cap((R(q - shift) query · K[r]) * scale)      cap(x) = softcap tanh(x / softcap)
//! out      = sum_r softmax(score)(r) V[r]
//! ```
//!
//! It sees a row whose position is at most its own, less than a window away, and not hidden.
//! Where a span's first runs are tempered (`T`, `S`), their scores are divided by `T` and, with `l`
//! the log-sum-exp of those that are seen, all moved from `l` to `S T l`.
//!
//! A row that sees nothing gives zeros. Where keys are spread over their dims (see
//! [`crate::KvDtype::Int8`]), so is the rotated query.
//!
//! Invariant: a row's result depends on its own position and the rows it sees, to the bit. Every
//! output dim is one chain of multiply-adds in a fixed order, every score the sum of two (even and
//! odd dims); a run is cut into
//! splits of [`SPLIT_ROWS`] rows counted from its own start, each split is attended page by page
//! from a fresh state, and the states are merged in order. Tiles of queries, threads and pages
//! passed over because nobody sees them change none of that.

mod cases;
mod cpu;
pub(crate) mod cuda;
mod lines;
mod looks;
mod page;
mod plan;
mod plans;
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cases::cases;
pub use looks::Looks;

use crate::{Cpu, KvPool, RopeTable};

/// The numbers of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// K/V heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// What `q · k` is multiplied by.
    pub scale: f32,
    /// Sliding window: a query at `q` sees keys at `k` with `q - k < window`.
    pub window: Option<u32>,
    /// Scores are squashed to `±softcap`.
    pub softcap: Option<f32>,
}

/// Queries of a batch in one layer.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// The layer.
    pub layer: usize,
    /// `[rows, heads * head_dim]`, not rotated: each run rotates them for its own shift.
    pub q: &'a [f32],
    /// What they look at; those of a batch's other layers have the same.
    pub looks: Looks<'a>,
    /// The layer's angles.
    pub rope: &'a RopeTable,
}

/// Memory of [`attention`], reused between calls: it grows to the largest batch it served. Holds the
/// plans of the last one.
#[derive(Debug)]
pub struct AttentionScratch {
    /// Pages that several spans look at are read once for all.
    shares: bool,
    plans: plans::Plans,
    workers: Vec<cpu::Worker>,
    waiting: cpu::Waiting,
}

impl Default for AttentionScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl AttentionScratch {
    /// Empty: memory comes with the first call.
    pub fn new() -> Self {
        let (plans, workers, waiting) = Default::default();
        Self { shares: true, plans, workers, waiting }
    }

    /// Pages that several spans look at are read once for all of them (as it begins), or once for
    /// each. No result depends on it.
    pub fn share_reads(&mut self, shares: bool) {
        self.shares = shares;
    }
}

/// Fills `out` (`[rows, heads * head_dim]`) for the rows of every span; other rows stay.
///
/// # Panics
/// When lengths disagree or a run lies outside the pool.
pub fn attention(
    cpu: &Cpu,
    kv: &KvPool,
    shape: &AttentionShape,
    queries: &Queries<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    check(kv, shape, queries, out.len());
    cpu::attention(cpu, &cpu::Problem { kv, shape, queries }, scratch, out);
}

/// Adds to `mass` the attention that each row of the runs gets from the rows of the one span,
/// summed over them and over the heads: `MASS_ONE` is the whole attention of one row and head.
/// `mass` holds the rows of the runs, one run after another.
///
/// Counted in whole numbers: however the rows of a span are cut into calls, the sums are the same.
///
/// # Panics
/// When lengths disagree, a run lies outside the pool, or there is not one span of runs that are
/// weighed alike.
pub fn attention_mass(
    cpu: &Cpu,
    kv: &KvPool,
    shape: &AttentionShape,
    queries: &Queries<'_>,
    scratch: &mut AttentionScratch,
    mass: &mut [u64],
) {
    check(kv, shape, queries, queries.q.len());
    let [span] = queries.looks.spans else { panic!("one span at a time") };
    assert!(span.tempered.is_none(), "runs that are weighed alike");
    let rows: usize = span.runs.iter().map(|run| run.rows as usize).sum();
    assert_eq!(mass.len(), rows, "a place for every row of the runs");
    cpu::attention_mass(cpu, &cpu::Problem { kv, shape, queries }, scratch, mass);
}

/// What [`attention_mass`] counts for the whole attention of one row and head.
pub const MASS_ONE: u64 = 1 << 23;

fn check(kv: &KvPool, shape: &AttentionShape, queries: &Queries<'_>, out: usize) {
    let layout = kv.layout();
    let AttentionShape { heads, kv_heads, head_dim, .. } = *shape;
    assert_eq!((kv_heads, head_dim), (layout.kv_heads, layout.head_dim), "heads of the pool");
    assert!(heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads on {kv_heads}");
    assert!(queries.layer < layout.layers, "layer {} of {}", queries.layer, layout.layers);
    assert_eq!(queries.rope.dims(), head_dim, "angles for these heads");
    let rows = queries.looks.positions.len();
    let width = heads * head_dim;
    assert_eq!((queries.q.len(), out), (rows * width, rows * width), "a query and a result a row");
    let mut end = 0;
    for span in queries.looks.spans {
        let range = &span.rows;
        assert!(end <= range.start && range.start <= range.end, "spans in order share no row");
        end = range.end;
        for run in span.runs {
            let pages = (run.rows as usize).div_ceil(layout.page_rows);
            assert!(pages <= run.pages.len(), "{} rows in {} pages", run.rows, run.pages.len());
            let positions = run.positions.map_or(usize::MAX, <[u32]>::len);
            assert!(run.rows as usize <= positions, "a position for each of {} rows", run.rows);
        }
        let tempered = span.tempered.map_or(1, |tempered| tempered.runs);
        assert!(tempered > 0 && tempered <= span.runs.len().max(1), "{tempered} tempered runs");
    }
    assert!(end <= rows, "spans of {end} rows in a batch of {rows}");
}

/// Rows of a run that are attended from one fresh state: whole pages, at least one. Long enough
/// to make a merge cheap, short enough to give every thread a share of a long context.
const SPLIT_ROWS: usize = 512;
