//! A case on a device: its inputs are there, and the places its results go, with guards behind
//! them that nothing may write.

use super::{Expected, Tolerance};
use crate::cuda::{Buffer, Gpu, GpuError, Number};
use half::bf16;
use std::fmt;

/// One way to run a case on a device.
pub struct GpuTrial<'a> {
    name: &'static str,
    tolerance: Tolerance,
    run: Box<dyn FnMut() -> Result<(), GpuError> + 'a>,
    output: Box<dyn Fn() -> Result<Vec<f32>, GpuError> + 'a>,
    expected: Box<dyn Fn() -> Vec<Expected> + 'a>,
}

impl<'a> GpuTrial<'a> {
    /// What is launched is called `name`; `run` issues it, `output` reads what it wrote.
    pub(crate) fn new(
        (name, tolerance): (&'static str, Tolerance),
        run: impl FnMut() -> Result<(), GpuError> + 'a,
        output: impl Fn() -> Result<Vec<f32>, GpuError> + 'a,
        expected: impl Fn() -> Vec<Expected> + 'a,
    ) -> Self {
        let (run, output, expected) = (Box::new(run), Box::new(output), Box::new(expected));
        Self { name, tolerance, run, output, expected }
    }

    /// What is launched.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How far outputs may be from the reference's.
    pub fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// Issues the op once.
    ///
    /// # Errors
    /// When the device does not take it, or is lost.
    pub fn run(&mut self) -> Result<(), GpuError> {
        (self.run)()
    }

    /// What the last run wrote.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When a guard was written.
    pub fn output(&self) -> Result<Vec<f32>, GpuError> {
        (self.output)()
    }

    /// What the reference computes.
    pub fn expected(&self) -> Vec<Expected> {
        (self.expected)()
    }
}

impl fmt::Debug for GpuTrial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuTrial({})", self.name)
    }
}

/// A place for results, full of NaN, with guards behind it.
pub(crate) struct Guarded<T> {
    all: Buffer<T>,
    len: usize,
    is_imagined: bool,
}

/// A number that results are given as.
pub(crate) trait Result32: Number {
    /// Exactly.
    fn widen(self) -> f32;

    /// It is the NaN that guards are.
    fn is_guard(self) -> bool;
}

impl Result32 for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn is_guard(self) -> bool {
        self.to_bits() == u32::MAX
    }
}

impl Result32 for bf16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn is_guard(self) -> bool {
        self.to_bits() == u16::MAX
    }
}

impl<T: Result32> Guarded<T> {
    /// A place for `len` results.
    pub(crate) fn new(gpu: &Gpu, len: usize) -> Result<Self, GpuError> {
        let mut all = Buffer::zeroed(gpu, len + GUARDS)?;
        all.fill_bytes(0xff)?;
        Ok(Self { all, len, is_imagined: gpu.is_imagined() })
    }

    /// The place.
    pub(crate) fn place(&self) -> Buffer<T> {
        self.all.part(0..self.len)
    }

    /// What was written.
    pub(crate) fn read(&self) -> Result<Vec<f32>, GpuError> {
        let mut all = self.all.to_vec()?;
        let guards = all.split_off(self.len);
        let written = guards.iter().position(|guard| !guard.is_guard());
        let written = written.filter(|_| !self.is_imagined);
        assert!(written.is_none(), "{written:?} numbers behind {} results was written", self.len);
        Ok(all.into_iter().map(Result32::widen).collect())
    }
}

/// Guards behind a place.
const GUARDS: usize = 1024;

/// Rounding to bf16 once, on top of `tolerance`.
pub(crate) fn rounded(tolerance: Tolerance) -> Tolerance {
    let relative = tolerance.relative + f32::from(bf16::EPSILON) / 2.0;
    Tolerance { relative, reason: "as in f32, and half an ulp of bf16" }
}

/// Rounding to bf16 and of what is left once more, on top of `tolerance`.
pub(crate) fn rounded_twice(tolerance: Tolerance) -> Tolerance {
    let relative = tolerance.relative + f32::from(bf16::EPSILON).powi(2) / 4.0;
    Tolerance { relative, reason: "as in f32, and half an ulp of bf16 of half an ulp of bf16" }
}

/// The device that tests run on: `cuda:0`, or an imagined one, which holds launches against the
/// least that devices take and computes nothing. With `REQUIRE_GPU=1` it must be a real one.
///
/// # Panics
/// When there must be a device and none can be opened.
pub fn gpu() -> Gpu {
    let images = std::env::temp_dir().join("cento-test-kernels");
    Gpu::open(0, Some(images)).unwrap_or_else(|error| {
        let required = std::env::var_os("REQUIRE_GPU").is_some_and(|value| value == "1");
        assert!(!required, "REQUIRE_GPU=1, and {error}");
        eprintln!("not run on a GPU, only launch shapes are checked: {error}");
        Gpu::imagined()
    })
}
