//! What will be run: arguments checked together, files read, addresses and defaults resolved.
//!
//! Everything that can be wrong about a setting is found here, before a model is loaded.

use crate::{
    ApiKeys, Bytes,
    args::{EngineArgs, GenerateArgs, ServeArgs},
    sources::{Allowed, CommandLine, Folders, Host, Hosts},
};
use engine::{JoinPolicy, Sampling, StoreUrl};
use kernels::{Isa, KvDtype};
use models::DeviceChoice;
use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Which model to load and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// A catalogue name, a path, or `hf:owner/repo/file`: what `models::catalogue::fetch` takes.
    pub model: String,
    /// Where it runs.
    pub device: DeviceChoice,
    /// Instruction set; `None` is the widest of this machine.
    pub isa: Option<Isa>,
    /// Threads that compute.
    pub threads: usize,
    /// Number format of cached keys and values.
    pub kv_dtype: KvDtype,
    /// Memory for cached keys and values; `None` is [`KV_MEMORY_CPU`] on a CPU, and on a GPU what is
    /// free.
    pub kv_memory: Option<Bytes>,
    /// Longest composition and answer together, in tokens; `None` is the model's own limit.
    pub context: Option<usize>,
    /// Generations that may wait for a place.
    pub waiting_max: usize,
    /// Generations that run at once.
    pub running_max: usize,
}

impl EngineConfig {
    /// For commands that run one generation at a time.
    pub fn single(args: EngineArgs) -> Result<Self, ConfigError> {
        Self::resolve(args, 1, 1)
    }

    fn resolve(
        args: EngineArgs,
        waiting_max: usize,
        running_max: usize,
    ) -> Result<Self, ConfigError> {
        if args.model.trim().is_empty() {
            return Err(ConfigError::NoModel);
        }
        if let Some(isa) = args.isa.filter(|isa| !isa.is_available()) {
            return Err(ConfigError::Isa { given: isa, best: Isa::best() });
        }
        let threads = match args.threads {
            Some(threads) => threads.get(),
            None => models::physical_cores(),
        };
        if threads > THREADS_MAX {
            return Err(ConfigError::Threads { given: threads, max: THREADS_MAX });
        }
        if let Some(given) = args.kv_memory.filter(|&given| given < KV_MEMORY_MIN) {
            return Err(ConfigError::KvMemory { given, min: KV_MEMORY_MIN });
        }
        Ok(Self {
            model: args.model,
            device: args.device,
            isa: args.isa,
            threads,
            kv_dtype: args.kv_dtype,
            kv_memory: args.kv_memory,
            context: args.context.map(usize::from),
            waiting_max,
            running_max,
        })
    }

    /// Pages that fit in the memory of the machine that is taken, for pages of `page_bytes`.
    pub fn kv_pages(&self, page_bytes: usize) -> usize {
        self.kv_bytes() / page_bytes
    }

    /// Memory of the machine for cached keys and values, in bytes.
    pub fn kv_bytes(&self) -> usize {
        usize::try_from(self.kv_memory.unwrap_or(KV_MEMORY_CPU).0).unwrap_or(usize::MAX)
    }
}

/// KV on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Models have folders of their own in it.
    pub dir: PathBuf,
    /// What it may take, for each of them.
    pub bytes: Bytes,
}

impl CacheConfig {
    fn resolve(dir: Option<PathBuf>, bytes: Bytes) -> Result<Option<Self>, ConfigError> {
        if bytes.0 == 0 {
            return Ok(None);
        }
        if bytes < CACHE_BYTES_MIN {
            return Err(ConfigError::CacheBytes { given: bytes, min: CACHE_BYTES_MIN });
        }
        let dir = match dir {
            Some(dir) => dir,
            None => models::catalogue::cache_folder().map_err(ConfigError::CacheDir)?,
        };
        Ok(Some(Self { dir: dir.join("kv"), bytes }))
    }
}

/// `cento serve`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Model and memory.
    pub engine: EngineConfig,
    /// Where to listen.
    pub address: SocketAddr,
    /// Keys of which a client must send one; without any, none is asked for.
    pub api_keys: ApiKeys,
    /// Memory of this machine behind a GPU's; `None`: on a GPU a quarter of what is available, else
    /// none.
    pub host_kv_memory: Option<Bytes>,
    /// Where KV is kept on disk, and how much of it; `None`: nowhere.
    pub cache: Option<CacheConfig>,
    /// What side contexts may be fed from.
    pub allowed: Allowed,
    /// The store that KV is shared through; `None`: none.
    pub cache_url: Option<StoreUrl>,
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Longest time one request may take.
    pub request_timeout: Duration,
    /// Time that running generations are given to end.
    pub grace: Duration,
}

