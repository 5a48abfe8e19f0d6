//! Shapes and inputs of attention, adversarial on purpose: ragged and empty runs, pages of every
//! size, windows, caps, shifts, outliers, equal scores, and NaN wherever no row was written.

mod joins;
mod mass;
pub(super) mod shared;

use super::cuda::trials;
use super::{AttentionScratch, AttentionShape, Looks, Queries, attention, reference};
use crate::case::{self, Expected, GpuTrial, Rng, Tolerance, Trial, Work};
use crate::cuda::{Gpu, GpuError};
use crate::kv::RowOfHead;
use crate::{
    Cpu, HiddenRows, Isa, KvDtype, KvLayout, KvPool, KvRows, PageId, RopeStyle, RopeTable, RowAddr,
    Run, Span, Tempered, kv_append, uniform,
};
use std::ops::Range;

/// What K and V hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Input {
    /// Numbers of about 1.
    Plain,
    /// One dim of every seventh key, and every fifth value, is 20 times larger.
    Outliers,
    /// All keys are the same and their angles zero: every score ties.
    Equal,
}

/// One batch of one span over some runs.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Rows, composed position and shift of each run.
    pub(super) runs: &'static [(u32, u32, i32)],
    /// Composed positions of the queries.
    pub(super) positions: Range<u32>,
    pub(super) page_rows: usize,
    pub(super) dtype: KvDtype,
    /// Query heads, K/V heads, dims.
    pub(super) heads: (usize, usize, usize),
    pub(super) window: Option<u32>,
    pub(super) softcap: Option<f32>,
    pub(super) input: Input,
    /// Positions between the rows of the last run: more than 1 where they do not stand side by
    /// side.
    pub(super) stride: u32,
    /// Every how many rows of the other runs one is hidden; 0: none.
    pub(super) hide_every: usize,
    pub(super) tempered: Option<Tempered>,
}

/// The middle of the road; cases say what they change.
const PLAIN: Case = Case {
    runs: &[(40, 0, 0)],
    positions: 33..40,
    page_rows: 32,
    dtype: KvDtype::F32,
    heads: (6, 2, 64),
    window: None,
    softcap: None,
    input: Input::Plain,
    stride: 1,
    hide_every: 0,
    tempered: None,
};

const FRAGMENTS: &[(u32, u32, i32)] =
    &[(512, 0, 0), (512, 512, 512), (512, 1024, 1024), (512, 1536, 1536)];

const RAGGED: &[(u32, u32, i32)] = &[(5, 0, 0), (0, 5, 3), (61, 5, 4), (33, 66, -7), (20, 99, 0)];

/// Every case, and what SmolLM2 does at depth.
pub(crate) fn cases() -> Vec<Box<dyn case::Case>> {
    let mut all = shapes();
    let deep = Case { heads: (9, 3, 64), dtype: KvDtype::F16, ..PLAIN };
    all.push(Case { runs: &[(4000, 0, 0)], positions: 3999..4000, ..deep.clone() });
    all.push(Case { runs: &[(640, 0, 0)], positions: 512..640, ..deep.clone() });
    let coded = Case { dtype: KvDtype::Int8, ..deep.clone() };
    all.push(Case { runs: &[(4000, 0, 0)], positions: 3999..4000, ..coded });
    // 16 sequences over the same four fragments.
    let case = Case { runs: FRAGMENTS, positions: 2048..2064, ..deep };
    let shared = [true, false].map(|shares| shared::SharedCase { case: case.clone(), shares });
    let shared = shared.into_iter().map(|case| Box::new(case) as Box<dyn case::Case>);
    let masses = shapes().into_iter().filter(|case| case.tempered.is_none()).map(mass::MassCase);
    let masses = masses.map(|case| Box::new(case) as Box<dyn case::Case>);
    let all = all.into_iter().map(|case| Box::new(case) as Box<dyn case::Case>);
    all.chain(shared).chain(masses).collect()
}

