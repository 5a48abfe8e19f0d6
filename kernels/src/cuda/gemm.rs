//! Matrix products of bf16 with sums in f32, by cuBLASLt.
//!
//! How a product is made is chosen once for its shape, by the library's own estimate: the same
//! shape gives the same bits each time.

use super::blas::{Blas, Choice, check};
use super::context::Context;
use super::memory::Memory;
use super::{Buffer, Gpu, GpuError};
use cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtHandle_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as Product, cublasLtMatmulPreferenceAttributes_t as Wish,
    cublasLtMatrixLayout_t, cudaDataType_t as Type,
};
use half::bf16;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

/// The sizes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Rows of activations.
    pub rows: usize,
    /// Elements of such a row: inputs of the weights.
    pub inputs: usize,
    /// Rows of the weights.
    pub outputs: usize,
    /// The product is added to what `out` holds, instead of replacing it.
    pub adds: bool,
}

/// `out[t, r] = Σ_c x[t, c] · w[r, c]` (`+ out[t, r]`), with `x [rows, inputs]`,
/// `w [outputs, inputs]` and `out [rows, outputs]`; longer arrays are used as far as that.
///
/// # Errors
/// When there is no cuBLASLt, it knows no way to make this product, or the device is lost.
///
/// # Panics
/// When an array is too short.
pub fn gemm(
    gpu: &Gpu,
    shape: Gemm,
    x: &Buffer<bf16>,
    w: &Buffer<bf16>,
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    let Gemm { rows, inputs, outputs, .. } = shape;
    assert!(inputs > 0 && x.len() >= rows * inputs, "{} activations for {shape:?}", x.len());
    assert!(w.len() >= outputs * inputs, "{} weights for {shape:?}", w.len());
    assert!(out.len() >= rows * outputs, "{} outputs for {shape:?}", out.len());
    if rows == 0 || outputs == 0 {
        return Ok(());
    }
    let Some(products) = gpu.products()? else { return Ok(()) };
    gpu.keep([x.memory(), w.memory(), out.memory(), &products.workspace].into_iter());
    products.multiply(shape, [w.address(), x.address(), out.address()])
}

/// The library, opened for a device, and how it makes the products that were asked for.
pub(super) struct Products {
    blas: Blas,
    handle: cublasLtHandle_t,
    context: Arc<Context>,
    /// What products in the making are kept in: one after another, as all work is.
    workspace: Arc<Memory>,
    plans: Mutex<HashMap<(Gemm, u32), Plan>>,
}

// SAFETY: a handle of the library, which may be used from any thread.
unsafe impl Send for Products {}
// SAFETY: as above; what changes is behind a lock.
unsafe impl Sync for Products {}

/// Bytes of the workspace: what NVIDIA recommends for Hopper, and more than others need.
const WORKSPACE: usize = 32 << 20;

/// Shapes that are remembered: prefills of every length would be no end of them.
const PLANS_MAX: usize = 4096;

/// How products of a shape are made.
struct Plan {
    functions: super::blas::Functions,
    product: cublasLtMatmulDesc_t,
    /// Of the weights, the activations and the outputs.
    layouts: [cublasLtMatrixLayout_t; 3],
    choice: Choice,
}

impl Products {
    pub(super) fn open(cuda_major: i32, context: &Arc<Context>) -> Result<Self, GpuError> {
        let blas = Blas::find(cuda_major)?;
        context.bind()?;
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle.
        check("opening cuBLASLt", unsafe { (blas.functions.create)(&raw mut handle) })?;
        let workspace = Arc::new(Memory::allocate(Some(context), WORKSPACE)?);
        let plans = Mutex::new(HashMap::new());
        Ok(Self { blas, handle, context: context.clone(), workspace, plans })
    }

    /// `addresses`: of weights, activations and outputs, each as long as the shape says.
    fn multiply(&self, shape: Gemm, addresses: [u64; 3]) -> Result<(), GpuError> {
        let alignment = addresses.into_iter().fold(ALIGNMENT_MAX, |least, address| {
            least.min(1 << address.trailing_zeros().min(ALIGNMENT_MAX.ilog2()))
        });
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        self.context.bind()?;
        if !plans.contains_key(&(shape, alignment)) {
            let plan = self.plan(shape, alignment)?;
            if plans.len() >= PLANS_MAX {
                plans.clear();
            }
            plans.insert((shape, alignment), plan);
        }
        let Plan { product, layouts: [w, x, out], choice, .. } = &plans[&(shape, alignment)];
        let (one, kept) = (1.0_f32, if shape.adds { 1.0_f32 } else { 0.0 });
        let [weights, activations, outputs] = addresses.map(|address| address as *mut c_void);
        let workspace = self.workspace.address(0) as *mut c_void;
        // SAFETY: descriptions made for this shape, arrays that are as long by the check in `gemm`
        // and stay until the work is done, a workspace of its size; factors are read at once.
        let code = unsafe {
            (self.blas.functions.multiply)(
                self.handle,
                *product,
                (&raw const one).cast(),
                weights,
                *w,
                activations,
                *x,
                (&raw const kept).cast(),
                outputs,
                *out,
                outputs,
                *out,
                &raw const choice.algorithm,
                workspace,
                WORKSPACE,
                self.context.stream().cast(),
            )
        };
        check("multiplying matrices", code)
    }