impl TryFrom<ServeArgs> for ServeConfig {
    type Error = ConfigError;

    fn try_from(args: ServeArgs) -> Result<Self, ConfigError> {
        let unusable = |cause| ConfigError::Host { host: args.host.clone(), cause };
        let address = (args.host.as_str(), args.port)
            .to_socket_addrs()
            .map_err(unusable)?
            .next()
            .ok_or_else(|| unusable(io::ErrorKind::AddrNotAvailable.into()))?;
        let api_keys = args.api_key_file.as_deref().map(read_api_keys).transpose()?;
        let api_keys = api_keys.unwrap_or_default();
        if args.body_limit < BODY_LIMIT_MIN {
            return Err(ConfigError::BodyLimit { given: args.body_limit, min: BODY_LIMIT_MIN });
        }
        let too_little = |given: &Bytes| given.0 > 0 && *given < HOST_KV_MEMORY_MIN;
        if let Some(given) = args.host_kv_memory.filter(too_little) {
            return Err(ConfigError::HostKvMemory { given, min: HOST_KV_MEMORY_MIN });
        }
        let body_bytes_max = usize::try_from(args.body_limit.0).unwrap_or(usize::MAX);
        Ok(Self {
            engine: EngineConfig::resolve(args.engine, args.queue.get(), args.running.get())?,
            address,
            api_keys,
            host_kv_memory: args.host_kv_memory,
            cache: CacheConfig::resolve(args.cache_dir, args.cache_bytes)?,
            allowed: allowed(args.allow_file, args.allow_url, args.allow_command)?,
            cache_url: args.cache_url,
            body_bytes_max,
            request_timeout: Duration::from_secs_f64(args.request_timeout.0),
            grace: Duration::from_secs(args.grace.into()),
        })
    }
}

/// `cento generate`, checked and read.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateConfig {
    /// Model and memory.
    pub engine: EngineConfig,
    /// The prompt's text.
    pub prompt: String,
    /// The fragments' texts in order.
    pub fragments: Vec<String>,
    /// Text of the system turn; `None` is the model's own.
    pub system: Option<String>,
    /// No chat template.
    pub raw: bool,
    /// How fragments are joined.
    pub policy: JoinPolicy,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Print JSON.
    pub json: bool,
}

impl TryFrom<GenerateArgs> for GenerateConfig {
    type Error = ConfigError;

    fn try_from(args: GenerateArgs) -> Result<Self, ConfigError> {
        check_range("--temperature", args.temperature, 0.0..=100.0)?;
        check_range("--top-p", args.top_p, 0.0..=1.0)?;
        check_range("--min-p", args.min_p, 0.0..=1.0)?;
        if let Some(empty) = args.stop.iter().position(String::is_empty) {
            return Err(ConfigError::EmptyStop { index: empty });
        }
        let prompt = if args.prompt == "-" { read_standard_input()? } else { args.prompt };
        if prompt.is_empty() {
            return Err(ConfigError::EmptyPrompt);
        }
        let fragments = args.fragments.into_iter().map(read_fragment).collect::<Result<_, _>>()?;
        Ok(Self {
            engine: EngineConfig::single(args.engine)?,
            prompt,
            fragments,
            system: args.system,
            raw: args.raw,
            policy: args.join,
            sampling: Sampling {
                temperature: args.temperature,
                top_p: args.top_p,
                top_k: args.top_k,
                min_p: args.min_p,
                repetition_penalty: 1.0,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                seed: args.seed,
                forced: Vec::new(),
            },
            max_tokens: args.max_tokens,
            stop: args.stop,
            json: args.json,
        })
    }
}

