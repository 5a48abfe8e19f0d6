//! The shapes and inputs that drive tests and benches.

use super::cuda as gpu_product;
use super::{Input, Matrix, Refine, matmul, reference};
use crate::case::{Case, Expected, GpuTrial, Guarded, Rng, Tolerance, Trial, Work};
use crate::cuda::{
    self, Addends, Buffer, Gpu, GpuError, GpuInput, GpuMatrix, GpuMatrixError, MatmulScratch,
};
use crate::{BlockFormat, Cpu, dequantize};

/// Shapes of SmolLM2 for every format, and ragged ones.
pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for format in BlockFormat::ALL {
        // Super blocks are 256 wide; the widest inner dimension is cut into several parts of 2048
        // columns, and tokens fill tiles of 8, 4, 2 and 1.
        for (tokens, rows, cols) in [(1, 16, 256), (1, 100, 2304), (15, 33, 512), (64, 192, 768)] {
            cases.push(Box::new(Product { format, tokens, rows, cols }));
        }
    }
    // What decoding and prefill of small models are made of.
    for format in [BlockFormat::Q4_1, BlockFormat::Q4K, BlockFormat::Q5_0, BlockFormat::Q6K] {
        for (tokens, rows, cols) in [(1, 1536, 2048), (128, 512, 768)] {
            cases.push(Box::new(Product { format, tokens, rows, cols }));
        }
    }
    for (format, cols) in [
        (BlockFormat::Q4_1, 96),
        (BlockFormat::F32, 1),
        (BlockFormat::F16, 37),
        (BlockFormat::Bf16, 17),
    ] {
        cases.push(Box::new(Product { format, tokens: 3, rows: 7, cols }));
    }
    cases
}

struct Product {
    format: BlockFormat,
    tokens: usize,
    rows: usize,
    cols: usize,
}

impl Case for Product {
    fn name(&self) -> String {
        let Self { format, tokens, rows, cols } = self;
        format!("matmul {format:?} {tokens}x{cols} -> {rows}")
    }

    fn trial(&self, cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let bytes = self.format.random(self.rows * self.cols, rng);
        let mut dequantized = vec![0.0; self.rows * self.cols];
        dequantize(self.format, &bytes, &mut dequantized);
        let mut input = Input::new();
        input.set(cpu, Refine::Never, &rng.activations(self.tokens * self.cols), self.cols);
        let matrix = Matrix::pack(cpu, self.format, self.rows, self.cols, &bytes);
        Box::new(ProductTrial {
            matrix: matrix.expect("the case's shape is whole blocks"),
            format: self.format,
            bytes,
            dequantized,
            input,
            output: vec![f32::NAN; self.tokens * self.rows],
        })
    }

    fn tolerance(&self) -> Tolerance {
        // A float product adds `cols` terms one after another, an int8 one two per group.
        let additions = if self.format.is_float() { self.cols } else { self.cols / 8 };
        Tolerance {
            relative: f32::EPSILON * (additions as f32).sqrt().max(4.0),
            reason: "half an ulp of the magnitude per addition, of random sign",
        }
    }

    fn work(&self) -> Work {
        let weights = self.rows * self.cols / self.format.block_len() * self.format.block_bytes();
        Work {
            bytes: weights + size_of::<f32>() * self.tokens * (self.rows + self.cols),
            flops: 2 * self.tokens * self.rows * self.cols,
        }
    }
}

struct ProductTrial {
    matrix: Matrix,
    format: BlockFormat,
    /// The weights as a file has them.
    bytes: Vec<u8>,
    dequantized: Vec<f32>,
    input: Input,
    output: Vec<f32>,
}

impl Trial for ProductTrial {
    fn run(&mut self, cpu: &Cpu) {
        matmul(cpu, &self.matrix, &self.input, &mut self.output);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    /// Over the activations that the product really multiplies: int8 ones for quantized weights.
    fn expected(&self) -> Vec<Expected> {
        let cols = self.matrix.cols();
        let mut x = vec![0.0; self.input.rows() * cols];
        for (row, x) in x.chunks_exact_mut(cols).enumerate() {
            if self.format.is_float() {
                x.copy_from_slice(self.input.row(row));
            } else {
                self.input.row_quantized(row, x);
            }
        }
        let mut values = vec![0.0; self.output.len()];
        reference::matmul(&x, &self.dequantized, cols, &mut values);
        let pairs = values.iter().zip(magnitudes(&x, &self.dequantized, cols));
        pairs.map(|(&value, magnitude)| Expected { value, magnitude }).collect()
    }

    /// With the weights as they lie in the file, and as bf16.
    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        Ok(vec![self.on_gpu_by(gpu, Way::Blocks)?, self.on_gpu_by(gpu, Way::TensorCores)?])
    }
}

