//! A generation as it stands: its log, folded.

use crate::{Entry, Swapped};
use engine::{FinishReason, RequestError, Summary, TokenLogprob};
use models::TokenId;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Where a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted; nothing came yet.
    Queued,
    /// Tokens or scores have come.
    InProgress,
    /// Ended by itself.
    Completed,
    /// Could not go on.
    Failed,
    /// Cancelled, or its reader went away, or the server stopped.
    Cancelled,
}

/// A generation as it stands.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where it stands.
    pub status: Status,
    /// The answer so far.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TokenId>,
    /// Scores of `tokens`, when asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Scores of the tail from its second token on, with `echo`.
    pub tail_logprobs: Option<Vec<TokenLogprob>>,
    /// The most likely tokens after the tail, with `echo`.
    pub next_top: Option<Vec<(TokenId, f32)>>,
    /// Newer versions of side contexts that came into the composition, each with how many tokens the
    /// answer had then.
    pub swaps: Vec<(Swapped, usize)>,
    /// The account, when it ended without failing.
    pub summary: Option<Summary>,
    /// Why it failed.
    pub error: Option<RequestError>,
}

impl Snapshot {
    /// Folds a log.
    pub(crate) fn fold(entries: &[Arc<Entry>]) -> Self {
        let mut snapshot = Self {
            status: Status::Queued,
            text: String::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            tail_logprobs: None,
            next_top: None,
            swaps: Vec::new(),
            summary: None,
            error: None,
        };
        for entry in entries {
            snapshot.apply(entry);
        }
        snapshot
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Created | Entry::Restarted { .. } => {}
            Entry::Scored { tail, next_top } => {
                self.status = Status::InProgress;
                self.tail_logprobs = Some(tail.clone());
                self.next_top = Some(next_top.clone());
            }
            Entry::Token { token, text, logprob } => {
                self.status = Status::InProgress;
                self.tokens.push(*token);
                self.text.push_str(text);
                self.logprobs.extend(logprob.clone());
            }
            Entry::Swapped { swapped, at } => self.swaps.push((swapped.clone(), *at)),
            Entry::Text(text) => self.text.push_str(text),
            Entry::Finished(summary) => {
                self.status = match summary.finish_reason {
                    FinishReason::Cancelled => Status::Cancelled,
                    FinishReason::Stop | FinishReason::Length | FinishReason::Context => {
                        Status::Completed
                    }
                };
                self.summary = Some(summary.clone());
            }
            Entry::Failed(error) => {
                self.status = Status::Failed;
                self.error = Some(error.clone());
            }
        }
    }
}
