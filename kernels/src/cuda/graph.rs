//! Work that is recorded once and issued as often as one likes, by one call: a CUDA graph.

use super::context::Context;
use super::memory::Memory;
use super::{Gpu, GpuError};
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUgraph, CUgraphExec, CUstreamCaptureMode as Mode};
use std::fmt;
use std::sync::Arc;

/// Launches and products in the order they were recorded in, with the arguments they had. It keeps
/// the memory they use.
pub struct Graph {
    /// None with an imagined device.
    recorded: Option<Recorded>,
}

struct Recorded {
    context: Arc<Context>,
    handle: CUgraphExec,
    _kept: Vec<Arc<Memory>>,
    /// Its kernels stay loaded as long.
    _gpu: Gpu,
}

// SAFETY: a handle of the driver, which may be used from any thread that binds the context.
unsafe impl Send for Recorded {}
// SAFETY: as above; issuing takes the driver's own lock.
unsafe impl Sync for Recorded {}

impl Gpu {
    /// Records what `work` issues, which is not done now. Kernels that `work` launches must have
    /// been compiled, and products of its shapes made once before; it copies nothing and waits for
    /// nothing.
    ///
    /// # Errors
    /// What `work` gives, or when the device does not record it.
    ///
    /// # Panics
    /// When `work` copies, or records itself.
    pub fn record(&self, work: impl FnOnce() -> Result<(), GpuError>) -> Result<Graph, GpuError> {
        let Some(context) = self.context() else {
            work()?;
            return Ok(Graph { recorded: None });
        };
        let before = self.kept().replace(Vec::new());
        assert!(before.is_none(), "one thing is recorded at a time");
        let recorded = recorded_work(context, work);
        context.record(false);
        let kept = self.kept().take().unwrap_or_default();
        let handle = recorded?;
        let (context, gpu) = (context.clone(), self.clone());
        Ok(Graph { recorded: Some(Recorded { context, handle, _kept: kept, _gpu: gpu }) })
    }
}

/// What `work` issues, recorded.
fn recorded_work(
    context: &Context,
    work: impl FnOnce() -> Result<(), GpuError>,
) -> Result<CUgraphExec, GpuError> {
    let mode = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    // SAFETY: the stream lives as long as the context.
    context.call("beginning to record", |stream| unsafe {
        result::stream::begin_capture(stream, mode)
    })?;
    context.record(true);
    let done = work();
    let graph = context.call("recording", |stream| {
        // SAFETY: begun above. Recording ends in any case, so that the stream works again.
        unsafe { result::stream::end_capture(stream) }
    });
    let graph = graph.map(Plan);
    done?;
    let graph = graph?;
    // SAFETY: the graph was just made.
    context.call("making a graph", |_| unsafe {
        result::graph::instantiate(graph.0, sys::CUgraphInstantiate_flags(0))
    })
}

/// What was recorded, before it is made fit to be issued.
struct Plan(CUgraph);

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by the end of recording; what is issued is a copy.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

impl Graph {
    /// Issues the work again.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn launch(&self) -> Result<(), GpuError> {
        let Some(Recorded { context, handle, .. }) = &self.recorded else { return Ok(()) };
        // SAFETY: the graph exists, and the memory its work uses is kept with it.
        context.call("issuing a graph", |stream| unsafe { result::graph::launch(*handle, stream) })
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // Memory is freed only when the work that uses it is done.
        if self.context.wait().is_ok() {
            // SAFETY: made in `record`, and nothing of it is under way.
            let _ = unsafe { result::graph::exec_destroy(self.handle) };
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({})", if self.recorded.is_some() { "recorded" } else { "imagined" })
    }
}
