//! A GGUF file of random weights in a known model's shape: what a model's engine does with its heads
//! and widths can be measured where no file of it is at hand. Its text is nonsense.

use crate::shapes::Shape;
use half::f16;
use kernels::case::Rng;
use std::io::{self, BufWriter, Write};
use tempfile::NamedTempFile;

/// Tokens of the vocabulary: those that stand for bytes, and others to fill compositions with. Few, for
/// the output layer is no part of what is measured.
const VOCAB: usize = 4096;

/// Positions; the known models differ in them, and nothing that is measured depends on it.
const CONTEXT: usize = 32_768;

/// Bytes that each tensor begins at a multiple of.
const ALIGNMENT: usize = 32;

/// Weights of a block, and its bytes: a scale in half precision and a byte for each.
const BLOCK: (usize, usize) = (32, 34);

/// What each byte of a weight is worth, for a deviation of 0.02.
const SCALE: f16 = f16::from_f32_const(3e-4);

/// Writes `layers` layers of a shape, with matrices in Q8_0, to a file that goes with the value.
pub(crate) fn write(shape: &Shape, layers: usize) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".gguf").tempfile()?;
    let mut out = BufWriter::new(&mut file);
    let tensors = tensors(shape, layers);
    let header = header(shape, layers, &tensors);
    out.write_all(&header)?;
    pad(&mut out, header.len())?;
    let mut rng = Rng::new(1);
    for tensor in &tensors {
        let bytes = tensor.data(&mut rng);
        out.write_all(&bytes)?;
        pad(&mut out, bytes.len())?;
    }
    out.flush()?;
    drop(out);
    Ok(file)
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; ALIGNMENT][..written.next_multiple_of(ALIGNMENT) - written])
}

/// A matrix, or the weights of a norm, which are ones.
struct Tensor {
    name: String,
    cols: usize,
    rows: Option<usize>,
}

impl Tensor {
    fn bytes(&self) -> usize {
        self.rows.map_or(4 * self.cols, |rows| rows * self.cols / BLOCK.0 * BLOCK.1)
    }

    fn data(&self, rng: &mut Rng) -> Vec<u8> {
        if self.rows.is_none() {
            return 1.0_f32.to_le_bytes().repeat(self.cols);
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(self.bytes());
        for _ in 0..self.bytes() / BLOCK.1 {
            bytes.extend(SCALE.to_le_bytes());
            bytes.extend((0..BLOCK.0 / 8).flat_map(|_| rng.bits().to_le_bytes()));
        }
        bytes
    }
}

fn tensors(shape: &Shape, layers: usize) -> Vec<Tensor> {
    let matrix = |name: String, rows, cols| Tensor { name, cols, rows: Some(rows) };
    let norm = |name: String| Tensor { name, cols: shape.dim(), rows: None };
    let (dim, kv, ffn) = (shape.dim(), shape.kv_heads * shape.head_dim, shape.ffn);
    let mut tensors = vec![matrix("token_embd.weight".into(), VOCAB, dim)];
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensors.extend(["attn_norm", "ffn_norm"].map(|part| norm(name(part))));
        let matrices = [
            ("attn_q", dim, dim),
            ("attn_k", kv, dim),
            ("attn_v", kv, dim),
            ("attn_output", dim, dim),
            ("ffn_gate", ffn, dim),
            ("ffn_up", ffn, dim),
            ("ffn_down", dim, ffn),
        ];
        tensors.extend(matrices.map(|(part, rows, cols)| matrix(name(part), rows, cols)));
    }
    tensors.push(norm("output_norm.weight".into()));
    tensors
}

/// Everything before the data, without padding.
fn header(shape: &Shape, layers: usize, tensors: &[Tensor]) -> Vec<u8> {
    let pairs = pairs(shape, layers);
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        out.extend(text(key));
        out.extend(value.kind().to_le_bytes());
        out.extend(value.bytes());
    }
    let mut offset = 0_usize;
    for tensor in tensors {
        out.extend(text(&tensor.name));
        let dims: Vec<usize> = [tensor.cols].into_iter().chain(tensor.rows).collect();
        out.extend((dims.len() as u32).to_le_bytes());
        out.extend(dims.iter().flat_map(|&dim| (dim as u64).to_le_bytes()));
        // F32 or Q8_0, by ggml's numbers.
        out.extend(if tensor.rows.is_some() { 8_u32 } else { 0 }.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out
}

/// Metadata values of the kinds that are needed.
enum Value {
    U32(u32),
    F32(f32),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Ints(Vec<i32>),
}

impl Value {
    /// GGUF's number.
    fn kind(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Text(_) => 8,
            Self::Texts(_) | Self::Floats(_) | Self::Ints(_) => 9,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let array = |kind: u32, len: usize, items: Vec<u8>| {
            [&kind.to_le_bytes()[..], &(len as u64).to_le_bytes(), &items].concat()
        };
        match self {
            Self::U32(value) => value.to_le_bytes().into(),
            Self::F32(value) => value.to_le_bytes().into(),
            Self::Text(value) => text(value),
            Self::Texts(all) => array(8, all.len(), all.iter().flat_map(|it| text(it)).collect()),
            Self::Floats(all) => {
                array(6, all.len(), all.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            Self::Ints(all) => {
                array(5, all.len(), all.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The sizes, and a vocabulary of three specials, the bytes, and words that mean nothing.
fn pairs(shape: &Shape, layers: usize) -> Vec<(&'static str, Value)> {
    let size = |size: usize| Value::U32(size as u32);
    let specials = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> =
        specials.chain(bytes).chain((0..).map(|i| format!("w{i}"))).take(VOCAB).collect();
    let kind = |i: usize| match i {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    vec![
        ("general.architecture", Value::Text("llama".into())),
        ("general.name", Value::Text(format!("{layers} random layers of {}", shape.name))),
        ("llama.context_length", size(CONTEXT)),
        ("llama.embedding_length", size(shape.dim())),
        ("llama.block_count", size(layers)),
        ("llama.feed_forward_length", size(shape.ffn)),
        ("llama.attention.head_count", size(shape.heads)),
        ("llama.attention.head_count_kv", size(shape.kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::Text("llama".into())),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.scores", Value::Floats(vec![0.0; VOCAB])),
        ("tokenizer.ggml.token_type", Value::Ints((0..VOCAB).map(kind).collect())),
        ("tokenizer.ggml.bos_token_id", size(1)),
        ("tokenizer.ggml.eos_token_id", size(2)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::LoadOptions;

    #[test]
    fn a_file_loads_with_the_sizes_that_were_asked_for() {
        let shape = Shape { name: "tiny", heads: 4, kv_heads: 2, head_dim: 32, ffn: 64, layers: 9 };
        let file = write(&shape, 2).unwrap();
        let options = LoadOptions { threads: 1, ..LoadOptions::default() };
        let loaded = models::load(file.path(), &options).unwrap();
        assert_eq!(loaded.info.name, "2 random layers of tiny");
        // Products with keys and values: two layers of four heads.
        assert_eq!(loaded.decoder.attention_products(), 2 * 2 * 4 * 32);
    }
}
