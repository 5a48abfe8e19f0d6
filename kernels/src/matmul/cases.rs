//! The shapes and inputs that drive tests and benches.

use super::{Input, Matrix, Refine, matmul, reference};
use crate::case::{Case, Expected, Rng, Tolerance, Trial, Work};
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
            quantized: !self.format.is_float(),
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
    quantized: bool,
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
            if self.quantized {
                self.input.row_quantized(row, x);
            } else {
                x.copy_from_slice(self.input.row(row));
            }
        }
        let mut values = vec![0.0; self.output.len()];
        reference::matmul(&x, &self.dequantized, cols, &mut values);
        // A weight is a sum `scale · code + min` whose parts may be larger than itself, but not
        // than a few times the largest weight of the row, which some code is near.
        let widest = |w: &[f32]| 2.0 * w.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let widest: Vec<f32> = self.dequantized.chunks_exact(cols).map(widest).collect();
        let sums = x.chunks_exact(cols).map(|x| x.iter().map(|x| x.abs()).sum::<f32>());
        let magnitudes = sums.flat_map(|sum| widest.iter().map(move |w| w * sum));
        let pairs = values.iter().zip(magnitudes);
        pairs.map(|(&value, magnitude)| Expected { value, magnitude }).collect()
    }
}
