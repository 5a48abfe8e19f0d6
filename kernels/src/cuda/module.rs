//! Compiled sources on the device: their kernels, ready to launch.

use super::context::Context;
use super::sources::{Signature, Source};
use super::{GpuError, Limits};
use cudarc::driver::result;
use cudarc::driver::sys::{CUfunction, CUfunction_attribute_enum as Attribute, CUmodule};
use std::ffi::CString;
use std::sync::Arc;

/// What a source was compiled to, loaded.
#[derive(Debug)]
pub(super) struct Module {
    context: Arc<Context>,
    handle: CUmodule,
    functions: Vec<Function>,
}

/// A kernel that is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) handle: CUfunction,
    /// Bytes of shared memory that a launch may ask for.
    pub(super) shared_bytes: u32,
}

// SAFETY: handles of the driver, which may be used from any thread that binds the context.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// Loads `image`: what `source` was compiled to.
    pub(super) fn load(
        context: &Arc<Context>,
        source: &Source,
        image: &[u8],
        limits: &Limits,
    ) -> Result<Self, GpuError> {
        let handle = context.call("loading kernels", |_| {
            // SAFETY: NVRTC made the image; it knows its own length, and text ends with a zero.
            unsafe { result::module::load_data(image.as_ptr().cast()) }
        })?;
        let mut module = Self { context: context.clone(), handle, functions: Vec::new() };
        for &Signature(name, _) in source.kernels {
            module.functions.push(module.function(name, limits)?);
        }
        Ok(module)
    }

    fn function(&self, name: &str, limits: &Limits) -> Result<Function, GpuError> {
        let name = CString::new(name).expect("names hold no zero byte");
        let refused = |error| GpuError::of("looking a kernel up", error);
        // SAFETY: the module is loaded, and its context bound.
        let handle = unsafe { result::module::get_function(self.handle, name) }.map_err(refused)?;
        let shared = Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: the function is of a loaded module.
        let own = unsafe { result::function::get_function_attribute(handle, shared) };
        let shared_bytes = limits.shared_bytes.saturating_sub(own.map_err(refused)? as u32);
        let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: as above.
        unsafe { result::function::set_function_attribute(handle, most, shared_bytes as i32) }
            .map_err(refused)?;
        Ok(Function { handle, shared_bytes })
    }

    /// Kernel number `index` of the source.
    pub(super) fn get(&self, index: usize) -> Function {
        self.functions[index]
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // What still runs is waited for; of a lost device nothing can be given back.
        if self.context.wait().is_ok() {
            // SAFETY: loaded in `load`, and no launch of it is under way.
            let _ = unsafe { result::module::unload(self.handle) };
        }
    }
}
