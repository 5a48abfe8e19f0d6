//! Products of few rows: how `matvec.cu` is launched for a matrix and a device.

use super::{Addends, GpuInput, GpuMatrix};
use crate::BlockFormat;
use crate::blocks::cuda::per_format;
use crate::cuda::{Argument, Buffer, Gpu, GpuError, Kernel, Limits, Shape};

/// Rows of activations that one launch takes.
pub(super) const TOKENS: usize = 8;

/// Rows of weights that a block takes at a time.
const TILE: usize = 16;

/// What the kernel of a format takes at a time and holds in shared memory; as `matvec.cu` lists
/// them.
struct Sizes {
    /// Columns that a warp takes at a time.
    chunk: usize,
    /// Columns that have a sum of activations; 0: none have.
    summed: usize,
    /// Bytes of shared memory of a warp.
    warp_bytes: usize,
}

impl Sizes {
    fn of(format: BlockFormat) -> Self {
        let sizes = |chunk, summed, stages: usize, stride: usize, table: usize| Self {
            chunk,
            summed,
            warp_bytes: stages * TILE * stride + 4 * TILE * table + 2 * TILE * TOKENS * 4,
        };
        match format {
            BlockFormat::Q4_0 | BlockFormat::Q4_1 => sizes(256, 32, 3, 176, 0),
            BlockFormat::Q5_0 | BlockFormat::Q5_1 => sizes(256, 32, 3, 208, 0),
            BlockFormat::Q8_0 => sizes(256, 0, 2, 304, 0),
            BlockFormat::Q4K => sizes(256, 32, 3, 144, 18),
            BlockFormat::Q5K => sizes(256, 32, 3, 176, 18),
            BlockFormat::Q6K => sizes(256, 16, 2, 240, 17),
            BlockFormat::F16 | BlockFormat::Bf16 => sizes(128, 0, 2, 320, 0),
            BlockFormat::F32 => sizes(64, 0, 2, 272, 0),
        }
    }

    /// Bytes of shared memory of a block.
    fn shared_bytes(&self, slice: usize, inputs: Inputs, warps: usize) -> usize {
        let Inputs { tokens, terms } = inputs;
        let span = slice.next_multiple_of(self.chunk);
        let sums = span.checked_div(self.summed).map_or(0, |sums| sums * tokens.div_ceil(2) * 16);
        terms * tokens * (span + 32) * 2 + sums + warps * self.warp_bytes
    }
}

/// What is held of activations: of so many rows, one or two numbers each.
#[derive(Clone, Copy, Debug)]
struct Inputs {
    tokens: usize,
    terms: usize,
}

/// How a product is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Launch {
    /// Columns of a slice.
    slice: usize,
    slices: usize,
    warps: usize,
    blocks: usize,
    shared_bytes: usize,
}

impl Launch {
    /// The fewest slices whose activations fit; of those rather many warps, and two blocks on a
    /// multiprocessor, which then waits for memory less.
    fn of(
        sizes: &Sizes,
        (rows, cols): (usize, usize),
        inputs: Inputs,
        (limits, multiprocessors): (&Limits, usize),
    ) -> Self {
        let whole = limits.shared_bytes as usize;
        let half = usize::midpoint(whole, RESERVED) - RESERVED;
        let tiles = rows.div_ceil(TILE);
        for slices in 1.. {
            let slice = cols.div_ceil(slices).next_multiple_of(sizes.chunk);
            for (warps, most, together) in
                [(8, half, 2), (4, half, 2), (8, whole, 1), (4, whole, 1)]
            {
                let shared_bytes = sizes.shared_bytes(slice.min(cols), inputs, warps);
                if shared_bytes <= most {
                    let slices = cols.div_ceil(slice);
                    let resident = (together * multiprocessors).div_ceil(slices);
                    return Self {
                        slice,
                        slices,
                        warps,
                        blocks: tiles.min(resident),
                        shared_bytes,
                    };
                }
            }
            assert!(slice > sizes.chunk, "one chunk of activations fits every device");
        }
        unreachable!("the loop ends at one chunk")
    }
}

/// Bytes of shared memory that the system takes for each block.
const RESERVED: usize = 1 << 10;