/// Every shape worth a test of its own.
pub(super) fn shapes() -> Vec<Case> {
    let formats = KvDtype::ALL;
    let mut all = Vec::new();
    for page_rows in [1, 2, 3, 4, 16, 32, 48] {
        for (i, positions) in [118..119, 112..119, 86..119, 90..119].into_iter().enumerate() {
            all.push(Case { runs: RAGGED, positions, page_rows, dtype: formats[i], ..PLAIN });
        }
    }
    for (i, dims) in [16, 18, 32, 64, 80, 128, 256].into_iter().enumerate() {
        let heads = (2 * (i + 1), 2, dims); // groups of 1 to 7
        let long = Case { runs: RAGGED, positions: 95..119, heads, ..PLAIN };
        all.push(Case { dtype: formats[i % 4], ..long.clone() });
        all.push(Case { positions: 118..119, dtype: formats[(i + 1) % 4], ..long.clone() });
        all.push(Case { page_rows: 3, dtype: formats[(i + 2) % 4], ..long });
    }
    for window in [1, 2, 31, 32, 33, 60, 1000] {
        let windowed = Case { runs: RAGGED, positions: 86..119, window: Some(window), ..PLAIN };
        all.push(Case { page_rows: 3, dtype: KvDtype::F16, ..windowed.clone() });
        all.push(windowed);
    }
    for input in [Input::Outliers, Input::Equal] {
        for (i, softcap) in [None, Some(5.0), Some(50.0), None].into_iter().enumerate() {
            let odd = Case { runs: RAGGED, positions: 86..119, softcap, input, ..PLAIN };
            all.push(Case { dtype: formats[i], ..odd });
        }
    }
    let long: &[(u32, u32, i32)] = &[(1030, 0, 0), (600, 1030, 515), (3, 1630, 900)];
    for positions in [1632..1633, 1500..1533] {
        let long = Case { runs: long, positions, dtype: KvDtype::F16, ..PLAIN };
        all.push(Case { page_rows: 48, window: Some(700), ..long.clone() });
        all.push(long);
    }
    // Codes, for every length of heads that a device decodes, and in parts that are merged.
    for dims in [64, 80, 96, 128, 256] {
        let coded = Case { dtype: KvDtype::Int8, heads: (6, 2, dims), ..PLAIN };
        all.push(Case { runs: RAGGED, positions: 90..119, ..coded.clone() });
        all.push(Case { runs: long, positions: 1632..1633, window: Some(900), ..coded });
    }
    // Nothing to see: no runs, only empty ones, only later ones.
    all.push(Case { runs: &[], ..PLAIN });
    all.push(Case { runs: &[(0, 0, 0)], ..PLAIN });
    all.push(Case { runs: &[(10, 100, 0)], ..PLAIN });
    // Parallel placements: two runs at the same positions.
    all.push(Case { runs: &[(4, 0, 0), (30, 4, 0), (30, 4, 9)], ..PLAIN });
    all.extend(joins::repaired());
    all.extend(joins::tempered());
    all
}

impl case::Case for Case {
    fn name(&self) -> String {
        let Self { positions, page_rows, dtype, heads, .. } = self;
        let (heads, kv_heads, dims) = heads;
        let rows: u32 = self.runs.iter().map(|run| run.0).sum();
        let window = self.window.map(|w| format!(" window={w}")).unwrap_or_default();
        let cap = self.softcap.map(|c| format!(" cap={c}")).unwrap_or_default();
        let hidden =
            if self.hide_every == 0 { String::new() } else { format!(" hide={}", self.hide_every) };
        let tempered =
            self.tempered.map_or(String::new(), |Tempered { temperature, scale, .. }| {
                format!(" T={temperature} S={scale}")
            });
        format!(
            "attention {dtype:?} q={} kv={rows} in {} runs h={heads}/{kv_heads} d={dims} \
             page={page_rows}{window}{cap}{hidden}{tempered} {:?}",
            positions.len(),
            self.runs.len(),
            self.input,
        )
    }

    fn trial(&self, _cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        Box::new(BatchTrial::new(self.fill(rng.bits() >> 8), false))
    }

