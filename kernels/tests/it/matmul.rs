//! Matrices and products: losslessness, bit identity, the cost of int8 activations, refusals.

use kernels::case::Rng;
use kernels::{BlockFormat, Cpu, Input, Isa, Matrix, PackError, Refine, dequantize, matmul};
use proptest::prelude::*;

#[test]
fn rows_are_the_dequantized_rows() {
    let cpu = Cpu::new(2, Isa::best());
    let mut rng = Rng::new(1);
    for format in BlockFormat::ALL {
        let (rows, cols) = (35, 768);
        let bytes = format.random(rows * cols, &mut rng);
        let matrix = Matrix::pack(&cpu, format, rows, cols, &bytes).unwrap();
        let mut expected = vec![0.0; rows * cols];
        dequantize(format, &bytes, &mut expected);
        let mut row = vec![f32::NAN; cols];
        for (r, expected) in expected.chunks_exact(cols).enumerate() {
            matrix.row(r, &mut row);
            assert_eq!(row, expected, "{format:?} row {r}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ragged shapes; a row alone gives the bits it gives among others.
    #[test]
    fn a_row_alone_is_the_row_in_a_batch(
        format in prop::sample::select(BlockFormat::ALL.to_vec()),
        isa in prop::sample::select(Isa::tested().collect::<Vec<_>>()),
        threads in 1usize..4,
        tokens in 1usize..20,
        rows in 1usize..50,
        blocks in 1usize..10,
        seed: u64,
    ) {
        let cpu = Cpu::new(threads, isa);
        let mut rng = Rng::new(seed);
        let cols = blocks * format.block_len();
        let bytes = format.random(rows * cols, &mut rng);
        let matrix = Matrix::pack(&cpu, format, rows, cols, &bytes).unwrap();
        let x = rng.activations(tokens * cols);
        for refine in REFINE {
            let batch = product(&cpu, refine, &matrix, &x);
            for (x, batch) in x.chunks_exact(cols).zip(batch.chunks_exact(rows)) {
                let alone = product(&cpu, refine, &matrix, x);
                prop_assert_eq!(alone, batch, "{:?}", refine);
            }
        }
    }
}

const REFINE: [Refine; 3] = [Refine::Never, Refine::Outliers, Refine::Always];

/// The bits of a product.
fn product(cpu: &Cpu, refine: Refine, matrix: &Matrix, x: &[f32]) -> Vec<u32> {
    let mut input = Input::new();
    input.set(cpu, refine, x, matrix.cols());
    let mut out = vec![f32::NAN; input.rows() * matrix.rows()];
    matmul(cpu, matrix, &input, &mut out);
    out.into_iter().map(f32::to_bits).collect()
}

/// An int8 activation is off by at most half a step, 1/254 of the largest of its 32.
#[test]
fn int8_activations_are_within_half_a_step() {
    for isa in Isa::tested() {
        let cpu = Cpu::new(1, isa);
        let (rows, cols) = (9, 100);
        let x = Rng::new(5).activations(rows * cols);
        let mut input = Input::new();
        input.set(&cpu, Refine::Never, &x, cols);
        let mut quantized = vec![f32::NAN; cols];
        for (r, x) in x.chunks_exact(cols).enumerate() {
            input.row_quantized(r, &mut quantized);
            for (x, quantized) in x.chunks(32).zip(quantized.chunks(32)) {
                let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                for (x, quantized) in x.iter().zip(quantized) {
                    assert!((x - quantized).abs() <= max / 253.9, "{x} became {quantized}");
                }
            }
        }
    }
}

/// Products with int8 activations against products with the true ones: rounding errors of random
/// sign stay below 1 % of a typical output, and below 0.01 % when all that is left is quantized
/// again. Where a few groups hold most of the error, it is nearly enough to refine those.
#[test]
fn activations_cost_what_their_codes_say() {
    let cpu = Cpu::new(1, Isa::best());
    let mut rng = Rng::new(11);
    let (tokens, rows, cols) = (8, 64, 1024);
    for format in BlockFormat::ALL {
        let bytes = format.random(rows * cols, &mut rng);
        let matrix = Matrix::pack(&cpu, format, rows, cols, &bytes).unwrap();
        let mut x: Vec<f32> = (0..tokens * cols).map(|_| rng.signed()).collect();
        let error =
            |refine, x: &[f32]| relative_error(&matrix, x, &product(&cpu, refine, &matrix, x));
        let coarse = error(Refine::Never, &x);
        assert!(coarse < 1e-2, "{format:?}: {coarse}");
        let fine = error(Refine::Always, &x);
        assert!(fine < 1e-4, "{format:?}, all refined: {fine}");

        // Not the same groups in every token.
        for (t, x) in x.chunks_exact_mut(cols).enumerate() {
            x.iter_mut().step_by(300 + 7 * t).for_each(|x| *x = x.signum() * 50.0);
        }
        let coarse = error(Refine::Never, &x);
        let outliers = error(Refine::Outliers, &x);
        let most = if format.is_float() { 1e-4 } else { coarse / 4.0 };
        assert!(outliers < most, "{format:?}: {outliers} of {coarse} with outliers refined");
    }
}

/// Root mean square of the error over that of the exact product.
fn relative_error(matrix: &Matrix, x: &[f32], got: &[u32]) -> f64 {
    let mut row = vec![0.0; matrix.cols()];
    let (mut error, mut size) = (0.0, 0.0);
    for r in 0..matrix.rows() {
        matrix.row(r, &mut row);
        for (t, x) in x.chunks_exact(matrix.cols()).enumerate() {
            let exact: f64 = x.iter().zip(&row).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            error += (f64::from(f32::from_bits(got[t * matrix.rows() + r])) - exact).powi(2);
            size += exact * exact;
        }
    }
    (error / size).sqrt()
}

#[test]
fn what_is_not_finite_does_not_vanish() {
    for isa in Isa::tested() {
        let cpu = Cpu::new(1, isa);
        for format in BlockFormat::ALL {
            let cols = 256;
            let bytes = format.random(3 * cols, &mut Rng::new(2));
            let matrix = Matrix::pack(&cpu, format, 3, cols, &bytes).unwrap();
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = vec![1.0; cols];
                x[77] = poison;
                let out = product(&cpu, Refine::Never, &matrix, &x);
                let finite = out.iter().any(|&bits| f32::from_bits(bits).is_finite());
                assert!(!finite, "{format:?} on {isa}: {poison} gave {out:?}");
            }
        }
    }
}

/// Largest codes times largest activations: sums that saturate in 16 bits would show.
#[test]
fn extreme_codes_do_not_saturate() {
    for isa in Isa::tested() {
        let cpu = Cpu::new(1, isa);
        for format in [BlockFormat::Q4_1, BlockFormat::Q5_1, BlockFormat::Q8_0, BlockFormat::Q6K] {
            let cols = 256;
            let mut block = vec![0xff; format.block_bytes()];
            let one = [0x00, 0x3c];
            match format {
                BlockFormat::Q6K => block[208..].copy_from_slice(&one),
                BlockFormat::Q8_0 => {
                    block.fill(0x7f);
                    block[..2].copy_from_slice(&one);
                }
                _ => block[..4].copy_from_slice(&[one, [0, 0]].concat()),
            }
            let bytes = block.repeat(cols / format.block_len());
            let matrix = Matrix::pack(&cpu, format, 1, cols, &bytes).unwrap();
            let mut row = vec![0.0; cols];
            matrix.row(0, &mut row);
            for sign in [127.0, -127.0] {
                let out = product(&cpu, Refine::Never, &matrix, &vec![sign; cols]);
                let expected: f32 = row.iter().map(|w| w * sign).sum();
                assert_eq!(f32::from_bits(out[0]), expected, "{format:?} on {isa}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_matrix_are_refused() {
    let cpu = Cpu::new(1, Isa::Scalar);
    let pack = |format, rows, cols, bytes: usize| {
        Matrix::pack(&cpu, format, rows, cols, &vec![0; bytes]).unwrap_err()
    };
    assert_eq!(pack(BlockFormat::F32, 0, 4, 0), PackError::Empty { rows: 0, cols: 4 });
    assert_eq!(pack(BlockFormat::Q4_1, 1, 33, 20), PackError::RaggedBlocks { cols: 33, block: 32 });
    for (rows, cols, given) in [(2, 32, 20), (usize::MAX, 32, 20), (1 << 60, 1 << 60, 0)] {
        let format = BlockFormat::Q4_1;
        assert_eq!(
            pack(format, rows, cols, given),
            PackError::WrongLength { format, rows, cols, given }
        );
    }
}
