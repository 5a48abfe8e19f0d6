//! Where a model comes from: its weights, with the configuration and tokenizer files that belong
//! to them.

use crate::config::read_text;
use crate::description::Description;
use crate::tokenizer::{TokenizerFiles, chat_template};
use crate::{Gguf, LoadError, ModelInfo, Safetensors, Tokenizer, Weights, arch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An opened model: headers are read, tensors are not.
#[derive(Debug)]
pub(crate) struct Source {
    weights: Weights,
    /// Text of `config.json`; GGUF files carry their configuration.
    config: Option<String>,
    /// Where tokenizer files stand.
    folder: PathBuf,
    /// The file's or folder's name, without an extension.
    stem: String,
}

impl Source {
    /// Opens a `.gguf` file, a `.safetensors` file, or a folder.
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let weights = Weights::Safetensors(Safetensors::open_folder(path)?);
            let config = Some(read_text(&path.join(CONFIG))?);
            let stem = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Self { weights, config, folder: path.to_path_buf(), stem });
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => {
                let weights = Weights::Safetensors(Safetensors::open(path)?);
                let config = Some(read_text(&folder.join(CONFIG))?);
                Ok(Self { weights, config, folder, stem })
            }
            Some("gguf") => {
                let weights = Weights::Gguf(Gguf::open(path)?);
                Ok(Self { weights, config: None, folder, stem })
            }
            _ => {
                let why = "is neither a .gguf file, nor a .safetensors file, nor a folder";
                Err(LoadError::NotAModel { path: path.to_path_buf(), why: why.into() })
            }
        }
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The architecture's name, and its description.
    pub(crate) fn describe(&self) -> Result<(String, Description), LoadError> {
        match &self.weights {
            Weights::Gguf(file) => arch::of_gguf(&file.metadata, &self.weights),
            Weights::Safetensors(_) => {
                arch::of_json(self.config.as_deref().unwrap_or_default(), &self.weights)
            }
        }
    }

    /// The tokenizer, and the source of the chat template where there is one.
    pub(crate) fn tokenizer(&self) -> Result<(Tokenizer, Option<String>), LoadError> {
        if let Weights::Gguf(file) = &self.weights {
            let template = file.metadata.str("tokenizer.chat_template")?.map(str::to_owned);
            return Ok((Tokenizer::from_gguf(&file.metadata)?, template));
        }
        let optional = |name: &str| {
            let path = self.folder.join(name);
            path.exists().then(|| read_text(&path)).transpose()
        };
        let tokenizer = read_text(&self.folder.join("tokenizer.json"))?;
        let config = optional("tokenizer_config.json")?;
        let generation = optional("generation_config.json")?;
        let files = TokenizerFiles {
            tokenizer: &tokenizer,
            config: config.as_deref(),
            generation: generation.as_deref(),
        };
        let own_file = optional("chat_template.jinja")?;
        let template = match (own_file, &config) {
            (Some(template), _) => Some(template),
            (None, Some(config)) => chat_template(config)?,
            (None, None) => None,
        };
        Ok((Tokenizer::from_json(&files)?, template))
    }

    /// The model's own name, else the file's.
    pub(crate) fn name(&self) -> String {
        match &self.weights {
            Weights::Gguf(file) => match file.metadata.str("general.name") {
                Ok(Some(name)) if !name.is_empty() => name.to_owned(),
                _ => self.stem.clone(),
            },
            Weights::Safetensors(_) => self.stem.clone(),
        }
    }

    /// What the model is, computed with these instructions on the CPU.
    pub(crate) fn info(&self, arch: String, description: &Description, isa: String) -> ModelInfo {
        ModelInfo {
            name: self.name(),
            arch,
            parameters: self.parameters(),
            file_bytes: self.file_bytes(),
            quantization: self.quantization(),
            context_train: description.context_train,
            isa,
            device: "cpu".to_owned(),
            notes: Vec::new(),
        }
    }

    /// Numbers in all tensors.
    pub(crate) fn parameters(&self) -> u64 {
        self.tensors().map(|(_, numbers, _)| numbers).sum()
    }

    /// Bytes of all weights files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.weights.mappings().iter().map(|mapping| mapping.bytes().len() as u64).sum()
    }

    /// The file's own word for how it is quantized, else the format of most of its bytes.
    pub(crate) fn quantization(&self) -> String {
        if let Weights::Gguf(file) = &self.weights {
            let number = file.metadata.u32("general.file_type").ok().flatten();
            let name = FILE_TYPES.iter().find(|(id, _)| Some(*id) == number);
            if let Some((_, name)) = name {
                return (*name).to_owned();
            }
        }
        let mut bytes = BTreeMap::<String, usize>::new();
        for (format, _, len) in self.tensors() {
            *bytes.entry(format).or_default() += len;
        }
        let most = bytes.into_iter().max_by_key(|(_, len)| *len);
        most.map(|(format, _)| format.to_uppercase()).unwrap_or_default()
    }

    /// Everything that decides what is computed: the configuration and all bytes of all files.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) {
        let config = self.config.as_deref().unwrap_or_default();
        hasher.update(&(config.len() as u64).to_le_bytes());
        hasher.update(config.as_bytes());
        for mapping in self.weights.mappings() {
            hasher.update(&(mapping.bytes().len() as u64).to_le_bytes());
            mapping.hash(hasher);
        }
    }

    /// Format, numbers and bytes of every tensor.
    fn tensors(&self) -> impl Iterator<Item = (String, u64, usize)> {
        self.weights.names().filter_map(|name| self.weights.tensor(name)).map(|tensor| {
            let numbers = tensor.shape.iter().map(|&dim| dim as u64).product();
            (format!("{:?}", tensor.format), numbers, tensor.bytes.len())
        })
    }
}

const CONFIG: &str = "config.json";

/// `general.file_type` (`llama_ftype` of llama.cpp), those that the kernels can run.
const FILE_TYPES: &[(u32, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (32, "BF16"),
];