/// How a device makes a product.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Blocks,
    TensorCores,
}

impl ProductTrial {
    fn on_gpu_by(&self, gpu: &Gpu, way: Way) -> Result<GpuTrial<'_>, GpuError> {
        let (rows, cols, tokens) = (self.matrix.rows(), self.matrix.cols(), self.input.rows());
        let w = GpuMatrix::new(gpu, self.format, (rows, cols), &self.bytes);
        let w = w.map_err(|error| match error {
            GpuMatrixError::Gpu(error) => error,
            GpuMatrixError::Shape(error) => unreachable!("packed for the CPU as well: {error}"),
        })?;
        let mut scratch = MatmulScratch::new(gpu, std::iter::once(&w))?;
        let x = Buffer::of(gpu, &self.activations())?;
        let (mut high, mut low) = (Buffer::zeroed(gpu, x.len())?, Buffer::zeroed(gpu, x.len())?);
        let out = Guarded::new(gpu, tokens * rows)?;
        let (mut place, gpu) = (out.place(), gpu.clone());
        let run = move || {
            cuda::round_bf16(&gpu, &x, x.len(), &mut high, Some(&mut low))?;
            let input = GpuInput { high: &high, low: Some(&low), rows: tokens };
            let scratch = (&mut scratch, Addends::default());
            match way {
                Way::Blocks => gpu_product::by_blocks(&gpu, &w, &input, scratch, &mut place),
                Way::TensorCores => {
                    gpu_product::by_tensor_cores(&gpu, &w, &input, scratch, &mut place)
                }
            }
        };
        let name = match way {
            Way::Blocks => "matvec with what rounding left",
            Way::TensorCores => "gemm with what rounding left",
        };
        let tolerance = Tolerance {
            relative: f32::EPSILON * (cols as f32).sqrt().max(4.0) + ROUNDED_TWICE,
            reason: "half an ulp of the magnitude per addition, of random sign, and activations \
                     as two bf16",
        };
        let output = move || out.read();
        let expected = move || self.expected_of(&self.activations(), way);
        Ok(GpuTrial::new((name, tolerance), run, output, expected))
    }

    /// Not quantized.
    fn activations(&self) -> Vec<f32> {
        (0..self.input.rows()).flat_map(|row| self.input.row(row)).copied().collect()
    }

    /// Over these activations, and over the weights that the product really multiplies.
    fn expected_of(&self, x: &[f32], way: Way) -> Vec<Expected> {
        let cols = self.matrix.cols();
        let rounded = |&w: &f32| half::bf16::from_f32(w).to_f32();
        let weights: Vec<f32> = match way {
            Way::Blocks => self.dequantized.clone(),
            Way::TensorCores => self.dequantized.iter().map(rounded).collect(),
        };
        let mut values = vec![0.0; self.output.len()];
        reference::matmul(x, &weights, cols, &mut values);
        let pairs = values.iter().zip(magnitudes(x, &weights, cols));
        pairs.map(|(&value, magnitude)| Expected { value, magnitude }).collect()
    }
}

/// What two bf16 leave of an activation: half an ulp of half an ulp.
const ROUNDED_TWICE: f32 = 1.0 / (1 << 17) as f32;

/// What errors of outputs are relative to. A weight is a sum `scale · code + min` whose parts may be
/// larger than itself, but not than a few times the largest weight of the row, which some code is
/// near.
fn magnitudes(x: &[f32], w: &[f32], cols: usize) -> Vec<f32> {
    let widest = |w: &[f32]| 2.0 * w.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    let widest: Vec<f32> = w.chunks_exact(cols).map(widest).collect();
    let sums = x.chunks_exact(cols).map(|x| x.iter().map(|x| x.abs()).sum::<f32>());
    sums.flat_map(|sum| widest.iter().map(move |w| w * sum)).collect()
}
