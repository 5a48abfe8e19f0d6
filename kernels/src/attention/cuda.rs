//! Attention on a device: a plan for each step, made here and read there, and the kernels that go by
//! it, layer after layer.
//!
//! Accuracy. In f32 pages, in pages of the plain kernel and in decode over f16 pages, results are as near
//! to the reference as on a CPU: queries and weights are each two 16-bit numbers. In decode over bf16
//! and int8 pages a product loses 2^-16 of its size. The tiles of prefill and of shared rows round
//! queries and weights to the pages' format once: a score is off by at most `u |q| |k|` and a weight by
//! `u` of itself, `u` being 2^-11 (f16) or 2^-8 (bf16) for both together. See [`tolerance`].

mod plan;
mod share;
pub(super) mod trials;
mod words;

use super::{AttentionShape, Looks};
use crate::cuda::{
    Argument, Buffer, Gpu, GpuError, GpuKvPool, GpuRopeTable, HeadRows, Kernel, Output, Pinned,
    Shape,
};
use crate::kv::GROUP_DIMS;
use crate::{KvDtype, KvLayout};
use plan::{HEAD_DIMS, Job, Plan, SHARED_QUERIES, TILE, Way, prefill_queries};
use words::Kind;

/// What attention of a step needs on a device besides queries and pages: a plan, and room for partial
/// states. Both are reused from step to step and grow to the largest.
#[derive(Debug)]
pub struct GpuAttention {
    plan: Plan,
    staged: Pinned<i32>,
    words: Buffer<i32>,
    states: States,
    /// Of the last plan.
    made: Option<Made>,
}

/// Partial states: `[states, heads]`, `[states, heads]`, `[states, heads * head_dim]`.
#[derive(Debug)]
struct States {
    max: Buffer<f32>,
    sum: Buffer<f32>,
    weighted: Buffer<f32>,
}

/// What a plan was made for.
#[derive(Clone, Copy, Debug)]
struct Made {
    layout: KvLayout,
    heads: usize,
    window: Option<u32>,
    rows: usize,
    way: Way,
    grids: Grids,
}

/// How many blocks are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grids {
    /// As many as the plan has work for.
    Exact,
    /// The same for every plan that launches the same kernels, so that launches can be recorded.
    Fixed,
}

/// Which kernels a plan launches: what was recorded for one plan serves another with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Launches(u8);

/// Queries of a batch in one layer.
#[derive(Clone, Copy, Debug)]
pub struct GpuQueries<'a> {
    /// The layer.
    pub layer: usize,
    /// `[heads, head_dim]` of each row, not rotated.
    pub q: HeadRows<'a>,
    /// The layer's angles.
    pub rope: &'a GpuRopeTable,
}

