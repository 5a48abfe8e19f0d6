//! Where a model runs: what was asked for, and what was found.

use kernels::cuda::{Gpu, GpuError};
use std::fmt;
use std::str::FromStr;

/// Where a model is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// On the first GPU where that can hold and run it, else on the CPU.
    Auto,
    /// On the CPU.
    #[default]
    Cpu,
    /// On this GPU, counted from 0.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let cuda = |text: &str| {
            let number = text.strip_prefix("cuda:")?;
            let is_plain = number.bytes().all(|digit| digit.is_ascii_digit());
            number.parse().ok().filter(|_| is_plain).map(Self::Cuda)
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => cuda(text).ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// No device is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device: auto, cpu, or cuda:N with N counted from 0")]
pub struct UnknownDevice(pub String);

/// Opens a GPU; what is compiled for it is kept beside the models.
pub(crate) fn open_gpu(number: usize) -> Result<Gpu, GpuError> {
    let images = crate::catalogue::cache_folder().ok().map(|folder| folder.join("cuda"));
    Gpu::open(number, images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "CPU"] {
            let error = wrong.parse::<DeviceChoice>().expect_err(wrong).to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
