//! From a path to a model that is ready to answer.

use crate::description::Description;
use crate::device::open_gpu;
use crate::parts::Parts;
use crate::source::Source;
use crate::{
    AnyDecoder, Decoder, DeviceChoice, GpuDecoder, LoadError, ModelShape, Tokenizer, Turns, gpu,
};
use kernels::cuda::{Gpu, GpuError};
use kernels::{Cpu, Isa, KvDtype, KvLayout, KvPool, PAGE_ROWS_MAX, Refine};
use std::path::Path;
use std::sync::Arc;

/// How to hold and run a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where to run it.
    pub device: DeviceChoice,
    /// Threads; 0 means one per physical core.
    pub threads: usize,
    /// Instruction set; none means the widest of this machine.
    pub isa: Option<Isa>,
    /// How K and V are stored.
    pub kv_dtype: KvDtype,
    /// Memory for KV pages, in bytes. The system backs a page with memory when it is written.
    pub kv_bytes: usize,
    /// The same on a GPU: as far as there is so much memory; none means all that is free, less what
    /// is kept back.
    pub kv_bytes_gpu: Option<usize>,
    /// Token rows in a page.
    pub page_rows: usize,
    /// Longest composition, in positions; none means what the model was trained for.
    pub context_max: Option<usize>,
    /// Rows a batch may hold.
    pub batch_rows_max: usize,
    /// The same on a GPU, which many rows keep busy.
    pub batch_rows_max_gpu: usize,
    /// What 8 bits leave of activations is quantized again everywhere, whatever the architecture
    /// needs: slower, and nearer to float arithmetic.
    pub fine_activations: bool,
    /// KV pages that several sequences look at are read once for all of them. Off, results are the
    /// same to the bit: to measure what it is worth.
    pub share_reads: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Cpu,
            threads: 0,
            isa: None,
            kv_dtype: KvDtype::F16,
            kv_bytes: 1 << 30,
            kv_bytes_gpu: None,
            page_rows: 32,
            context_max: None,
            batch_rows_max: 256,
            batch_rows_max_gpu: 2048,
            fine_activations: false,
            share_reads: true,
        }
    }
}

/// Told of every model on a GPU, until records of one are in the tree.
const UNPROVEN: &str = "Cento's CUDA kernels have never run on hardware: see what `cento doctor` says \
                        of them here, or choose `--device cpu`";

/// A model with everything around it.
#[derive(Debug)]
pub struct Loaded {
    /// Computes.
    pub decoder: AnyDecoder,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template.
    pub turns: Turns,
    /// What it is.
    pub info: ModelInfo,
}

/// What a model is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its own name, or the file's.
    pub name: String,
    /// `llama`, `qwen2`, …
    pub arch: String,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all weights files.
    pub file_bytes: u64,
    /// How most of the weights are stored: `Q4_K_M`, `F32`, …
    pub quantization: String,
    /// Positions it was trained for.
    pub context_train: usize,
    /// Instruction set it runs on; of a GPU its architecture.
    pub isa: String,
    /// Where it runs: `cpu`, or what the GPU is.
    pub device: String,
    /// Why there, and what was decided about memory, a sentence each.
    pub notes: Vec<String>,
}

impl ModelInfo {
    /// Weights are stored in blocks of integers, so that activations meet them in 8 bits.
    pub fn is_quantized(&self) -> bool {
        !matches!(self.quantization.as_str(), "F32" | "F16" | "BF16")
    }
}

/// A model whose files were read through, and whose weights are not loaded: whoever would refuse it can
/// do so before that wait.
#[derive(Debug)]
pub struct Opened {
    source: Source,
    options: LoadOptions,
    tokenizer: Arc<Tokenizer>,
    turns: Turns,
    place: Place,
    fingerprint: [u8; 32],
}

/// Where a model is to run.
#[derive(Debug)]
enum Place {
    Gpu(Gpu),
    /// Where the choice was ours, the GPU that could not be opened.
    Cpu(Option<GpuError>),
}

/// Loads a `.gguf` file, a `.safetensors` file beside its `config.json` and `tokenizer.json`, or a
/// Hugging Face folder of these.
///
/// # Errors
/// Names the file, key or tensor that is wrong.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, LoadError> {
    Opened::new(path, options)?.load()
}

