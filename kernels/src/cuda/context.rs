//! What a process holds of a device: its context and the one stream that all work goes through.
//!
//! One stream means one order: what is issued later sees what was issued before. Every call binds
//! the context to the thread it comes from.

use super::GpuError;
use cudarc::driver::sys::{CUcontext, CUdevice, CUstream};
use cudarc::driver::{DriverError, result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A device's context and stream.
#[derive(Debug)]
pub(super) struct Context {
    device: CUdevice,
    handle: CUcontext,
    stream: CUstream,
    /// Copies that were issued and touch the host's memory.
    issued: AtomicU64,
    /// How many of them are known to be done.
    done: AtomicU64,
    /// Work is being recorded, not done.
    records: AtomicBool,
}

// SAFETY: handles of the driver, which may be used from any thread that binds the context.
unsafe impl Send for Context {}
// SAFETY: as above; the driver does its own locking.
unsafe impl Sync for Context {}

/// Which of the issued copies it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Context {
    /// The process's context of `device`, and a stream.
    pub(super) fn open(device: CUdevice) -> Result<Self, GpuError> {
        let refused = |error| GpuError::of("opening the device", error);
        // SAFETY: `device` is a handle of the driver's.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(refused)?;
        let mut opened = Self {
            device,
            handle: context,
            stream: result::stream::null(),
            issued: AtomicU64::new(0),
            done: AtomicU64::new(0),
            records: AtomicBool::new(false),
        };
        opened.bind()?;
        let kind = result::stream::StreamKind::NonBlocking;
        opened.stream = result::stream::create(kind).map_err(refused)?;
        Ok(opened)
    }

    /// Makes the calling thread's calls go to this device.
    pub(super) fn bind(&self) -> Result<(), GpuError> {
        // SAFETY: the context is retained as long as `self` lives.
        let bound = unsafe { result::ctx::set_current(self.handle) };
        bound.map_err(|error| GpuError::of("choosing the device", error))
    }

    /// Makes a call of the driver, on this device and its stream.
    pub(super) fn call<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce(CUstream) -> Result<T, DriverError>,
    ) -> Result<T, GpuError> {
        self.bind()?;
        call(self.stream).map_err(|error| GpuError::of(doing, error))
    }

    /// Waits until all that was issued is done.
    pub(super) fn wait(&self) -> Result<(), GpuError> {
        let issued = self.issued.load(Ordering::SeqCst);
        // SAFETY: the stream lives as long as `self`.
        self.call("waiting for its work", |stream| unsafe { result::stream::synchronize(stream) })?;
        self.done.fetch_max(issued, Ordering::SeqCst);
        Ok(())
    }

    /// A ticket for a copy that was just issued.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.issued.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Waits until the copy of this ticket is done, if it may not be.
    pub(super) fn wait_for(&self, ticket: Ticket) -> Result<(), GpuError> {
        if ticket.0 <= self.done.load(Ordering::SeqCst) { Ok(()) } else { self.wait() }
    }

    /// From now on work is recorded, or done again.
    pub(super) fn record(&self, records: bool) {
        self.records.store(records, Ordering::SeqCst);
    }

    /// Work is being recorded.
    pub(super) fn records(&self) -> bool {
        self.records.load(Ordering::SeqCst)
    }

    /// The stream, for libraries that issue work of their own.
    pub(super) fn stream(&self) -> CUstream {
        self.stream
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Of a lost device nothing can be given back: errors have nobody to go to.
        let _ = self.bind();
        if !self.stream.is_null() {
            // SAFETY: created in `open`; whatever uses it keeps the context alive.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        // SAFETY: retained in `open`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
