//! Host memory that the device copies from and to by itself, while the host goes on.

use super::context::{Context, Ticket};
use super::{Buffer, Gpu, GpuError, Number};
use cudarc::driver::result;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

/// An array in host memory that the system does not move.
///
/// Copies are issued and not waited for; looking at the array waits for the last one.
pub struct Pinned<T> {
    place: Place<T>,
    /// The last copy.
    last: Ticket,
}

enum Place<T> {
    Locked {
        context: Arc<Context>,
        start: NonNull<T>,
        len: usize,
    },
    /// With an imagined device.
    Plain(Vec<T>),
}

// SAFETY: it owns its memory alone, and numbers go from thread to thread.
unsafe impl<T: Number> Send for Pinned<T> {}
// SAFETY: as above; a shared reference gives out nothing but the length.
unsafe impl<T: Number> Sync for Pinned<T> {}

impl<T: Number> Pinned<T> {
    /// Zeros.
    ///
    /// # Errors
    /// When the system does not give so much memory that stays in place.
    pub fn zeroed(gpu: &Gpu, len: usize) -> Result<Self, GpuError> {
        let Some(context) = gpu.context() else {
            return Ok(Self {
                place: Place::Plain(vec![T::default(); len]),
                last: Ticket::default(),
            });
        };
        let bytes = len.checked_mul(size_of::<T>()).expect("an array that an address can count");
        let start = context.call("locking host memory", |_| {
            // SAFETY: the memory is filled before anyone looks at it. An allocation is never empty.
            unsafe { result::malloc_host(bytes.max(1), 0) }
        })?;
        // SAFETY: so many bytes were just allocated.
        unsafe { start.cast::<u8>().write_bytes(0, bytes) };
        let start = NonNull::new(start.cast::<T>()).expect("an allocation has an address");
        let place = Place::Locked { context: context.clone(), start, len };
        Ok(Self { place, last: Ticket::default() })
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match &self.place {
            Place::Locked { len, .. } => *len,
            Place::Plain(numbers) => numbers.len(),
        }
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, once the last copy is done.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn numbers(&mut self) -> Result<&mut [T], GpuError> {
        match &mut self.place {
            Place::Locked { context, start, len } => {
                context.wait_for(self.last)?;
                // SAFETY: so many numbers were allocated and filled, no copy is under way any more,
                // and none begins while `self` is borrowed.
                Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), *len) })
            }
            Place::Plain(numbers) => Ok(numbers),
        }
    }

    /// Issues a copy of the numbers `range` to `to`.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When they are not all there, or `to` has another length.
    pub fn upload(&mut self, range: Range<usize>, to: &mut Buffer<T>) -> Result<(), GpuError> {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        assert_eq!(range.len(), to.len(), "a number for each element");
        let Place::Locked { context, start, .. } = &self.place else { return Ok(()) };
        // SAFETY: inside the array by the assertion. The device only reads it, and whoever would
        // write it waits for the ticket.
        let numbers =
            unsafe { std::slice::from_raw_parts(start.as_ptr().add(range.start), range.len()) };
        let address = to.address();
        to.copy("copying to the device", |stream| {
            // SAFETY: as many elements; they stay in place until the copy is done, as `drop` waits.
            unsafe { result::memcpy_htod_async(address, numbers, stream) }
        })?;
        self.last = context.ticket();
        Ok(())
    }

    /// Issues a copy of `from` to the numbers from `first` on.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn download(&mut self, from: &Buffer<T>, first: usize) -> Result<(), GpuError> {
        assert!(first + from.len() <= self.len(), "{} at {first} of {}", from.len(), self.len());
        let Place::Locked { context, start, .. } = &self.place else { return Ok(()) };
        // SAFETY: inside the array by the assertion. Nobody looks before the ticket is waited for.
        let numbers =
            unsafe { std::slice::from_raw_parts_mut(start.as_ptr().add(first), from.len()) };
        let address = from.address();
        from.copy("copying from the device", |stream| {
            // SAFETY: as many elements; they stay in place until the copy is done, as `drop` waits.
            unsafe { result::memcpy_dtoh_async(numbers, address, stream) }
        })?;
        self.last = context.ticket();
        Ok(())
    }

    /// Where the numbers are, if a device can copy from there.
    pub(super) fn locked(&self) -> Option<*mut T> {
        match &self.place {
            Place::Locked { start, .. } => Some(start.as_ptr()),
            Place::Plain(_) => None,
        }
    }

    /// A copy was just issued that reads or writes the numbers.
    pub(super) fn mark(&mut self) {
        if let Place::Locked { context, .. } = &self.place {
            self.last = context.ticket();
        }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        let Place::Locked { context, start, .. } = &self.place else { return };
        // A device that is lost copies no more.
        let _ = context.wait_for(self.last);
        if context.bind().is_ok() {
            // SAFETY: allocated in `zeroed`, and no copy is under way.
            let _ = unsafe { result::free_host(start.as_ptr().cast()) };
        }
    }
}

impl<T> fmt::Debug for Pinned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({})", std::any::type_name::<T>())
    }
}
