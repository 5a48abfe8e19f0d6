//! `cento doctor`: what this machine offers, the gates run on the loaded model, and what `parallel`
//! needs to know of it.

use super::calibration;
use crate::{Bytes, Parallel, Profile, config::EngineConfig, local};
use engine::gates::{self, Bound, Gate, Promise, Sample};
use kernels::cuda::Device;
use models::{DeviceChoice, Loaded, Model as _, Turns};
use std::io::{self, Write as _};

/// With 8-bit activations llama.cpp is 0.001 to 0.004 from f32 on the same files, in the mean over
/// running text; five times that leaves room for the few rows of a sample.
const QUANTIZED: Bound = Bound::Divergence(0.02);
/// The same with float activations and half-precision KV.
const FLOAT: Bound = Bound::Divergence(0.001);

/// Prints each check, and what was calibrated, and fails when a check does.
pub(crate) fn run(config: &EngineConfig, asked: bool, json: bool) -> anyhow::Result<()> {
    let mut loaded = local::load(config)?;
    let sample = sample(&loaded.turns)?;
    let bound = if loaded.info.is_quantized() { QUANTIZED } else { FLOAT };
    let on_gpu = loaded.decoder.is_on_gpu();
    let promise = if on_gpu { Promise::Rounding } else { Promise::Bits };
    let gates = gates::run_by(&mut loaded.decoder, &sample, bound, promise);
    let fingerprint = loaded.decoder.shape().fingerprint;
    let mut profile = Profile::load(&fingerprint)?;
    if asked {
        profile.parallel = Some(calibrate(&mut loaded)?);
        let path = profile.save(&fingerprint)?;
        eprintln!("kept in {}", path.display());
    }
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{:#}", to_json(config, &loaded.info, &gates, profile))?;
    } else {
        let shape = loaded.decoder.shape();
        let kv = Bytes((shape.pages * shape.page_bytes) as u64);
        print(&mut out, config, (&loaded.info, kv), &gates, profile)?;
    }
    let closed = gates.iter().filter(|gate| !gate.is_open()).count();
    anyhow::ensure!(closed == 0, "{closed} of {} gates failed on {}", gates.len(), config.model);
    Ok(())
}

/// Text that any tokenizer knows; parts of different lengths that fill no page evenly.
fn sample(turns: &Turns) -> anyhow::Result<Sample> {
    let part = |text: &str| turns.part(None, text);
    Ok(Sample {
        root: turns.default_root(),
        fragments: [
            part("The ferry to the island leaves at seven in the morning and at four.\n")?,
            part("Its captain, Ada Lind, has made the crossing for thirty years.\n")?,
            part("In winter there is no boat on Sundays, and the café stays shut.\n")?,
        ],
        tail: part("So, asked when the ferry leaves, one would say:")?,
    })
}

/// Where the model runs, and by what.
pub(super) fn device(info: &models::ModelInfo, config: &EngineConfig) -> String {
    match info.device.as_str() {
        "cpu" => format!("cpu, {}, {} threads", info.isa, config.threads),
        gpu => format!("{gpu}, {}", info.isa),
    }
}

/// Why there.
fn choice(info: &models::ModelInfo, config: &EngineConfig) -> String {
    match config.device {
        DeviceChoice::Auto if info.device == "cpu" => "auto: no GPU can, see the note".to_owned(),
        DeviceChoice::Auto => "auto: the first GPU, which can hold and run it".to_owned(),
        asked => format!("as asked: {asked}"),
    }
}

/// Every GPU of this machine, or why there is none to see.
fn found() -> Vec<String> {
    match Device::found() {
        Ok(gpus) if gpus.is_empty() => vec!["a CUDA driver, and no GPU".to_owned()],
        Ok(gpus) => gpus.iter().map(ToString::to_string).collect(),
        Err(error) => vec![format!("no GPU: {error}")],
    }
}

fn print(
    out: &mut impl io::Write,
    config: &EngineConfig,
    (info, kv): (&models::ModelInfo, Bytes),
    gates: &[Gate],
    profile: Profile,
) -> anyhow::Result<()> {
    writeln!(out, "model    {} ({}, {})", config.model, info.arch, info.quantization)?;
    writeln!(out, "device   {} ({})", device(info, config), choice(info, config))?;
    for gpu in found() {
        writeln!(out, "found    {gpu}")?;
    }
    for note in &info.notes {
        writeln!(out, "note     {note}")?;
    }
    writeln!(out, "kv       {}, {kv}", config.kv_dtype)?;
    writeln!(out)?;
    for gate in gates {
        let verdict = if gate.is_open() { "ok" } else { "FAILED" };
        let limit = if gate.limit == 0.0 { "same bits".into() } else { format!("{}", gate.limit) };
        let Gate { name, meaning, error, .. } = gate;
        writeln!(out, "{verdict:<8} {name:<10} {meaning:<48} {error:.1e} (limit: {limit})")?;
    }
    if let Some(found) = profile.parallel {
        let Parallel { temperature, scale, divergence, before, tokens } = found;
        writeln!(out)?;
        writeln!(
            out,
            "parallel temperature {temperature}, scale {scale}: {divergence:.4} nats a token from \
             recompute, {before:.4} at 1 and 1 (calibrated on {tokens} tokens)"
        )?;
    }
    Ok(())
}

/// Finds the temperature and the scale of `parallel`; tells every pair that is tried.
fn calibrate(loaded: &mut Loaded) -> anyhow::Result<Parallel> {
    let samples = calibration::samples(&loaded.turns)?;
    let tried = |temperature: f64, scale: f64, divergence: f32| {
        eprintln!("temperature {temperature:.2}, scale {scale:.2}: {divergence:.4} nats a token");
    };
    Ok(gates::calibrate(&mut loaded.decoder, &samples, tried).into())
}

fn to_json(
    config: &EngineConfig,
    info: &models::ModelInfo,
    gates: &[Gate],
    profile: Profile,
) -> serde_json::Value {
    let gates: Vec<_> = gates
        .iter()
        .map(|gate| {
            serde_json::json!({
                "name": gate.name,
                "meaning": gate.meaning,
                "ok": gate.is_open(),
                // Infinity is not JSON: null says that bytes differed.
                "error": gate.error.is_finite().then_some(gate.error),
                "limit": gate.limit,
            })
        })
        .collect();
    serde_json::json!({
        "model": config.model,
        "arch": info.arch,
        "quantization": info.quantization,
        "device": info.device,
        "choice": choice(info, config),
        "notes": info.notes,
        "gpus": found(),
        "isa": info.isa,
        "threads": config.threads,
        "gates": gates,
        "parallel": profile.parallel,
    })
}
