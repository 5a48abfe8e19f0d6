//! Launching kernels: what is passed, in which shape, checked before the device sees it.

use super::memory::Memory;
use super::sources::{Kernel, Signature};
use super::{Buffer, Gpu, GpuError, Limits, Number};
use cudarc::driver::result;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Blocks along each axis; none along one of them is no work, and no error.
    pub(crate) blocks: [usize; 3],
    /// Threads of a block, along each axis.
    pub(crate) threads: [usize; 3],
    /// Bytes of shared memory of a block, besides what the kernel declares.
    pub(crate) shared_bytes: usize,
}

impl Shape {
    /// `blocks` blocks of `threads` threads.
    pub(crate) const fn of(blocks: usize, threads: usize) -> Self {
        Self { blocks: [blocks, 1, 1], threads: [threads, 1, 1], shared_bytes: 0 }
    }

    /// As many blocks of `threads` threads as have a thread for each of `items`.
    pub(crate) const fn covering(items: usize, threads: usize) -> Self {
        Self::of(items.div_ceil(threads), threads)
    }

    fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }

    /// Why a device of these limits does not take it.
    fn refused(&self, limits: &Limits) -> Option<String> {
        let exceeds = |counts: [usize; 3], most: [u32; 3]| {
            counts.into_iter().zip(most).any(|(count, most)| count > most as usize)
        };
        let threads = self.threads.iter().product::<usize>();
        if threads == 0 || threads > limits.threads_in_all as usize {
            return Some(format!("{threads} threads of {}", limits.threads_in_all));
        }
        if exceeds(self.blocks, limits.grid) || exceeds(self.threads, limits.threads) {
            return Some(format!("{self:?} exceeds {limits:?}"));
        }
        let (asked, most) = (self.shared_bytes, limits.shared_bytes);
        (asked > most as usize).then(|| format!("{asked} bytes of shared memory of {most}"))
    }
}

/// What is passed to a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    /// Where something lies, and what keeps it there.
    Pointer(u64, Option<&'a Arc<Memory>>),
    /// A number of 32 bits, signed or not.
    Integer(u32),
    /// A number.
    Float(f32),
}

impl<'a> Argument<'a> {
    /// No array.
    pub(crate) const NOTHING: Argument<'static> = Argument::Pointer(0, None);

    /// An array, if there is one.
    pub(crate) fn optional<T: Number>(buffer: Option<&'a Buffer<T>>) -> Self {
        buffer.map_or(Self::NOTHING, Self::from)
    }

    /// A count.
    ///
    /// # Panics
    /// When it does not fit a signed integer of 32 bits.
    pub(crate) fn count(count: usize) -> Self {
        Self::Integer(i32::try_from(count).expect("kernels count in 31 bits") as u32)
    }

    /// It can be passed as a parameter that the table of sources writes as this letter.
    const fn fits(&self, parameter: char) -> bool {
        match self {
            Self::Pointer(address, _) => {
                parameter == 'p' || parameter == 'P' && address.is_multiple_of(16)
            }
            Self::Integer(_) => parameter == 'i',
            Self::Float(_) => parameter == 'f',
        }
    }

    /// The bits, in the lowest bytes.
    const fn bits(&self) -> u64 {
        match *self {
            Self::Pointer(address, _) => address,
            Self::Integer(number) => number as u64,
            Self::Float(number) => number.to_bits() as u64,
        }
    }
}

impl<'a, T: Number> From<&'a Buffer<T>> for Argument<'a> {
    fn from(buffer: &'a Buffer<T>) -> Self {
        Self::Pointer(buffer.address(), Some(buffer.memory()))
    }
}

impl<'a, T: Number> From<&'a mut Buffer<T>> for Argument<'a> {
    fn from(buffer: &'a mut Buffer<T>) -> Self {
        Self::from(&*buffer)
    }
}

impl From<i32> for Argument<'_> {
    fn from(number: i32) -> Self {
        Self::Integer(number as u32)
    }
}

impl From<u32> for Argument<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number)
    }
}

impl From<f32> for Argument<'_> {
    fn from(number: f32) -> Self {
        Self::Float(number)
    }
}