    fn tolerance(&self) -> Tolerance {
        let rows: u32 = self.runs.iter().map(|run| run.0).sum();
        let additions = 2 * (self.heads.2 + 3) + rows as usize + 40;
        Tolerance {
            relative: additions as f32 * f32::EPSILON / 2.0,
            reason: "half an ulp per addition: a score's count twice, as its error is a factor of \
                     its weight; 40 for exp, tanh, merges and the division",
        }
    }

    fn work(&self) -> Work {
        let (heads, kv_heads, dims) = self.heads;
        let rows: u32 = self.runs.iter().map(|run| run.0).sum();
        let in_run = |run: &(u32, u32, i32), p: u32| (p + 1).saturating_sub(run.1).min(run.0);
        let looks =
            self.positions.clone().flat_map(|p| self.runs.iter().map(move |r| in_run(r, p)));
        let layout = self.layout();
        Work {
            bytes: rows as usize * kv_heads * layout.row_bytes(),
            flops: 4 * dims * heads * looks.map(|rows| rows as usize).sum::<usize>(),
        }
    }
}

/// A case that runs.
struct BatchTrial {
    filled: Filled,
    /// Every row is a span of its own, which has the runs in an order of its own.
    is_apart: bool,
    scratch: AttentionScratch,
    output: Vec<f32>,
}

impl BatchTrial {
    fn new(filled: Filled, is_apart: bool) -> Self {
        let output = vec![f32::NAN; filled.q.len()];
        Self { filled, is_apart, scratch: AttentionScratch::new(), output }
    }
}

/// The runs of each span of a trial.
fn orders(filled: &Filled, is_apart: bool) -> Vec<Vec<Run<'_>>> {
    if is_apart { shared::orders(filled) } else { vec![filled.runs()] }
}