impl GpuAttention {
    /// Without a plan.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        Ok(Self {
            plan: Plan::default(),
            staged: Pinned::zeroed(gpu, WORDS_LEAST)?,
            words: Buffer::zeroed(gpu, WORDS_LEAST)?,
            states: States::new(gpu, 0, 0)?,
            made: None,
        })
    }

    /// Pages that several spans look at are read once for all of them (as it begins), or once for
    /// each. Results depend on it by rounding alone.
    pub fn share_reads(&mut self, shares: bool) {
        self.plan.shares = shares;
    }

    /// Makes room for plans of so many words and states, so that plans within them move nothing.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn reserve(
        &mut self,
        gpu: &Gpu,
        words: usize,
        states: usize,
        (heads, head_dim): (usize, usize),
    ) -> Result<bool, GpuError> {
        let mut moved = false;
        if self.words.len() < words {
            let words = words.next_power_of_two();
            self.staged = Pinned::zeroed(gpu, words)?;
            self.words = Buffer::zeroed(gpu, words)?;
            moved = true;
        }
        let (one, all) = (states * heads, states * heads * head_dim);
        if self.states.max.len() < one || self.states.weighted.len() < all {
            self.states = States::new(gpu, one.next_power_of_two(), all.next_power_of_two())?;
            moved = true;
        }
        Ok(moved)
    }

    /// Plans the attention of a step in all layers that have this window, and brings the plan to the
    /// device. Returns whether memory that launches use has moved: what was recorded before is then
    /// of no use.
    ///
    /// # Errors
    /// When the device has not so much memory left, or is lost.
    ///
    /// # Panics
    /// When lengths disagree, or a run lies outside the pool.
    pub fn plan(
        &mut self,
        gpu: &Gpu,
        kv: &GpuKvPool,
        shape: &AttentionShape,
        looks: &Looks<'_>,
        grids: Grids,
    ) -> Result<bool, GpuError> {
        self.plan_by(gpu, kv, shape, looks, (grids, Way::Best))
    }

    /// How many positions the angles must reach for the last plan.
    pub fn positions(&self) -> usize {
        self.plan.turns()
    }

    /// Plans for [`attention_mass`], of one span of runs that are weighed alike.
    ///
    /// # Errors
    /// When the device has not so much memory left, or is lost.
    ///
    /// # Panics
    /// When lengths disagree, a run lies outside the pool, or there is not one such span.
    pub fn plan_mass(
        &mut self,
        gpu: &Gpu,
        kv: &GpuKvPool,
        shape: &AttentionShape,
        looks: &Looks<'_>,
    ) -> Result<bool, GpuError> {
        let [span] = looks.spans else { panic!("one span at a time") };
        assert!(span.tempered.is_none(), "runs that are weighed alike");
        self.plan_by(gpu, kv, shape, looks, (Grids::Exact, Way::Rows))
    }

    fn plan_by(
        &mut self,
        gpu: &Gpu,
        kv: &GpuKvPool,
        shape: &AttentionShape,
        looks: &Looks<'_>,
        (grids, way): (Grids, Way),
    ) -> Result<bool, GpuError> {
        let layout = kv.layout().sizes();
        check(kv, shape, looks);
        let Looks { positions, spans, .. } = *looks;
        let slots = SLOTS_EACH * gpu.device().multiprocessors;
        self.plan.make(&Job { layout, shape, positions, spans, slots, way });
        let count = self.plan.words().len();
        let states = self.plan.states();
        let moved = self.reserve(gpu, count, states, (shape.heads, layout.head_dim))?;
        self.staged.numbers()?[..count].copy_from_slice(self.plan.words());
        self.staged.upload(0..count, &mut self.words.part(0..count))?;
        let (heads, window, rows) = (shape.heads, shape.window, positions.len());
        self.made = Some(Made { layout: *layout, heads, window, rows, way, grids });
        Ok(moved)
    }

    /// What the last plan launches.
    pub fn launches(&self) -> Launches {
        let needed = Kind::ALL.into_iter().filter(|&kind| self.plan.count(kind) > 0);
        Launches(needed.fold(0, |all, kind| all | 1 << kind as u8))
    }

    /// Blocks to launch of a kind: none where the plan has no work of it.
    fn blocks(&self, gpu: &Gpu, made: &Made, kind: Kind) -> usize {
        let count = self.plan.count(kind);
        let group = made.heads / made.layout.kv_heads;
        let each = match kind {
            Kind::Decode => made.layout.kv_heads * group.div_ceil(plan::DECODE_QUERIES),
            Kind::Prefill | Kind::Shared => made.layout.kv_heads,
            Kind::Plain if made.way == Way::Rows => made.layout.kv_heads,
            Kind::Plain | Kind::Merge => made.heads,
        };
        match made.grids {
            Grids::Fixed if count > 0 => BLOCKS_FIXED * gpu.device().multiprocessors,
            _ => (count * each).min(BLOCKS_MAX),
        }
    }
}

impl States {
    fn new(gpu: &Gpu, one: usize, all: usize) -> Result<Self, GpuError> {
        let [max, sum, weighted] = [one, one, all].map(|len| Buffer::zeroed(gpu, len));
        Ok(Self { max: max?, sum: sum?, weighted: weighted? })
    }
}

