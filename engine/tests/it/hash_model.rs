//! A model without weights: its logits are a hash of every (composed position, row) it is shown,
//! so that a wrong page, offset, mask, order or root changes the text at once.
//!
//! Two layers, as in a decoder: a layer's KV of a row is a hash of what the row saw in the layers
//! below, and all rows of a batch are written before any of them looks.

use kernels::{Choice, PageId, RowAddr, Span};
use models::{Batch, Choices, Model, ModelLost, ModelShape, Weight};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

pub(crate) const LAYERS: usize = 2;

/// KV of one token: the position it was encoded at, and what it saw, layer by layer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KvRow {
    pub(crate) position: i64,
    pub(crate) seen: [u64; LAYERS],
}

/// Bytes of a row, read out.
pub(crate) const ROW_BYTES: usize = 8 + 8 * LAYERS;

impl KvRow {
    fn bytes(self) -> impl Iterator<Item = u8> {
        let seen = self.seen.into_iter().flat_map(u64::to_le_bytes);
        self.position.to_le_bytes().into_iter().chain(seen)
    }

    fn of(bytes: &[u8]) -> Self {
        let mut numbers = bytes.as_chunks().0.iter().map(|&number| u64::from_le_bytes(number));
        let mut number = || numbers.next().unwrap();
        Self { position: number() as i64, seen: std::array::from_fn(|_| number()) }
    }
}

/// The pool's memory, outside the model, so that a test can spoil it between steps.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Rows>>);

/// Of each page, its rows.
type Rows = Vec<Vec<Option<KvRow>>>;

impl Memory {
    /// Makes the content of pages that nobody owns unreadable.
    pub(crate) fn spoil(&self, pages: &[PageId]) {
        let mut memory = self.0.lock().unwrap();
        for page in pages {
            memory[page.0 as usize].fill(None);
        }
    }
}

pub(crate) struct HashModel {
    shape: ModelShape,
    memory: Memory,
    /// Panics at this forward, to test what becomes of the engine.
    pub(crate) forwards_left: Option<usize>,
    /// Then its device is gone, which is no bug.
    pub(crate) is_lost_then: bool,
    /// Keeps logits to itself, and gives choices with so many of the likeliest tokens.
    pub(crate) offers: Option<usize>,
    pub(crate) given: Given,
    /// Logits of the batch that was forwarded last, where only choices of it were given.
    kept: Vec<f32>,
}

/// How many rows a model gave, and how many choices.
#[derive(Clone, Default)]
pub(crate) struct Given {
    rows: Arc<AtomicUsize>,
    choices: Arc<AtomicUsize>,
}

impl Given {
    /// Rows, and choices.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [&self.rows, &self.choices].map(|count| count.load(Ordering::Relaxed))
    }
}

impl HashModel {
    pub(crate) fn new(shape: ModelShape) -> (Self, Memory) {
        let memory = Memory::default();
        *memory.0.lock().unwrap() = vec![vec![None; shape.page_rows]; shape.pages];
        let (given, kept) = (Given::default(), Vec::new());
        let model = Self {
            shape,
            memory: memory.clone(),
            forwards_left: None,
            is_lost_then: false,
            offers: None,
            given,
            kept,
        };
        (model, memory)
    }

    /// What a query at position `at` sees in `layer`: calls `see` with the number of each row
    /// among those of all runs, and with what it shows.
    fn look(
        &self,
        rows: &Rows,
        span: &Span<'_>,
        (layer, at): (usize, u32),
        mut see: impl FnMut(usize, u64),
    ) {
        let page_rows = self.shape.page_rows;
        let mut before = 0;
        for (number, run) in span.runs.iter().enumerate() {
            for r in (0..run.rows).filter(|&r| run.position(r) <= at && !run.hides(r)) {
                let page = run.pages[r as usize / page_rows];
                let row = rows[page.0 as usize][r as usize % page_rows];
                let row = row.unwrap_or_else(|| panic!("row {r} of {page:?} was never written"));
                let composed = row.position + i64::from(run.shift);
                let plain = shown(run.position(r), composed, row.seen[layer]);
                let by = span.tempered.filter(|tempered| number < tempered.runs);
                let shown = by.map_or(plain, |by| tempered(plain, by.temperature, by.scale));
                see(before + r as usize, shown);
            }
            before += run.rows as usize;
        }
    }