/// The spans of a trial, each of as many rows as the others.
pub(super) fn spans<'a>(filled: &Filled, orders: &'a [Vec<Run<'a>>]) -> Vec<Span<'a>> {
    let rows = filled.positions.len() / orders.len();
    let each = orders.iter().enumerate();
    each.map(|(i, runs)| filled.span(i * rows..(i + 1) * rows, runs)).collect()
}

impl Trial for BatchTrial {
    fn run(&mut self, cpu: &Cpu) {
        let Filled { kv, shape, positions, .. } = &self.filled;
        let orders = orders(&self.filled, self.is_apart);
        let spans = spans(&self.filled, &orders);
        let queries = self.filled.queries(0..positions.len(), &spans);
        attention(cpu, kv, shape, &queries, &mut self.scratch, &mut self.output);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let Filled { kv, shape, positions, .. } = &self.filled;
        let orders = orders(&self.filled, self.is_apart);
        let spans = spans(&self.filled, &orders);
        let queries = self.filled.queries(0..positions.len(), &spans);
        let mut values = vec![0.0; self.output.len()];
        reference::attention(kv, shape, &queries, &mut values);
        let magnitude = self.filled.magnitude();
        values.into_iter().map(|value| Expected { value, magnitude }).collect()
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let tolerance = case::Case::tolerance(&self.filled.case);
        let orders = orders(&self.filled, self.is_apart);
        let case = (&self.filled, &orders[..]);
        trials::of_attention(gpu, case, (LAYER, tolerance), || self.expected())
    }
}

/// A case with its memory filled.
pub(super) struct Filled {
    pub(super) shape: AttentionShape,
    pub(super) kv: KvPool,
    pub(super) pages: Vec<Vec<PageId>>,
    pub(super) q: Vec<f32>,
    pub(super) positions: Vec<u32>,
    pub(super) rope: RopeTable,
    /// Of the last run's rows.
    scattered: Vec<u32>,
    /// Of each run.
    hidden: Vec<HiddenRows>,
    case: Case,
}

/// The layer that is filled; the other keeps its NaN.
pub(super) const LAYER: usize = 1;

impl Case {
    fn layout(&self) -> KvLayout {
        let (_, kv_heads, head_dim) = self.heads;
        let Self { page_rows, dtype, .. } = *self;
        KvLayout { layers: 2, kv_heads, head_dim, page_rows, dtype }
    }

    /// Fills memory for the case; all that depends on `seed` is the numbers.
    pub(super) fn fill(&self, seed: u64) -> Filled {
        let (heads, kv_heads, head_dim) = self.heads;
        let page_rows = self.page_rows;
        let layout = self.layout();
        let counts: Vec<_> = self.runs.iter().map(|r| (r.0 as usize).div_ceil(page_rows)).collect();
        let total: usize = counts.iter().sum::<usize>() + 3;
        // Pages of a run lie apart and in no order.
        let modulus = if total.is_multiple_of(7) { total + 1 } else { total };
        let order = (0..modulus).map(|i| (i * 7 + 3) % modulus).filter(|&page| page < total);
        let mut free = order.map(|page| PageId(page as u32));
        let mut pages: Vec<Vec<PageId>> = Vec::new();
        for count in counts {
            pages.push(free.by_ref().take(count).collect());
        }
        let mut kv = KvPool::new(layout, total).expect("cases are small");
        let inv_freq = (0..head_dim / 2).map(|i| match self.input {
            Input::Equal => 0.0,
            _ => 10_000_f32.powf(-2.0 * i as f32 / head_dim as f32),
        });
        let rope = RopeTable::new(RopeStyle::HalfSplit, inv_freq.collect(), 600);
        fill_with_nan(&mut kv);
        for (r, &(rows, start, shift)) in self.runs.iter().enumerate() {
            self.fill_run(&mut kv, &rope, &pages[r], (rows, start, shift), seed + r as u64);
        }
        let positions: Vec<u32> = self.positions.clone().collect();
        let q = numbers(seed + 99, positions.len() * heads * head_dim);
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_dim,
            scale: (head_dim as f32).powf(-0.5),
            window: self.window,
            softcap: self.softcap,
        };
        let last = self.runs.last().copied().unwrap_or_default();
        let scattered = (0..last.0).map(|r| last.1 + r * self.stride).collect();
        let hidden = (0..self.runs.len()).map(|run| self.hidden(run)).collect();
        let case = self.clone();
        Filled { shape, kv, pages, q, positions, rope, scattered, hidden, case }
    }

    /// Rows of run number `run` that nobody sees.
    fn hidden(&self, run: usize) -> HiddenRows {
        let rows = self.runs[run].0 as usize;
        let mut hidden = HiddenRows::none(rows, self.page_rows);
        if self.hide_every > 0 && run + 1 < self.runs.len() {
            (0..rows).step_by(self.hide_every).for_each(|row| hidden.hide(row));
        }
        hidden
    }

    /// Positions between the rows of the run that begins at `start`.
    fn stride_of(&self, run: (u32, u32, i32)) -> u32 {
        if self.runs.last() == Some(&run) { self.stride } else { 1 }
    }

    /// Writes the rows of one run, their keys rotated for where they were encoded.
    pub(super) fn fill_run(
        &self,
        kv: &mut KvPool,
        rope: &RopeTable,
        pages: &[PageId],
        (rows, start, shift): (u32, u32, i32),
        seed: u64,
    ) {
        let (_, kv_heads, dims) = self.heads;
        let width = kv_heads * dims;
        let mut k = numbers(seed * 2, rows as usize * width);
        let mut v = numbers(seed * 2 + 1, rows as usize * width);
        match self.input {
            Input::Plain => {}
            Input::Outliers => {
                k.iter_mut().step_by(7 * width).for_each(|x| *x *= 20.0);
                v.iter_mut().step_by(5).for_each(|x| *x *= 20.0);
            }
            Input::Equal => {
                k.iter_mut().enumerate().for_each(|(i, x)| *x = (i % dims) as f32 / 64.0);
            }
        }
        let page_rows = self.page_rows;
        let address =
            |r: usize| RowAddr { page: pages[r / page_rows], row: (r % page_rows) as u32 };
        let writes: Vec<_> = (0..rows as usize).map(address).collect();
        let stride = self.stride_of((rows, start, shift));
        let encoded = |r: u32| (i64::from(start + r * stride) - i64::from(shift)) as u32;
        let positions: Vec<_> = (0..rows).map(encoded).collect();
        let at = KvRows { layer: LAYER, writes: &writes, positions: &positions, rope };
        kv_append(&Cpu::new(1, Isa::Scalar), kv, &at, &k, &v);
    }
}

