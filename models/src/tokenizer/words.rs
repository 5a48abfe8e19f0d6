//! Pre-tokenizers: cutting a text into the words that byte-level BPE merges within.
//!
//! A closed table of the patterns of models that are known. A pattern out of a file is only ever
//! compared with it, never compiled: a regular expression from an untrusted file could take
//! exponential time. These run in linear time.

use super::TokenizerError;
use regex::Regex;

/// Cuts text into words, by one pattern after the other.
#[derive(Debug)]
pub(super) struct Words {
    stages: Vec<Stage>,
}

/// A pre-tokenizer of the table.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// Names that GGUF files call it by.
    pub(super) names: &'static [&'static str],
    /// Patterns, as the models' own `tokenizer.json` has them; each cuts the words left by those
    /// before it. What a pattern does not match is a word too.
    pub(super) patterns: &'static [&'static str],
    /// Words that are tokens are taken whole.
    pub(super) ignore_merges: bool,
    /// These models want BOS unless the file says otherwise.
    pub(super) add_bos: bool,
}

impl PreTokenizer {
    /// By the name in `tokenizer.ggml.pre`.
    pub(super) fn named(name: &str) -> Result<&'static Self, TokenizerError> {
        let found = TABLE.iter().find(|entry| entry.names.contains(&name));
        found.ok_or_else(|| TokenizerError::Unsupported {
            what: "the pre-tokenizer",
            name: name.into(),
        })
    }

    /// By its patterns.
    pub(super) fn with_patterns(patterns: &[&str]) -> Option<&'static Self> {
        TABLE.iter().find(|entry| entry.patterns == patterns)
    }

    /// Whether any pre-tokenizer uses this pattern.
    pub(super) fn knows(pattern: &str) -> bool {
        TABLE.iter().any(|entry| entry.patterns.contains(&pattern))
    }
}

impl Words {
    pub(super) fn new(pre: &PreTokenizer) -> Self {
        Self { stages: pre.patterns.iter().map(|pattern| Stage::new(pattern)).collect() }
    }

    /// The words of `text`, in order; together they are `text`.
    pub(super) fn cut<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut words = vec![text];
        for stage in &self.stages {
            let mut cut = Vec::with_capacity(words.len() + text.len() / 4);
            for word in words {
                stage.cut(word, &mut cut);
            }
            words = cut;
        }
        words
    }
}

/// One pattern.
#[derive(Debug)]
struct Stage {
    pattern: Regex,
    /// The pattern ends in [`SPACES_TAIL`]: of several spaces before a word the last belongs to
    /// the word. Look-ahead is what makes regular expressions backtrack, so it is done by hand.
    leaves_last_space: bool,
}

impl Stage {
    fn new(pattern: &str) -> Self {
        let (pattern, leaves_last_space) = match pattern.strip_suffix(SPACES_TAIL) {
            Some(head) => (format!(r"{head}|\s+"), true),
            None => (pattern.to_owned(), false),
        };
        let pattern = Regex::new(&pattern).expect("the table's patterns are valid");
        Self { pattern, leaves_last_space }
    }

    fn cut<'a>(&self, word: &'a str, out: &mut Vec<&'a str>) {
        let mut at = 0;
        while let Some(hit) = self.pattern.find_at(word, at) {
            let mut end = hit.end();
            if self.leaves_last_space {
                end -= self.left_space(hit.as_str(), end == word.len());
            }
            if at < hit.start() {
                out.push(&word[at..hit.start()]);
            }
            if end == hit.start() {
                break; // No pattern of the table matches nothing; never loop if one did.
            }
            out.push(&word[hit.start()..end]);
            at = end;
        }
        if at < word.len() {
            out.push(&word[at..]);
        }
    }

    /// Bytes at the end of a match that `\s+(?!\S)` would leave to the next word.
    ///
    /// A match by `\s*[\r\n]+` ends in a line break, and one by `\s+` does only in patterns
    /// without that alternative; all others hold something that is no space.
    fn left_space(&self, hit: &str, at_end: bool) -> usize {
        let is_spaces = hit.chars().all(char::is_whitespace);
        let is_line_break = hit.ends_with(['\r', '\n']) && self.pattern.as_str().contains(LINES);
        if at_end || !is_spaces || is_line_break {
            return 0;
        }
        let last = hit.chars().next_back().map_or(0, char::len_utf8);
        if last == hit.len() { 0 } else { last }
    }
}

/// What most patterns end in.
const SPACES_TAIL: &str = r"|\s+(?!\S)|\s+";
/// The alternative for line breaks and the spaces before them.
const LINES: &str = r"|\s*[\r\n]+|";

/// Each digit on its own.
pub(super) const DIGITS: &str = r"\p{N}";
/// What `ByteLevel` cuts by in `tokenizer.json`.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// The pre-tokenizers that are known, after `llm_tokenizer_bpe` in llama.cpp's
/// `src/llama-vocab.cpp`, with the patterns of the models' own files.
const TABLE: [PreTokenizer; 14] = [
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "gigachat",
            "mellum",
            "exaone4",
            "a.x-4.0",
            "granite-docling",
        ],
        patterns: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        patterns: &[DIGITS, GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        patterns: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "megrez",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        patterns: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer { names: &["qwen35"], patterns: &[QWEN35], ignore_merges: false, add_bos: false },
    PreTokenizer { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    PreTokenizer {
        names: &["gpt-4o", "llama4", "kanana2"],
        patterns: &[GPT4O],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGITS],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK_V3],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["falcon"],
        patterns: &[PUNCTUATION, GPT2, THREE_DIGITS],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        patterns: &[BLOOM],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["viking"],
        patterns: &[BLOOM, DIGITS],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        // Files from before pre-tokenizers had names: llama.cpp's own guess.
        names: &["default", ""],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE_DIGITS],
        ignore_merges: false,
        add_bos: false,
    },
];

#[cfg(test)]
mod tests;