impl Opened {
    /// Opens what [`load`] loads.
    ///
    /// # Errors
    /// As [`load`], but for what is found out with tensors in memory.
    pub fn new(path: &Path, options: &LoadOptions) -> Result<Self, LoadError> {
        let source = Source::open(path)?;
        let (tokenizer, turns) = text(&source)?;
        let (_, description) = describe(&source, options)?;
        let (tokens, rows) = (tokenizer.vocab(), description.vocab);
        if tokens > rows {
            let what = format!("has {tokens} tokens, the model has embeddings for {rows}");
            return Err(LoadError::Tokenizer(what));
        }
        let place = match options.device {
            DeviceChoice::Cpu => Place::Cpu(None),
            DeviceChoice::Cuda(number) => Place::Gpu(open_gpu(number)?),
            DeviceChoice::Auto => {
                open_gpu(0).map_or_else(|error| Place::Cpu(Some(error)), Place::Gpu)
            }
        };
        let fingerprint = if let Place::Gpu(_) = place {
            gpu::fingerprint(&source, options, &tokenizer.fingerprint())
        } else {
            pages(options, &kv_layout(options, &description)?)?;
            fingerprint(&source, options, &tokenizer.fingerprint())?
        };
        let options = options.clone();
        Ok(Self { source, options, tokenizer, turns, place, fingerprint })
    }

    /// The model's fingerprint, unless it finds no room on the GPU and the choice is ours.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Loads the weights. Where the choice is ours a GPU that cannot have them is no error: the report
    /// says why.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(self) -> Result<Loaded, LoadError> {
        let (decoder, info) = match &self.place {
            Place::Cpu(instead_of) => self.on_cpu(self.fingerprint, instead_of.as_ref())?,
            Place::Gpu(gpu) => match self.on_gpu(gpu) {
                Err(LoadError::Gpu(error)) if self.options.device == DeviceChoice::Auto => {
                    let tokenizer = self.tokenizer.fingerprint();
                    let fingerprint = fingerprint(&self.source, &self.options, &tokenizer)?;
                    self.on_cpu(fingerprint, Some(&error))?
                }
                loaded => loaded?,
            },
        };
        Ok(Loaded { decoder, tokenizer: self.tokenizer, turns: self.turns, info })
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<(AnyDecoder, ModelInfo), LoadError> {
        let (decoder, mut info) =
            GpuDecoder::of_source(gpu, &self.source, &self.options, self.fingerprint)?;
        info.notes.push(UNPROVEN.to_owned());
        Ok((AnyDecoder::Gpu(Box::new(decoder)), info))
    }

    fn on_cpu(
        &self,
        fingerprint: [u8; 32],
        instead_of: Option<&GpuError>,
    ) -> Result<(AnyDecoder, ModelInfo), LoadError> {
        let (decoder, mut info) = decoder(&self.source, &self.options, fingerprint)?;
        info.notes.extend(instead_of.map(|error| format!("not on a GPU: {error}")));
        Ok((AnyDecoder::Cpu(Box::new(decoder)), info))
    }
}

/// The tokenizer and the chat template alone: what a client of a server needs that sends tokens.
///
/// # Errors
/// As [`load`].
pub fn load_text(path: &Path) -> Result<(Arc<Tokenizer>, Turns), LoadError> {
    text(&Source::open(path)?)
}

fn text(source: &Source) -> Result<(Arc<Tokenizer>, Turns), LoadError> {
    let (tokenizer, template) = source.tokenizer()?;
    let tokenizer = Arc::new(tokenizer);
    let turns = Turns::new(tokenizer.clone(), template.as_deref())
        .map_err(|error| LoadError::Tokenizer(error.to_string()))?;
    Ok((tokenizer, turns))
}

impl Decoder {
    /// Loads weights alone, for a model without a tokenizer.
    ///
    /// `tokenizer_fingerprint` goes into the model's fingerprint.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(
        path: &Path,
        options: &LoadOptions,
        tokenizer_fingerprint: &[u8; 32],
    ) -> Result<(Self, ModelInfo), LoadError> {
        let source = Source::open(path)?;
        let fingerprint = fingerprint(&source, options, tokenizer_fingerprint)?;
        decoder(&source, options, fingerprint)
    }
}

fn decoder(
    source: &Source,
    options: &LoadOptions,
    fingerprint: [u8; 32],
) -> Result<(Decoder, ModelInfo), LoadError> {
    let isa = isa(options)?;
    let threads = if options.threads == 0 { physical_cores() } else { options.threads };
    let (arch, description) = describe(source, options)?;
    let context_max = context_max(options, &description)?;
    let layout = kv_layout(options, &description)?;
    let pages = pages(options, &layout)?;
    let cpu = Cpu::new(threads, isa);
    let parts = Parts::load(&cpu, &description, source.weights())?;
    let kv = KvPool::new(layout, pages).map_err(|error| LoadError::BadOption(error.to_string()))?;
    let shape = ModelShape {
        vocab: description.vocab,
        context_max,
        layers: description.layers.len(),
        page_rows: options.page_rows,
        pages: kv.pages(),
        page_bytes: kv.layout().page_bytes(),
        row_bytes: kv.layout().bytes_of(1),
        batch_rows_max: options.batch_rows_max,
        logits_rows_max: logits_rows_max(options, &description),
        fingerprint,
    };
    let info = source.info(arch, &description, isa.to_string());
    let mut decoder = Decoder::new(cpu, description, parts, kv, shape);
    decoder.share_reads(options.share_reads);
    Ok((decoder, info))
}