    /// The states behind the last layer. `weigh` hears of every row seen by a row in a state.
    fn run(&mut self, batch: &Batch<'_>, mut weigh: impl FnMut(u64, usize, u64)) -> Vec<u64> {
        if let Some(left) = &mut self.forwards_left {
            if *left == 0 && self.is_lost_then {
                ModelLost("no device any more".to_owned()).tell();
            }
            *left = left.checked_sub(1).expect("the model breaks down");
        }
        check_batch(batch, &self.shape);
        let memory = self.memory.clone();
        let mut rows = memory.0.lock().unwrap();
        let mut state: Vec<u64> = batch.tokens.iter().map(|&token| begin(token)).collect();
        for layer in 0..LAYERS {
            for ((write, &position), &seen) in batch.writes.iter().zip(batch.positions).zip(&state)
            {
                let row = &mut rows[write.page.0 as usize][write.row as usize];
                let row =
                    if layer == 0 { row.insert(KvRow::default()) } else { row.as_mut().unwrap() };
                row.position = i64::from(position);
                row.seen[layer] = seen;
            }
            for span in batch.spans {
                for i in span.rows.clone() {
                    let position = batch.positions[i];
                    let mut sum = 0_u64;
                    self.look(&rows, span, (layer, position), |row, shown| {
                        sum = sum.wrapping_add(shown);
                        weigh(state[i], row, shown);
                    });
                    state[i] = next(state[i], position, sum);
                }
            }
        }
        state
    }
}

impl HashModel {
    fn logits(&self, batch: &Batch<'_>, state: &[u64], logits: &mut Vec<f32>) {
        logits.clear();
        for &row in batch.logits_rows {
            logits.extend(logits_of(state[row], self.shape.vocab));
        }
    }
}

impl Model for HashModel {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) {
        let state = self.run(batch, |_, _, _| {});
        self.logits(batch, &state, logits);
        self.kept.clear();
        self.given.rows.fetch_add(batch.logits_rows.len(), Ordering::Relaxed);
    }

    fn choices(&mut self) -> Option<&mut dyn Choices> {
        self.offers.is_some().then_some(self)
    }

    fn weigh(&mut self, batch: &Batch<'_>, by: Weight, mass: &mut [u64], logits: &mut Vec<f32>) {
        assert_eq!(batch.spans.len(), 1, "one span is weighed");
        let state = self.run(batch, |state, row, shown| mass[row] += weight(by, state, shown));
        self.logits(batch, &state, logits);
    }

    fn deviate(&mut self, batch: &Batch<'_>, deviations: &mut [f64]) {
        // A fragment that stands twice is read twice.
        check_rows(batch, &self.shape);
        let rows = self.memory.0.lock().unwrap();
        for (i, to) in batch.spans[0].rows.clone().zip(deviations) {
            let (position, RowAddr { page, row }) = (batch.positions[i], batch.writes[i]);
            let mut sum = 0_u64;
            let see = |_, shown| sum = sum.wrapping_add(shown);
            self.look(&rows, &batch.spans[0], (0, position), see);
            let cached = rows[page.0 as usize][row as usize].expect("a scored row was written");
            *to = deviation(next(begin(batch.tokens[i]), position, sum), cached.seen[1]);
        }
    }

    fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) {
        let mut memory = self.memory.0.lock().unwrap();
        let copied = memory[from.0 as usize][..rows].to_vec();
        assert!(copied.iter().all(Option::is_some), "copied rows were written");
        memory[to.0 as usize][..rows].copy_from_slice(&copied);
    }

    fn read_rows(&self, pages: &[PageId], rows: usize, kv: &mut Vec<u8>) {
        let memory = self.memory.0.lock().unwrap();
        let all = pages.iter().flat_map(|page| &memory[page.0 as usize]);
        kv.extend(all.take(rows).flat_map(|row| row.expect("a read row was written").bytes()));
    }

    fn fill_rows(&mut self, pages: &[PageId], rows: usize, kv: &[u8]) {
        assert_eq!(kv.len(), rows * ROW_BYTES, "KV of {rows} rows");
        let mut memory = self.memory.0.lock().unwrap();
        for (row, bytes) in kv.chunks(ROW_BYTES).enumerate() {
            let page = pages[row / self.shape.page_rows].0 as usize;
            memory[page][row % self.shape.page_rows] = Some(KvRow::of(bytes));
        }
    }

    fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        let memory = self.memory.0.lock().unwrap();
        let all = pages.iter().flat_map(|page| &memory[page.0 as usize]);
        digest_of(all.take(rows).map(|row| row.expect("a digested row was written")))
    }
}