    /// The library counts columns first: its `[inputs, outputs]` are our weights, its `[inputs,
    /// rows]` our activations, and the first of them is turned.
    fn plan(&self, shape: Gemm, alignment: u32) -> Result<Plan, GpuError> {
        const DOING: &str = "planning a product";
        let functions = self.blas.functions;
        let Gemm { rows, inputs, outputs, .. } = shape;
        let mut plan = Plan {
            functions,
            product: ptr::null_mut(),
            layouts: [ptr::null_mut(); 3],
            choice: Choice::default(),
        };
        let bf16 = Type::CUDA_R_16BF;
        let sizes =
            [(bf16, inputs, outputs), (bf16, inputs, rows), (Type::CUDA_R_32F, outputs, rows)];
        for (layout, (kind, height, width)) in plan.layouts.iter_mut().zip(sizes) {
            let (high, wide) = (height as u64, width as u64);
            // SAFETY: writes one handle.
            check(DOING, unsafe {
                (functions.layout_create)(layout, kind as u32, high, wide, height as i64)
            })?;
        }
        let (compute, sums) = (Compute::CUBLAS_COMPUTE_32F as u32, Type::CUDA_R_32F as u32);
        // SAFETY: writes one handle.
        check(DOING, unsafe { (functions.product_create)(&raw mut plan.product, compute, sums) })?;
        let turned = TURNED;
        let what = Product::CUBLASLT_MATMUL_DESC_TRANSA as u32;
        // SAFETY: the description exists, and the attribute is of 4 bytes.
        check(DOING, unsafe {
            (functions.product_set)(plan.product, what, (&raw const turned).cast(), 4)
        })?;
        plan.choice = self.choose(&plan, alignment)?;
        Ok(plan)
    }

    /// The best way to make a product, by the library's estimate.
    fn choose(&self, plan: &Plan, alignment: u32) -> Result<Choice, GpuError> {
        const DOING: &str = "choosing how to make a product";
        let functions = self.blas.functions;
        let wishes = Wishes::new(functions)?;
        let workspace = (WORKSPACE as u64).to_le_bytes();
        wishes.set(Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace)?;
        for wish in [
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            wishes.set(wish, &alignment.to_le_bytes())?;
        }
        let (mut choice, mut found) = (Choice::default(), 0);
        let [w, x, out] = plan.layouts;
        // SAFETY: descriptions that exist; writes one choice and how many it wrote.
        check(DOING, unsafe {
            let (choice, found) = (&raw mut choice, &raw mut found);
            let handle = self.handle;
            (functions.choose)(
                handle,
                plan.product,
                w,
                x,
                out,
                out,
                wishes.handle,
                1,
                choice,
                found,
            )
        })?;
        check(DOING, if found == 0 { NOT_SUPPORTED } else { choice.state })?;
        Ok(choice)
    }
}

/// What a choice must keep to.
struct Wishes {
    functions: super::blas::Functions,
    handle: cudarc::cublaslt::sys::cublasLtMatmulPreference_t,
}

impl Wishes {
    fn new(functions: super::blas::Functions) -> Result<Self, GpuError> {
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle.
        let code = unsafe { (functions.wish_create)(&raw mut handle) };
        check("choosing how to make a product", code)?;
        Ok(Self { functions, handle })
    }

    /// `value`: as many bytes as the attribute has.
    fn set(&self, wish: Wish, value: &[u8]) -> Result<(), GpuError> {
        // SAFETY: the wishes exist; reads so many bytes.
        let code = unsafe {
            (self.functions.wish_set)(self.handle, wish as u32, value.as_ptr().cast(), value.len())
        };
        check("choosing how to make a product", code)
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        // SAFETY: made in `new`. What it answers helps nobody.
        let _ = unsafe { (self.functions.wish_destroy)(self.handle) };
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
            // SAFETY: made in `plan`. What it answers helps nobody.
            let _ = unsafe { (self.functions.layout_destroy)(layout) };
        }
        if !self.product.is_null() {
            // SAFETY: as above.
            let _ = unsafe { (self.functions.product_destroy)(self.product) };
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if self.context.wait().is_ok() {
            // SAFETY: made in `open`, and no product is under way.
            let _ = unsafe { (self.blas.functions.destroy)(self.handle) };
        }
    }
}

/// Alignment that the library asks no more than.
const ALIGNMENT_MAX: u32 = 256;

/// The library's word for a matrix that is transposed.
const TURNED: u32 = 1;

/// The library's code for it.
const NOT_SUPPORTED: u32 = 15;
