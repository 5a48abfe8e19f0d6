//! Instruction sets a kernel variant may be written for, and which of them this machine has.
//!
//! The choice is made once, when a [`crate::Cpu`] is made; a generic x86-64 build finds AVX-512 at
//! run time.

use std::fmt;
use std::str::FromStr;

/// An instruction set. Ordered: of those of one machine, later ones include what earlier ones can
/// do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust for any machine.
    Scalar,
    /// NEON, which every AArch64 has.
    Neon,
    /// AVX2 with FMA and F16C (Haswell, Zen).
    Avx2,
    /// AVX-512 F, BW, DQ and VL (Skylake-X).
    Avx512,
    /// AVX-512 with VNNI: `u8 × i8` dot products (Ice Lake, Zen 4).
    Avx512Vnni,
}

impl Isa {
    /// Every instruction set, from the plainest to the widest.
    pub const ALL: [Self; 5] =
        [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512, Self::Avx512Vnni];

    /// The widest instruction set of this machine.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Scalar)
    }

    /// Those of [`Self::ALL`] that this machine has.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Those that tests of kernels run: what is available, and what this build emulates.
    pub fn tested() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available() || isa.is_emulated())
    }

    /// Whether this build runs it without its instructions: NEON, in builds with debug assertions,
    /// for tests. It is slow, and no user's choice: it counts as not available.
    pub fn is_emulated(self) -> bool {
        self == Self::Neon && cfg!(all(debug_assertions, not(target_arch = "aarch64")))
    }

    /// Whether this machine, and its operating system, can run it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match self {
            Self::Scalar => true,
            Self::Neon => false,
            Self::Avx2 => avx2,
            Self::Avx512 => avx512,
            Self::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
        }
    }

    /// Whether this machine, and its operating system, can run it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == Self::Scalar || self == Self::Neon && cfg!(target_arch = "aarch64")
    }

    /// The name taken and given by [`FromStr`] and [`fmt::Display`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

/// A name that is no instruction set's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(pub String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown instruction set {:?}: scalar, neon, avx2, avx512 or avx512vnni", self.0)
    }
}

impl std::error::Error for UnknownIsa {}

#[cfg(test)]
mod tests {
    use super::Isa;

    #[test]
    fn what_is_emulated_is_tested_but_never_chosen() {
        let has_neon = cfg!(target_arch = "aarch64");
        assert_eq!(Isa::Neon.is_available(), has_neon);
        assert_eq!(Isa::Neon.is_emulated(), cfg!(debug_assertions) && !has_neon);
        assert!(Isa::available().all(|isa| !isa.is_emulated()));
        assert!(Isa::best().is_available());
        let tested: Vec<Isa> = Isa::tested().collect();
        assert!(Isa::available().all(|isa| tested.contains(&isa)));
        assert!(
            Isa::ALL.into_iter().filter(|isa| isa.is_emulated()).all(|isa| tested.contains(&isa))
        );
    }
}
