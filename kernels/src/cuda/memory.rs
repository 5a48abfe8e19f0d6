//! One allocation of device memory, freed when nobody holds it.
//!
//! On an imagined device it is an address that nothing lies at: lengths are checked, nothing is
//! read or written.

use super::GpuError;
use super::context::Context;
use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use std::sync::Arc;

/// An allocation.
#[derive(Debug)]
pub(crate) struct Memory {
    context: Option<Arc<Context>>,
    address: CUdeviceptr,
    bytes: usize,
}

impl Memory {
    /// `bytes` of memory, of no particular content.
    pub(super) fn allocate(context: Option<&Arc<Context>>, bytes: usize) -> Result<Self, GpuError> {
        let Some(context) = context else {
            return Ok(Self { context: None, address: IMAGINED, bytes });
        };
        context.bind()?;
        // SAFETY: whoever reads the memory writes it first. An allocation is never empty.
        let address = unsafe { result::malloc_sync(bytes.max(1)) };
        let address = address.map_err(|error| GpuError::of_memory(bytes, error))?;
        Ok(Self { context: Some(context.clone()), address, bytes })
    }

    /// The device it lies on, unless that is imagined.
    pub(super) fn context(&self) -> Option<&Arc<Context>> {
        self.context.as_ref()
    }

    /// Where byte `offset` lies.
    pub(super) fn address(&self, offset: usize) -> CUdeviceptr {
        assert!(offset <= self.bytes, "byte {offset} of {}", self.bytes);
        self.address + offset as CUdeviceptr
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(context) = &self.context else { return };
        // Freeing waits for the work that may use it. Of a lost device nothing can be given back.
        if context.bind().is_ok() {
            // SAFETY: allocated in `allocate`, and no buffer refers to it any more.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// Where imagined memory lies: aligned as allocations are.
const IMAGINED: CUdeviceptr = 1 << 40;
