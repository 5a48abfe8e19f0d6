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

/// The text around one message of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) before: String,
    pub(super) after: String,
    /// The template strips white space at the content's beginning.
    trims_start: bool,
    /// And at its end.
    trims_end: bool,
}

impl Frame {
    /// The frame of a role's message inside a chat: without BOS, and without a system turn that
    /// the template adds by itself. `user` is the user's frame, where it is known.
    pub(super) fn inside(
        template: &Template,
        bos: &str,
        role: &str,
        user: Option<&Self>,
    ) -> Result<Self, TurnsError> {
        let mut refused = TurnsError::UnknownRole(role.to_owned());
        for lead in leads(role) {
            match Self::after_lead(template, bos, &lead, role, user) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) if KNOWN_ROLES.contains(&role) => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    /// The frame of a role's message at the beginning of a chat, BOS and all.
    pub(super) fn first(template: &Template, role: &str) -> Result<Self, TurnsError> {
        let rendered = template.render(&[message(role, MARK)], false)?;
        let Some((before, after)) = split_once_only(&rendered, MARK) else {
            return Err(TurnsError::UnknownRole(role.to_owned()));
        };
        Self::with_trims(template, &[], role, (before, after), &rendered)
    }

    fn after_lead(
        template: &Template,
        bos: &str,
        lead: &[Message],
        role: &str,
        user: Option<&Self>,
    ) -> Result<Option<Self>, TurnsError> {
        let base = if lead.is_empty() { String::new() } else { template.render(lead, false)? };
        let mut messages = lead.to_vec();
        messages.push(message(role, MARK));
        let rendered = template.render(&messages, false)?;
        let added = rendered.strip_prefix(&base).and_then(|added| split_once_only(added, MARK));
        let Some((before, mut after)) = added else { return Ok(None) };
        // Templates write some turns otherwise when they come last (Qwen3: empty thoughts). A
        // fragment is in general not last.
        messages.push(message("user", NEXT));
        let followed = user.and_then(|user| {
            let rendered = template.render(&messages, false).ok()?;
            let (now_before, rest) = split_once_only(rendered.strip_prefix(&base)?, MARK)?;
            let (now_after, _) = rest.split_once(&format!("{}{NEXT}", user.before))?;
            Some((now_before.to_owned(), now_after.to_owned()))
        });
        let mut before = before;
        if let Some((now_before, now_after)) = &followed {
            (before, after) = (now_before, now_after);
        }
        let strays = lead.iter().any(|message| before.contains(&message.content));
        if strays {
            return Ok(None);
        }
        let (before, after) = if bos.is_empty() {
            (before, after)
        } else {
            (before.trim_start_matches(bos), after.trim_end_matches(bos))
        };
        Self::with_trims(template, lead, role, (before, after), &rendered).map(Some)
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
