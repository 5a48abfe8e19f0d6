//! Writes small GGUF files, right or wrong on purpose.

use crate::desk::tiny;
use std::collections::BTreeMap;

/// ggml's type ids that the tests write.
pub(crate) const F32: u32 = 0;
pub(crate) const Q8_0: u32 = 8;

/// A metadata value as the format writes it: type id, then bytes.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

/// A tensor, its dimensions innermost first as the format has them.
#[derive(Clone, Debug)]
pub(crate) struct TensorToWrite {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    /// Instead of where the data really lies.
    pub(crate) offset: Option<u64>,
}

/// A file to be.
#[derive(Clone, Debug)]
pub(crate) struct GgufWriter {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) tensors: Vec<TensorToWrite>,
    /// Instead of the true counts.
    pub(crate) pair_count: Option<u64>,
    pub(crate) tensor_count: Option<u64>,
}

impl GgufWriter {
    pub(crate) fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            pairs: Vec::new(),
            tensors: Vec::new(),
            pair_count: None,
            tensor_count: None,
        }
    }

    pub(crate) fn raw(&mut self, key: &str, kind: u32, bytes: Vec<u8>) {
        self.drop_key(key);
        self.pairs.push(Pair { key: key.into(), kind, bytes });
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.raw(key, 4, value.to_le_bytes().into());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.raw(key, 6, value.to_le_bytes().into());
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, 8, string(value.as_bytes()));
    }

    pub(crate) fn drop_key(&mut self, key: &str) {
        self.pairs.retain(|pair| pair.key != key.as_bytes());
    }

    pub(crate) fn drop_tensor(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    /// A tensor of this name, to be made wrong.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut TensorToWrite {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        tensor.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Adds f32 data of `shape`, outermost dimension first.
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        let dims = shape.iter().rev().map(|&dim| dim as u64).collect();
        let data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = TensorToWrite { name: name.into(), dims, kind: F32, data, offset: None };
        self.tensors.push(tensor);
    }

    /// Everything before the data, without padding.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for pair in &self.pairs {
            out.extend(string(&pair.key));
            out.extend(pair.kind.to_le_bytes());
            out.extend(&pair.bytes);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            out.extend(string(tensor.name.as_bytes()));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(ALIGNMENT);
        }
        out
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

/// Length and bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

/// A one-layer Llama of nothing much: right in every way.
pub(crate) fn smallest() -> GgufWriter {
    let (dim, ffn, vocab) = (16, 24, 8);
    let mut file = GgufWriter::new();
    file.text("general.architecture", "llama");
    file.text("general.name", "smallest");
    file.u32("llama.block_count", 1);
    file.u32("llama.context_length", 64);
    file.u32("llama.embedding_length", dim as u32);
    file.u32("llama.feed_forward_length", ffn as u32);
    file.u32("llama.attention.head_count", 2);
    file.u32("llama.attention.head_count_kv", 1);
    file.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let mut add = |name: &str, shape: &[usize]| {
        let len = shape.iter().product::<usize>();
        let data: Vec<_> = (0..len).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect();
        file.floats(name, shape, &data);
    };
    add("token_embd.weight", &[vocab, dim]);
    add("output_norm.weight", &[dim]);
    add("blk.0.attn_norm.weight", &[dim]);
    add("blk.0.attn_q.weight", &[dim, dim]);
    add("blk.0.attn_k.weight", &[dim / 2, dim]);
    add("blk.0.attn_v.weight", &[dim / 2, dim]);
    add("blk.0.attn_output.weight", &[dim, dim]);
    add("blk.0.ffn_norm.weight", &[dim]);
    add("blk.0.ffn_gate.weight", &[ffn, dim]);
    add("blk.0.ffn_up.weight", &[ffn, dim]);
    add("blk.0.ffn_down.weight", &[dim, ffn]);
    file
}

/// A tiny model of the tests as a converter to GGUF would write it: other names, Q and K of Llamas
/// permuted for interleaved rotation, 1 added to Gemma's norms.
pub(crate) fn converted(folder: &str) -> GgufWriter {
    let config = std::fs::read_to_string(tiny(folder).join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as u32;
    let arch = match config["model_type"].as_str().unwrap() {
        "mistral" => "llama",
        "gemma3_text" => "gemma3",
        other => other,
    };
    let mut file = GgufWriter::new();
    file.text("general.architecture", arch);
    for (key, from) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
    ] {
        file.u32(&format!("{arch}.{key}"), number(from));
    }
    let eps = config["rms_norm_eps"].as_f64().unwrap() as f32;
    file.f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), eps);
    if let Some(head_dim) = config["head_dim"].as_u64() {
        file.u32(&format!("{arch}.attention.key_length"), head_dim as u32);
        file.u32(&format!("{arch}.attention.value_length"), head_dim as u32);
    }
    if let Some(window) = config["sliding_window"].as_u64() {
        file.u32(&format!("{arch}.attention.sliding_window"), window as u32);
    }
    let rope = &config["rope_parameters"];
    let global = rope.get("full_attention").unwrap_or(rope);
    file.f32(&format!("{arch}.rope.freq_base"), global["rope_theta"].as_f64().unwrap() as f32);
    if rope["rope_type"] == "llama3" {
        file.floats("rope_freqs.weight", &[8], &llama3_factors(rope, 16));
    }
    let bytes = std::fs::read(tiny(folder).join("model.safetensors")).unwrap();
    let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let sorted: BTreeMap<_, _> = tensors.tensors().into_iter().collect();
    for (name, view) in sorted {
        let floats: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let heads = match name.rsplit('.').nth(1).unwrap() {
            "q_proj" => number("num_attention_heads"),
            "k_proj" => number("num_key_value_heads"),
            _ => 0,
        };
        let floats = match (arch, heads) {
            ("llama", 1..) => interleaved(&floats, view.shape(), heads as usize),
            ("gemma3", _) if name.contains("norm") => floats.iter().map(|w| w + 1.0).collect(),
            _ => floats,
        };
        file.floats(&gguf_name(&name, arch == "gemma3"), view.shape(), &floats);
    }
    file
}

/// Rows `[head][half][pair]` become `[head][pair][half]`.
fn interleaved(floats: &[f32], shape: &[usize], heads: usize) -> Vec<f32> {
    let cols = shape[1];
    let half = shape[0] / heads / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for pair in 0..half {
            for side in 0..2 {
                let row = (head * 2 + side) * half + pair;
                out.extend(&floats[row * cols..(row + 1) * cols]);
            }
        }
    }
    out
}

/// What converters store: how much slower each frequency turns than the base says.
fn llama3_factors(rope: &serde_json::Value, head_dim: u32) -> Vec<f32> {
    let number = |key: &str| rope[key].as_f64().unwrap();
    let (factor, low, high) =
        (number("factor"), number("low_freq_factor"), number("high_freq_factor"));
    let original = number("original_max_position_embeddings");
    let factors = (0..head_dim / 2).map(|i| {
        let frequency = number("rope_theta").powf(-2.0 * f64::from(i) / f64::from(head_dim));
        let turns = original * frequency / std::f64::consts::TAU;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    });
    factors.collect()
}

fn gguf_name(name: &str, gemma: bool) -> String {
    let ffn_norm = if gemma { "post_attention_norm" } else { "ffn_norm" };
    let parts = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", ffn_norm),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    parts.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

const ALIGNMENT: usize = 32;
