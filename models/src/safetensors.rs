//! Safetensors files: one, or several named by an index.
//!
//! Headers are read by the `safetensors` crate, which compares the header's length and every
//! tensor's offsets with the file before it hands out a slice, allows a header of at most 100 MB,
//! and allocates no more than a small multiple of the header. Its errors do not always name the
//! tensor; [`culprit`] looks again for the name.

use crate::LoadError;
use crate::weights::{Entry, Mapping, Tensor};
use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};
use kernels::BlockFormat;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The tensors of one model in safetensors form.
#[derive(Debug)]
pub struct Safetensors {
    files: Vec<Mapping>,
    /// By name: index of the file, and where the tensor lies in it.
    tensors: BTreeMap<String, (usize, Entry)>,
}

impl Safetensors {
    /// One file.
    ///
    /// # Errors
    /// The file cannot be mapped, or its header is not that of a safetensors file.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::open_all(&[path])
    }

    /// A folder with `model.safetensors`, or `model.safetensors.index.json` and what it names.
    ///
    /// # Errors
    /// As [`Self::open`]; or the folder has neither, or the index and the files disagree.
    pub fn open_folder(folder: &Path) -> Result<Self, LoadError> {
        let index = folder.join(INDEX);
        if !index.exists() {
            let single = folder.join("model.safetensors");
            if !single.exists() {
                let why = format!("holds neither model.safetensors nor {INDEX}");
                return Err(LoadError::NotAModel { path: folder.to_path_buf(), why });
            }
            return Self::open(&single);
        }
        let weight_map = read_index(&index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let paths: Vec<_> = names.iter().map(|name| folder.join(name.as_str())).collect();
        let files = Self::open_all(&paths)?;
        match weight_map.keys().find(|tensor| !files.tensors.contains_key(*tensor)) {
            Some(tensor) => Err(LoadError::MissingTensor(tensor.clone())),
            None => Ok(files),
        }
    }

    fn open_all(paths: &[impl AsRef<Path>]) -> Result<Self, LoadError> {
        let mut files = Vec::new();
        let mut tensors = BTreeMap::new();
        for (i, path) in paths.iter().enumerate() {
            let mapping = Mapping::open(path.as_ref())?;
            for (name, entry) in parse(mapping.bytes())? {
                if tensors.contains_key(&name) {
                    return Err(LoadError::bad_tensor(name, "is in two files"));
                }
                tensors.insert(name, (i, entry));
            }
            files.push(mapping);
        }
        Ok(Self { files, tensors })
    }

    /// The tensor of this name, where there is one.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, (file, entry)) = self.tensors.get_key_value(name)?;
        let bytes = &self.files[*file].bytes()[entry.range.clone()];
        Some(Tensor { name, format: entry.format, shape: &entry.shape, bytes })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.files.iter()
    }
}

/// Reads the header of a whole file's bytes: every tensor, and where it lies.
///
/// # Errors
/// Names what is wrong: the header's length, the tensor.
pub fn parse(file: &[u8]) -> Result<BTreeMap<String, Entry>, LoadError> {
    let (header_len, metadata) =
        SafeTensors::read_metadata(file).map_err(|error| explain(&error, file))?;
    let data_start = LENGTH_BYTES + header_len;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let format = match info.dtype {
            Dtype::F32 => BlockFormat::F32,
            Dtype::F16 => BlockFormat::F16,
            Dtype::BF16 => BlockFormat::Bf16,
            other => {
                let what = format!("type {other:?} is not supported: F32, F16 and BF16 are");
                return Err(LoadError::bad_tensor(name, what));
            }
        };
        let (start, end) = info.data_offsets;
        let range = data_start + start..data_start + end;
        tensors.insert(name, Entry { format, shape: info.shape.clone(), range });
    }
    Ok(tensors)
}

fn explain(error: &SafeTensorError, file: &[u8]) -> LoadError {
    let left = file.len().saturating_sub(LENGTH_BYTES) as u64;
    let announced = file.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    match (error, announced) {
        (SafeTensorError::HeaderTooSmall, _) | (_, None) => LoadError::Truncated {
            what: "the header's length".into(),
            at: 0,
            needs: LENGTH_BYTES as u64,
            left: file.len() as u64,
        },
        (SafeTensorError::InvalidHeaderLength, Some(needs)) => {
            LoadError::Truncated { what: "the header".into(), at: LENGTH_BYTES as u64, needs, left }
        }
        (SafeTensorError::HeaderTooLarge, Some(needs)) => {
            malformed(format!("the header's length {needs} exceeds the format's 100 MB"))
        }
        (_, Some(_)) => culprit(file).unwrap_or_else(|| malformed(error.to_string())),
    }
}

/// The first tensor, by offset, whose header entry contradicts itself or the file.
fn culprit(file: &[u8]) -> Option<LoadError> {
    let header_len = usize::try_from(u64::from_le_bytes(*file.first_chunk()?)).ok()?;
    let data_start = LENGTH_BYTES.checked_add(header_len)?;
    let header = file.get(LENGTH_BYTES..data_start)?;
    let entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let mut tensors: Vec<(&String, [u64; 2])> = Vec::new();
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        let ends = entry
            .get("data_offsets")
            .and_then(|ends| Some([ends.get(0)?.as_u64()?, ends.get(1)?.as_u64()?]));
        let Some(ends) = ends else {
            return Some(LoadError::bad_tensor(name, "has no data_offsets of two integers"));
        };
        tensors.push((name, ends));
    }
    tensors.sort_by_key(|(_, ends)| *ends);
    let data_len = (file.len() - data_start) as u64;
    let mut expected = 0;
    for (name, [start, end]) in tensors {
        let what = if end < start || start != expected {
            format!("its data_offsets [{start}, {end}] do not follow byte {expected} of the data")
        } else if end > data_len {
            format!("its data ends beyond the file: at byte {end} of {data_len} of the data")
        } else if let Err(info) = serde_json::from_value::<TensorInfo>(entries[name].clone()) {
            info.to_string()
        } else {
            expected = end;
            let info = serde_json::from_value::<TensorInfo>(entries[name].clone()).ok()?;
            let elements = info.shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
            let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize() as u64));
            if bits == (end - start).checked_mul(8) {
                continue;
            }
            format!("its shape {:?} does not fill its {} bytes", info.shape, end - start)
        };
        return Some(LoadError::bad_tensor(name, what));
    }
    (expected != data_len).then(|| {
        malformed(format!("tensors end at byte {expected} of the data, the file at {data_len}"))
    })
}

/// What [`culprit`] reads of a header entry.
#[derive(serde::Deserialize)]
struct TensorInfo {
    dtype: Dtype,
    shape: Vec<u64>,
}

/// The `weight_map` of an index: tensor to file name.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, LoadError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = crate::config::read_text(path)?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| LoadError::Malformed { format: INDEX, what: error.to_string() })?;
    for name in index.weight_map.values() {
        let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
        if !plain {
            let what = format!("{name:?} is not a plain file name");
            return Err(LoadError::Malformed { format: INDEX, what });
        }
    }
    Ok(index.weight_map)
}

fn malformed(what: String) -> LoadError {
    LoadError::Malformed { format: "safetensors", what }
}

const INDEX: &str = "model.safetensors.index.json";
/// The header's length stands before it in this many bytes.
const LENGTH_BYTES: usize = 8;
