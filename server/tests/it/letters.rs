//! A model whose answer is the alphabet from the letter after the last one it saw, over bytes as
//! tokens; and its tokenizer and chat template. Makes long answers without weights.

use kernels::PageId;
use models::{
    Batch, Model, ModelShape, TokenId, TokenKind, Tokenizer, Turns, Vocabulary, VocabularyModel,
    Weight,
};
use std::{collections::HashMap, sync::Arc, thread, time::Duration};

pub(crate) const BOS: TokenId = 256;
pub(crate) const VOCAB: usize = 259;
pub(crate) const CONTEXT: usize = 1 << 20;
const PAGE_ROWS: usize = 32;

/// Remembers the token of every row, and takes its time.
pub(crate) struct Letters {
    shape: ModelShape,
    rows: HashMap<(PageId, u32), TokenId>,
    step: Duration,
}

impl Letters {
    /// A model that takes `step` for each batch.
    pub(crate) fn new(step: Duration) -> Self {
        let shape = ModelShape {
            vocab: VOCAB,
            context_max: CONTEXT,
            layers: 1,
            page_rows: PAGE_ROWS,
            pages: 2 * CONTEXT / PAGE_ROWS,
            page_bytes: 128,
            row_bytes: 4,
            batch_rows_max: 256,
            logits_rows_max: 256,
            fingerprint: [7; 32],
        };
        Self { shape, rows: HashMap::new(), step }
    }
}

/// `b` after `a`, `a` after `z` and after everything that is no letter.
pub(crate) fn letter_after(token: TokenId) -> TokenId {
    let (a, z) = (u32::from(b'a'), u32::from(b'z'));
    if (a..z).contains(&token) { token + 1 } else { a }
}

impl Model for Letters {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) {
        thread::sleep(self.step);
        for (token, at) in batch.tokens.iter().zip(batch.writes) {
            self.rows.insert((at.page, at.row), *token);
        }
        logits.clear();
        for row in batch.logits_rows {
            let best = letter_after(batch.tokens[*row]) as usize;
            logits.extend((0..VOCAB).map(|id| if id == best { 40.0 } else { -(id as f32) / 64.0 }));
        }
    }

    fn weigh(&mut self, batch: &Batch<'_>, _: Weight, mass: &mut [u64], logits: &mut Vec<f32>) {
        self.forward(batch, logits);
        mass.iter_mut().enumerate().for_each(|(row, mass)| *mass += row as u64 % 7);
    }

    fn deviate(&mut self, batch: &Batch<'_>, deviations: &mut [f64]) {
        for (to, &token) in deviations.iter_mut().zip(batch.tokens) {
            *to = f64::from(token);
        }
    }

    fn copy_rows(&mut self, from: PageId, to: PageId, rows: usize) {
        for row in 0..rows as u32 {
            if let Some(token) = self.rows.get(&(from, row)).copied() {
                self.rows.insert((to, row), token);
            }
        }
    }

    fn read_rows(&self, pages: &[PageId], rows: usize, kv: &mut Vec<u8>) {
        for index in 0..rows {
            let at = (pages[index / PAGE_ROWS], (index % PAGE_ROWS) as u32);
            kv.extend_from_slice(&self.rows[&at].to_le_bytes());
        }
    }

    fn fill_rows(&mut self, pages: &[PageId], rows: usize, kv: &[u8]) {
        assert_eq!(kv.len(), rows * 4);
        for (index, token) in kv.as_chunks().0.iter().enumerate() {
            let at = (pages[index / PAGE_ROWS], (index % PAGE_ROWS) as u32);
            self.rows.insert(at, u32::from_le_bytes(*token));
        }
    }

    fn digest(&self, pages: &[PageId], rows: usize) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for index in 0..rows {
            let at = (pages[index / PAGE_ROWS], (index % PAGE_ROWS) as u32);
            hasher.update(&self.rows[&at].to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// Each byte is a token; three special tokens follow.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let bytes = (0..=255u8).map(|byte| byte_letter(byte).to_string());
    let specials = ["<s>", "<|im_start|>", "<|im_end|>"].map(str::to_owned);
    let mut kinds = vec![TokenKind::Normal; 256];
    kinds.extend([TokenKind::Control; 3]);
    let vocabulary = Vocabulary {
        model: VocabularyModel::ByteLevel,
        pre: "gpt-2".to_owned(),
        tokens: bytes.chain(specials).collect(),
        kinds,
        bos: Some(BOS),
        eos: Some(258),
        add_bos: true,
        ..Vocabulary::default()
    };
    Arc::new(Tokenizer::new(vocabulary).unwrap())
}

/// ChatML.
pub(crate) fn turns(tokenizer: &Arc<Tokenizer>) -> Arc<Turns> {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    Arc::new(Turns::new(Arc::clone(tokenizer), Some(template)).unwrap())
}

/// GPT-2's printable stand-in for a byte.
fn byte_letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + hidden_before).unwrap()
}
