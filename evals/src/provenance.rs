//! Where numbers come from: the commit of the code, and the machine.

use serde::{Deserialize, Serialize};
use std::{path::Path, process::Command};

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
        let commit = commit(Path::new(env!("CARGO_MANIFEST_DIR")));
        Self { commit: commit.unwrap_or_else(|| "unknown".to_owned()), cpu: cpu() }
    }
}

/// What counts as code: results may be committed while a long run goes on.
const CODE: [&str; 4] = ["*.rs", "*.toml", "Cargo.lock", "*.cu"];

/// This file in a checkout.
const OWN: &str = "evals/src/provenance.rs";

/// The commit of the checkout whose crate `evals` is in this folder. Where there is no checkout any more,
/// or another repository has the folder, there is none.
fn commit(folder: &Path) -> Option<String> {
    let git = |words: &[&str], paths: &[String]| {
        let mut git = Command::new("git");
        // Whoever runs this, a hook for instance, may be about another repository.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            git.env_remove(variable);
        }
        let out = git.current_dir(folder).args(words).arg("--").args(paths).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let own = git(&["ls-files", "--full-name"], &["src/provenance.rs".to_owned()])?;
    if own != OWN {
        return None;
    }
    let code = CODE.map(|glob| format!(":/{glob}"));
    let commit = git(&["log", "-1", "--format=%h", "--abbrev=12"], &code);
    let commit = commit.filter(|id| !id.is_empty())?;
    let changed = git(&["status", "--porcelain"], &code).is_none_or(|files| !files.is_empty());
    Some(if changed { format!("{commit}+changed") } else { commit })
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|rest| rest.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests;
