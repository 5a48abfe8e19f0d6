//! Arrays in device memory.

use super::Gpu;
use super::GpuError;
use super::memory::Memory;
use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use half::{bf16, f16};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// What arrays on the device hold.
///
/// # Safety
/// Any bits are a value, zeros among them, and there is no padding.
pub unsafe trait Number: Copy + Default + Send + Sync + 'static {}

/// Numbers are bits and nothing else.
macro_rules! numbers {
    ($($number:ty),*) => {
        // SAFETY: integers and floats take any bits.
        $(unsafe impl Number for $number {})*
    };
}

numbers!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, f16, bf16);
// SAFETY: three numbers side by side.
unsafe impl Number for [f32; 3] {}
// SAFETY: as above.
unsafe impl Number for [f64; 3] {}
// SAFETY: two numbers side by side.
unsafe impl Number for [f32; 2] {}
// SAFETY: as above.
unsafe impl Number for [u32; 2] {}
// SAFETY: as above.
unsafe impl Number for [u32; 3] {}

/// An array in device memory, or a part of one: parts share memory with the array they are of.
///
/// All work of a device is done in the order it was issued, so what is written here is seen by
/// whatever is issued later; that nothing reads and writes the same place at once is the caller's
/// to see to, and costs right numbers, not safety.
pub struct Buffer<T> {
    memory: Arc<Memory>,
    /// From the start of the memory, in elements.
    start: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Number> Buffer<T> {
    /// Zeros.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn zeroed(gpu: &Gpu, len: usize) -> Result<Self, GpuError> {
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or(GpuError::Memory { bytes: usize::MAX, free: gpu.device().memory_bytes })?;
        let memory = Arc::new(Memory::allocate(gpu.context(), bytes)?);
        let mut buffer = Self { memory, start: 0, len, element: PhantomData };
        buffer.clear()?;
        Ok(buffer)
    }

    /// A copy of `numbers`.
    ///
    /// # Errors
    /// When the device has not so much memory left.
    pub fn of(gpu: &Gpu, numbers: &[T]) -> Result<Self, GpuError> {
        let mut buffer = Self::zeroed(gpu, numbers.len())?;
        buffer.write(numbers)?;
        Ok(buffer)
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The elements `range`, in the same memory.
    ///
    /// # Panics
    /// When they are not all there.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {} elements",
            self.len
        );
        Self {
            memory: self.memory.clone(),
            start: self.start + range.start,
            len: range.len(),
            element: PhantomData,
        }
    }

    /// Fills the array with zero bytes.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn clear(&mut self) -> Result<(), GpuError> {
        self.fill_bytes(0)
    }

    /// Fills the array with this byte.
    pub(crate) fn fill_bytes(&mut self, byte: u8) -> Result<(), GpuError> {
        let (address, bytes) = (self.address(), self.bytes());
        self.copy("filling memory", |stream| {
            // SAFETY: the array's own bytes, and any are numbers.
            unsafe { result::memset_d8_async(address, byte, bytes, stream) }
        })
    }

    /// Fills the array, and waits until that is done; [`super::Pinned`] does not wait.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When `from` has another length.
    pub fn write(&mut self, from: &[T]) -> Result<(), GpuError> {
        assert_eq!(from.len(), self.len, "a number for each element");
        let address = self.address();
        self.copy("copying to the device", |stream| {
            // SAFETY: as many elements, and below it is waited for.
            unsafe { result::memcpy_htod_async(address, from, stream) }
        })?;
        self.memory.context().map_or(Ok(()), |context| context.wait())
    }

    /// Copies the array out, after all that was issued before. An imagined device gives zeros.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When `to` has another length.
    pub fn read(&self, to: &mut [T]) -> Result<(), GpuError> {
        assert_eq!(to.len(), self.len, "a place for each element");
        let Some(context) = self.memory.context() else {
            to.fill(T::default());
            return Ok(());
        };
        let address = self.address();
        self.copy("copying from the device", |stream| {
            // SAFETY: as many elements, any bits are numbers, and below it is waited for.
            unsafe { result::memcpy_dtoh_async(to, address, stream) }
        })?;
        context.wait()
    }

    /// [`Self::read`] into memory of its own.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn to_vec(&self) -> Result<Vec<T>, GpuError> {
        let mut numbers = vec![T::default(); self.len];
        self.read(&mut numbers)?;
        Ok(numbers)
    }

    /// Fills the array from another one, which shares no element with it.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When `from` has another length.
    pub fn copy_from(&mut self, from: &Self) -> Result<(), GpuError> {
        assert_eq!(from.len, self.len, "an element for each");
        let (to, from, bytes) = (self.address(), from.address(), self.bytes());
        self.copy("copying on the device", |stream| {
            // SAFETY: both arrays have so many bytes.
            unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }
        })
    }

    /// Makes a call that copies to or from this array; copies of nothing and copies on an imagined
    /// device are not made.
    pub(super) fn copy(
        &self,
        doing: &'static str,
        call: impl FnOnce(cudarc::driver::sys::CUstream) -> Result<(), cudarc::driver::DriverError>,
    ) -> Result<(), GpuError> {
        match self.memory.context() {
            Some(context) if self.len > 0 => {
                assert!(
                    !context.records(),
                    "copies are not recorded: what they read would be gone"
                );
                context.call(doing, call)
            }
            _ => Ok(()),
        }
    }

    /// Where the first element lies.
    pub(super) fn address(&self) -> CUdeviceptr {
        self.memory.address(self.start * size_of::<T>())
    }

    /// What keeps the elements where they are.
    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

impl Buffer<u8> {
    /// The same bytes as bf16; a byte at the end that is no whole number is left out.
    ///
    /// # Panics
    /// When the bytes do not begin at a whole number.
    pub(crate) fn as_bf16(&self) -> Buffer<bf16> {
        assert!(self.start.is_multiple_of(size_of::<bf16>()), "numbers begin at their alignment");
        Buffer {
            memory: self.memory.clone(),
            start: self.start / size_of::<bf16>(),
            len: self.len / size_of::<bf16>(),
            element: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {})", self.len, std::any::type_name::<T>())
    }
}
