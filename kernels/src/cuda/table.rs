//! The table of every embedded source and of the kernels in it, with their parameters.
//!
//! A test compiles every source and holds the table against what comes out, so a launch that fits
//! the table fits the kernel.

use super::sources::{Signature, Source};

/// Texts that sources include, by the name they include them by.
pub const HEADERS: &[(&str, &str)] =
    &[("prelude.cuh", include_str!("prelude.cuh")), ("blocks.cuh", include_str!("blocks.cuh"))];

/// A kernel for each format of blocks, all with the same parameters.
macro_rules! of_formats {
    ($op:literal, $parameters:literal) => {
        &[
            Signature(concat!($op, "_f32"), $parameters),
            Signature(concat!($op, "_f16"), $parameters),
            Signature(concat!($op, "_bf16"), $parameters),
            Signature(concat!($op, "_q8_0"), $parameters),
            Signature(concat!($op, "_q4_0"), $parameters),
            Signature(concat!($op, "_q4_1"), $parameters),
            Signature(concat!($op, "_q5_0"), $parameters),
            Signature(concat!($op, "_q5_1"), $parameters),
            Signature(concat!($op, "_q4_k"), $parameters),
            Signature(concat!($op, "_q5_k"), $parameters),
            Signature(concat!($op, "_q6_k"), $parameters),
        ]
    };
}

/// The source at a path from here, by its path in `kernels/src`.
macro_rules! source {
    ($name:literal, $kernels:expr) => {
        Source {
            name: $name,
            text: include_str!(concat!("../", $name)),
            options: &[],
            kernels: $kernels,
        }
    };
}

/// Every source.
pub const SOURCES: &[Source] = &[
    source!("add/add.cu", &[Signature("add_f32", "ppi"), Signature("add_bias_f32", "ppii")]),
    source!("blocks/dequantize.cu", of_formats!("dequantize", "ppi")),
    source!(
        "cuda/rows.cu",
        &[Signature("gather_rows_f32", "pppi"), Signature("round_bf16", "pppi")]
    ),
    source!("embed/embed.cu", of_formats!("embed", "pppfii")),
    source!(
        "gated/gated.cu",
        &[
            Signature("gated_silu_f32", "pppiii"),
            Signature("gated_silu_bf16", "ppppiii"),
            Signature("gated_gelu_tanh_f32", "pppiii"),
            Signature("gated_gelu_tanh_bf16", "ppppiii"),
        ]
    ),
    source!(
        "rms_norm/rms_norm.cu",
        &[Signature("rms_norm_f32", "pppppif"), Signature("rms_norm_bf16", "ppppppif")]
    ),
];