/// Fills `out` (`[rows, heads * head_dim]`) for the rows of every span of the plan in `by`; other rows
/// stay. See [`crate::attention`].
///
/// # Errors
/// When the device is lost.
///
/// # Panics
/// When nothing was planned, the plan was made for other pages, heads or windows, or arrays or angles
/// are too short.
pub fn attention(
    gpu: &Gpu,
    kv: &GpuKvPool,
    shape: &AttentionShape,
    queries: &GpuQueries<'_>,
    by: &GpuAttention,
    out: &Output<'_>,
) -> Result<(), GpuError> {
    let made = checked(kv, shape, queries, by);
    assert!(out.holds(made.rows * shape.heads * shape.head_dim), "a place for each result");
    assert_ne!(made.way, Way::Rows, "a plan for attention");
    let mut arguments = vec![(&by.words).into()];
    arguments.extend(of_queries(queries));
    let sinks = sinks(out, &by.states);
    arguments.extend(sinks);
    arguments.extend(kv.arguments(queries.layer));
    arguments.extend(of_shape(shape));
    for kind in [Kind::Decode, Kind::Prefill, Kind::Shared, Kind::Plain] {
        let blocks = by.blocks(gpu, made, kind);
        if blocks == 0 {
            continue;
        }
        let (kernel, shape) = (kernel(kind, &made.layout), launched(kind, &made.layout, blocks));
        // SAFETY: kernels go by the plan, whose rows are in the batch, whose pages in the pool, and
        // whose states in `by`, as was checked when it was made.
        unsafe { gpu.launch(kernel, &shape, &arguments)? };
    }
    let blocks = by.blocks(gpu, made, Kind::Merge);
    if blocks == 0 {
        return Ok(());
    }
    let mut arguments = vec![(&by.words).into()];
    arguments.extend(sinks);
    arguments.extend([shape.heads, shape.head_dim].map(Argument::count));
    let kernel = const { Kernel::named("attention_merge") };
    // SAFETY: as above.
    unsafe { gpu.launch(kernel, &Shape::of(blocks, MERGE_THREADS), &arguments) }
}

/// Adds to `mass` the attention that each row of the runs gets; see [`crate::attention_mass`].
///
/// # Errors
/// When the device is lost, or a group of heads has too many of them.
///
/// # Panics
/// When no mass was planned, the plan was made for other pages, heads or windows, or arrays or angles
/// are too short.
pub fn attention_mass(
    gpu: &Gpu,
    kv: &GpuKvPool,
    shape: &AttentionShape,
    queries: &GpuQueries<'_>,
    by: &GpuAttention,
    mass: &mut Buffer<u64>,
) -> Result<(), GpuError> {
    let made = checked(kv, shape, queries, by);
    assert_eq!(made.way, Way::Rows, "a plan for masses");
    assert!(mass.len() >= by.plan.rows(), "a place for every row of the runs");
    let kernel = match made.layout.dtype {
        KvDtype::F32 => const { Kernel::named("attention_mass_f32") },
        KvDtype::F16 => const { Kernel::named("attention_mass_f16") },
        KvDtype::Bf16 => const { Kernel::named("attention_mass_bf16") },
        KvDtype::Int8 => const { Kernel::named("attention_mass_int8") },
    };
    let mut arguments = vec![(&by.words).into()];
    arguments.extend(of_queries(queries));
    arguments.push(mass.into());
    arguments.extend(kv.arguments(queries.layer));
    arguments.extend(of_shape(shape));
    let group = shape.heads / shape.kv_heads;
    let shared_bytes = 4 * group * (shape.head_dim + 2 * PLAIN_THREADS + 2);
    let blocks = by.blocks(gpu, made, Kind::Plain);
    let launched = Shape { shared_bytes, ..Shape::of(blocks, PLAIN_THREADS) };
    // SAFETY: as for attention; the mass has a place for every row of the runs.
    unsafe { gpu.launch(kernel, &launched, &arguments) }
}

