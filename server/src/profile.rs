//! What was found out about a model and is kept between runs: one small file a fingerprint, in the
//! cache folder.

use anyhow::Context as _;
use engine::gates::Calibration;
use models::catalogue::{cache_folder, write_whole};
use serde::{Deserialize, Serialize};
use std::{fs, io, path::PathBuf};

/// What is known of one model with one format of KV; nothing, at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// What `parallel` takes where a call does not say.
    pub parallel: Option<Parallel>,
}

/// Found by `cento doctor --calibrate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parallel {
    /// Divides scores of the tail with fragments.
    pub temperature: f64,
    /// Weighs the fragments' part of the attention.
    pub scale: f64,
    /// Mean divergence from `recompute`, in nats a token.
    pub divergence: f32,
    /// The same at temperature 1 and scale 1.
    pub before: f32,
    /// Tokens that was measured on.
    pub tokens: usize,
}

impl From<Calibration> for Parallel {
    fn from(found: Calibration) -> Self {
        let Calibration { temperature, scale, divergence, before, rows } = found;
        Self { temperature, scale, divergence, before, tokens: rows }
    }
}

impl Profile {
    /// What is kept of the model with this fingerprint; nothing where there is no file.
    ///
    /// # Errors
    /// When there is one that cannot be read, or that is no profile.
    pub fn load(fingerprint: &[u8; 32]) -> anyhow::Result<Self> {
        let path = path(fingerprint)?;
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no profile: remove it", path.display()))
    }

    /// Keeps it; the file is written aside and renamed. Returns where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, fingerprint: &[u8; 32]) -> anyhow::Result<PathBuf> {
        let path = path(fingerprint)?;
        let write = || {
            fs::create_dir_all(path.parent().expect("a profile lies in a folder"))?;
            write_whole(&path, &serde_json::to_vec_pretty(self)?)
        };
        write().with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// What a policy's parameter is where a call does not say.
    pub fn value(&self, policy: &str, parameter: &str) -> Option<f64> {
        let parallel = self.parallel.filter(|_| policy == "parallel")?;
        match parameter {
            "temperature" => Some(parallel.temperature),
            "scale" => Some(parallel.scale),
            _ => None,
        }
    }
}

/// Where the profile of a model lies.
fn path(fingerprint: &[u8; 32]) -> anyhow::Result<PathBuf> {
    let name = blake3::Hash::from_bytes(*fingerprint).to_hex();
    Ok(cache_folder()?.join("profiles").join(format!("{name}.json")))
}

#[cfg(test)]
mod tests {
    use super::{Parallel, Profile};

    #[test]
    fn only_parallel_gets_what_was_calibrated() {
        let found =
            Parallel { temperature: 0.8, scale: 1.0, divergence: 0.1, before: 0.2, tokens: 50 };
        let profile = Profile { parallel: Some(found) };
        assert_eq!(profile.value("parallel", "temperature"), Some(0.8));
        assert_eq!(profile.value("parallel", "scale"), Some(1.0));
        assert_eq!(profile.value("query", "ratio"), None);
        assert_eq!(profile.value("auto", "temperature"), None);
        assert_eq!(Profile::default().value("parallel", "scale"), None);
    }
}
