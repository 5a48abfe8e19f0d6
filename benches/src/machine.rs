//! What the operating system says of a process.

use anyhow::Context;

/// Resident memory of this process, in bytes.
pub(crate) fn rss_bytes() -> anyhow::Result<u64> {
    rss_bytes_of("self")
}

/// Resident memory of a process by its id, in bytes.
pub(crate) fn rss_bytes_of(pid: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading /proc")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).context("VmRSS has no value")?;
    Ok(kib.parse::<u64>()? * 1024)
}
