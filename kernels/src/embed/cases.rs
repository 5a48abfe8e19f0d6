//! The shapes and inputs that drive tests and benches.

use super::{embed, reference};
use crate::case::{Case, Expected, GpuTrial, Guarded, Rng, Tolerance, Trial, Work};
use crate::cuda::{self, Buffer, EmbedTable, Gpu, GpuError};
use crate::{BlockFormat, Cpu, Matrix, dequantize};

/// Every format; one token, none, and more than a thread's grain.
pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let formats = BlockFormat::ALL.into_iter();
    let cases = formats.flat_map(|format| [0, 1, 33].map(|tokens| Lookup { format, tokens }));
    cases.map(|case| Box::new(case) as Box<dyn Case>).collect()
}

struct Lookup {
    format: BlockFormat,
    tokens: usize,
}

/// Rows of the table: a last panel that is not full.
const ROWS: usize = 37;
/// Columns of the table.
const COLS: usize = 512;
/// As Gemma scales embeddings, by the root of the columns: no power of two.
const SCALE: f32 = 22.627_417;

impl Case for Lookup {
    fn name(&self) -> String {
        format!("embed {:?} {} of {ROWS}x{COLS}", self.format, self.tokens)
    }

    fn trial(&self, cpu: &Cpu, rng: &mut Rng) -> Box<dyn Trial> {
        let bytes = self.format.random(ROWS * COLS, rng);
        let mut dequantized = vec![0.0; ROWS * COLS];
        dequantize(self.format, &bytes, &mut dequantized);
        let table = Matrix::pack(cpu, self.format, ROWS, COLS, &bytes);
        Box::new(LookupTrial {
            table: table.expect("the case's shape is whole blocks"),
            format: self.format,
            bytes,
            dequantized,
            tokens: (0..self.tokens).map(|_| rng.below(ROWS) as u32).collect(),
            output: vec![f32::NAN; self.tokens * COLS],
        })
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance { relative: 0.0, reason: "the reference does the same multiplication" }
    }

    fn work(&self) -> Work {
        let row = COLS / self.format.block_len() * self.format.block_bytes();
        Work { bytes: self.tokens * (row + 4 * COLS), flops: 2 * self.tokens * COLS }
    }
}

struct LookupTrial {
    table: Matrix,
    format: BlockFormat,
    /// The table as a file has it.
    bytes: Vec<u8>,
    dequantized: Vec<f32>,
    tokens: Vec<u32>,
    output: Vec<f32>,
}

impl Trial for LookupTrial {
    fn run(&mut self, cpu: &Cpu) {
        embed(cpu, &self.table, &self.tokens, SCALE, &mut self.output);
    }

    fn output(&self) -> &[f32] {
        &self.output
    }

    fn expected(&self) -> Vec<Expected> {
        let mut values = vec![0.0; self.output.len()];
        reference::embed(&self.dequantized, COLS, &self.tokens, SCALE, &mut values);
        values.into_iter().map(Expected::of).collect()
    }

    fn on_gpu(&self, gpu: &Gpu) -> Result<Vec<GpuTrial<'_>>, GpuError> {
        let (bytes, tokens) = (Buffer::of(gpu, &self.bytes)?, Buffer::of(gpu, &self.tokens)?);
        let out = Guarded::new(gpu, self.output.len())?;
        let (mut place, format, gpu) = (out.place(), self.format, gpu.clone());
        let run = move || {
            let table = EmbedTable { format, bytes: &bytes, cols: COLS, scale: SCALE };
            cuda::embed(&gpu, &table, (&tokens, tokens.len()), &mut place)
        };
        let reason = "numbers are made and multiplied as in the reference";
        let tolerance = Tolerance { relative: 0.0, reason };
        let output = move || out.read();
        Ok(vec![GpuTrial::new(("embed", tolerance), run, output, || self.expected())])
    }
}
