//! How questions are put: one wording for all tasks, so that their numbers compare.

use crate::{
    item::{Fragment, Tail},
    metrics::text::NOT_FOUND,
};

/// A question to be answered from the documents only.
pub(super) fn from_documents(question: &str) -> Tail {
    let user = format!(
        "Answer the question from the documents above only. Give the answer alone, in as few words \
         as possible. If the documents do not tell, say: {NOT_FOUND}.\n\nQuestion: {question}"
    );
    Tail { user, begin: String::new() }
}

/// A paragraph as a fragment.
pub(super) fn paragraph(title: &str, text: &str) -> Fragment {
    let (title, text) = (title.trim(), text.trim());
    let head = if title.is_empty() { String::new() } else { format!("{title}: ") };
    Fragment::passage(format!("{head}{text}\n\n"))
}

/// Tokens a short answer may take.
pub(super) const SHORT_ANSWER_TOKENS: usize = 32;
