//! Copies of equal stretches of bytes that lie at equal distances.

use super::{Buffer, GpuError, Pinned};
use cudarc::driver::DriverError;
use cudarc::driver::sys::{self, CUDA_MEMCPY2D, CUmemorytype, CUstream};
use std::ptr;

/// `count` stretches of `bytes` bytes, the beginnings of two of them this far apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretches {
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) from_step: usize,
    pub(super) to_step: usize,
}

impl Stretches {
    /// One stretch.
    pub(super) const fn one(bytes: usize) -> Self {
        Self { count: 1, bytes, from_step: bytes, to_step: bytes }
    }

    /// From the first byte of the first stretch to behind the last of the last.
    fn extent(&self, step: usize) -> usize {
        if self.count == 0 { 0 } else { (self.count - 1) * step + self.bytes }
    }

    fn check(&self, from: usize, to: usize) {
        let apart = self.bytes <= self.from_step && self.bytes <= self.to_step;
        assert!(apart || self.count < 2, "stretches lie apart: {self:?}");
        let (read, written) = (self.extent(self.from_step), self.extent(self.to_step));
        assert!(read <= from && written <= to, "{self:?} of {from} bytes to {to}");
    }

    fn is_empty(&self) -> bool {
        self.count == 0 || self.bytes == 0
    }

    /// A copy from nowhere to nowhere.
    fn description(&self) -> CUDA_MEMCPY2D {
        CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcHost: ptr::null(),
            srcDevice: 0,
            srcArray: ptr::null_mut(),
            srcPitch: self.from_step,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: ptr::null_mut(),
            dstDevice: 0,
            dstArray: ptr::null_mut(),
            dstPitch: self.to_step,
            WidthInBytes: self.bytes,
            Height: self.count,
        }
    }
}

/// # Safety
/// Both ends have room for all stretches, and stay until the copy is done.
unsafe fn issue(copy: &CUDA_MEMCPY2D, stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: as promised; the description is read at once.
    unsafe { sys::cuMemcpy2DAsync_v2(copy, stream) }.result()
}

impl Buffer<u8> {
    /// Issues a copy of stretches of `from`, which shares no byte with this array.
    pub(super) fn copy_stretches(&mut self, from: &Self, of: Stretches) -> Result<(), GpuError> {
        of.check(from.len(), self.len());
        let mut copy = of.description();
        (copy.srcDevice, copy.dstDevice) = (from.address(), self.address());
        if of.is_empty() {
            return Ok(());
        }
        self.copy("copying on the device", |stream| {
            // SAFETY: checked above; memory that is freed waits for what uses it.
            unsafe { issue(&copy, stream) }
        })
    }
}

impl Pinned<u8> {
    /// Issues a copy of stretches of `from` to the bytes from `first` on.
    pub(super) fn download_stretches(
        &mut self,
        first: usize,
        from: &Buffer<u8>,
        of: Stretches,
    ) -> Result<(), GpuError> {
        of.check(from.len(), self.len().saturating_sub(first));
        let Some(start) = self.locked().filter(|_| !of.is_empty()) else { return Ok(()) };
        let mut copy = of.description();
        copy.dstMemoryType = CUmemorytype::CU_MEMORYTYPE_HOST;
        copy.dstHost = start.wrapping_add(first).cast();
        copy.srcDevice = from.address();
        from.copy("copying from the device", |stream| {
            // SAFETY: checked above; who looks at the bytes, or frees them, waits for the copy.
            unsafe { issue(&copy, stream) }
        })?;
        self.mark();
        Ok(())
    }

    /// Issues a copy of stretches of the bytes from `first` on.
    pub(super) fn upload_stretches(
        &mut self,
        first: usize,
        to: &mut Buffer<u8>,
        of: Stretches,
    ) -> Result<(), GpuError> {
        of.check(self.len().saturating_sub(first), to.len());
        let Some(start) = self.locked().filter(|_| !of.is_empty()) else { return Ok(()) };
        let mut copy = of.description();
        copy.srcMemoryType = CUmemorytype::CU_MEMORYTYPE_HOST;
        copy.srcHost = start.wrapping_add(first).cast_const().cast();
        copy.dstDevice = to.address();
        to.copy("copying to the device", |stream| {
            // SAFETY: as above.
            unsafe { issue(&copy, stream) }
        })?;
        self.mark();
        Ok(())
    }
}
