//! The shim's one extension: `cento` in a chat request opts in to composing and joining, and
//! `cento` in its answer says what became of the tokens.

use super::{chat::exact, fields::refuse};
use crate::{
    ApiError, AppState, Binding, FragmentUse, Tenant,
    api::{
        compose::{Composed, PartBody, RootBody, check_live, compose},
        generate::JoinBody,
        generations::{JoinObject, TimingsObject, timings},
    },
};
use engine::{Composition, JoinPolicy, Summary};
use models::Message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What stands before the chat, and how it is joined.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CentoOptions {
    /// What fragments are encoded after. Without it, the leading system message, else the
    /// model's default.
    pub root: Option<RootBody>,
    /// Fragments in order, between the root and the messages.
    #[serde(default)]
    pub compose: Vec<PartBody>,
    /// How they are joined (default: `{"policy": "recompute"}`, which is exact).
    pub join: Option<JoinBody>,
}

/// How a prompt was joined.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CentoReport {
    /// What became of its tokens.
    pub join: JoinObject,
    /// Durations.
    pub timings: TimingsObject,
}

impl CentoReport {
    /// The report of an ended generation.
    pub fn new(summary: &Summary) -> Self {
        let join = JoinObject::new(summary.policy, Some(summary));
        Self { join, timings: timings(summary) }
    }
}

/// A composition, how it is joined, and the fragments in it.
pub struct Prompt {
    pub composition: Composition,
    pub policy: JoinPolicy,
    /// Rows to compute again, where they are given.
    pub selected: Option<Arc<[u32]>>,
    pub fragments: Vec<FragmentUse>,
    pub bindings: Vec<Binding>,
}

impl CentoOptions {
    /// Puts the fragments before the chat. Blocking.
    pub fn prompt(
        self,
        state: &AppState,
        tenant: &Tenant,
        chat: &[Message],
    ) -> Result<Prompt, ApiError> {
        let policy = match &self.join {
            None => JoinPolicy::Recompute,
            Some(join) => join.policy(&state.profile).map_err(inside)?,
        };
        if self.root.is_none() && self.compose.is_empty() {
            // Nothing to join: every policy comes to the same.
            let (composition, policy) = (exact(&state.turns, chat)?, JoinPolicy::Recompute);
            let (fragments, bindings) = (Vec::new(), Vec::new());
            return Ok(Prompt { composition, policy, selected: None, fragments, bindings });
        }
        let (root, turns) = match (self.root, chat) {
            (Some(_), [first, ..]) if first.role == "system" => {
                let message = "cento.root and a leading system message are both roots: send one";
                return Err(refuse("cento.root", message));
            }
            (None, [first, rest @ ..]) if first.role == "system" => {
                (Some(RootBody::Part(part(first))), rest)
            }
            (root, turns) => (root, turns),
        };
        if turns.is_empty() {
            let message =
                "messages has only a system turn: with cento, at least one more is needed";
            return Err(refuse("messages", message));
        }
        let tail: Vec<PartBody> = turns.iter().map(part).collect();
        let composed = compose(state, tenant, root.as_ref(), &self.compose, &tail);
        let Composed { mut composition, fragments, bindings, .. } = composed.map_err(inside)?;
        check_live(&bindings, policy, false).map_err(inside)?;
        // `compose` opens the model's turn after a question only; a chat is always answered.
        let last = turns.last().map(|turn| turn.role.as_str());
        if !matches!(last, Some("user" | "tool")) {
            composition.tail.extend(state.turns.generation_prompt());
        }
        let selected = self.join.as_ref().and_then(JoinBody::selected);
        Ok(Prompt { composition, policy, selected, fragments, bindings })
    }
}

fn part(message: &Message) -> PartBody {
    PartBody {
        role: Some(message.role.clone()),
        text: Some(message.content.clone()),
        ..PartBody::default()
    }
}

/// An error about a part of `cento`, or about a tail that was made of messages.
fn inside(error: ApiError) -> ApiError {
    let Some(param) = error.body().error.param else { return error };
    let param = match param.strip_prefix("tail") {
        Some(_) => "messages".to_owned(),
        None => format!("cento.{param}"),
    };
    error.with_param(param)
}
