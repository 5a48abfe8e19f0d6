//! A desk to try a decoder on: writes tokens to fresh pages and keeps the runs they make.

use half::bf16;
use kernels::cuda::Gpu;
use kernels::{PageId, RowAddr, Run, Span};
use models::{Batch, Decoder, GpuDecoder, KvDtype, LoadOptions, Model, TokenId};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Every architecture there is a tiny model of.
pub(crate) const TINY: [&str; 6] = ["llama", "llama-rope3", "mistral", "qwen2", "qwen3", "gemma3"];

/// Folder of a tiny model.
pub(crate) fn tiny(arch: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(arch)
}

/// A tiny model whose weights are numbers of bf16, in which a GPU has them.
pub(crate) fn rounded(arch: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = fs::read(tiny(arch).join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(*weights.first_chunk().unwrap()) as usize;
    for number in weights[8 + header..].chunks_exact_mut(4) {
        let x = f32::from_le_bytes(*number.first_chunk().unwrap());
        number.copy_from_slice(&bf16::from_f32(x).to_f32().to_le_bytes());
    }
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    fs::copy(tiny(arch).join("config.json"), folder.path().join("config.json")).unwrap();
    folder
}

/// Exact arithmetic, one thread, little memory.
pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        threads: 1,
        kv_dtype: KvDtype::F32,
        kv_bytes: 64 << 20,
        kv_bytes_gpu: Some(64 << 20),
        ..LoadOptions::default()
    }
}

/// Loads a tiny model on a GPU, or on an imagined one.
pub(crate) fn load_on(gpu: &Gpu, arch: &str, options: &LoadOptions) -> GpuDecoder {
    let (decoder, _) = GpuDecoder::load(gpu, &tiny(arch), options, &[0; 32])
        .unwrap_or_else(|error| panic!("{arch}: {error}"));
    decoder
}

/// Loads a tiny model without a tokenizer.
pub(crate) fn load(arch: &str, options: &LoadOptions) -> Decoder {
    load_at(&tiny(arch), options)
}

/// Loads what lies in a folder, without a tokenizer.
pub(crate) fn load_at(folder: &Path, options: &LoadOptions) -> Decoder {
    let (decoder, _) = Decoder::load(folder, options, &[0; 32])
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    decoder
}

/// Deterministic tokens below `vocab`.
pub(crate) fn tokens(seed: u64, count: usize, vocab: u64) -> Vec<TokenId> {
    (0..count as u64).map(|i| (mix(seed << 32 | i) % vocab) as TokenId).collect()
}

/// SplitMix64's output function over a counter.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut x = counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Rows that were written, standing somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) pages: Vec<PageId>,
    pub(crate) rows: u32,
    pub(crate) start: u32,
    pub(crate) shift: i32,
}

impl Written {
    pub(crate) fn run(&self) -> Run<'_> {
        Run::new(&self.pages, self.rows, self.start, self.shift)
    }

    pub(crate) fn end(&self) -> u32 {
        self.start + self.rows
    }

    /// The same rows standing at `start`.
    pub(crate) fn placed(&self, start: u32) -> Self {
        let shift = self.shift + start as i32 - self.start as i32;
        Self { start, shift, ..self.clone() }
    }

    fn addr(&self, row: u32, page_rows: u32) -> RowAddr {
        RowAddr { page: self.pages[(row / page_rows) as usize], row: row % page_rows }
    }
}

/// A decoder and the pages of it that are taken.
pub(crate) struct Desk<M = Decoder> {
    pub(crate) model: M,
    pages_used: u32,
}

impl<M: Model> Desk<M> {
    pub(crate) fn new(model: M) -> Self {
        Self { model, pages_used: 0 }
    }

    /// Leaves pages out, so that what follows lies elsewhere.
    pub(crate) fn skip_pages(&mut self, count: u32) {
        self.pages_used += count;
    }

    fn page_rows(&self) -> u32 {
        self.model.shape().page_rows as u32
    }

    fn blank(&mut self, rows: usize, start: u32) -> Written {
        let count = rows.div_ceil(self.page_rows() as usize) as u32;
        let pages = (self.pages_used..self.pages_used + count).map(PageId).collect();
        self.pages_used += count;
        assert!(self.pages_used as usize <= self.model.shape().pages, "the pool is too small");
        Written { pages, rows: 0, start, shift: 0 }
    }

    /// Forwards `tokens` from position `start` after `before`, `chunk` rows at a time: the run,
    /// and logits `[rows, vocab]`.
    pub(crate) fn write(
        &mut self,
        tokens: &[TokenId],
        start: u32,
        before: &[&Written],
        chunk: usize,
    ) -> (Written, Vec<f32>) {
        let mut all = Vec::new();
        let own = self.write_each(tokens, start, before, chunk, |logits| all.extend(logits));
        (own, all)
    }

