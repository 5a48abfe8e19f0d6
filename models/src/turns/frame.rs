//! What a chat template writes around one message of a role.
//!
//! A template is a program, so its text is found by running it: once with messages that lead up
//! to the role, once with one more message whose content is a mark; what the second rendering has
//! more than the first, split at the mark, is the text before and after.
//!
//! ```text
//! render([user, assistant])        <|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n…\n
//! render([user, assistant, user])  <|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n…\n<|im_start|>user\nMARK<|im_end|>\n
//!                                                                                          |---- before ----|    |- after --|
//! ```

use super::template::Template;
use super::{Message, TurnsError};
use crate::Tokenizer;

/// The text around one message of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) before: String,
    pub(super) after: String,
    /// The template strips white space at the content's beginning.
    trims_start: bool,
    /// And at its end.
    trims_end: bool,
    /// What precedes the turn makes the vocabulary begin it with a space.
    pub(super) wants_space: bool,
}

impl Frame {
    /// The frame of a role's message inside a chat: without BOS, and without a system turn that
    /// the template adds by itself. `user` is the user's frame, where it is known.
    pub(super) fn inside(
        template: &Template,
        tokenizer: &Tokenizer,
        role: &str,
        user: Option<&Self>,
    ) -> Result<Self, TurnsError> {
        let mut refused = TurnsError::UnknownRole(role.to_owned());
        for lead in leads(role) {
            match Self::after_lead(template, tokenizer, (&lead, role), user) {
                Ok(Some(frame)) => return Ok(frame),
                Err(error) if KNOWN_ROLES.contains(&role) => refused = error,
                Ok(None) | Err(_) => {}
            }
        }
        Err(refused)
    }

    /// The frame of a role's message at the beginning of a chat, BOS and all.
    pub(super) fn first(
        template: &Template,
        tokenizer: &Tokenizer,
        role: &str,
    ) -> Result<Self, TurnsError> {
        let rendered = template.render(&[message(role, MARK)], false)?;
        let Some((before, after)) = split_once_only(&rendered, MARK) else {
            return Err(TurnsError::UnknownRole(role.to_owned()));
        };
        let frame = Self::with_trims(template, &[], role, (before, after), &rendered)?;
        Ok(Self { wants_space: tokenizer.wants_space_after(""), ..frame })
    }

    fn after_lead(
        template: &Template,
        tokenizer: &Tokenizer,
        (lead, role): (&[Message], &str),
        user: Option<&Self>,
    ) -> Result<Option<Self>, TurnsError> {
        let mut preceding =
            if lead.is_empty() { String::new() } else { template.render(lead, false)? };
        let mut messages = lead.to_vec();
        messages.push(message(role, MARK));
        let rendered = template.render(&messages, false)?;
        let added =
            rendered.strip_prefix(&preceding).and_then(|added| split_once_only(added, MARK));
        let Some((mut before, mut after)) = added else { return Ok(None) };
        // Templates write some turns otherwise when they come last (Qwen3: empty thoughts). A
        // fragment is in general not last.
        messages.push(message("user", NEXT));
        let followed = user.and_then(|user| {
            let rendered = template.render(&messages, false).ok()?;
            let (before, rest) = split_once_only(rendered.strip_prefix(&preceding)?, MARK)?;
            let (after, _) = rest.split_once(&format!("{}{NEXT}", user.before))?;
            Some((before.to_owned(), after.to_owned()))
        });
        if let Some(followed) = &followed {
            (before, after) = (&followed.0, &followed.1);
        }
        if lead.iter().any(|message| before.contains(&message.content)) {
            return Ok(None);
        }
        // Where BOS is not wanted its spelling may mean something else: SmolLM2's is that of a
        // turn's opening.
        if tokenizer.bos().is_some() {
            let bos = tokenizer.bos_text();
            let without = before.trim_start_matches(&bos);
            preceding.push_str(&before[..before.len() - without.len()]);
            (before, after) = (without, after.trim_end_matches(&bos));
        }
        let frame = Self::with_trims(template, lead, role, (before, after), &rendered)?;
        Ok(Some(Self { wants_space: tokenizer.wants_space_after(&preceding), ..frame }))
    }

    fn with_trims(
        template: &Template,
        lead: &[Message],
        role: &str,
        (before, after): (&str, &str),
        rendered: &str,
    ) -> Result<Self, TurnsError> {
        let mut messages = lead.to_vec();
        messages.push(message(role, &format!(" {MARK} ")));
        let spaced = template.render(&messages, false)?;
        let keeps = |start: &str, end: &str| {
            spaced == rendered.replace(MARK, &format!("{start}{MARK}{end}"))
        };
        Ok(Self {
            before: before.to_owned(),
            after: after.to_owned(),
            trims_start: keeps("", " ") || keeps("", ""),
            trims_end: keeps(" ", "") || keeps("", ""),
            wants_space: false,
        })
    }

    /// The content as the template writes it.
    pub(super) fn trimmed<'a>(&self, content: &'a str) -> &'a str {
        let content = if self.trims_start { content.trim_start() } else { content };
        if self.trims_end { content.trim_end() } else { content }
    }
}

/// Messages that may lead up to one of this role, the likeliest first. Templates want users and
/// assistants to alternate, and many write their default system turn before a lone user.
fn leads(role: &str) -> Vec<Vec<Message>> {
    let user = || message("user", "cento-lead-user");
    let assistant = || message("assistant", "cento-lead-assistant");
    let system = || message("system", "cento-lead-system");
    match role {
        "system" => vec![vec![], vec![user(), assistant()]],
        "user" => vec![vec![user(), assistant()], vec![system()], vec![user()], vec![]],
        "assistant" => vec![vec![user()], vec![]],
        _ => vec![vec![user(), assistant()], vec![user()], vec![]],
    }
}

/// The text around `mark`, where it is there exactly once.
fn split_once_only<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(mark).filter(|(_, after)| !after.contains(mark))
}

pub(super) fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

/// Content that no template writes.
pub(super) const MARK: &str = "cento-content-mark";
const NEXT: &str = "cento-next-mark";
/// Where a template refuses one of these, what it says is worth more than that it does not know
/// the role.
const KNOWN_ROLES: [&str; 2] = ["user", "assistant"];
