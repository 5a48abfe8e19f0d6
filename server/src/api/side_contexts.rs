//! `/v1/side-contexts`: small contexts that the server keeps current.

use crate::{
    ApiError, AppState, JsonBody, Tenant,
    api::{
        compose::check_name,
        generate::out_of_range,
        side_sources::{SourceBody, SourceObject, given, refeed},
    },
    blocking,
    limits::SIDE_ENTRIES_MAX,
    random_id,
    side::{Clock, ClockError, Inbox, Kind, Message, Roll, SideContext, refresh},
    sources,
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use utoipa::ToSchema;

/// A side context to keep.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SideContextBody {
    /// `clock` (the time), `feed` (entries; what rolls off is gone), `log` (entries; what rolls off
    /// leaves a line that says how many) or `inbox` (what waits in a mailbox: a count, and a line for
    /// each message).
    pub kind: String,
    /// A name for listings.
    pub name: Option<String>,
    /// Each entry is a turn of this role: the chat template's text is put around it.
    pub role: Option<String>,
    /// `clock`: a text with `strftime`'s conversions (default: weekday, date, time and zone).
    pub template: Option<String>,
    /// `clock`: a zone of the IANA database, such as `Europe/Berlin` (default: UTC).
    pub time_zone: Option<String>,
    /// `clock`: how often it is written anew (default: 1), counted from midnight in its zone: one of 60
    /// changes with the minute.
    pub tick_seconds: Option<f64>,
    /// `feed`, `log`: tokens of all entries. The oldest roll off while any bound is passed; the newest
    /// stays, unless it is too old.
    pub max_tokens: Option<usize>,
    /// `feed`, `log`: entries (at most 1,024). `inbox`: lines (default: 16); the rest is counted.
    pub max_entries: Option<usize>,
    /// `feed`, `log`: seconds since an entry came.
    pub max_age_seconds: Option<f64>,
    /// `feed`, `log`: what it is fed from besides pushes. Nothing, unless the operator allows it.
    pub source: Option<SourceBody>,
}

/// When entries roll off, as it is asked for.
#[derive(Clone, Copy)]
struct RollFields {
    tokens: Option<usize>,
    entries: Option<usize>,
    age_seconds: Option<f64>,
}

/// What of a side context to change.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SideContextPatch {
    /// A name for listings.
    pub name: Option<String>,
    /// `clock`: as when it was made; what is not given of template, zone and tick is the default.
    pub template: Option<String>,
    /// `clock`.
    pub time_zone: Option<String>,
    /// `clock`.
    pub tick_seconds: Option<f64>,
    /// `feed`, `log`: bounds that are not given stay.
    pub max_tokens: Option<usize>,
    /// `feed`, `log`, `inbox`.
    pub max_entries: Option<usize>,
    /// `feed`, `log`.
    pub max_age_seconds: Option<f64>,
    /// `feed`, `log`: what it is fed from besides pushes from now on, as when it was made; `null`: nothing.
    /// What came stays, and nothing more comes of another source. Not given, it is fed as before.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<SourceBody>)]
    pub source: Option<Option<SourceBody>>,
}

/// A side context.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SideContextObject {
    /// `sc_..`.
    pub id: String,
    /// `side_context`.
    pub object: &'static str,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// `clock`, `feed`, `log` or `inbox`.
    pub kind: &'static str,
    /// The client's name for it.
    pub name: Option<String>,
    /// Goes up with every change.
    pub version: u64,
    /// Milliseconds since it changed last.
    pub age_ms: f64,
    /// Its length in tokens.
    pub tokens: usize,
    /// What stands in a composition, in order: the entries, or the one text of a clock or an inbox.
    pub entries: Vec<EntryObject>,
    /// Entries that rolled off so far.
    pub rolled_off: u64,
    /// `inbox`: messages that wait, the newest last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Vec<MessageObject>>,
    /// `feed`, `log`: what it is fed from, and how that goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceObject>,
}

/// A message that waits in an inbox.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageObject {
    /// Its number, by which it is taken away when it was read.
    pub number: u64,
    /// When it came, in Unix seconds.
    pub created: u64,
    /// Who sent it.
    pub from: Option<String>,
    /// What it is about.
    pub gist: String,
    /// Its id.
    pub message: Option<String>,
}

/// An entry of a side context.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntryObject {
    /// Counts up within its context; 0 is what the context says itself: an inbox's text, a log's line
    /// about what rolled off.
    pub number: u64,
    /// When it came, in Unix seconds.
    pub created: u64,
    /// Its length in tokens.
    pub tokens: usize,
    /// Its text.
    pub text: String,
}

/// Side contexts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SideContextList {
    /// `list`.
    pub object: &'static str,
    /// By id.
    pub data: Vec<SideContextObject>,
}

/// A side context was deleted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SideContextDeleted {
    /// Its id.
    pub id: String,
    /// `side_context`.
    pub object: &'static str,
    /// `true`.
    pub deleted: bool,
}

