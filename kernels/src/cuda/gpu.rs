//! A device that work is given to.

use super::context::Context;
use super::device::Device;
use super::gemm::Products;
use super::memory::Memory;
use super::module::Module;
use super::nvrtc::{Nvrtc, Target};
use super::table::SOURCES;
use super::{GpuError, compile, libraries};
use cudarc::driver::result;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A device, what was compiled for it, and the stream its work goes through. Cheap to clone.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    device: Device,
    real: Option<Real>,
    /// Of each source, once it is needed.
    modules: Vec<OnceLock<Result<Module, GpuError>>>,
    products: OnceLock<Result<Products, GpuError>>,
    /// Where images are kept.
    images: Option<PathBuf>,
    /// What launches use that are being recorded.
    kept: Mutex<Option<Vec<Arc<Memory>>>>,
}

/// What an imagined device has not.
struct Real {
    nvrtc: Nvrtc,
    /// What sources are compiled to.
    target: Target,
    /// CUDA of the driver.
    cuda: (i32, i32),
    context: Arc<Context>,
}

impl Gpu {
    /// Opens the device of this number. What is compiled for it is kept in the folder `images`, if
    /// there is one.
    ///
    /// # Errors
    /// When there is no driver, no such device, or no compiler of kernels.
    pub fn open(ordinal: usize, images: Option<PathBuf>) -> Result<Self, GpuError> {
        let cuda = libraries::start_driver()?;
        let (handle, device) = Device::usable(ordinal)?;
        let nvrtc = Nvrtc::find(cuda.0)?;
        let target = nvrtc.target(device.architecture());
        let context = Arc::new(Context::open(handle)?);
        Ok(Self::with(device, Some(Real { nvrtc, target, cuda, context }), images))
    }

    /// A device that is not there: work given to it is checked and not done, its memory holds
    /// nothing and reads as zeros. For tests on machines without one.
    pub fn imagined() -> Self {
        Self::with(Device::imagined(), None, None)
    }

    fn with(device: Device, real: Option<Real>, images: Option<PathBuf>) -> Self {
        let modules = SOURCES.iter().map(|_| OnceLock::new()).collect();
        let (products, kept) = (OnceLock::new(), Mutex::new(None));
        Self(Arc::new(Inner { device, real, modules, products, images, kept }))
    }

    /// What it is.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// It is not there.
    pub fn is_imagined(&self) -> bool {
        self.0.real.is_none()
    }

    /// Bytes of memory that are free, and all there are.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn memory(&self) -> Result<(usize, usize), GpuError> {
        let Some(context) = self.context() else { return Ok((usize::MAX, usize::MAX)) };
        context.call("asking for its memory", |_| result::mem_get_info())
    }

    /// Waits until all that was issued is done.
    ///
    /// # Errors
    /// When the device is lost, now or while doing it.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.context().map_or(Ok(()), |context| context.wait())
    }

    pub(super) fn context(&self) -> Option<&Arc<Context>> {
        self.0.real.as_ref().map(|real| &real.context)
    }

    /// What source number `source` was compiled to: compiled now, if it was not. An imagined
    /// device has nothing compiled.
    pub(super) fn module(&self, source: usize) -> Result<&Module, GpuError> {
        let load = || {
            let real = self.0.real.as_ref().ok_or(GpuError::NoDevice { asked: 0, found: 0 })?;
            let (source, limits) = (&SOURCES[source], &self.0.device.limits);
            let image = compile::image(&real.nvrtc, source, real.target, self.0.images.as_deref())?;
            Module::load(&real.context, source, &image, limits)
        };
        self.0.modules[source].get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// cuBLASLt: opened now, if it was not.
    pub(super) fn products(&self) -> Result<Option<&Products>, GpuError> {
        let Some(real) = &self.0.real else { return Ok(None) };
        let open = || Products::open(real.cuda.0, &real.context);
        self.0.products.get_or_init(open).as_ref().map(Some).map_err(Clone::clone)
    }

    /// Keeps memory that is used while work is recorded.
    pub(super) fn keep<'a>(&self, used: impl Iterator<Item = &'a Arc<Memory>>) {
        if let Some(kept) = self.kept().as_mut() {
            kept.extend(used.cloned());
        }
    }

    /// What is kept, while work is recorded.
    pub(super) fn kept(&self) -> std::sync::MutexGuard<'_, Option<Vec<Arc<Memory>>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({}", self.0.device)?;
        if let Some(Real { nvrtc, cuda: (major, minor), .. }) = &self.0.real {
            write!(f, ", CUDA {major}.{minor}, {nvrtc:?}")?;
        }
        f.write_str(")")
    }
}
