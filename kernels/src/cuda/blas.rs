//! cuBLASLt, NVIDIA's library of matrix products: its functions, looked up when it is opened.

use super::{GpuError, libraries};
use cudarc::cublaslt::sys;
use libloading::Library;
use std::ffi::c_void;
use std::path::Path;

/// The library.
pub(super) struct Blas {
    pub(super) functions: Functions,
    /// Keeps the functions where they are.
    _library: Library,
}

/// Results are plain integers: newer libraries know codes that a list of them would not.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    pub(super) create: unsafe extern "C" fn(*mut sys::cublasLtHandle_t) -> u32,
    pub(super) destroy: unsafe extern "C" fn(sys::cublasLtHandle_t) -> u32,
    pub(super) layout_create:
        unsafe extern "C" fn(*mut sys::cublasLtMatrixLayout_t, u32, u64, u64, i64) -> u32,
    pub(super) layout_destroy: unsafe extern "C" fn(sys::cublasLtMatrixLayout_t) -> u32,
    pub(super) product_create:
        unsafe extern "C" fn(*mut sys::cublasLtMatmulDesc_t, u32, u32) -> u32,
    pub(super) product_set: Set<sys::cublasLtMatmulDesc_t>,
    pub(super) product_destroy: unsafe extern "C" fn(sys::cublasLtMatmulDesc_t) -> u32,
    pub(super) wish_create: unsafe extern "C" fn(*mut sys::cublasLtMatmulPreference_t) -> u32,
    pub(super) wish_set: Set<sys::cublasLtMatmulPreference_t>,
    pub(super) wish_destroy: unsafe extern "C" fn(sys::cublasLtMatmulPreference_t) -> u32,
    pub(super) choose: Choose,
    pub(super) multiply: Multiply,
}

/// Of which, what, its value and the bytes of that.
type Set<T> = unsafe extern "C" fn(T, u32, *const c_void, usize) -> u32;

type Choose = unsafe extern "C" fn(
    sys::cublasLtHandle_t,
    sys::cublasLtMatmulDesc_t,
    sys::cublasLtMatrixLayout_t,
    sys::cublasLtMatrixLayout_t,
    sys::cublasLtMatrixLayout_t,
    sys::cublasLtMatrixLayout_t,
    sys::cublasLtMatmulPreference_t,
    i32,
    *mut Choice,
    *mut i32,
) -> u32;

type Multiply = unsafe extern "C" fn(
    sys::cublasLtHandle_t,
    sys::cublasLtMatmulDesc_t,
    *const c_void,
    *const c_void,
    sys::cublasLtMatrixLayout_t,
    *const c_void,
    sys::cublasLtMatrixLayout_t,
    *const c_void,
    *const c_void,
    sys::cublasLtMatrixLayout_t,
    *mut c_void,
    sys::cublasLtMatrixLayout_t,
    *const [u64; 8],
    *mut c_void,
    usize,
    sys::cudaStream_t,
) -> u32;

/// A way to make a product, as the library describes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    pub(super) algorithm: [u64; 8],
    pub(super) workspace_bytes: usize,
    pub(super) state: u32,
    pub(super) waves: f32,
    reserved: [i32; 4],
}

const _: () = assert!(size_of::<Choice>() == size_of::<sys::cublasLtMatmulHeuristicResult_t>());

impl Blas {
    /// The newest of this machine that a driver of CUDA `major` understands.
    pub(super) fn find(major: i32) -> Result<Self, GpuError> {
        libraries::find(libraries::Toolkit::CublasLt, major, |library, _: &Path| {
            // SAFETY: the functions have had these types in every version of the library.
            let functions =
                unsafe { Functions::of(&library) }.map_err(|error| error.to_string())?;
            Ok(Self { functions, _library: library })
        })
    }
}

impl Functions {
    /// # Safety
    /// The library is cuBLASLt, which has these functions with these types.
    unsafe fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: as promised.
        unsafe {
            Ok(Self {
                create: *library.get(b"cublasLtCreate\0")?,
                destroy: *library.get(b"cublasLtDestroy\0")?,
                layout_create: *library.get(b"cublasLtMatrixLayoutCreate\0")?,
                layout_destroy: *library.get(b"cublasLtMatrixLayoutDestroy\0")?,
                product_create: *library.get(b"cublasLtMatmulDescCreate\0")?,
                product_set: *library.get(b"cublasLtMatmulDescSetAttribute\0")?,
                product_destroy: *library.get(b"cublasLtMatmulDescDestroy\0")?,
                wish_create: *library.get(b"cublasLtMatmulPreferenceCreate\0")?,
                wish_set: *library.get(b"cublasLtMatmulPreferenceSetAttribute\0")?,
                wish_destroy: *library.get(b"cublasLtMatmulPreferenceDestroy\0")?,
                choose: *library.get(b"cublasLtMatmulAlgoGetHeuristic\0")?,
                multiply: *library.get(b"cublasLtMatmul\0")?,
            })
        }
    }
}

/// What the library answered.
pub(super) fn check(doing: &'static str, code: u32) -> Result<(), GpuError> {
    if code == 0 {
        return Ok(());
    }
    let name = match code {
        1 => "not initialized",
        3 => "no memory",
        7 => "invalid value",
        8 => "not on this architecture",
        13 => "execution failed",
        14 => "internal error",
        15 => "not supported",
        _ => "unknown",
    };
    Err(GpuError::Call { doing, code: format!("cuBLASLt {code}, {name}") })
}