impl SideContextObject {
    fn new(context: &SideContext, now: Duration) -> Self {
        let entries = context.placed().map(|piece| EntryObject {
            number: piece.number,
            created: piece.at.as_secs(),
            tokens: piece.tokens.len(),
            text: piece.text.clone(),
        });
        Self {
            id: context.id.clone(),
            object: "side_context",
            created: context.created.as_secs(),
            kind: context.kind.name(),
            name: context.name.clone(),
            version: context.version,
            age_ms: now.saturating_sub(context.changed).as_secs_f64() * 1e3,
            tokens: context.tokens(),
            entries: entries.collect(),
            rolled_off: context.rolled_off,
            waiting: match &context.kind {
                Kind::Inbox(inbox) => Some(inbox.waiting().map(MessageObject::from).collect()),
                Kind::Clock(_) | Kind::Feed | Kind::Log => None,
            },
            source: context.feeding.as_ref().map(SourceObject::from),
        }
    }
}

impl From<&Message> for MessageObject {
    fn from(message: &Message) -> Self {
        Self {
            number: message.number,
            created: message.at.as_secs(),
            from: message.from.clone(),
            gist: message.gist.clone(),
            message: message.id.clone(),
        }
    }
}

impl RollFields {
    fn roll(self) -> Result<Roll, ApiError> {
        let Self { tokens, entries, age_seconds } = self;
        for (name, given) in [("max_tokens", tokens), ("max_entries", entries)] {
            if given == Some(0) {
                return Err(out_of_range(name, "0", "at least 1"));
            }
        }
        if let Some(entries) = entries.filter(|&entries| entries > SIDE_ENTRIES_MAX) {
            let expected = format!("at most {SIDE_ENTRIES_MAX}");
            return Err(out_of_range("max_entries", &entries.to_string(), &expected));
        }
        let age = age_seconds.map(|given| {
            let age = Duration::try_from_secs_f64(given).ok().filter(|age| !age.is_zero());
            age.ok_or_else(|| out_of_range("max_age_seconds", &given.to_string(), "above 0"))
        });
        Ok(Roll { tokens, entries, age: age.transpose()? })
    }

    fn is_given(self) -> bool {
        self.tokens.is_some() || self.entries.is_some() || self.age_seconds.is_some()
    }
}

/// What a clock is made of.
struct ClockFields<'a> {
    template: Option<&'a str>,
    time_zone: Option<&'a str>,
    tick_seconds: Option<f64>,
}

impl ClockFields<'_> {
    fn is_given(&self) -> bool {
        self.template.is_some() || self.time_zone.is_some() || self.tick_seconds.is_some()
    }

    fn clock(&self) -> Result<Clock, ApiError> {
        let template = self.template.unwrap_or(Clock::TEMPLATE);
        let clock = Clock::new(template, self.time_zone, self.tick_seconds.unwrap_or(1.0));
        clock.map_err(|error| {
            let param = match error {
                ClockError::Template(_) => "template",
                ClockError::Zone(_) => "time_zone",
                ClockError::Tick { .. } => "tick_seconds",
            };
            ApiError::bad_request(param, error.to_string()).with_code("out_of_range")
        })
    }
}

/// 400: a clock has no entries, entries have no clock, and no message of an inbox goes unread.
fn refuse_others(kind: &Kind, clock: &ClockFields<'_>, roll: RollFields) -> Result<(), ApiError> {
    let clock = clock.is_given().then_some("template, time_zone, tick_seconds");
    let refused = match kind {
        Kind::Clock(_) => roll.is_given().then_some("max_tokens, max_entries, max_age_seconds"),
        Kind::Feed | Kind::Log => clock,
        Kind::Inbox(_) => {
            let rolls = roll.tokens.is_some() || roll.age_seconds.is_some();
            clock.or(rolls.then_some("max_tokens, max_age_seconds"))
        }
    };
    match refused {
        None => Ok(()),
        Some(fields) => {
            let name = kind.name();
            let article = if name == "inbox" { "an" } else { "a" };
            let message = format!("{article} {name} takes none of {fields}");
            Err(ApiError::bad_request("kind", message).with_code("unknown_field"))
        }
    }
}

