//! What can go wrong with a GPU, and what whoever reads it can do about it.

use cudarc::driver::sys::CUresult;
use cudarc::driver::{DriverError, result};
use std::fmt;

/// Why something was not done on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuError {
    /// This machine has no CUDA driver, or one that does not start.
    NoDriver(String),
    /// The driver is older than any that works: its CUDA version, and the least.
    OldDriver {
        /// As `(major, minor)`.
        found: (i32, i32),
        /// As `(major, minor)`.
        needed: (i32, i32),
    },
    /// There is no device of this number.
    NoDevice {
        /// The number asked for, from 0.
        asked: usize,
        /// Devices there are.
        found: usize,
    },
    /// The device is older than any that the kernels are written for.
    OldDevice {
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// A library of the toolkit was not found.
    NoLibrary {
        /// What it is called.
        library: &'static str,
        /// The package that brings it.
        package: String,
        /// Why what was found was not taken.
        refused: Vec<String>,
    },
    /// NVRTC did not compile a source.
    Compile {
        /// The source.
        source: &'static str,
        /// What NVRTC says.
        log: String,
    },
    /// The device has too little memory left.
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that were free.
        free: usize,
    },
    /// A launch that the device would not take.
    Launch {
        /// The kernel.
        kernel: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The device failed and takes no more work from this process.
    Lost {
        /// What was being done when it was noticed: the cause may lie before.
        doing: &'static str,
        /// The driver's name of the error.
        code: String,
    },
    /// The driver or a library refused a call.
    Call {
        /// What was being done.
        doing: &'static str,
        /// The driver's or the library's name of the error.
        code: String,
    },
}

impl GpuError {
    /// The device is gone for this process: only another process can use it again.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Less would have fitted: whoever asked can give something up and ask again.
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory { .. })
    }

    /// What the driver answered while `doing` something.
    pub(super) fn of(doing: &'static str, error: DriverError) -> Self {
        let code = format!("{:?}", error.0);
        if is_sticky(error.0) { Self::Lost { doing, code } } else { Self::Call { doing, code } }
    }

    /// What the driver answered when asked for `bytes`.
    pub(super) fn of_memory(bytes: usize, error: DriverError) -> Self {
        if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Self::of("allocating memory", error);
        }
        let free = result::mem_get_info().map_or(0, |(free, _)| free);
        Self::Memory { bytes, free }
    }
}

/// After these a process gets the same answer to every call.
fn is_sticky(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver(why) => write!(f, "no CUDA driver on this machine: {why}"),
            Self::OldDriver { found: (major, minor), needed } => write!(
                f,
                "the CUDA driver is of version {major}.{minor}; {}.{} is the oldest that works",
                needed.0, needed.1
            ),
            Self::NoDevice { asked, found: 0 } => {
                write!(f, "no device cuda:{asked}: there is none")
            }
            Self::NoDevice { asked, found } => {
                write!(f, "no device cuda:{asked}: there are {found}, counted from 0")
            }
            Self::OldDevice { name, capability: (major, minor) } => write!(
                f,
                "{name} has compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or newer"
            ),
            Self::NoLibrary { library, package, refused } => {
                write!(
                    f,
                    "{library} was not found: install the CUDA toolkit, or `pip install {package}` \
                     for the python3 on the path, or name its folder in CENTO_CUDA_LIBS"
                )?;
                refused.iter().try_for_each(|why| write!(f, "; {why}"))
            }
            Self::Compile { source, log } => write!(f, "NVRTC does not compile {source}:\n{log}"),
            Self::Memory { bytes, free } => {
                write!(f, "no device memory for {bytes} bytes: {free} are free")
            }
            Self::Launch { kernel, why } => write!(f, "{kernel} cannot be launched: {why}"),
            Self::Lost { doing, code } => {
                write!(f, "the GPU was lost while {doing} ({code}); start the program again")
            }
            Self::Call { doing, code } => write!(f, "the GPU refused {doing} ({code})"),
        }
    }
}

impl std::error::Error for GpuError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_driver_are_sorted_by_what_can_be_done() {
        let of = |code| GpuError::of("copying", DriverError(code));
        assert!(of(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS).is_lost());
        assert!(!of(CUresult::CUDA_ERROR_INVALID_VALUE).is_lost());
        let text = of(CUresult::CUDA_ERROR_INVALID_VALUE).to_string();
        assert!(text.contains("copying") && text.contains("INVALID_VALUE"), "{text}");
    }

    #[test]
    fn a_missing_device_names_those_there_are() {
        let text = GpuError::NoDevice { asked: 3, found: 2 }.to_string();
        assert!(text.contains("cuda:3") && text.contains("there are 2"), "{text}");
    }
}