/// Hash over everything a KV byte depends on besides tokens. Reads the files through.
fn fingerprint(
    source: &Source,
    options: &LoadOptions,
    tokenizer: &[u8; 32],
) -> Result<[u8; 32], LoadError> {
    let mut hasher = blake3::Hasher::new();
    // Pages cut sums over keys, and each instruction set rounds in its own way.
    let (page_rows, kv_dtype, isa) = (options.page_rows, options.kv_dtype, isa(options)?);
    hasher.update(format!("cento kv {KV_VERSION} {kv_dtype:?} {page_rows} {isa}\n").as_bytes());
    if options.fine_activations {
        hasher.update(b"fine activations\n");
    }
    hasher.update(tokenizer);
    source.hash(&mut hasher);
    Ok(*hasher.finalize().as_bytes())
}

fn isa(options: &LoadOptions) -> Result<Isa, LoadError> {
    let isa = options.isa.unwrap_or_else(Isa::best);
    if isa.is_available() {
        return Ok(isa);
    }
    Err(LoadError::BadOption(format!("this machine has no {isa}")))
}

/// The architecture's name, and what to run; refuses options that do not go with it.
pub(crate) fn describe(
    source: &Source,
    options: &LoadOptions,
) -> Result<(String, Description), LoadError> {
    let (arch, mut description) = source.describe()?;
    if options.fine_activations {
        description.refine = Refine::Always;
    }
    context_max(options, &description)?;
    kv_layout(options, &description)?;
    Ok((arch, description))
}

pub(crate) fn context_max(
    options: &LoadOptions,
    description: &Description,
) -> Result<usize, LoadError> {
    let trained = description.context_train;
    if options.batch_rows_max == 0 {
        return Err(LoadError::BadOption("a batch of at most 0 rows".into()));
    }
    match options.context_max {
        None => Ok(trained),
        Some(asked) if (1..=trained).contains(&asked) => Ok(asked),
        Some(asked) => {
            let what = format!("a context of {asked} positions: this model has 1 to {trained}");
            Err(LoadError::BadOption(what))
        }
    }
}

/// Rows of a batch whose logits may be asked for.
pub(crate) fn logits_rows_max(options: &LoadOptions, description: &Description) -> usize {
    (LOGITS_MAX / description.vocab).clamp(1, options.batch_rows_max)
}

/// What a page holds.
pub(crate) fn kv_layout(
    options: &LoadOptions,
    description: &Description,
) -> Result<KvLayout, LoadError> {
    if !(1..=PAGE_ROWS_MAX).contains(&options.page_rows) {
        let what = format!("pages of {} rows: 1 to {PAGE_ROWS_MAX}", options.page_rows);
        return Err(LoadError::BadOption(what));
    }
    Ok(KvLayout {
        layers: description.layers.len(),
        kv_heads: description.kv_heads,
        head_dim: description.head_dim,
        page_rows: options.page_rows,
        dtype: options.kv_dtype,
    })
}

/// As many pages as the bytes allow.
fn pages(options: &LoadOptions, layout: &KvLayout) -> Result<usize, LoadError> {
    let (bytes, page) = (options.kv_bytes, layout.page_bytes());
    if bytes < page {
        let what = format!("{bytes} bytes for KV hold no page of {page} bytes");
        return Err(LoadError::BadOption(what));
    }
    Ok((bytes / page).min(u32::MAX as usize))
}

/// Physical cores of this machine that this process may use; at least 1.
pub fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cores = std::collections::BTreeSet::new();
    for cpu in 0..allowed {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        let read = |name: &str| std::fs::read_to_string(format!("{topology}/{name}"));
        match (read("physical_package_id"), read("core_id")) {
            (Ok(package), Ok(core)) => cores.insert((package, core)),
            // Not Linux, or a kernel that does not tell: count logical ones.
            _ => return allowed,
        };
    }
    cores.len().max(1)
}

/// Goes up with every change to the kernels or to the layout of pages that changes a KV byte.
pub const KV_VERSION: u32 = 4;

/// Logits of one step: 64 MB.
const LOGITS_MAX: usize = 16 << 20;