/// Sums of slices that products with `w` are made of, at most.
pub(super) fn parts(gpu: &Gpu, w: &GpuMatrix) -> usize {
    let sizes = Sizes::of(w.format);
    let counts = (1..=TOKENS).flat_map(|tokens| [1, 2].map(|terms| Inputs { tokens, terms }));
    let slices = counts.map(|inputs| launch_of(gpu, w, &sizes, inputs).slices).max();
    slices.filter(|&slices| slices > 1).map_or(0, |slices| slices * TOKENS * w.rows)
}

fn launch_of(gpu: &Gpu, w: &GpuMatrix, sizes: &Sizes, inputs: Inputs) -> Launch {
    let device = gpu.device();
    Launch::of(sizes, (w.rows, w.cols), inputs, (&device.limits, device.multiprocessors))
}

/// [`super::matmul`], eight rows at a time.
pub(super) fn matvec(
    gpu: &Gpu,
    w: &GpuMatrix,
    x: &GpuInput<'_>,
    (parts, addends): (&mut Buffer<f32>, Addends<'_>),
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    for first in (0..x.rows).step_by(TOKENS) {
        let tokens = (x.rows - first).min(TOKENS);
        let inputs = first * w.cols..(first + tokens) * w.cols;
        let out = out.part(first * w.rows..(first + tokens) * w.rows);
        let (high, low) = (x.high.part(inputs.clone()), x.low.map(|low| low.part(inputs.clone())));
        let product = Product { w, high, low, tokens, addends, out };
        if w.format.is_float() && !w.cols.is_multiple_of(8) {
            product.ragged(gpu)?;
        } else {
            product.launch(gpu, parts)?;
        }
    }
    Ok(())
}

/// A product of up to eight rows. Arrays are as long as its sizes say.
struct Product<'a> {
    w: &'a GpuMatrix,
    high: Buffer<half::bf16>,
    low: Option<Buffer<half::bf16>>,
    tokens: usize,
    addends: Addends<'a>,
    out: Buffer<f32>,
}

