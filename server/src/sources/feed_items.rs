//! Items of RSS, Atom and JSON feeds, each as the text of an entry, and which of them were there before.

use super::text::{cut, of_html};
use crate::limits::{SOURCE_ITEM_BYTES_MAX, SOURCE_ITEMS_MAX, SOURCE_SEEN_MAX};
use feed_rs::{
    model::{Entry, Feed},
    parser,
};
use std::collections::{HashSet, VecDeque};

/// An item of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its id as the feed gives it, or else its content's.
    key: [u8; 32],
    /// `title — summary`, a line.
    pub(crate) text: String,
}

/// Which items came before: the newest [`SOURCE_SEEN_MAX`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    keys: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Seen {
    /// The items that are new, which are not from then on.
    pub(crate) fn take_new(&mut self, items: Vec<Item>) -> Vec<Item> {
        items.into_iter().filter(|item| self.is_new(item.key)).collect()
    }

    fn is_new(&mut self, key: [u8; 32]) -> bool {
        if !self.keys.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > SOURCE_SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

/// The newest [`SOURCE_ITEMS_MAX`] items of a feed, the oldest of them first; `None` when it is no feed.
pub(crate) fn items(body: &[u8]) -> Option<Vec<Item>> {
    // Without an id, a link or a title, the parser would draw one at random with every reading.
    let parser = parser::Builder::new().id_generator(|_, _, _| String::new()).build();
    let Feed { mut entries, .. } = parser.parse(body).ok()?;
    // Feeds begin with the newest by custom; dates, where all have them, say it for certain.
    entries.reverse();
    if entries.iter().all(|entry| date(entry).is_some()) {
        entries.sort_by_key(date);
    }
    let skipped = entries.len().saturating_sub(SOURCE_ITEMS_MAX);
    Some(entries.iter().skip(skipped).filter_map(item).collect())
}

fn date(entry: &Entry) -> Option<i64> {
    entry.published.or(entry.updated).map(|date| date.timestamp_millis())
}

fn item(entry: &Entry) -> Option<Item> {
    let title = entry.title.as_ref().map(|title| of_html(&title.content)).unwrap_or_default();
    let body = entry.content.as_ref().and_then(|content| content.body.as_deref());
    let summary = entry.summary.as_ref().map(|summary| summary.content.as_str()).or(body);
    let summary = summary.map(of_html).filter(|summary| *summary != title).unwrap_or_default();
    let said = [title, summary].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let said = said.join(" — ");
    if said.is_empty() {
        return None;
    }
    let key = if entry.id.is_empty() { &said } else { &entry.id };
    let key = *blake3::hash(key.as_bytes()).as_bytes();
    let text = if said.len() > SOURCE_ITEM_BYTES_MAX {
        format!("{}…\n", cut(&said, SOURCE_ITEM_BYTES_MAX).trim_end())
    } else {
        format!("{said}\n")
    };
    Some(Item { key, text })
}

const _: () = assert!(SOURCE_SEEN_MAX >= 2 * SOURCE_ITEMS_MAX, "no feed crowds out its own items");

#[cfg(test)]
mod tests;