/// How far results may be from the reference's, beyond what they may be on a CPU, relative to what
/// that is relative to: rounding errors of queries and weights. They count the score's magnitude once
/// for its own error and once for its weight's.
fn tolerance(by: &GpuAttention) -> f32 {
    let Some(made) = &by.made else { return 0.0 };
    let tiles = by.plan.count(Kind::Prefill) + by.plan.count(Kind::Shared) > 0;
    let decodes = by.plan.count(Kind::Decode) > 0;
    match made.layout.dtype {
        KvDtype::F16 if tiles => 2.0_f32.powi(-11),
        KvDtype::Bf16 if tiles => 2.0_f32.powi(-8),
        KvDtype::Bf16 | KvDtype::Int8 if decodes => 2.0_f32.powi(-16),
        _ => 0.0,
    }
}

fn check(kv: &GpuKvPool, shape: &AttentionShape, looks: &Looks<'_>) {
    let layout = kv.layout().sizes();
    let AttentionShape { heads, kv_heads, head_dim, .. } = *shape;
    assert_eq!((kv_heads, head_dim), (layout.kv_heads, layout.head_dim), "heads of the pool");
    assert!(heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads on {kv_heads}");
    let rows = looks.positions.len();
    let largest = looks.positions.iter().max().copied().unwrap_or(0);
    assert!(i32::try_from(largest).is_ok(), "position {largest}");
    let mut end = 0;
    for span in looks.spans {
        let range = &span.rows;
        assert!(end <= range.start && range.start <= range.end, "spans in order share no row");
        end = range.end;
        for run in span.runs {
            let pages = (run.rows as usize).div_ceil(layout.page_rows);
            assert!(pages <= run.pages.len(), "{} rows in {} pages", run.rows, run.pages.len());
            let outside = run.pages[..pages].iter().find(|page| page.0 as usize >= kv.pages());
            assert!(outside.is_none(), "{outside:?} of {} pages", kv.pages());
            let positions = run.positions.map_or(usize::MAX, <[u32]>::len);
            assert!(run.rows as usize <= positions, "a position for each of {} rows", run.rows);
        }
        let tempered = span.tempered.map_or(1, |tempered| tempered.runs);
        assert!(tempered > 0 && tempered <= span.runs.len().max(1), "{tempered} tempered runs");
    }
    assert!(end <= rows, "spans of {end} rows in a batch of {rows}");
}

/// What the plan in `by` was made for, if that is what is asked.
fn checked<'a>(
    kv: &GpuKvPool,
    shape: &AttentionShape,
    queries: &GpuQueries<'_>,
    by: &'a GpuAttention,
) -> &'a Made {
    let made = by.made.as_ref().expect("a plan");
    let asked = (*kv.layout().sizes(), shape.heads, shape.window);
    assert_eq!((made.layout, made.heads, made.window), asked, "the plan is for these");
    let width = shape.heads * shape.head_dim;
    assert!(queries.q.hold(made.rows, width), "{} rows of {} heads", made.rows, shape.heads);
    assert_eq!(queries.rope.dims(), shape.head_dim, "angles for these heads");
    let (turns, positions) = (by.plan.turns(), queries.rope.positions());
    assert!(turns <= positions, "angles up to {turns} of {positions}");
    let aligned = queries.q.stride.is_multiple_of(2);
    assert!(aligned, "pairs of numbers do not lie at whole 8 bytes");
    made
}

fn of_queries<'a>(queries: &GpuQueries<'a>) -> [Argument<'a>; 4] {
    let GpuQueries { q, rope, .. } = *queries;
    [q.numbers.into(), Argument::count(q.stride), rope.turns().into(), rope.style_argument()]
}

fn sinks<'a>(out: &'a Output<'_>, states: &'a States) -> [Argument<'a>; 6] {
    let (plain, high, low) = match out {
        Output::Plain(out) => ((&**out).into(), Argument::NOTHING, Argument::NOTHING),
        Output::Rounded(high, low) => {
            (Argument::NOTHING, (&**high).into(), Argument::optional(low.as_deref()))
        }
    };
    [plain, high, low, (&states.max).into(), (&states.sum).into(), (&states.weighted).into()]
}

fn of_shape(shape: &AttentionShape) -> [Argument<'static>; 4] {
    let window = shape.window.map_or(0, |window| window.min(i32::MAX as u32));
    [
        Argument::count(shape.heads),
        window.into(),
        shape.scale.into(),
        shape.softcap.unwrap_or(0.0).into(),
    ]
}

