//! The devices of this machine: what they are called, how large they are, what a launch may ask
//! of them.

use super::GpuError;
use super::libraries;
use cudarc::driver::result;
use cudarc::driver::sys::{CUdevice, CUdevice_attribute as Attribute};
use std::fmt;

/// One device, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number, from 0: `cuda:0` is the first.
    pub ordinal: usize,
    /// The maker's name.
    pub name: String,
    /// All of its memory, in bytes.
    pub memory_bytes: usize,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of the cache in front of the memory.
    pub cache_bytes: usize,
    /// What a launch may ask for.
    pub limits: Limits,
}

/// What a launch may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blocks of a grid, along each axis.
    pub grid: [u32; 3],
    /// Threads of a block, along each axis.
    pub threads: [u32; 3],
    /// Threads of a block.
    pub threads_in_all: u32,
    /// Bytes of shared memory of a block.
    pub shared_bytes: u32,
}

impl Limits {
    /// Those that every device of compute capability 8.0 and newer keeps.
    pub const LEAST: Self = Self {
        grid: [i32::MAX as u32, 65_535, 65_535],
        threads: [1024, 1024, 64],
        threads_in_all: 1024,
        // 8.6, 8.9 and 12.0 have no more.
        shared_bytes: 99 << 10,
    };
}

impl Device {
    /// Every device of this machine; none is not an error where there is a driver.
    ///
    /// # Errors
    /// When there is no driver, or none that works.
    pub fn found() -> Result<Vec<Self>, GpuError> {
        libraries::start_driver()?;
        (0..count()?).map(|ordinal| Ok(Self::describe(ordinal)?.1)).collect()
    }

    /// A device that is not there, to check launches by: the least that any real one can do.
    pub(super) fn imagined() -> Self {
        Self {
            ordinal: 0,
            name: "an imagined GPU".to_owned(),
            memory_bytes: 0,
            capability: CAPABILITY_MIN,
            multiprocessors: 108,
            cache_bytes: 40 << 20,
            limits: Limits::LEAST,
        }
    }

    /// The device of this number, if the kernels run on it.
    pub(super) fn usable(ordinal: usize) -> Result<(CUdevice, Self), GpuError> {
        libraries::start_driver()?;
        let found = count()?;
        if ordinal >= found {
            return Err(GpuError::NoDevice { asked: ordinal, found });
        }
        let (handle, device) = Self::describe(ordinal)?;
        if device.capability < CAPABILITY_MIN {
            let Self { name, capability, .. } = device;
            return Err(GpuError::OldDevice { name, capability });
        }
        Ok((handle, device))
    }

    fn describe(ordinal: usize) -> Result<(CUdevice, Self), GpuError> {
        let refused = |error| GpuError::of("describing a device", error);
        let handle = result::device::get(ordinal as i32).map_err(refused)?;
        let ask = |what| {
            // SAFETY: the handle is a device's.
            let answer = unsafe { result::device::get_attribute(handle, what) };
            answer.map(|value| value as u32).map_err(refused)
        };
        let limits = Limits {
            grid: [
                ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
                ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?,
                ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?,
            ],
            threads: [
                ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X)?,
                ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y)?,
                ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)?,
            ],
            threads_in_all: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            shared_bytes: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        };
        let device = Self {
            ordinal,
            name: result::device::get_name(handle).map_err(refused)?,
            // SAFETY: the handle is a device's.
            memory_bytes: unsafe { result::device::total_mem(handle) }.map_err(refused)?,
            capability: (
                ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            cache_bytes: ask(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
            limits,
        };
        Ok((handle, device))
    }

    /// The architecture as compilers number it: 90 for compute capability 9.0.
    pub fn architecture(&self) -> u32 {
        self.capability.0 * 10 + self.capability.1
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ordinal, name, memory_bytes, capability: (major, minor), .. } = self;
        let gib = *memory_bytes as f64 / f64::from(1 << 30);
        write!(f, "cuda:{ordinal}: {name}, {gib:.0} GiB, compute capability {major}.{minor}")
    }
}

fn count() -> Result<usize, GpuError> {
    let found = result::device::get_count();
    found.map(|count| count as usize).map_err(|error| GpuError::of("counting devices", error))
}

/// Compute capability of the oldest device that the kernels run on: bf16 on tensor cores, and
/// copies into shared memory that nobody waits for.
const CAPABILITY_MIN: (u32, u32) = (8, 0);
