//! Where numbers come from: the commit of the code, and the machine.

use serde::{Deserialize, Serialize};
use std::process::Command;

/// What code ran where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provenance {
    /// The last commit that changed code, `+changed` where the tree's code differs from it, or
    /// `unknown`.
    pub(crate) commit: String,
    /// The processor's name.
    pub(crate) cpu: String,
}

impl Provenance {
    /// Of this program and machine.
    pub(crate) fn here() -> Self {
        Self { commit: commit().unwrap_or_else(|| "unknown".to_owned()), cpu: cpu() }
    }
}

/// What counts as code: results may be committed while a long run goes on.
const CODE: [&str; 4] = ["*.rs", "*.toml", "Cargo.lock", "*.cu"];

fn commit() -> Option<String> {
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(env!("CARGO_MANIFEST_DIR")).args(words).arg("--");
        let out = git.args(CODE.map(|glob| format!(":/{glob}"))).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let commit = git(&["log", "-1", "--format=%h", "--abbrev=12"]).filter(|id| !id.is_empty())?;
    let changed = git(&["status", "--porcelain"]).is_none_or(|files| !files.is_empty());
    Some(if changed { format!("{commit}+changed") } else { commit })
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|rest| rest.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