/// Keeps a side context from now on.
#[utoipa::path(post, path = "/v1/side-contexts", operation_id = "create_side_context",
    request_body = SideContextBody, responses(
    (status = 200, body = SideContextObject),
    (status = 400, body = crate::error::ErrorBody),
    (status = 403, body = crate::error::ErrorBody),
))]
pub async fn create(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    JsonBody(body): JsonBody<SideContextBody>,
) -> Result<Json<SideContextObject>, ApiError> {
    blocking(move || {
        check_name("name", body.name.as_deref())?;
        let (template, time_zone) = (body.template.as_deref(), body.time_zone.as_deref());
        let clock = ClockFields { template, time_zone, tick_seconds: body.tick_seconds };
        let kind = match body.kind.as_str() {
            "clock" => Kind::Clock(clock.clock()?),
            "feed" => Kind::Feed,
            "log" => Kind::Log,
            "inbox" => Kind::Inbox(Inbox::default()),
            other => {
                let message = format!("no kind {other:?}; there are clock, feed, log, inbox");
                return Err(ApiError::bad_request("kind", message).with_code("unknown_kind"));
            }
        };
        let (tokens, entries) = (body.max_tokens, body.max_entries);
        let roll = RollFields { tokens, entries, age_seconds: body.max_age_seconds };
        refuse_others(&kind, &clock, roll)?;
        let opened = body.source.map(|source| source.open(&state, &kind)).transpose()?;
        let now = state.time.unix();
        let mut context = SideContext::new(random_id("sc_"), kind, now);
        context.feeding = opened.as_ref().map(|(feeding, _)| feeding.clone());
        (context.name, context.role, context.roll) = (body.name, body.role, roll.roll()?);
        // A role that the template does not know is refused here, not with the first entry.
        crate::side::pieces_tokens(&state, &context, "x")?;
        let id = context.id.clone();
        state.side_contexts.add(&tenant.0, context)?;
        if let Some((feeding, source)) = opened {
            sources::start(&state, &tenant.0, &id, (feeding.spec, source), None)?;
        }
        let context = refresh(&state, &tenant.0, &id, None)?;
        Ok(Json(SideContextObject::new(&context, state.time.unix())))
    })
    .await
}

/// All side contexts of the caller.
#[utoipa::path(get, path = "/v1/side-contexts", operation_id = "list_side_contexts",
    responses((status = 200, body = SideContextList)))]
pub async fn list(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
) -> Result<Json<SideContextList>, ApiError> {
    let (contexts, now) = (state.side_contexts.list(&tenant.0), state.time.unix());
    let data = contexts.iter().map(|context| SideContextObject::new(context, now)).collect();
    Ok(Json(SideContextList { object: "list", data }))
}

/// One side context, as it is now.
#[utoipa::path(get, path = "/v1/side-contexts/{id}", operation_id = "get_side_context", responses(
    (status = 200, body = SideContextObject),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn get(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Json<SideContextObject>, ApiError> {
    blocking(move || {
        let context = refresh(&state, &tenant.0, &id, None)?;
        Ok(Json(SideContextObject::new(&context, state.time.unix())))
    })
    .await
}

/// Changes a side context, all that is given or, where something of it is refused, nothing.
#[utoipa::path(patch, path = "/v1/side-contexts/{id}", operation_id = "patch_side_context",
    request_body = SideContextPatch, responses(
    (status = 200, body = SideContextObject),
    (status = 400, body = crate::error::ErrorBody),
    (status = 403, body = crate::error::ErrorBody, description = "A source that is not allowed"),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn patch(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<SideContextPatch>,
) -> Result<Json<SideContextObject>, ApiError> {
    blocking(move || {
        check_name("name", body.name.as_deref())?;
        let (template, time_zone) = (body.template.as_deref(), body.time_zone.as_deref());
        let clock = ClockFields { template, time_zone, tick_seconds: body.tick_seconds };
        let (tokens, entries) = (body.max_tokens, body.max_entries);
        let roll = RollFields { tokens, entries, age_seconds: body.max_age_seconds };
        let kind = state.side_contexts.get(&tenant.0, &id)?.kind;
        refuse_others(&kind, &clock, roll)?;
        let is_clock = clock.is_given();
        let (clock, roll) = (clock.clock()?, roll.roll()?);
        let open = |source: SourceBody| source.open(&state, &kind);
        let opened = body.source.map(|source| source.map(open).transpose()).transpose()?;
        if let Some(opened) = opened {
            refeed(&state, &tenant.0, &id, opened)?;
        }
        state.side_contexts.with(&tenant.0, &id, |context| {
            if is_clock {
                // Written anew at once.
                (context.kind, context.changed) = (Kind::Clock(clock), Duration::ZERO);
            }
            if let (Kind::Inbox(inbox), Some(_)) = (&mut context.kind, roll.entries) {
                inbox.touch();
            }
            let held = context.roll;
            context.roll = Roll {
                tokens: roll.tokens.or(held.tokens),
                entries: roll.entries.or(held.entries),
                age: roll.age.or(held.age),
            };
            context.name = body.name.or(context.name.take());
        })?;
        let context = refresh(&state, &tenant.0, &id, None)?;
        Ok(Json(SideContextObject::new(&context, state.time.unix())))
    })
    .await
}

/// Forgets a side context.
#[utoipa::path(delete, path = "/v1/side-contexts/{id}", operation_id = "delete_side_context",
    responses(
    (status = 200, body = SideContextDeleted),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn delete(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
) -> Result<Json<SideContextDeleted>, ApiError> {
    state.side_contexts.remove(&tenant.0, &id)?;
    Ok(Json(SideContextDeleted { id, object: "side_context", deleted: true }))
}
