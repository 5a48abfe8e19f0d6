//! The alphabet of byte-level vocabularies: a printable character for each byte.
//!
//! From GPT-2's `bytes_to_unicode` (<https://github.com/openai/gpt-2/blob/master/src/encoder.py>):
//! printable bytes stand for themselves, the others for the characters from U+0100 on, in order.

/// The character that stands for `byte`.
pub(super) fn char_of(byte: u8) -> char {
    match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as char,
        0x00..=0x20 => offset(u32::from(byte)),
        0x7F..=0xA0 => offset(u32::from(byte) - 0x7F + 0x21),
        0xAD => offset(0x21 + 0x22),
    }
}

/// The byte that `letter` stands for; `None` where it is none of the alphabet's 256 characters.
pub(super) fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The `n`th character of the range that stands for bytes that cannot be printed.
fn offset(n: u32) -> char {
    char::from_u32(0x100 + n).expect("U+0100 to U+0143 are characters")
}
