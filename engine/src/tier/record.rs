//! A record as a file or an object: one safetensors file that says whose KV it holds and under what
//! it was made.
//!
//! ```text
//! | 8: header's length | header | root: U32 | tokens: U32 | kv: U8 |
//! |<- read when a folder is opened ---------------------->|
//! ```
//!
//! Invariant: nothing in a file is believed. Lengths are compared with the file's size before
//! anything is allocated; one checksum with all that identifies the record before it is said to be
//! there, another with that and the KV before the KV is handed out. A sealed record's header says
//! more (`record/sealed.rs`), and both checksums are over that too: whoever does not read it refuses
//! the file.

mod sealed;

use super::{Entry, Origin};
use crate::FragmentId;
use blake3::Hasher;
use models::TokenId;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, TensorInfo};
use std::{fmt::Debug, io, sync::Arc};

/// A file or an object, read from its start on.
pub(crate) trait Source {
    /// Exactly so many bytes from where the last read ended.
    fn read(&mut self, bytes: usize) -> io::Result<Vec<u8>>;
}

impl Source for &[u8] {
    fn read(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let (read, rest) = self.split_at_checked(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        *self = rest;
        Ok(read.to_vec())
    }
}

/// What all records of a store look like.
pub(crate) struct Form {
    /// Fields that stand in every header.
    common: Vec<(&'static str, String)>,
    kv_bytes_per_token: usize,
}

/// A record's file up to its KV, as far as it can be verified without the KV.
pub(crate) struct Head {
    pub(crate) entry: Entry,
    checksum: String,
    kv_bytes: usize,
}

/// Why a file isn't a record of this store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// It could not be read: nothing is known of the file.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its header is not JSON of the right form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its tensors contradict each other: {0}")]
    Tensors(#[from] SafeTensorError),
    #[error("its {what} is {given}; it must be {expected}")]
    Other { what: &'static str, given: String, expected: String },
    #[error("its {what} is {given}; the limit is {limit}")]
    TooMuch { what: &'static str, given: u64, limit: u64 },
}

impl Form {
    pub(crate) fn new(origin: Origin) -> Self {
        let common = vec![
            ("format", FORMAT.to_owned()),
            ("model", origin.model),
            ("fingerprint", blake3::Hash::from_bytes(origin.fingerprint).to_hex().to_string()),
            ("kv_dtype", origin.kv_dtype),
            ("layout_version", origin.layout_version.to_string()),
        ];
        Self { common, kv_bytes_per_token: origin.kv_bytes_per_token }
    }

    /// What stands in a record's file before its KV.
    pub(crate) fn encode(&self, entry: &Entry, kv: &[u8]) -> Result<Vec<u8>, Flaw> {
        let lengths = [entry.root.len(), entry.tokens.len(), kv.len()];
        self.check_lengths(lengths)?;
        let own = [
            ("id", entry.id.to_string()),
            ("tenant", entry.tenant.to_string()),
            ("entry_checksum", digest(&self.hash_of(entry))),
            ("checksum", self.checksum(entry, kv)),
        ];
        let seen = entry.sealed.iter().flat_map(|sealed| sealed::fields(sealed));
        let fields = self.common.iter().cloned().chain(own).chain(seen);
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect();
        let mut end = 0;
        let tensors = TENSORS.iter().zip(lengths).map(|(&(name, dtype), length)| {
            let start = end;
            end += length * dtype.bitsize() / 8;
            let data_offsets = (start, end);
            (name.to_owned(), TensorInfo { dtype, shape: vec![length], data_offsets })
        });
        let metadata = Metadata::new(Some(fields), tensors.collect())?;
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');
        let length = header.len() as u64;
        check_limit("length of header", length, HEADER_BYTES_MAX)?;
        let mut head = length.to_le_bytes().to_vec();
        head.extend(header);
        head.extend(bytes_of(&entry.root));
        head.extend(bytes_of(&entry.tokens));
        Ok(head)
    }

    /// Reads a source of so many bytes up to its KV. Its name says which record it must be.
    pub(crate) fn head(
        &self,
        source: &mut dyn Source,
        bytes: u64,
        (id, pinned): (FragmentId, bool),
    ) -> Result<Head, Flaw> {
        let metadata = read_header(source, bytes)?;
        let [root, tokens, kv_bytes] = lengths(&metadata)?;
        self.check_lengths([root, tokens, kv_bytes])?;
        for (name, expected) in &self.common {
            check(name, field(&metadata, name), expected)?;
        }
        check("id", field(&metadata, "id"), &id.to_string())?;
        let tenant = field(&metadata, "tenant").into();
        let sealed = sealed::read(&metadata)?;
        let root = read_tokens(source, root)?;
        let tokens = read_tokens(source, tokens)?;
        let entry = Entry { id, tenant, root, tokens, sealed, pinned };
        let given = field(&metadata, "entry_checksum");
        check("entry_checksum", given, &digest(&self.hash_of(&entry)))?;
        let checksum = field(&metadata, "checksum").to_owned();
        Ok(Head { entry, checksum, kv_bytes })
    }

    /// Reads and verifies the KV of a record that is known.
    pub(crate) fn read(
        &self,
        source: &mut dyn Source,
        bytes: u64,
        known: &Entry,
    ) -> Result<Vec<u8>, Flaw> {
        let head = self.head(source, bytes, (known.id, known.pinned))?;
        check("tenant", &head.entry.tenant, &known.tenant)?;
        let digest_of = |entry: &Entry| digest(&self.hash_of(entry));
        check("digest of root and tokens", &digest_of(&head.entry), &digest_of(known))?;
        let kv = source.read(head.kv_bytes)?;
        check("checksum", &head.checksum, &self.checksum(known, &kv))?;
        Ok(kv)
    }

    /// Whether a record can be so large: asked before anything is fetched.
    pub(crate) fn check_size(&self, known: &Entry, bytes: u64) -> Result<(), Flaw> {
        let [root, tokens] = [known.root.len(), known.tokens.len()];
        let own = (root + tokens) * size_of::<TokenId>() + tokens * self.kv_bytes_per_token;
        check_limit("size", bytes, own as u64 + LENGTH_BYTES as u64 + HEADER_BYTES_MAX)
    }

    /// Whether these lengths of root, tokens and KV belong together.
    fn check_lengths(&self, [root, tokens, kv_bytes]: [usize; 3]) -> Result<(), Flaw> {
        let all = root.saturating_add(tokens);
        check_limit("count of tokens", all as u64, TOKENS_MAX)?;
        check("length of KV", &kv_bytes, &tokens.saturating_mul(self.kv_bytes_per_token))
    }

    /// Of the KV and all that identifies it.
    fn checksum(&self, entry: &Entry, kv: &[u8]) -> String {
        let mut hasher = self.hash_of(entry);
        // On several threads, where a call waits for it: hashing is half of what a fetch takes.
        hasher.update_rayon(kv);
        digest(&hasher)
    }

    /// All that identifies a record. Every part is preceded by its length, so that no two records
    /// give the same bytes to hash.
    fn hash_of(&self, entry: &Entry) -> Hasher {
        let mut hasher = Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        self.common.iter().for_each(|(_, value)| add(value.as_bytes()));
        add(&entry.id.0);
        add(entry.tenant.as_bytes());
        add(&bytes_of(&entry.root));
        add(&bytes_of(&entry.tokens));
        for (name, value) in entry.sealed.iter().flat_map(|sealed| sealed::fields(sealed)) {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        hasher
    }
}

fn digest(hasher: &Hasher) -> String {
    hasher.finalize().to_hex().to_string()
}

/// The name of a record's file.
pub(crate) fn file_name(id: FragmentId, pinned: bool) -> String {
    format!("{id}{}", if pinned { PINNED_ENDING } else { ENDING })
}

/// Which record a file's name stands for.
pub(crate) fn read_name(name: &str) -> Option<(FragmentId, bool)> {
    let pinned = name.ends_with(PINNED_ENDING);
    let id = name.strip_suffix(if pinned { PINNED_ENDING } else { ENDING })?.parse().ok()?;
    // Ids can be spelt in several ways; a file's name in one.
    (file_name(id, pinned) == name).then_some((id, pinned))
}

/// The header, once it agrees with the file's size.
fn read_header(source: &mut dyn Source, bytes: u64) -> Result<Metadata, Flaw> {
    check_limit("header's start", LENGTH_BYTES as u64, bytes)?;
    let length = source.read(LENGTH_BYTES)?;
    let length = u64::from_le_bytes(length.try_into().expect("as many bytes as asked for"));
    check_limit("length of header", length, HEADER_BYTES_MAX.min(bytes - LENGTH_BYTES as u64))?;
    let header = source.read(length as usize)?;
    // Checks that the tensors follow each other without a gap, each as long as its shape says.
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let data_bytes = bytes - LENGTH_BYTES as u64 - length;
    check("length of data", &data_bytes, &(metadata.data_len() as u64))?;
    Ok(metadata)
}

/// Lengths of the tensors, which must be these in this order.
fn lengths(metadata: &Metadata) -> Result<[usize; 3], Flaw> {
    check("list of tensors", &metadata.offset_keys()[..], &TENSORS.map(|(name, _)| name.into()))?;
    let mut lengths = [0; 3];
    for ((name, dtype), length) in TENSORS.into_iter().zip(&mut lengths) {
        let info = metadata.info(name).expect("the names were compared");
        *length = info.shape.first().copied().unwrap_or_default();
        check(name, &(info.dtype, &info.shape[..]), &(dtype, &[*length]))?;
    }
    Ok(lengths)
}

/// A field of the header; nothing when it is missing, which then is not what it must be.
fn field<'a>(metadata: &'a Metadata, name: &str) -> &'a str {
    let fields = metadata.metadata().as_ref();
    fields.and_then(|fields| fields.get(name)).map_or("", String::as_str)
}

fn check<T: PartialEq + Debug + ?Sized>(
    what: &'static str,
    given: &T,
    expected: &T,
) -> Result<(), Flaw> {
    if given == expected {
        return Ok(());
    }
    Err(Flaw::Other { what, given: format!("{given:?}"), expected: format!("{expected:?}") })
}

fn check_limit(what: &'static str, given: u64, limit: u64) -> Result<(), Flaw> {
    if given > limit { Err(Flaw::TooMuch { what, given, limit }) } else { Ok(()) }
}

fn bytes_of(tokens: &[TokenId]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

fn read_tokens(source: &mut dyn Source, count: usize) -> io::Result<Arc<[TokenId]>> {
    let bytes = source.read(count * size_of::<TokenId>())?;
    Ok(bytes.as_chunks().0.iter().map(|&token| TokenId::from_le_bytes(token)).collect())
}

/// Of the file's layout, and of what the checksums are over.
const FORMAT: &str = "cento record 1";
/// Ends the name of every record's file.
pub(crate) const ENDING: &str = ".safetensors";
const PINNED_ENDING: &str = ".pinned.safetensors";
/// Tensors in the order in which safetensors writes them; the KV last.
const TENSORS: [(&str, Dtype); 3] =
    [("root", Dtype::U32), ("tokens", Dtype::U32), ("kv", Dtype::U8)];
/// The header's length stands before it in this many bytes.
const LENGTH_BYTES: usize = 8;
/// A header is a few hundred bytes and the names of model and tenant; of a sealed record also some
/// bytes for each fragment it saw and each row that was computed again.
const HEADER_BYTES_MAX: u64 = 1 << 18;
/// More than any model's context.
const TOKENS_MAX: u64 = 1 << 24;