// The lowest bytes of a slot are what a parameter of 4 bytes is read from.
const _: () = assert!(cfg!(target_endian = "little"));

/// Most parameters of a kernel.
const PARAMETERS_MAX: usize = 32;

impl Gpu {
    /// Issues a launch. It is done after all that was issued before, and not waited for.
    ///
    /// # Errors
    /// When the device does not take the shape, or is lost.
    ///
    /// # Panics
    /// When the arguments are not of the kinds that the table of sources says.
    ///
    /// # Safety
    /// With these arguments and this shape the kernel stays inside the arrays it is passed.
    pub(crate) unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: &Shape,
        arguments: &[Argument<'_>],
    ) -> Result<(), GpuError> {
        let Signature(name, parameters) = kernel.signature();
        let fit = parameters.chars().zip(arguments).all(|(letter, given)| given.fits(letter));
        assert!(
            fit && parameters.len() == arguments.len(),
            "{name} takes ({parameters}), not {arguments:?}"
        );
        let limits = &self.device().limits;
        if let Some(why) = shape.refused(limits) {
            return Err(GpuError::Launch { kernel: name, why });
        }
        let Some(context) = self.context().filter(|_| !shape.is_empty()) else { return Ok(()) };
        let function = self.module(kernel.source)?.get(kernel.index);
        let most = function.shared_bytes;
        if shape.shared_bytes > most as usize {
            let why = format!("{} bytes of shared memory of {most}", shape.shared_bytes);
            return Err(GpuError::Launch { kernel: name, why });
        }
        let mut slots = [0_u64; PARAMETERS_MAX];
        let mut places = [ptr::null_mut::<c_void>(); PARAMETERS_MAX];
        for ((slot, place), argument) in slots.iter_mut().zip(&mut places).zip(arguments) {
            *slot = argument.bits();
            *place = ptr::from_mut(slot).cast();
        }
        self.keep(arguments.iter().filter_map(|argument| match argument {
            Argument::Pointer(_, memory) => *memory,
            Argument::Integer(_) | Argument::Float(_) => None,
        }));
        let triple = |counts: [usize; 3]| (counts[0] as u32, counts[1] as u32, counts[2] as u32);
        let places = &mut places[..arguments.len()];
        context.call(name, |stream| {
            let (blocks, threads) = (triple(shape.blocks), triple(shape.threads));
            let shared = shape.shared_bytes as u32;
            // SAFETY: the kernel is loaded and takes arguments of these kinds; the driver copies
            // them. What it does with them is the caller's promise.
            unsafe {
                result::launch_kernel(function.handle, blocks, threads, shared, stream, places)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_held_against_limits() {
        let limits = Limits::LEAST;
        assert_eq!(Shape::covering(1025, 256).blocks, [5, 1, 1]);
        assert_eq!(Shape::covering(70_000 * 256, 256).refused(&limits), None);
        let tall = Shape { blocks: [1, 70_000, 1], ..Shape::of(1, 32) };
        assert!(tall.refused(&limits).is_some());
        assert!(Shape::of(1, 1025).refused(&limits).is_some());
        assert!(Shape::of(1, 0).refused(&limits).is_some());
        let wide = Shape { shared_bytes: 100 << 10, ..Shape::of(1, 32) };
        assert!(wide.refused(&limits).is_some());
        assert!(Shape::of(0, 32).is_empty());
    }

    #[test]
    fn arguments_are_their_bits() {
        let arguments: [Argument<'_>; 3] = [(-1_i32).into(), 1.0_f32.into(), Argument::count(7)];
        assert_eq!(arguments.map(|a| a.bits()), [0xffff_ffff, 0x3f80_0000, 7]);
        let gpu = Gpu::imagined();
        let buffer = Buffer::<f32>::zeroed(&gpu, 8).expect("memory that is not there");
        let parts = [buffer.part(0..1), buffer.part(2..8)];
        let parts = parts.each_ref().map(Argument::from);
        assert_eq!(parts[1].bits() - parts[0].bits(), 8);
        assert!(parts[0].fits('P') && parts[1].fits('p') && !parts[1].fits('P'));
        assert!(Argument::NOTHING.fits('P') && !Argument::NOTHING.fits('i'));
    }
}
