//! `attention`: the op alone, for many sequences that look at the same cached fragments, each in an
//! order of its own: with pages read once for all of them, and once for each.

use crate::{
    batch::reorder,
    cpu::median,
    limits::{self, Limits},
    shapes::{SHAPES, Shape},
};
use anyhow::ensure;
use kernels::{
    AttentionScratch, AttentionShape, Cpu, Isa, KvDtype, KvLayout, KvPool, KvRows, Looks, PageId,
    Queries, RopeStyle, RopeTable, RowAddr, Run, Span, attention, case::Rng, kv_append,
};
use serde::Serialize;
use std::time::Instant;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only models whose name contains this: "Llama".
    #[arg(long, default_value = "")]
    filter: String,
    /// Sequences at once, of one new row each.
    #[arg(long, default_value_t = 64)]
    sequences: usize,
    /// Fragments that all of them look at.
    #[arg(long, default_value_t = 8)]
    fragments: usize,
    /// Rows of each.
    #[arg(long, default_value_t = 512)]
    fragment_tokens: usize,
    /// Number format of cached keys and values: f16, bf16, f32 or int8.
    #[arg(long, default_value = "f16")]
    kv_dtype: KvDtype,
    /// Threads; 0 means one per physical core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Instruction set: scalar, neon, avx2, avx512, avx512vnni. The widest of this machine if not given.
    #[arg(long, env = "CENTO_ISA")]
    isa: Option<Isa>,
    /// Passes over all layers, the two ways in turn; the medians are reported.
    #[arg(long, default_value_t = 9)]
    runs: usize,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The printed object.
#[derive(Serialize)]
pub(crate) struct Report {
    threads: usize,
    isa: String,
    kv_dtype: &'static str,
    sequences: usize,
    fragments: usize,
    fragment_tokens: usize,
    limits: Limits,
    models: Vec<Measured>,
}

/// Attention of one model's layers.
#[derive(Serialize)]
struct Measured {
    model: &'static str,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Layers that a pass goes through: all of the model's, or fewer that no cache holds.
    layers: usize,
    /// Products and sums, 10^9 per second: pages read once for all, and once for each.
    shared_gflops: f64,
    each_gflops: f64,
    /// How many times faster the first is.
    ratio: f64,
}

/// Bytes of KV that a pass goes through at most, but for one layer: far more than caches hold.
const KV_BYTES: usize = 256 << 20;

/// Rows of a page, as a server has them.
const PAGE_ROWS: usize = 32;

/// Measures every model, and checks that both ways give the same bits.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    let sizes = [args.sequences, args.fragments, args.fragment_tokens, args.runs];
    ensure!(
        !sizes.contains(&0),
        "sequences, fragments, tokens, runs must be at least 1: {sizes:?}"
    );
    let threads = if args.threads == 0 { models::physical_cores() } else { args.threads };
    let isa = args.isa.unwrap_or_else(Isa::best);
    ensure!(isa.is_available(), "this machine has no {isa}");
    let cpu = Cpu::new(threads, isa);
    let chosen = SHAPES.iter().filter(|model| model.name.contains(&args.filter));
    let models = chosen.map(|model| Bench::new(args, &cpu, model)?.measure(args, &cpu));
    Ok(Report {
        threads,
        isa: isa.to_string(),
        kv_dtype: args.kv_dtype.name(),
        sequences: args.sequences,
        fragments: args.fragments,
        fragment_tokens: args.fragment_tokens,
        limits: limits::measure(threads),
        models: models.collect::<anyhow::Result<_>>()?,
    })
}

/// Pages that hold the fragments in every layer, and queries.
struct Bench {
    model: &'static str,
    shape: AttentionShape,
    kv: KvPool,
    rope: RopeTable,
    /// Pages of each fragment.
    pages: Vec<Vec<PageId>>,
    /// `[sequences, heads * head_dim]`.
    q: Vec<f32>,
}