/// A setting that cannot be run with, and what would do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Instructions that this machine lacks.
    #[error("--isa {given}: this machine has no {given}; the widest it has is {best}")]
    Isa {
        /// The instruction set asked for.
        given: Isa,
        /// The widest there is.
        best: Isa,
    },
    /// An empty `--model`.
    #[error("--model is empty: give a name (see `cento models`), a path, or hf:OWNER/REPO/FILE")]
    NoModel,
    /// More threads than the kernels take.
    #[error("--threads {given}: at most {max}")]
    Threads {
        /// As typed.
        given: usize,
        /// The limit.
        max: usize,
    },
    /// Too little memory for any model.
    #[error("--kv-memory {given}: at least {min}")]
    KvMemory {
        /// As typed.
        given: Bytes,
        /// The limit.
        min: Bytes,
    },
    /// Too little memory behind a GPU's to keep anything.
    #[error("--host-kv-memory {given}: at least {min}, or 0 for none")]
    HostKvMemory {
        /// As typed.
        given: Bytes,
        /// The limit.
        min: Bytes,
    },
    /// A body limit under which no request fits.
    #[error("--body-limit {given}: at least {min}")]
    BodyLimit {
        /// As typed.
        given: Bytes,
        /// The limit.
        min: Bytes,
    },
    /// The host does not resolve to an address.
    #[error("--host {host}: not an address of this machine: {cause}")]
    Host {
        /// As typed.
        host: String,
        /// Why.
        cause: io::Error,
    },
    /// A file named by a flag cannot be read.
    #[error("{flag}: cannot read {path}: {cause}")]
    Unreadable {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The key file holds no key (everybody would be locked out) or a line that is none.
    #[error("--api-key-file: {path}: {reason}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A number out of its range, or not a number.
    #[error("{flag} {given}: expected a number from {min} to {max}")]
    Range {
        /// The flag.
        flag: &'static str,
        /// As typed.
        given: f32,
        /// Least.
        min: f32,
        /// Most.
        max: f32,
    },
    /// Too little disk to keep anything.
    #[error("--cache-bytes {given}: at least {min}, or 0 for none")]
    CacheBytes {
        /// As typed.
        given: Bytes,
        /// Least.
        min: Bytes,
    },
    /// No folder to keep KV in.
    #[error("--cache-dir: {0}")]
    CacheDir(#[source] models::catalogue::CatalogueError),
    /// Two commands of one name.
    #[error("--allow-command {name}: there are two of that name")]
    CommandTwice {
        /// The name.
        name: String,
    },
    /// Nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// An empty stop text would end every answer at once.
    #[error("--stop number {} is empty", index + 1)]
    EmptyStop {
        /// Its place, from 0.
        index: usize,
    },
}

/// More than any machine of the kind Cento is for has.
const THREADS_MAX: usize = 1024;
/// What keys and values may take on a CPU.
pub(crate) const KV_MEMORY_CPU: Bytes = Bytes(2 << 30);
/// Under this no model holds one page.
const KV_MEMORY_MIN: Bytes = Bytes(1 << 20);
/// Under this a few fragments of a small model do not fit.
const HOST_KV_MEMORY_MIN: Bytes = Bytes(64 << 20);
/// The same on disk.
const CACHE_BYTES_MIN: Bytes = Bytes(64 << 20);
/// Under this no useful request fits.
const BODY_LIMIT_MIN: Bytes = Bytes(1 << 10);

fn allowed(
    folders: Vec<PathBuf>,
    hosts: Vec<Host>,
    listed: Vec<(String, CommandLine)>,
) -> Result<Allowed, ConfigError> {
    let folders = Folders::new(folders).map_err(|(path, cause)| ConfigError::Unreadable {
        flag: "--allow-file",
        path,
        cause,
    })?;
    let mut commands = BTreeMap::new();
    for (name, line) in listed {
        if commands.insert(name.clone(), line).is_some() {
            return Err(ConfigError::CommandTwice { name });
        }
    }
    Ok(Allowed { folders, hosts: Hosts::new(hosts), commands })
}

fn read_api_keys(path: &Path) -> Result<ApiKeys, ConfigError> {
    let text = fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        flag: "--api-key-file",
        path: path.to_owned(),
        cause,
    })?;
    ApiKeys::parse(&text).map_err(|reason| ConfigError::Keys { path: path.to_owned(), reason })
}

fn read_fragment(text: String) -> Result<String, ConfigError> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text) };
    fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        flag: "--fragment",
        path: path.into(),
        cause,
    })
}

fn read_standard_input() -> Result<String, ConfigError> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|cause| ConfigError::Unreadable {
        flag: "the prompt",
        path: "standard input".into(),
        cause,
    })?;
    Ok(text)
}

fn check_range(
    flag: &'static str,
    given: f32,
    range: std::ops::RangeInclusive<f32>,
) -> Result<(), ConfigError> {
    if range.contains(&given) {
        return Ok(());
    }
    Err(ConfigError::Range { flag, given, min: *range.start(), max: *range.end() })
}

#[cfg(test)]
mod tests;