    /// The same with the logits of each chunk given away: those of a long text are gigabytes.
    pub(crate) fn write_each(
        &mut self,
        tokens: &[TokenId],
        start: u32,
        before: &[&Written],
        chunk: usize,
        mut take: impl FnMut(&[f32]),
    ) -> Written {
        let page_rows = self.page_rows();
        let mut own = self.blank(tokens.len(), start);
        let mut logits = Vec::new();
        for part in tokens.chunks(chunk) {
            let first = own.rows;
            own.rows += part.len() as u32;
            let writes: Vec<_> = (first..own.rows).map(|r| own.addr(r, page_rows)).collect();
            let positions: Vec<_> = (first..own.rows).map(|r| start + r).collect();
            let runs: Vec<_> = before.iter().map(|w| w.run()).chain([own.run()]).collect();
            let spans = [Span::new(0..part.len(), &runs)];
            let logits_rows: Vec<_> = (0..part.len()).collect();
            logits.clear();
            self.model.forward(
                &Batch {
                    tokens: part,
                    positions: &positions,
                    writes: &writes,
                    spans: &spans,
                    logits_rows: &logits_rows,
                },
                &mut logits,
            );
            take(&logits);
        }
        own
    }

    /// Encodes without asking for logits.
    pub(crate) fn encode(
        &mut self,
        tokens: &[TokenId],
        start: u32,
        before: &[&Written],
    ) -> Written {
        let page_rows = self.page_rows();
        let mut own = self.blank(tokens.len(), start);
        own.rows = tokens.len() as u32;
        let writes: Vec<_> = (0..own.rows).map(|r| own.addr(r, page_rows)).collect();
        let positions: Vec<_> = (0..own.rows).map(|r| start + r).collect();
        let runs: Vec<_> = before.iter().map(|w| w.run()).chain([own.run()]).collect();
        let spans = [Span::new(0..tokens.len(), &runs)];
        let batch = Batch {
            tokens,
            positions: &positions,
            writes: &writes,
            spans: &spans,
            logits_rows: &[],
        };
        self.model.forward(&batch, &mut Vec::new());
        own
    }

    /// Several texts after one root, all in one batch: their runs, and logits of the rows wanted.
    pub(crate) fn write_together(
        &mut self,
        texts: &[Vec<TokenId>],
        root: &Written,
        wanted: impl Fn(usize) -> bool,
    ) -> (Vec<Written>, Vec<f32>) {
        let page_rows = self.page_rows();
        let mut own = Vec::new();
        let (mut tokens, mut positions, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            let mut written = self.blank(text.len(), root.end());
            written.rows = text.len() as u32;
            positions.extend(written.start..written.end());
            writes.extend((0..written.rows).map(|r| written.addr(r, page_rows)));
            tokens.extend_from_slice(text);
            own.push(written);
        }
        let runs: Vec<_> = own.iter().map(|written| [root.run(), written.run()]).collect();
        let mut spans: Vec<Span<'_>> = Vec::new();
        for runs in &runs {
            let begin = spans.last().map_or(0, |span| span.rows.end);
            spans.push(Span::new(begin..begin + runs[1].rows as usize, runs));
        }
        let logits_rows: Vec<_> = (0..tokens.len()).filter(|&row| wanted(row)).collect();
        let batch = Batch {
            tokens: &tokens,
            positions: &positions,
            writes: &writes,
            spans: &spans,
            logits_rows: &logits_rows,
        };
        let mut logits = Vec::new();
        self.model.forward(&batch, &mut logits);
        (own, logits)
    }

    pub(crate) fn digest(&self, written: &Written) -> [u8; 32] {
        self.model.digest(&written.pages, written.rows as usize)
    }
}

/// Log-probabilities of one row of logits, in f64.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let all = log_sum_exp(logits);
    logits.iter().map(|&x| f64::from(x) - all).collect()
}

/// What a logit is less than its log-probability by, in f64.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    f64::from(max) + sum.ln()
}

/// Largest difference between log-probabilities of two sets of logits.
pub(crate) fn difference(a: &[f32], b: &[f32], vocab: usize) -> f64 {
    assert_eq!(a.len(), b.len(), "as many logits");
    let rows = a.chunks(vocab).zip(b.chunks(vocab));
    rows.flat_map(|(a, b)| log_softmax(a).into_iter().zip(log_softmax(b)))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// The same bits in both.
pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
