//! What a source read, as the text of an entry: whole characters, within the bound, and saying so where
//! it was cut off.

use crate::limits::SIDE_ENTRY_BYTES_MAX;

/// The entry of what begins with `bytes` and has `total` bytes in all. What is no UTF-8 becomes U+FFFD,
/// white space at the end becomes one line break. `None` when nothing else is in it.
pub(crate) fn entry(bytes: &[u8], total: u64) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    if text.is_empty() {
        return None;
    }
    let is_whole = bytes.len() as u64 == total;
    if is_whole && text.len() < SIDE_ENTRY_BYTES_MAX {
        return Some(format!("{text}\n"));
    }
    let note = format!("… (cut off: {total} bytes in all)\n");
    Some(cut(text, SIDE_ENTRY_BYTES_MAX - note.len()).to_owned() + &note)
}

/// What was said last, to tell whether it is said again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Last(Option<blake3::Hash>);

impl Last {
    /// Whether it is something else than the last time.
    pub(crate) fn is_other(&mut self, said: &[u8]) -> bool {
        let hash = Some(blake3::hash(said));
        std::mem::replace(&mut self.0, hash) != hash
    }
}

/// As much of the text as fits in `bytes`, in whole characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// What a piece of HTML says: without tags, scripts, styles and comments, entities decoded, white space
/// made single spaces.
pub(crate) fn of_html(html: &str) -> String {
    let mut bare = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        bare.push_str(&rest[..start]);
        rest = &rest[start..];
        match tag_bytes(rest) {
            // A lonely `<` is text.
            0 => {
                bare.push('<');
                rest = &rest[1..];
            }
            bytes => {
                if !is_inline(rest) {
                    bare.push(' ');
                }
                rest = &rest[bytes..];
            }
        }
    }
    bare.push_str(rest);
    let decoded = html_escape::decode_html_entities(&bare);
    decoded.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// Bytes of the tag, or of all up to its end where that is no text; 0 when none begins here.
fn tag_bytes(html: &str) -> usize {
    let after = |end: &str| html.find(end).map_or(html.len(), |at| at + end.len());
    if html.starts_with("<!--") {
        return after("-->");
    }
    let is_tag = html[1..].starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
    if !is_tag {
        return 0;
    }
    for name in ["script", "style"] {
        if has_name(html, name) {
            let end = format!("</{name}");
            let found = html
                .as_bytes()
                .windows(end.len())
                .position(|at| at.eq_ignore_ascii_case(end.as_bytes()));
            let Some(found) = found else { return html.len() };
            return found + html[found..].find('>').map_or(html.len() - found, |at| at + 1);
        }
    }
    after(">")
}

/// Tags that stand within a word or a sentence; others end it.
fn is_inline(html: &str) -> bool {
    let html = html.strip_prefix("</").map_or(html, |_| html);
    ["a", "b", "i", "u", "em", "strong", "code", "span", "sub", "sup", "small", "abbr", "mark"]
        .iter()
        .any(|name| has_name(html, name))
}

/// The tag that begins here, opening or closing, is of that name.
fn has_name(html: &str, name: &str) -> bool {
    let bare = html.trim_start_matches('<').trim_start_matches('/');
    let Some((given, rest)) = bare.split_at_checked(name.len()) else { return false };
    given.eq_ignore_ascii_case(name) && !rest.starts_with(|c: char| c.is_ascii_alphanumeric())
}

const _: () = assert!(SIDE_ENTRY_BYTES_MAX > 1 << 10, "the note fits");

#[cfg(test)]
mod tests;
