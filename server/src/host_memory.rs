//! How much memory this machine has to give.

use std::fs;

/// Bytes that programs can have without others losing theirs: no more than a container grants. 0
/// where the system does not say, which is everywhere but on Linux.
pub(crate) fn available() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let machine = available_of(&read("/proc/meminfo"));
    // "max" where a container grants all there is.
    let granted = read("/sys/fs/cgroup/memory.max").trim().parse();
    machine.min(granted.unwrap_or(u64::MAX))
}

/// What `/proc/meminfo` says.
fn available_of(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_counts_is_read() {
        let text = "MemTotal:  8000000 kB\nMemFree:  1000 kB\nMemAvailable:    2000 kB\n";
        assert_eq!(available_of(text), 2_048_000);
        assert_eq!(available_of("MemTotal:  8000000 kB\n"), 0);
        assert_eq!(available_of("MemAvailable: much\n"), 0);
        assert_eq!(available_of(""), 0);
        if cfg!(target_os = "linux") {
            assert!(available() > 0);
        }
    }
}
