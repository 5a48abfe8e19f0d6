//! `peer`: Cento and llama.cpp on the same file with the same threads, interleaved in one run.

pub(crate) mod llama;

use crate::{cpu::median, session::Session};
use anyhow::{Context, ensure};
use llama::{Llama, Request};
use models::{KvDtype, LoadOptions};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf, thread, time::Duration};

/// What to compare.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A catalogue name, a path, or hf:owner/repo/file; a GGUF file in the end.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Print one line of JSON instead of an indented object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads of either; 0 means one per physical core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Interleaved repetitions of each figure; the median is reported.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Prompt lengths to prefill, in tokens.
    #[arg(long, value_delimiter = ',', default_value = "512")]
    prefill: Vec<usize>,
    /// Depths to decode at, in tokens.
    #[arg(long, value_delimiter = ',', default_value = "0,1024,4000")]
    decode: Vec<usize>,
    /// Tokens decoded for one figure.
    #[arg(long, default_value_t = 48)]
    decode_tokens: usize,
    /// A Python that has llama-cpp-python. Without one, a virtual environment is made beside the
    /// model cache and the package is built into it, which takes minutes, once.
    #[arg(long, env = "CENTO_BENCH_PYTHON")]
    python: Option<PathBuf>,
}

/// The printed object.
#[derive(Serialize)]
pub(crate) struct Report {
    model: String,
    file_mb: f64,
    threads: usize,
    runs: usize,
    isa: String,
    llama_cpp_python: String,
    prefill: BTreeMap<usize, Pair>,
    decode: BTreeMap<usize, Pair>,
}

/// Medians of one figure, in tokens per second.
#[derive(Serialize)]
struct Pair {
    cento: f64,
    /// The better of the next two.
    llama_cpp: f64,
    llama_cpp_flash_attention: f64,
    llama_cpp_without: f64,
    ratio: f64,
}

/// Runs every figure of both.
pub(crate) fn measure(args: &Args) -> anyhow::Result<Report> {
    ensure!(args.runs > 0, "--runs is 0; it must be at least 1");
    let threads = if args.threads == 0 { models::physical_cores() } else { args.threads };
    let path = models::catalogue::fetch(&args.model, &mut models::catalogue::Quiet)?;
    let longest = args.prefill.iter().chain(&args.decode).max().copied().unwrap_or(0);
    let context = longest + args.decode_tokens + CONTEXT_SPARE;
    let python = args.python.clone().map_or_else(llama::install, Ok)?;
    let mut llama = Llama::start(&python, &path, threads, context)?;
    let options = LoadOptions { threads, kv_dtype: KvDtype::F16, ..LoadOptions::default() };
    let session = Session::open(&args.model, &options)?;
    let mut seed = 1 << 10;
    let mut prefill = BTreeMap::new();
    for &length in &args.prefill {
        let pair = Pair::measure(args.runs, |who| {
            seed += 1;
            match who {
                Who::Cento => session.prefill(seed, length),
                Who::Llama { flash } => {
                    llama.ask(&Request::Prefill { tokens: length, seed, flash })
                }
            }
        })?;
        prefill.insert(length, pair);
    }
    let mut decode = BTreeMap::new();
    for &depth in &args.decode {
        let tokens = args.decode_tokens;
        let pair = Pair::measure(args.runs, |who| match who {
            Who::Cento => Ok(session.decode(depth, tokens)?.0),
            Who::Llama { flash } => llama.ask(&Request::Decode { tokens, depth, seed: 1, flash }),
        })?;
        decode.insert(depth, pair);
    }
    Ok(Report {
        model: args.model.clone(),
        file_mb: path.metadata().context("the model file")?.len() as f64 / 1e6,
        threads,
        runs: args.runs,
        isa: session.info.isa.clone(),
        llama_cpp_python: llama.version.clone(),
        prefill,
        decode,
    })
}

/// Whose turn it is.
enum Who {
    Cento,
    Llama { flash: bool },
}

impl Pair {
    /// Takes turns `runs` times.
    fn measure(
        runs: usize,
        mut figure: impl FnMut(Who) -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let (mut cento, mut flash_off, mut flash_on) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let turns = [
                (&mut cento, Who::Cento),
                (&mut flash_off, Who::Llama { flash: false }),
                (&mut flash_on, Who::Llama { flash: true }),
            ];
            for (speeds, who) in turns {
                // The threads of whoever came before have gone to sleep by then.
                thread::sleep(Duration::from_millis(200));
                speeds.push(figure(who)?);
            }
        }
        let (cento, without, with) = (median(cento), median(flash_off), median(flash_on));
        let llama_cpp = with.max(without);
        Ok(Self {
            cento,
            llama_cpp,
            llama_cpp_flash_attention: with,
            llama_cpp_without: without,
            ratio: cento / llama_cpp,
        })
    }
}

/// Positions beyond those a figure uses.
const CONTEXT_SPARE: usize = 64;
