//! Randomness from the operating system: ids nobody can guess, and seeds nobody chose.

/// `prefix` and 128 random bits in hex.
pub fn random_id(prefix: &str) -> String {
    let mut bytes = [0u8; 16];
    fill(&mut bytes);
    bytes.iter().fold(prefix.to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// A seed of 53 bits: exact in every JSON reader, also in those that keep numbers as doubles.
pub fn random_seed() -> u64 {
    let mut bytes = [0u8; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes) >> 11
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has a random source");
}
