//! What clients say: numbers drawn by counting, and texts made of them.

/// What the generations are asked; few, so that compositions come again.
pub(crate) const QUESTIONS: [&str; 4] = [
    "Which of these notes is about the harbour?",
    "Write the next line.",
    "What comes first?",
    "Sum it up in one sentence.",
];

const WORDS: &str = "harbour the a night ferry leaves before winter under old bridge seven letters came \
    from north keeper counts stones and of light bakery opens when rain falls on slate roofs nobody \
    remembers green door to market was closed in spring";

/// Numbers that hang on a seed, a stream and a count alone: a client draws the same ones whatever
/// the others do.
pub(crate) struct Random {
    key: u64,
    count: u64,
}

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self { key: mix(mix(seed).wrapping_add(stream)), count: 0 }
    }

    /// From 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.count += 1;
        (mix(self.key.wrapping_add(self.count)) % bound as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A text of 20 to 200 words that no other name has.
pub(crate) fn text(seed: u64, name: &str) -> String {
    let stream = name.bytes().fold(0, |all, byte| mix(all ^ u64::from(byte)));
    let mut random = Random::new(seed, stream);
    let words = 20 + random.below(181);
    let known: Vec<_> = WORDS.split(' ').collect();
    let words: Vec<_> = (0..words).map(|_| known[random.below(known.len())]).collect();
    format!("Note {name}: {}.\n", words.join(" "))
}
