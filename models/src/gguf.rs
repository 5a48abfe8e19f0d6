//! A bounded reader of GGUF headers (versions 2 and 3, little endian).
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Our own because
//! candle's reader believes the counts and lengths in the header: a hostile file of a few bytes
//! makes it allocate what it likes. Here every count, length and offset is compared with the bytes
//! that are there *before* anything is allocated, so memory stays within a small multiple of the
//! file's size, and every error names the key, the tensor or the byte.

use crate::LoadError;
use crate::value::{Array, Metadata, Value};
use crate::weights::{Entry, Mapping, Tensor};
use kernels::BlockFormat;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// A GGUF file: its metadata, and where its tensors lie.
#[derive(Debug)]
pub struct Gguf {
    /// Key/value pairs of the header.
    pub metadata: Metadata,
    header: Header,
    mapping: Mapping,
}

impl Gguf {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// The file cannot be mapped, or its header is not that of a GGUF file.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let mapping = Mapping::open(path)?;
        let mut header = Header::parse(mapping.bytes())?;
        let metadata = std::mem::take(&mut header.metadata);
        Ok(Self { metadata, header, mapping })
    }

    /// The tensor of this name, where there is one.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, entry) = self.header.tensors.get_key_value(name)?;
        let bytes = &self.mapping.bytes()[entry.range.clone()];
        Some(Tensor { name, format: entry.format, shape: &entry.shape, bytes })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// A parsed header. Separate from the mapping, so that tests and the fuzzer parse plain bytes.
#[derive(Debug)]
pub struct Header {
    /// Key/value pairs.
    pub metadata: Metadata,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Entry>,
}

impl Header {
    /// Reads the header of a whole file's bytes.
    ///
    /// # Errors
    /// Names what is wrong: the byte where the file is cut, the key, the tensor.
    pub fn parse(file: &[u8]) -> Result<Self, LoadError> {
        let mut reader = Reader { file, at: 0 };
        let magic = reader.take(4, || "the magic number".into())?;
        if magic != b"GGUF" {
            return Err(malformed(format!("the magic number is {magic:02x?}, not \"GGUF\"")));
        }
        let version = reader.u32(|| "the version".into())?;
        if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
            return Err(malformed("the file is big endian".into()));
        }
        if version != 2 && version != 3 {
            return Err(malformed(format!("version {version} is not supported, 2 and 3 are")));
        }
        let tensor_count = reader.u64(|| "the tensor count".into())?;
        let pair_count = reader.u64(|| "the metadata count".into())?;
        let metadata = reader.metadata(pair_count)?;
        let tensors = reader.tensors(tensor_count)?;
        let alignment = alignment(&metadata)?;
        let data_start = reader.at.next_multiple_of(alignment);
        let tensors = place(tensors, data_start, alignment, file.len())?;
        Ok(Self { metadata, tensors })
    }
}

/// A tensor as announced: bounds not yet compared with the file.
struct Announced {
    name: String,
    format: BlockFormat,
    shape: Vec<usize>,
    bytes: usize,
    offset: u64,
}