impl Filled {
    /// Runs of the case.
    pub(super) fn runs(&self) -> Vec<Run<'_>> {
        let placed = self.case.runs.iter().zip(&self.pages).enumerate();
        let runs = placed.map(|(number, (&(rows, start, shift), pages))| Run {
            positions: (self.case.stride_of((rows, start, shift)) > 1).then_some(&self.scattered),
            hidden: (self.case.hide_every > 0).then(|| &self.hidden[number]),
            ..Run::new(pages, rows, start, shift)
        });
        runs.collect()
    }

    /// The given rows look at `runs`, weighed as the case says.
    pub(super) fn span<'a>(&self, rows: Range<usize>, runs: &'a [Run<'a>]) -> Span<'a> {
        Span { tempered: self.case.tempered, ..Span::new(rows, runs) }
    }

    /// The queries of the given rows.
    pub(super) fn queries<'a>(&'a self, rows: Range<usize>, spans: &'a [Span<'a>]) -> Queries<'a> {
        let width = self.shape.heads * self.shape.head_dim;
        Queries {
            layer: LAYER,
            q: &self.q[rows.start * width..rows.end * width],
            looks: Looks::new(&self.positions[rows], spans),
            rope: &self.rope,
        }
    }
}

impl Filled {
    /// What errors are relative to: the largest value, times what an error of a score does.
    fn magnitude(&self) -> f32 {
        self.largest().1 * self.score_max()
    }

    /// One and the largest score that could be (|q| |k| bounds the sum of its magnitudes), which a
    /// cap may exceed, a temperature divides and a scale moves.
    fn score_max(&self) -> f32 {
        let squares = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
        let queries = self.q.chunks_exact(self.shape.head_dim);
        let q_max = queries.map(squares).fold(0.0, f32::max);
        let score = (q_max * self.largest().0).sqrt() * self.shape.scale;
        let by = self.case.tempered.map_or(1.0, |t| 1.0 + 1.0 / t.temperature + t.scale);
        by * (1.0 + score + 0.1 * self.shape.softcap.unwrap_or(0.0))
    }

    /// The largest sum of squares of a key, and the largest value.
    fn largest(&self) -> (f32, f32) {
        let squares = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
        let (mut k_max, mut v_max) = (0.0_f32, 0.0_f32);
        let page_rows = self.kv.layout().page_rows;
        for run in self.runs() {
            for r in 0..run.rows as usize {
                for head in 0..self.shape.kv_heads {
                    let (page, row) = (run.pages[r / page_rows], r % page_rows);
                    let [k, v] = self.kv.row(RowOfHead { page, layer: LAYER, head, row });
                    k_max = k_max.max(squares(&k));
                    v_max = v.iter().fold(v_max, |max, v| max.max(v.abs()));
                }
            }
        }
        (k_max, v_max)
    }
}

/// Every row of every page and layer is NaN, as memory of a former owner might be.
pub(super) fn fill_with_nan(kv: &mut KvPool) {
    let KvLayout { layers, kv_heads, head_dim, page_rows, .. } = *kv.layout();
    let rope = RopeTable::new(RopeStyle::HalfSplit, vec![0.0; head_dim / 2], 1);
    let nan = vec![f32::NAN; page_rows * kv_heads * head_dim];
    for page in 0..kv.pages() as u32 {
        let writes: Vec<_> =
            (0..page_rows as u32).map(|row| RowAddr { page: PageId(page), row }).collect();
        let positions = vec![0; page_rows];
        for layer in 0..layers {
            let at = KvRows { layer, writes: &writes, positions: &positions, rope: &rope };
            kv_append(&Cpu::new(1, Isa::Scalar), kv, &at, &nan, &nan);
        }
    }
}

/// Numbers between -1.5 and 1.5.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| (uniform(seed, i) as f32 - 0.5) * 3.0).collect()
}
