//! What was measured so far, written to a file after each part: time on a GPU is rented, and ends when
//! it ends.

use super::limits::Limits;
use super::{model, ops};
use anyhow::Context as _;
use serde::Serialize;
use std::path::PathBuf;

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(super) device: String,
    pub(super) limits: Limits,
    pub(super) ops: Vec<ops::Timed>,
    pub(super) models: Vec<model::Measured>,
    /// PyTorch's version, or why it was left out.
    pub(super) peer: String,
    /// All parts that were asked for are there.
    pub(super) is_whole: bool,
}

/// A report, and the file that has it.
pub(super) struct Record {
    pub(super) report: Report,
    file: Option<PathBuf>,
}

impl Record {
    /// Begins with what the device is and allows.
    pub(super) fn begin(
        device: String,
        limits: Limits,
        file: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let (ops, models, peer) = (Vec::new(), Vec::new(), "not started".to_owned());
        let record =
            Self { report: Report { device, limits, ops, models, peer, is_whole: false }, file };
        record.save()?;
        Ok(record)
    }

    /// The model that is measured now.
    pub(super) fn model(&mut self) -> &mut model::Measured {
        self.report.models.last_mut().expect("a model is begun before its parts")
    }

    /// Writes the file anew. It is renamed when it is whole, so it is whole whenever somebody ends us.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let aside = file.with_extension("aside");
        let written = std::fs::write(&aside, serde_json::to_string_pretty(&self.report)?)
            .and_then(|()| std::fs::rename(&aside, file));
        written.with_context(|| format!("writing {}", file.display()))
    }
}