impl Bench {
    /// The same numbers in every layer, in memory of its own.
    fn new(args: &Args, cpu: &Cpu, model: &Shape) -> anyhow::Result<Self> {
        let Shape { name: model, heads, kv_heads, head_dim, layers, .. } = *model;
        let scale = (head_dim as f32).sqrt().recip();
        let shape =
            AttentionShape { heads, kv_heads, head_dim, scale, window: None, softcap: None };
        let each = args.fragment_tokens.div_ceil(PAGE_ROWS);
        let layout =
            KvLayout { layers: 1, kv_heads, head_dim, page_rows: PAGE_ROWS, dtype: args.kv_dtype };
        let layer_bytes = args.fragments * each * layout.page_bytes();
        let layers = (KV_BYTES / layer_bytes).clamp(1, layers);
        let mut kv = KvPool::new(KvLayout { layers, ..layout }, args.fragments * each)?;
        let pair = |i: usize| 10_000_f32.powf(-2.0 * i as f32 / head_dim as f32);
        let inv_freq = (0..head_dim / 2).map(pair).collect();
        let positions_max = args.fragments * args.fragment_tokens + 1;
        let rope = RopeTable::new(RopeStyle::HalfSplit, inv_freq, positions_max);
        let mut rng = Rng::new(1);
        let mut numbers = |count| (0..count).map(|_| rng.signed()).collect::<Vec<f32>>();
        let page = |fragment: usize, i: usize| PageId((fragment * each + i) as u32);
        let positions: Vec<u32> = (0..args.fragment_tokens as u32).collect();
        for fragment in 0..args.fragments {
            let [k, v] = [(); 2].map(|()| numbers(args.fragment_tokens * kv_heads * head_dim));
            let row = |i: usize| RowAddr {
                page: page(fragment, i / PAGE_ROWS),
                row: (i % PAGE_ROWS) as u32,
            };
            let writes: Vec<RowAddr> = (0..args.fragment_tokens).map(row).collect();
            for layer in 0..layers {
                let at = KvRows { layer, writes: &writes, positions: &positions, rope: &rope };
                kv_append(cpu, &mut kv, &at, &k, &v);
            }
        }
        let pages = (0..args.fragments).map(|f| (0..each).map(|i| page(f, i)).collect()).collect();
        let q = numbers(args.sequences * heads * head_dim);
        Ok(Self { model, shape, kv, rope, pages, q })
    }

    /// The runs of a sequence: all fragments, in an order of its own.
    fn runs(&self, args: &Args, sequence: usize) -> Vec<Run<'_>> {
        let mut order: Vec<usize> = (0..args.fragments).collect();
        reorder(&mut order, sequence);
        let rows = args.fragment_tokens as u32;
        let run = |(place, &fragment): (usize, &usize)| {
            let start = place as u32 * rows;
            Run::new(&self.pages[fragment], rows, start, start as i32)
        };
        order.iter().enumerate().map(run).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    fn measure(&self, args: &Args, cpu: &Cpu) -> anyhow::Result<Measured> {
        let Self { model, shape, kv, rope, q, .. } = self;
        let runs: Vec<Vec<Run<'_>>> = (0..args.sequences).map(|s| self.runs(args, s)).collect();
        let spans: Vec<Span<'_>> =
            runs.iter().enumerate().map(|(s, runs)| Span::new(s..s + 1, runs)).collect();
        let rows = args.fragments * args.fragment_tokens;
        let positions = vec![rows as u32; args.sequences];
        let layers = kv.layout().layers;
        let mut ways = [true, false].map(|shares| {
            let mut scratch = AttentionScratch::new();
            scratch.share_reads(shares);
            (scratch, vec![0.0; layers * q.len()], Vec::new())
        });
        // The first pass is for memory to be made.
        for pass in 0..=args.runs {
            for (scratch, out, seconds) in &mut ways {
                let begun = Instant::now();
                let looks = Looks::new(&positions, &spans);
                for (layer, out) in out.chunks_exact_mut(q.len()).enumerate() {
                    let queries = Queries { layer, q, looks, rope };
                    attention(cpu, kv, shape, &queries, scratch, out);
                }
                if pass > 0 {
                    seconds.push(begun.elapsed().as_secs_f64());
                }
            }
        }
        let [(_, once, shared_s), (_, each, each_s)] = ways;
        let same = once.iter().zip(&each).all(|(a, b)| a.to_bits() == b.to_bits());
        ensure!(same, "{model}: pages read once for all give other bits than read for each");
        let gflop = (4 * layers * q.len() * rows) as f64 / 1e9;
        let [shared_gflops, each_gflops] = [shared_s, each_s].map(|s| gflop / median(s));
        let AttentionShape { heads, kv_heads, head_dim, .. } = *shape;
        let ratio = shared_gflops / each_gflops;
        Ok(Measured { model, heads, kv_heads, head_dim, layers, shared_gflops, each_gflops, ratio })
    }
}