impl Product<'_> {
    fn launch(&self, gpu: &Gpu, parts: &Buffer<f32>) -> Result<(), GpuError> {
        let Self { w, tokens, .. } = *self;
        let inputs = Inputs { tokens, terms: 1 + usize::from(self.low.is_some()) };
        let launch = launch_of(gpu, w, &Sizes::of(w.format), inputs);
        let kernel = per_format!("matvec", w.format);
        let shape = Shape {
            blocks: [launch.blocks, launch.slices, 1],
            threads: [32 * launch.warps, 1, 1],
            shared_bytes: launch.shared_bytes,
        };
        let count = Argument::count;
        let is_one = launch.slices == 1;
        let sums = if is_one { &self.out } else { parts };
        assert!(
            sums.len() >= launch.slices * tokens * w.rows,
            "scratch that was made for this matrix"
        );
        let [bias, add] = if is_one { self.added() } else { [Argument::NOTHING; 2] };
        let low = Argument::optional(self.low.as_ref());
        let arrays = [sums.into(), (&w.blocks).into(), (&self.high).into(), low, bias, add];
        let sizes = [count(w.rows), count(w.cols), count(tokens), count(launch.slice)];
        let arguments = [&arrays[..], &sizes].concat();
        // SAFETY: weights and activations are as long as the sizes say, sums by the assertion.
        unsafe { gpu.launch(kernel, &shape, &arguments) }?;
        if is_one { Ok(()) } else { self.merge(gpu, parts, launch.slices) }
    }

    /// Adds up the sums of slices.
    fn merge(&self, gpu: &Gpu, parts: &Buffer<f32>, slices: usize) -> Result<(), GpuError> {
        let kernel = const { Kernel::named("matvec_merge") };
        let (rows, tokens) = (self.w.rows, self.tokens);
        let [bias, add] = self.added();
        let sizes = [rows, tokens, slices].map(Argument::count);
        let arguments = [&[(&self.out).into(), parts.into(), bias, add], &sizes[..]].concat();
        // SAFETY: reads so many slices of sums, which the launch before wrote, and writes as many
        // outputs as there are.
        unsafe { gpu.launch(kernel, &Shape::covering(rows * tokens, 256), &arguments) }
    }

    /// Floats whose rows are no multiple of 8 long.
    fn ragged(&self, gpu: &Gpu) -> Result<(), GpuError> {
        let Self { w, tokens, .. } = *self;
        let kernel = match w.format {
            BlockFormat::F32 => const { Kernel::named("matvec_ragged_f32") },
            BlockFormat::F16 => const { Kernel::named("matvec_ragged_f16") },
            BlockFormat::Bf16 => const { Kernel::named("matvec_ragged_bf16") },
            _ => unreachable!("blocks are a multiple of 8 long"),
        };
        let [bias, add] = self.added();
        let low = Argument::optional(self.low.as_ref());
        let arrays = [(&self.out).into(), (&w.blocks).into(), (&self.high).into(), low, bias, add];
        let arguments = [&arrays[..], &[w.rows, w.cols, tokens].map(Argument::count)].concat();
        // SAFETY: weights, activations and outputs are as long as the sizes say.
        unsafe { gpu.launch(kernel, &Shape::of(w.rows.div_ceil(4), 128), &arguments) }
    }

    /// Bias, and what the outputs hold.
    fn added(&self) -> [Argument<'_>; 2] {
        let out = if self.addends.out { (&self.out).into() } else { Argument::NOTHING };
        [Argument::optional(self.addends.bias), out]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_fit_devices_and_cover_matrices() {
        let hopper = Limits { shared_bytes: 227 << 10, ..Limits::LEAST };
        for format in BlockFormat::ALL {
            let sizes = Sizes::of(format);
            for (rows, cols) in [(16, 256), (100, 2304), (4096, 14_336), (128_256, 8192)] {
                for (tokens, terms) in [(1, 1), (8, 1), (7, 2), (8, 2)] {
                    let inputs = Inputs { tokens, terms };
                    for limits in [Limits::LEAST, hopper] {
                        let launch = Launch::of(&sizes, (rows, cols), inputs, (&limits, 132));
                        let Launch { slice, slices, blocks, shared_bytes, .. } = launch;
                        assert!(
                            slice * slices >= cols && slice * (slices - 1) < cols,
                            "{launch:?}"
                        );
                        assert!(slice.is_multiple_of(sizes.chunk), "{launch:?}");
                        assert!(shared_bytes <= limits.shared_bytes as usize, "{launch:?}");
                        assert!(blocks > 0 && blocks <= rows.div_ceil(TILE), "{launch:?}");
                    }
                }
            }
        }
    }

    /// The source says at its head what it holds: `q4_0  256  32  3  176  0`.
    #[test]
    fn sizes_are_those_of_the_source() {
        let words: Vec<&str> = include_str!("../matvec.cu").split_whitespace().collect();
        for format in BlockFormat::ALL {
            let name = match format {
                BlockFormat::F16 => "bf16".to_owned(),
                BlockFormat::Q4K => "q4_k".to_owned(),
                BlockFormat::Q5K => "q5_k".to_owned(),
                BlockFormat::Q6K => "q6_k".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            // Floats of 16 bits have a line in common.
            let skip = if name == "bf16" { 2 } else { 1 };
            let row = words.windows(6 + skip).find_map(|words| {
                let count = |word: &&str| if *word == "-" { Some(0) } else { word.parse().ok() };
                let counts: Option<Vec<usize>> = words[skip..][..5].iter().map(count).collect();
                counts.filter(|_| words[0] == name)
            });
            let [chunk, summed, stages, stride, table] =
                row.expect("a row of the table").try_into().expect("five counts");
            let sizes = Sizes::of(format);
            let warp_bytes = stages * 16 * stride + 64 * table + 1024;
            assert_eq!(
                (sizes.chunk, sizes.summed, sizes.warp_bytes),
                (chunk, summed, warp_bytes),
                "{format:?}"
            );
        }
    }

    #[test]
    fn one_row_of_a_large_model_is_not_sliced() {
        let hopper = Limits { shared_bytes: 227 << 10, ..Limits::LEAST };
        let sizes = Sizes::of(BlockFormat::Q4K);
        let launch = {
            let inputs = Inputs { tokens: 1, terms: 1 };
            Launch::of(&sizes, (4096, 4096), inputs, (&hopper, 132))
        };
        assert_eq!((launch.slices, launch.warps, launch.blocks), (1, 8, 256));
    }
}
