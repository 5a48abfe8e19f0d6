//! Sources and kernels: what an entry of the table is, and finding one.

use super::table::SOURCES;

/// One text that NVRTC compiles.
#[derive(Debug)]
pub struct Source {
    /// Where it is in `kernels/src`, and what it was compiled for where it is there several times.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
    /// What it is compiled with besides what all are.
    pub options: &'static [&'static str],
    /// Its kernels.
    pub kernels: &'static [Signature],
}

/// The name of a kernel and its parameters, a letter each: `p`ointer, `P`ointer to a multiple of 16
/// bytes, `i`nteger of 32 bits, `f`loat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub &'static str, pub &'static str);

/// A kernel of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    /// Index of its source.
    pub(super) source: usize,
    /// Index in the source.
    pub(super) index: usize,
}

impl Kernel {
    /// The kernel of this name; that there is one is checked when this is compiled.
    pub(crate) const fn named(name: &str) -> Self {
        let mut source = 0;
        while source < SOURCES.len() {
            let mut index = 0;
            while index < SOURCES[source].kernels.len() {
                if is_same(SOURCES[source].kernels[index].0, name) {
                    return Self { source, index };
                }
                index += 1;
            }
            source += 1;
        }
        panic!("no source has this kernel")
    }

    /// Name and parameters.
    pub(super) fn signature(self) -> Signature {
        SOURCES[self.source].kernels[self.index]
    }
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kernel_has_a_name_of_its_own_and_known_parameters() {
        let mut names = HashSet::new();
        let mut sources = HashSet::new();
        for source in SOURCES {
            assert!(sources.insert(source.name), "{} is there twice", source.name);
            for &Signature(name, parameters) in source.kernels {
                assert!(names.insert(name), "{name} is there twice");
                assert!(
                    parameters.chars().all(|kind| "pPif".contains(kind)),
                    "{name}({parameters})"
                );
            }
        }
    }
}
