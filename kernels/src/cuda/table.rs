//! The table of every embedded source and of the kernels in it, with their parameters.
//!
//! A test compiles every source and holds the table against what comes out, so a launch that fits
//! the table fits the kernel. Which pointers must be aligned stands in the sources alone.

use super::sources::{Signature, Source};

/// Texts that sources include, by the name they include them by.
pub const HEADERS: &[(&str, &str)] = &[
    ("prelude.cuh", include_str!("prelude.cuh")),
    ("blocks.cuh", include_str!("blocks.cuh")),
    ("matvec_codes.cuh", include_str!("../matmul/matvec_codes.cuh")),
    ("attention.cuh", include_str!("../attention/attention.cuh")),
    ("attention_tiles.cuh", include_str!("../attention/attention_tiles.cuh")),
];

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

/// A kernel for each format of pages, all with the same parameters.
macro_rules! of_pages {
    ($op:literal, $parameters:literal) => {
        &[
            Signature(concat!($op, "_f32"), $parameters),
            Signature(concat!($op, "_f16"), $parameters),
            Signature(concat!($op, "_bf16"), $parameters),
            Signature(concat!($op, "_int8"), $parameters),
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

/// `matvec.cu` for one format: with all of them it takes long to compile.
macro_rules! matvec {
    ($format:literal) => {
        Source {
            name: concat!("matmul/matvec.cu for ", $format),
            text: include_str!("../matmul/matvec.cu"),
            options: &[concat!("-DFORMAT=", $format)],
            kernels: &[Signature(concat!("matvec_", $format), "pPPPppiiii")],
        }
    };
}

/// A fast attention source for one length of heads, and its kernels, named after the length.
macro_rules! attention {
    ($file:literal, $dim:literal, $($kernel:literal),*) => {
        Source {
            name: concat!("attention/", $file, " for heads of ", $dim),
            text: include_str!(concat!("../attention/", $file)),
            options: &[concat!("-DHEAD_DIM=", $dim)],
            kernels: &[$(Signature(concat!($kernel, "_", $dim), "ppipipppppppiiiiiiiiiff")),*],
        }
    };
}

/// `attention/decode.cu` for one length of heads.
macro_rules! attention_decode {
    ($dim:literal) => {
        attention!(
            "decode.cu",
            $dim,
            "attention_decode_f16",
            "attention_decode_bf16",
            "attention_decode_int8"
        )
    };
}

/// `attention/tiles.cu` for one length of heads.
macro_rules! attention_tiles {
    ($dim:literal) => {
        attention!(
            "tiles.cu",
            $dim,
            "attention_prefill_f16",
            "attention_prefill_bf16",
            "attention_shared_f16",
            "attention_shared_bf16"
        )
    };
}

/// Every source.
pub const SOURCES: &[Source] = &[
    source!("add/add.cu", &[Signature("add_f32", "PPi"), Signature("add_bias_f32", "PPii")]),
    attention_decode!("64"),
    attention_decode!("80"),
    attention_decode!("96"),
    attention_decode!("128"),
    attention_decode!("256"),
    attention_tiles!("64"),
    attention_tiles!("80"),
    attention_tiles!("96"),
    attention_tiles!("128"),
    attention_tiles!("256"),
    source!("attention/mass.cu", of_pages!("attention_mass", "ppipippiiiiiiiiiff")),
    source!("attention/merge.cu", &[Signature("attention_merge", "pppppppii")]),
    source!("attention/plain.cu", of_pages!("attention_plain", "ppipipppppppiiiiiiiiiff")),
    source!("blocks/dequantize.cu", of_formats!("dequantize", "PPi")),
    source!(
        "cuda/rows.cu",
        &[Signature("gather_rows_f32", "PPpi"), Signature("round_bf16", "PPPi")]
    ),
    source!("embed/embed.cu", of_formats!("embed", "PPpfii")),
    source!(
        "gated/gated.cu",
        &[
            Signature("gated_silu_f32", "pppiii"),
            Signature("gated_silu_bf16", "ppppiii"),
            Signature("gated_gelu_tanh_f32", "pppiii"),
            Signature("gated_gelu_tanh_bf16", "ppppiii"),
        ]
    ),
    source!("kv/copy_rows.cu", &[Signature("copy_rows", "piiiiip")]),
    source!(
        "kv_append/kv_append.cu",
        &[
            Signature("kv_append_f32", "pppiiippfpippiipiiiiiii"),
            Signature("kv_append_f16", "pppiiippfpippiipiiiiiii"),
            Signature("kv_append_bf16", "pppiiippfpippiipiiiiiii"),
            Signature("kv_append_int8", "pppiiippfpippiipiiiiiii"),
            Signature("head_norm_f32", "pipfiii"),
        ]
    ),
    source!("kv_deviation/kv_deviation.cu", of_pages!("kv_deviation", "ppipipiiiiiii")),
    source!("kv_norm/kv_norm.cu", of_pages!("kv_norm", "ppipiiiiiii")),
    matvec!("f32"),
    matvec!("f16"),
    matvec!("bf16"),
    matvec!("q8_0"),
    matvec!("q4_0"),
    matvec!("q4_1"),
    matvec!("q5_0"),
    matvec!("q5_1"),
    matvec!("q4_k"),
    matvec!("q5_k"),
    matvec!("q6_k"),
    source!(
        "matmul/matvec_plain.cu",
        &[
            Signature("matvec_ragged_f32", "ppppppiii"),
            Signature("matvec_ragged_f16", "ppppppiii"),
            Signature("matvec_ragged_bf16", "ppppppiii"),
            Signature("matvec_merge", "ppppiii"),
        ]
    ),
    source!("random/random.cu", &[Signature("random_bf16", "Pfiii")]),
    source!(
        "rms_norm/rms_norm.cu",
        &[Signature("rms_norm_f32", "PPPPPif"), Signature("rms_norm_bf16", "PPPPPPif")]
    ),
    source!(
        "sampling/choice.cu",
        &[Signature("choice_parts", "pipippp"), Signature("choice_rows", "ppppiipppp")]
    ),
    source!(
        "sampling/logits.cu",
        &[Signature("softcap_f32", "Pif"), Signature("penalize_f32", "pipppp")]
    ),
];
