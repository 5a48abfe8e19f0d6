//! `/v1/side-contexts`: small contexts that the server keeps current.

use crate::{
    ApiError, AppState, JsonBody, Tenant,
    api::{
        compose::{at_most, check_name},
        generate::out_of_range,
    },
    blocking,
    limits::{SIDE_ENTRIES_MAX, SIDE_ENTRY_BYTES_MAX},
    random_id,
    side::{Clock, ClockError, Kind, Roll, SideContext, refresh},
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
    /// `clock` (the time), `feed` (entries; what rolls off is gone) or `log` (entries; what rolls off
    /// leaves a line that says how many).
    pub kind: String,
    /// A name for listings.
    pub name: Option<String>,
    /// Each entry is a turn of this role: the chat template's text is put around it.
    pub role: Option<String>,
    /// `clock`: a text with `strftime`'s conversions (default: weekday, date, time and zone).
    pub template: Option<String>,
    /// `clock`: a zone of the IANA database, such as `Europe/Berlin` (default: UTC).
    pub time_zone: Option<String>,
    /// `clock`: how often it is written anew (default: 1).
    pub tick_seconds: Option<f64>,
    /// `feed`, `log`: tokens of all entries. The oldest roll off while any bound is passed; the newest
    /// stays, unless it is too old.
    pub max_tokens: Option<usize>,
    /// `feed`, `log`: entries (at most 1,024).
    pub max_entries: Option<usize>,
    /// `feed`, `log`: seconds since an entry came.
    pub max_age_seconds: Option<f64>,
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
    /// `feed`, `log`.
    pub max_entries: Option<usize>,
    /// `feed`, `log`.
    pub max_age_seconds: Option<f64>,
}

/// An entry to add.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryBody {
    /// Its text. Special tokens written in it stay text.
    pub text: String,
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
    /// `clock`, `feed` or `log`.
    pub kind: &'static str,
    /// The client's name for it.
    pub name: Option<String>,
    /// Goes up with every change.
    pub version: u64,
    /// Milliseconds since it changed last.
    pub age_ms: f64,
    /// Its length in tokens.
    pub tokens: usize,
    /// What it holds, in order.
    pub entries: Vec<EntryObject>,
    /// Entries that rolled off so far.
    pub rolled_off: u64,
}

/// An entry of a side context.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntryObject {
    /// Counts up within its context; 0 is a log's own line about what rolled off.
    pub number: u64,
    /// When it came, in Unix seconds.
    pub created: u64,
    /// Its length in tokens.
    pub tokens: usize,
    /// Its text.
    pub text: String,
}

/// What became of a pushed entry.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntryPushed {
    /// Its number.
    pub number: u64,
    /// The context's version with it.
    pub version: u64,
    /// Numbers of the entries that rolled off for it.
    pub rolled_off: Vec<u64>,
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

/// 400: a clock has no entries, and entries have no clock.
fn refuse_others(kind: &Kind, clock: &ClockFields<'_>, roll: RollFields) -> Result<(), ApiError> {
    let refused = match kind {
        Kind::Clock(_) => roll.is_given().then_some("max_tokens, max_entries, max_age_seconds"),
        Kind::Feed | Kind::Log => clock.is_given().then_some("template, time_zone, tick_seconds"),
    };
    match refused {
        None => Ok(()),
        Some(fields) => {
            let message = format!("a {} takes none of {fields}", kind.name());
            Err(ApiError::bad_request("kind", message).with_code("unknown_field"))
        }
    }
}

/// Keeps a side context from now on.
#[utoipa::path(post, path = "/v1/side-contexts", operation_id = "create_side_context",
    request_body = SideContextBody, responses(
    (status = 200, body = SideContextObject),
    (status = 400, body = crate::error::ErrorBody),
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
            other => {
                let message = format!("no kind {other:?}; there are clock, feed, log");
                return Err(ApiError::bad_request("kind", message).with_code("unknown_kind"));
            }
        };
        let (tokens, entries) = (body.max_tokens, body.max_entries);
        let roll = RollFields { tokens, entries, age_seconds: body.max_age_seconds };
        refuse_others(&kind, &clock, roll)?;
        let now = state.time.unix();
        let mut context = SideContext::new(random_id("sc_"), kind, now);
        (context.name, context.role, context.roll) = (body.name, body.role, roll.roll()?);
        // A role that the template does not know is refused here, not with the first entry.
        crate::side::pieces_tokens(&state, &context, "x")?;
        let id = context.id.clone();
        state.side_contexts.add(&tenant.0, context)?;
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

/// Changes a side context.
#[utoipa::path(patch, path = "/v1/side-contexts/{id}", operation_id = "patch_side_context",
    request_body = SideContextPatch, responses(
    (status = 200, body = SideContextObject),
    (status = 400, body = crate::error::ErrorBody),
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
        refuse_others(&state.side_contexts.get(&tenant.0, &id)?.kind, &clock, roll)?;
        let is_clock = clock.is_given();
        let (clock, roll) = (clock.clock()?, roll.roll()?);
        state.side_contexts.with(&tenant.0, &id, |context| {
            if is_clock {
                // Written anew at once.
                (context.kind, context.changed) = (Kind::Clock(clock), Duration::ZERO);
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

/// Adds an entry to a feed or a log.
#[utoipa::path(post, path = "/v1/side-contexts/{id}/entries", operation_id = "push_entry",
    request_body = EntryBody, responses(
    (status = 200, body = EntryPushed),
    (status = 400, body = crate::error::ErrorBody),
    (status = 404, body = crate::error::ErrorBody),
))]
pub async fn push(
    State(state): State<Arc<AppState>>,
    tenant: Tenant,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<EntryBody>,
) -> Result<Json<EntryPushed>, ApiError> {
    blocking(move || {
        at_most("text", "bytes", body.text.len(), SIDE_ENTRY_BYTES_MAX)?;
        let context = state.side_contexts.get(&tenant.0, &id)?;
        if let Kind::Clock(_) = context.kind {
            let message = "a clock takes no entries; it writes the time by itself";
            return Err(ApiError::bad_request("id", message).with_code("no_entries"));
        }
        let tokens = crate::side::pieces_tokens(&state, &context, &body.text)?;
        let now = state.time.unix();
        let (number, version, rolled_off) =
            state.side_contexts.with(&tenant.0, &id, |context| {
                let number = context.push(body.text, tokens, now);
                let rolled_off = context.roll_off(now);
                (number, context.version, rolled_off)
            })?;
        Ok(Json(EntryPushed { number, version, rolled_off }))
    })
    .await
}
