//! Times on the device's own clock.

use super::context::Context;
use super::{Gpu, GpuError};
use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags};
use std::sync::Arc;

/// A moment in the order of the device's work.
#[derive(Debug)]
pub struct Moment(Option<Event>);

#[derive(Debug)]
struct Event {
    context: Arc<Context>,
    handle: CUevent,
}

// SAFETY: a handle of the driver, which may be used from any thread that binds the context.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Moment {
    /// After all that was issued.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn now(gpu: &Gpu) -> Result<Self, GpuError> {
        let Some(context) = gpu.context() else { return Ok(Self(None)) };
        let handle = context
            .call("marking a moment", |_| result::event::create(CUevent_flags::CU_EVENT_DEFAULT))?;
        let event = Event { context: context.clone(), handle };
        context.call("marking a moment", |stream| {
            // SAFETY: event and stream are of the context.
            unsafe { result::event::record(handle, stream) }
        })?;
        Ok(Self(Some(event)))
    }

    /// Milliseconds from `self` to `later`, once that has come; 0 on an imagined device.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn milliseconds_to(&self, later: &Self) -> Result<f32, GpuError> {
        let (Some(from), Some(to)) = (&self.0, &later.0) else { return Ok(0.0) };
        to.context.call("waiting for a moment", |_| {
            // SAFETY: both events were recorded.
            unsafe {
                result::event::synchronize(to.handle)?;
                result::event::elapsed(from.handle, to.handle)
            }
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created in `now`.
            let _ = unsafe { result::event::destroy(self.handle) };
        }
    }
}