impl Choices for HashModel {
    fn forward_to_choices(
        &mut self,
        batch: &Batch<'_>,
        temperatures: &[f32],
        choices: &mut Vec<Choice>,
    ) {
        let state = self.run(batch, |_, _, _| {});
        let mut kept = std::mem::take(&mut self.kept);
        self.logits(batch, &state, &mut kept);
        self.kept = kept;
        assert_eq!(temperatures.len(), batch.logits_rows.len(), "a temperature for each row");
        let is_greedy = temperatures.iter().all(|&temperature| temperature == 0.0);
        let count = self.offers.filter(|_| !is_greedy).unwrap_or(0);
        let rows = self.kept.chunks(self.shape.vocab).zip(temperatures);
        choices.clear();
        choices.extend(rows.map(|(row, &temperature)| Choice::of(row, temperature, count)));
        self.given.choices.fetch_add(temperatures.len(), Ordering::Relaxed);
    }

    fn logits_of(&mut self, place: usize, logits: &mut Vec<f32>) {
        let vocab = self.shape.vocab;
        logits.clear();
        logits.extend_from_slice(&self.kept[place * vocab..(place + 1) * vocab]);
        self.given.rows.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the seam promises of every batch that is written.
fn check_batch(batch: &Batch<'_>, shape: &ModelShape) {
    check_rows(batch, shape);
    let mut writes: Vec<_> = batch.writes.iter().map(|at| (at.page, at.row)).collect();
    writes.sort_unstable();
    writes.dedup();
    assert_eq!(writes.len(), batch.tokens.len(), "a row is written once");
}

/// What the seam promises of every batch.
fn check_rows(batch: &Batch<'_>, shape: &ModelShape) {
    let rows = batch.tokens.len();
    assert!(0 < rows && rows <= shape.batch_rows_max, "{rows} rows");
    assert!(batch.logits_rows.len() <= shape.logits_rows_max, "{:?}", batch.logits_rows);
    assert!(batch.logits_rows.is_sorted_by(|a, b| a < b), "{:?}", batch.logits_rows);
    assert_eq!((batch.positions.len(), batch.writes.len()), (rows, rows));
    let spans: Vec<usize> = batch.spans.iter().flat_map(|span| span.rows.clone()).collect();
    assert_eq!(spans, (0..rows).collect::<Vec<_>>(), "spans cover all rows in order");
    for &position in batch.positions {
        assert!((position as usize) < shape.context_max, "position {position}");
    }
}

/// A token before the first layer.
pub(crate) fn begin(token: u32) -> u64 {
    mix(u64::from(token).wrapping_add(0x51))
}

/// A key as a query sees it: by the table, and by its own rotation and the run's shift.
pub(crate) fn shown(start: u32, composed: i64, seen: u64) -> u64 {
    mix(mix(u64::from(start) ^ seen).wrapping_add(composed as u64))
}

/// What a row of tempered runs shows.
pub(crate) fn tempered(shown: u64, temperature: f32, scale: f32) -> u64 {
    mix(shown ^ (u64::from(temperature.to_bits()) << 32 | u64::from(scale.to_bits())))
}

/// What that which it is shown weighs with a row in a state.
pub(crate) fn weight(by: Weight, state: u64, shown: u64) -> u64 {
    let norm = match by {
        Weight::Attention => 1,
        Weight::Influence => mix(shown) % 10,
    };
    mix(state ^ shown) % 100 * norm
}

/// How far a row at the second layer is from what was cached.
pub(crate) fn deviation(fresh: u64, cached: u64) -> f64 {
    if fresh == cached { 0.0 } else { (mix(fresh ^ cached) % 100) as f64 + 1.0 }
}

/// A row after a layer in which it saw `sum`.
pub(crate) fn next(state: u64, position: u32, sum: u64) -> u64 {
    mix(mix(state ^ sum).wrapping_add(u64::from(position)))
}

/// One likely token, and some variety.
pub(crate) fn logits_of(state: u64, vocab: usize) -> Vec<f32> {
    let noise = |token: usize| (mix(state ^ mix(token as u64)) % 1024) as f32 / 512.0;
    let mut logits: Vec<f32> = (0..vocab).map(noise).collect();
    logits[(state % vocab as u64) as usize] += 3.0;
    logits
}

pub(crate) fn digest_of(rows: impl Iterator<Item = KvRow>) -> [u8; 32] {
    let mut hash = [1, 2, 3, 4].map(mix);
    for row in rows {
        for (lane, h) in hash.iter_mut().enumerate() {
            *h = mix(*h ^ mix(row.position as u64 ^ lane as u64));
            *h = row.seen.iter().fold(*h, |h, &seen| mix(h ^ seen));
        }
    }
    let mut digest = [0; 32];
    for (bytes, h) in digest.chunks_exact_mut(8).zip(hash) {
        bytes.copy_from_slice(&h.to_le_bytes());
    }
    digest
}

/// The finalizer of splitmix64 (Steele, Lea and Flood 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