/// The kernels of `$op` for pages of each format, by the length of heads as [`HEAD_DIMS`] has them.
macro_rules! by_length {
    ($op:literal, $($format:literal),*) => {
        const {
            &[$([
                Kernel::named(concat!($op, $format, "_64")),
                Kernel::named(concat!($op, $format, "_80")),
                Kernel::named(concat!($op, $format, "_96")),
                Kernel::named(concat!($op, $format, "_128")),
                Kernel::named(concat!($op, $format, "_256")),
            ]),*]
        }
    };
}

/// The kernel for pages of this layout.
fn kernel(kind: Kind, layout: &KvLayout) -> Kernel {
    let all: &[[Kernel; HEAD_DIMS.len()]] = match kind {
        Kind::Decode => by_length!("attention_decode", "_f16", "_bf16", "_int8"),
        Kind::Prefill => by_length!("attention_prefill", "_f16", "_bf16"),
        Kind::Shared => by_length!("attention_shared", "_f16", "_bf16"),
        Kind::Merge => return const { Kernel::named("attention_merge") },
        Kind::Plain => {
            return match layout.dtype {
                KvDtype::F32 => const { Kernel::named("attention_plain_f32") },
                KvDtype::F16 => const { Kernel::named("attention_plain_f16") },
                KvDtype::Bf16 => const { Kernel::named("attention_plain_bf16") },
                KvDtype::Int8 => const { Kernel::named("attention_plain_int8") },
            };
        }
    };
    let length = HEAD_DIMS.iter().position(|&dim| dim == layout.head_dim);
    let length = length.expect("a length that fast kernels are made for");
    let format = match layout.dtype {
        KvDtype::F16 => 0,
        KvDtype::Bf16 => 1,
        KvDtype::Int8 => 2,
        KvDtype::F32 => unreachable!("numbers of 32 bits are attended by the plain kernel"),
    };
    all[format][length]
}

/// The shape of a launch, as the sources say at their heads.
fn launched(kind: Kind, layout: &KvLayout, blocks: usize) -> Shape {
    let dim = layout.head_dim;
    let is_short = dim <= 128;
    // Rows whose bytes are not whole lines of 128 are kept apart by 16 bytes.
    let line = 2 * dim + if dim.is_multiple_of(64) { 0 } else { 16 };
    let columns = if is_short { 64 } else { 32 };
    let tiles = |queries: usize| (queries + 4 * columns) * line + 8 * queries;
    let (warps, shared_bytes) = match kind {
        Kind::Decode => {
            let warps = if is_short { 4 } else { 2 };
            let slots = if dim <= 64 { 4 } else { 3 };
            let tile = 2 * TILE * line;
            // Codes with their scales wait as they lie, and one tile of them is widened.
            let coded = 2 * TILE * (dim + 2 * dim.div_ceil(GROUP_DIMS));
            let is_coded = layout.dtype == KvDtype::Int8;
            (warps, warps * if is_coded { tile + slots * coded } else { slots * tile })
        }
        Kind::Prefill => (4, tiles(prefill_queries(dim))),
        Kind::Shared => (4, tiles(SHARED_QUERIES)),
        Kind::Plain | Kind::Merge => (PLAIN_THREADS / 32, 0),
    };
    Shape { shared_bytes, ..Shape::of(blocks, 32 * warps) }
}

/// Blocks that a multiprocessor runs at once: shared memory and registers are made for two.
const SLOTS_EACH: usize = 2;

/// Blocks of a launch at most: they take more work where there is.
const BLOCKS_MAX: usize = 1 << 20;

/// Blocks of a launch on a fixed grid, for each multiprocessor.
const BLOCKS_FIXED: usize = 8;

/// Threads of a block of the plain kernels.
const PLAIN_THREADS: usize = 128;

/// Threads of a block that merges.
const MERGE_THREADS: usize = 256;

/// Words of a plan that there is room for from the beginning.
const WORDS_LEAST: usize = 1 << 14;
