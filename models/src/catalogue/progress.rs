//! How a fetch tells what it is doing.

/// Watches a fetch. Calls come in order from one thread.
pub trait Progress {
    /// A step begins: one line for a person, such as `part 2 of 4 from PyPI`.
    fn step(&mut self, line: &str);
    /// Bytes written so far, of how many in all where that is known.
    fn bytes(&mut self, done: u64, total: Option<u64>);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&mut self, _line: &str) {}
    fn bytes(&mut self, _done: u64, _total: Option<u64>) {}
}