/// A cursor that never reads, and never lets anyone allocate, beyond the file.
struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.file.len() - self.at
    }

    /// Fails unless `count` things of at least `each` bytes can still follow.
    fn expect(
        &self,
        count: u64,
        each: u64,
        what: impl FnOnce() -> String,
    ) -> Result<(), LoadError> {
        let needs = count.saturating_mul(each);
        let left = self.left() as u64;
        if needs <= left {
            return Ok(());
        }
        Err(LoadError::Truncated { what: what(), at: self.at as u64, needs, left })
    }

    fn take(&mut self, len: u64, what: impl FnOnce() -> String) -> Result<&'a [u8], LoadError> {
        self.expect(len, 1, what)?;
        let bytes = &self.file[self.at..self.at + len as usize];
        self.at += len as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(
        &mut self,
        what: impl FnOnce() -> String,
    ) -> Result<[u8; N], LoadError> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("take returns the length asked for"))
    }

    fn u32(&mut self, what: impl FnOnce() -> String) -> Result<u32, LoadError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: impl FnOnce() -> String) -> Result<u64, LoadError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: impl Fn() -> String) -> Result<String, LoadError> {
        let len = self.u64(|| format!("the length of {}", what()))?;
        let at = self.at;
        let bytes = self.take(len, &what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(malformed(format!("{} at byte {at} is not UTF-8", what()))),
        }
    }

    fn metadata(&mut self, count: u64) -> Result<Metadata, LoadError> {
        // A pair is at least a key's length, a type and one byte of value.
        self.expect(count, 8 + 4 + 1, || format!("metadata of {count} pairs"))?;
        let mut metadata = Metadata::default();
        for i in 0..count {
            let key = self.string(|| format!("metadata key {i}"))?;
            let kind = self.u32(|| format!("the type of metadata key {key:?}"))?;
            let value = self.value(kind, &key)?;
            if metadata.get(&key).is_some() {
                return Err(malformed(format!("metadata key {key:?} appears twice")));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, LoadError> {
        let what = || format!("the value of metadata key {key:?}");
        Ok(match kind {
            KIND_ARRAY => Value::Array(self.values(key)?),
            KIND_STRING => Value::Str(self.string(what)?),
            KIND_BOOL => Value::Bool(self.flag(key)?),
            KIND_F32 => Value::Float(f64::from(f32::from_le_bytes(self.array(what)?))),
            KIND_F64 => Value::Float(f64::from_le_bytes(self.array(what)?)),
            KIND_U64 => Value::Uint(self.u64(what)?),
            0 | 2 | 4 => {
                Value::Uint(u64::try_from(self.int(kind, key)?).expect("read as unsigned"))
            }
            1 | 3 | 5 | 11 => Value::Int(self.int(kind, key)?),
            _ => return Err(malformed(format!("metadata key {key:?} has unknown type id {kind}"))),
        })
    }

    /// An integer of any width; one of 64 unsigned bits must fit 63.
    fn int(&mut self, kind: u32, key: &str) -> Result<i64, LoadError> {
        let what = || format!("the value of metadata key {key:?}");
        Ok(match kind {
            0 => u8::from_le_bytes(self.array(what)?).into(),
            1 => i8::from_le_bytes(self.array(what)?).into(),
            2 => u16::from_le_bytes(self.array(what)?).into(),
            3 => i16::from_le_bytes(self.array(what)?).into(),
            4 => u32::from_le_bytes(self.array(what)?).into(),
            5 => i32::from_le_bytes(self.array(what)?).into(),
            KIND_U64 => i64::try_from(self.u64(what)?).map_err(|_| {
                malformed(format!("an integer of metadata key {key:?} exceeds 63 bits"))
            })?,
            _ => i64::from_le_bytes(self.array(what)?),
        })
    }

    fn flag(&mut self, key: &str) -> Result<bool, LoadError> {
        match self.array(|| format!("the value of metadata key {key:?}"))? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(malformed(format!("metadata key {key:?} holds {other} as a bool"))),
        }
    }

    fn values(&mut self, key: &str) -> Result<Array, LoadError> {
        let kind = self.u32(|| format!("the element type of metadata key {key:?}"))?;
        let count = self.u64(|| format!("the length of metadata key {key:?}"))?;
        let Some(each) = element_bytes(kind) else {
            let what = if kind == KIND_ARRAY { "arrays in an array" } else { "an unknown type" };
            return Err(malformed(format!("metadata key {key:?} holds {what} (type id {kind})")));
        };
        self.expect(count, each, || format!("metadata key {key:?} with {count} elements"))?;
        let element = || format!("an element of metadata key {key:?}");
        Ok(match kind {
            KIND_STRING => {
                Array::Strings((0..count).map(|_| self.string(element)).collect::<Result<_, _>>()?)
            }
            KIND_BOOL => {
                Array::Bools((0..count).map(|_| self.flag(key)).collect::<Result<_, _>>()?)
            }
            KIND_F32 => Array::Floats(
                (0..count)
                    .map(|_| self.array(element).map(f32::from_le_bytes))
                    .collect::<Result<_, _>>()?,
            ),
            KIND_F64 => Array::Floats(
                (0..count)
                    .map(|_| self.array(element).map(|bytes| f64::from_le_bytes(bytes) as f32))
                    .collect::<Result<_, _>>()?,
            ),
            _ => Array::Ints((0..count).map(|_| self.int(kind, key)).collect::<Result<_, _>>()?),
        })
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<Announced>, LoadError> {
        // An entry is at least a name's length, a rank, one dimension, a type and an offset.
        self.expect(count, 8 + 4 + 8 + 4 + 8, || format!("{count} tensor entries"))?;
        (0..count).map(|i| self.tensor(i)).collect()
    }

    fn tensor(&mut self, i: u64) -> Result<Announced, LoadError> {
        let name = self.string(|| format!("the name of tensor {i}"))?;
        let of = |part: &str| format!("{part} of tensor {name:?}");
        let bad = |what: String| LoadError::bad_tensor(&name, what);
        let rank = self.u32(|| of("the rank"))?;
        if rank == 0 || rank > RANK_MAX {
            return Err(bad(format!("has {rank} dimensions, 1 to {RANK_MAX} are allowed")));
        }
        let mut shape = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            let dim = self.u64(|| of("a dimension"))?;
            let dim = usize::try_from(dim).ok().filter(|&dim| dim > 0);
            shape.push(dim.ok_or_else(|| bad("has a dimension of no elements".into()))?);
        }
        let kind = self.u32(|| of("the type"))?;
        let offset = self.u64(|| of("the offset"))?;
        let format = block_format(kind).map_err(bad)?;
        let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let Some(elements) = elements else {
            return Err(bad(format!("the product of its dimensions {shape:?} overflows")));
        };
        if shape[0] % format.block_len() != 0 {
            let block_len = format.block_len();
            return Err(bad(format!("rows of {} are not whole blocks of {block_len}", shape[0])));
        }
        let bytes = (elements / format.block_len()).checked_mul(format.block_bytes());
        let bytes = bytes.ok_or_else(|| bad("its size in bytes overflows".into()))?;
        shape.reverse();
        Ok(Announced { name, format, shape, bytes, offset })
    }
}

/// `general.alignment`: 32 unless told otherwise.
fn alignment(metadata: &Metadata) -> Result<usize, LoadError> {
    let key = "general.alignment";
    let alignment = metadata.u32(key)?.unwrap_or(ALIGNMENT_DEFAULT);
    if !alignment.is_power_of_two() || !(8..=ALIGNMENT_MAX).contains(&alignment) {
        let what = format!("{alignment} is not a power of two from 8 to {ALIGNMENT_MAX}");
        return Err(LoadError::bad_value(key, what));
    }
    Ok(alignment as usize)
}

/// Turns offsets into ranges of the file: aligned, inside it, disjoint, names unique.
fn place(
    announced: Vec<Announced>,
    data_start: usize,
    alignment: usize,
    file_len: usize,
) -> Result<BTreeMap<String, Entry>, LoadError> {
    let mut tensors = BTreeMap::new();
    for tensor in announced {
        let Announced { name, format, shape, bytes, offset } = tensor;
        if offset % alignment as u64 != 0 {
            let what = format!("its offset {offset} is no multiple of the alignment {alignment}");
            return Err(LoadError::bad_tensor(name, what));
        }
        let start = usize::try_from(offset).ok().and_then(|offset| data_start.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end.filter(|&end| end <= file_len)) else {
            let what = format!(
                "its data ends beyond the file: {bytes} bytes at offset {offset} of the data, \
                 which begins at byte {data_start} of {file_len}"
            );
            return Err(LoadError::bad_tensor(name, what));
        };
        if tensors.contains_key(&name) {
            return Err(LoadError::bad_tensor(name, "appears twice"));
        }
        tensors.insert(name, Entry { format, shape, range: start..end });
    }
    // Overlaps would let a small file ask for a lot of memory.
    let mut by_start: Vec<(&String, &Range<usize>)> =
        tensors.iter().map(|(name, entry)| (name, &entry.range)).collect();
    by_start.sort_by_key(|(_, range)| range.start);
    for pair in by_start.windows(2) {
        if pair[0].1.end > pair[1].1.start {
            let what = format!("its data overlaps that of {:?}", pair[0].0);
            return Err(LoadError::bad_tensor(pair[1].0, what));
        }
    }
    Ok(tensors)
}

/// The block format of a ggml type id.
fn block_format(kind: u32) -> Result<BlockFormat, String> {
    Ok(match kind {
        0 => BlockFormat::F32,
        1 => BlockFormat::F16,
        2 => BlockFormat::Q4_0,
        3 => BlockFormat::Q4_1,
        6 => BlockFormat::Q5_0,
        7 => BlockFormat::Q5_1,
        8 => BlockFormat::Q8_0,
        12 => BlockFormat::Q4K,
        13 => BlockFormat::Q5K,
        14 => BlockFormat::Q6K,
        30 => BlockFormat::Bf16,
        _ => match UNSUPPORTED.iter().find(|(id, _)| *id == kind) {
            Some((id, name)) => return Err(format!("type {name} (id {id}) is not supported")),
            None => return Err(format!("unknown type id {kind}")),
        },
    })
}

/// Least bytes of one array element of a metadata type.
fn element_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | KIND_BOOL => Some(1),
        2 | 3 => Some(2),
        4 | 5 | KIND_F32 => Some(4),
        KIND_STRING | KIND_U64 | 11 | KIND_F64 => Some(8),
        _ => None,
    }
}

fn malformed(what: String) -> LoadError {
    LoadError::Malformed { format: "GGUF", what }
}

// Metadata type ids that are named in more than one place. The others: 0 u8, 1 i8, 2 u16, 3 i16,
// 4 u32, 5 i32, 11 i64.
const KIND_F32: u32 = 6;
const KIND_BOOL: u32 = 7;
const KIND_STRING: u32 = 8;
const KIND_ARRAY: u32 = 9;
const KIND_U64: u32 = 10;
const KIND_F64: u32 = 12;

/// Dimensions of a tensor: ggml's own limit.
const RANK_MAX: u32 = 4;
const ALIGNMENT_DEFAULT: u32 = 32;
/// Far above any alignment in use; keeps the start of the data from overflowing.
const ALIGNMENT_MAX: u32 = 1 << 20;

/// ggml types that exist and have no kernels here.
const UNSUPPORTED: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];
