//! What all records of one model and one form of KV have in common.

use kernels::KvDtype;
use models::{KV_VERSION, ModelShape};

/// Where KV comes from: of the same tokens, another origin makes other bytes.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Of the model, and of all else that KV depends on.
    pub fingerprint: [u8; 32],
    /// Every record has so much KV for each of its tokens.
    pub kv_bytes_per_token: usize,
    /// The model's name.
    pub model: String,
    /// Form of the numbers in the KV.
    pub kv_dtype: String,
    /// Order of the bytes in the KV.
    pub layout_version: u32,
}

impl Origin {
    /// The KV of a loaded model.
    pub fn new(shape: &ModelShape, model: &str, kv_dtype: KvDtype) -> Self {
        Self {
            fingerprint: shape.fingerprint,
            kv_bytes_per_token: shape.row_bytes,
            model: model.to_owned(),
            kv_dtype: kv_dtype.to_string(),
            layout_version: KV_VERSION,
        }
    }

    /// Name of the folder for records of this origin. The whole fingerprint is in every record.
    pub(crate) fn folder(&self) -> String {
        folder(&self.fingerprint)
    }
}

/// Name of the folder for records of the model with this fingerprint.
pub(crate) fn folder(fingerprint: &[u8; 32]) -> String {
    let fingerprint = blake3::Hash::from_bytes(*fingerprint).to_hex();
    fingerprint[..FOLDER_DIGITS].to_owned()
}

/// Digits of the fingerprint that tell models apart at a glance.
const FOLDER_DIGITS: usize = 16;
