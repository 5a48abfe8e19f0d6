//! The parts that requests name: wire types, and their way to token ids.

use crate::{
    ApiError, AppState, Binding, FragmentUse, Tenant,
    limits::{COMPOSE_PARTS_MAX, NAME_BYTES_MAX, TAIL_PARTS_MAX},
    side::refresh,
    standing::placed_pieces,
};
use engine::{Composition, FragmentId, FragmentInfo, JoinPolicy, Placement, RequestError};
use models::TokenId;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{fmt, sync::Arc};
use utoipa::ToSchema;

/// A part of a composition. One of `fragment`, `side`, `text`, `tokens` is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartBody {
    /// A fragment put before, by id.
    pub fragment: Option<String>,
    /// A side context, by id: its pieces as they are now, each a fragment. They stand last before the
    /// tail, in the order of their parts, unless `in_place` is true.
    pub side: Option<String>,
    /// With `side`: it stands where its part does (default: false).
    pub in_place: Option<bool>,
    /// With `side`: `snapshot`, what it is now for the whole answer (default); `live`, between two
    /// tokens the newest version takes its place, under `reuse` and `parallel`.
    pub binding: Option<String>,
    /// Text. Special tokens written in it stay text.
    pub text: Option<String>,
    /// Token ids, taken as they are.
    pub tokens: Option<Vec<TokenId>>,
    /// With `text`: the chat template's text of this role is put around it.
    pub role: Option<String>,
    /// A name for listings.
    pub name: Option<String>,
}

impl PartBody {
    /// `{"tokens": []}`.
    fn is_nothing(&self) -> bool {
        *self == Self { tokens: Some(Vec::new()), ..Self::default() }
    }
}

/// One message of a fragment.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageBody {
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// What fragments are encoded after: a fragment's id, or `{"text"}`, `{"tokens"}`,
/// `{"role", "text"}`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RootBody {
    /// The root is this fragment's root and the fragment itself.
    Fragment(String),
    /// Text or tokens.
    Part(PartBody),
}

impl<'de> Deserialize<'de> for RootBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By hand instead of `untagged`, which would forget which field was wrong.
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RootBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fragment id, or an object with `text` or `tokens`")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<RootBody, E> {
                Ok(RootBody::Fragment(id.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RootBody, A::Error> {
                PartBody::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(RootBody::Part)
            }
        }
        from.deserialize_any(Visitor)
    }
}

/// A composition, and the fragments that went into it.
#[derive(Clone, Debug)]
pub(crate) struct Composed {
    pub(crate) composition: Composition,
    pub(crate) fragments: Vec<FragmentUse>,
    /// Side contexts that are to be kept current.
    pub(crate) bindings: Vec<Binding>,
    /// The tail ends where the model's turn was opened.
    pub(crate) opens_turn: bool,
}

/// Turns parts into a composition. Blocking.
pub(crate) fn compose(
    state: &AppState,
    tenant: &Tenant,
    root: Option<&RootBody>,
    parts: &[PartBody],
    tail: &[PartBody],
) -> Result<Composed, ApiError> {
    at_most("compose", "parts", parts.len(), COMPOSE_PARTS_MAX)?;
    at_most("tail", "parts", tail.len(), TAIL_PARTS_MAX)?;
    let root = match root {
        // To measure what a root is worth: the engine says where there must be one.
        Some(RootBody::Part(part)) if part.is_nothing() => Arc::from([]),
        _ => root_tokens(state, tenant, root)?,
    };
    let mut placements = Vec::with_capacity(parts.len());
    let mut fragments = Vec::with_capacity(parts.len());
    let mut bindings = Vec::new();
    for (index, part) in in_order(parts) {
        let param = format!("compose[{index}]");
        let start = placements.len();
        let placed = match &part.side {
            Some(id) => side_pieces(state, tenant, &root, (part, id), &param)?,
            None => vec![placement(state, tenant, &root, part, &param)?],
        };
        let version = placed.first().and_then(|(_, used)| used.side.as_ref()).map(|s| s.version);
        if part.binding.as_deref() == Some("live") {
            bindings.push(Binding {
                side: part.side.clone().unwrap_or_default(),
                root: Arc::clone(&root),
                start,
                pieces: placed.len(),
                // Where there is no piece yet, any version is newer.
                version: version.unwrap_or(0),
            });
        }
        for (placed, used) in placed {
            placements.push(placed);
            fragments.push(used);
        }
    }
    at_most("compose", "placements", placements.len(), COMPOSE_PARTS_MAX)?;
    let opens_turn = awaits_answer(tail);
    let tail = tail_tokens(state, tail)?;
    let composition = Composition { root, placements, tail };
    Ok(Composed { composition, fragments, bindings, opens_turn })
}

/// Tokens of a root; the model's own when none is given. Blocking.
pub(crate) fn root_tokens(
    state: &AppState,
    tenant: &Tenant,
    root: Option<&RootBody>,
) -> Result<Arc<[TokenId]>, ApiError> {
    let tokens: Arc<[TokenId]> = match root {
        None => state.turns.default_root().into(),
        Some(RootBody::Fragment(id)) => {
            let fragment = known_fragment(state, tenant, id, "root")?;
            fragment.root.iter().chain(fragment.tokens.iter()).copied().collect()
        }
        Some(RootBody::Part(part)) => {
            refuse_given(
                "root",
                &[
                    ("fragment", part.fragment.is_some()),
                    ("side", part.side.is_some()),
                    ("name", part.name.is_some()),
                ],
            )?;
            match (&part.text, &part.tokens) {
                (Some(text), None) => {
                    let tokens = state.turns.root(part.role.as_deref(), text);
                    tokens.map_err(|error| turns_error("root", &error))?.into()
                }
                (None, Some(tokens)) => given_tokens(state, "root", part, tokens)?.into(),
                _ => return Err(one_of("root", "`text`, `tokens`")),
            }
        }
    };
    not_empty("root", &tokens)?;
    Ok(tokens)
}

/// Parts in the order they stand in: side contexts last, unless they are to stand where they are.
fn in_order(parts: &[PartBody]) -> impl Iterator<Item = (usize, &PartBody)> {
    let is_last = |part: &PartBody| part.side.is_some() && !part.in_place.unwrap_or(false);
    let all = || parts.iter().enumerate();
    all().filter(move |part| !is_last(part.1)).chain(all().filter(move |part| is_last(part.1)))
}

/// The pieces of a side context as it is now.
fn side_pieces(
    state: &AppState,
    tenant: &Tenant,
    root: &Arc<[TokenId]>,
    (part, id): (&PartBody, &str),
    param: &str,
) -> Result<Vec<(Placement, FragmentUse)>, ApiError> {
    let fields = [
        ("fragment", part.fragment.is_some()),
        ("text", part.text.is_some()),
        ("tokens", part.tokens.is_some()),
        ("role", part.role.is_some()),
        ("name", part.name.is_some()),
    ];
    refuse_given(param, &fields)?;
    match part.binding.as_deref() {
        None | Some("snapshot" | "live") => {}
        Some(other) => {
            let message = format!("{param}: no binding {other:?}; there are snapshot, live");
            return Err(ApiError::bad_request(format!("{param}.binding"), message));
        }
    }
    let inside = |error: ApiError| error.with_param(format!("{param}.side"));
    state
        .side_contexts
        .with(&tenant.0, id, |context| {
            if context.root.as_ref() != Some(root) {
                (context.root, context.encoded) = (Some(Arc::clone(root)), None);
            }
        })
        .map_err(inside)?;
    // What changed since is encoded on the way, with the call.
    let context = refresh(state, &tenant.0, id, None).map_err(inside)?;
    Ok(placed_pieces(state, &tenant.0, root, &context))
}

fn placement(
    state: &AppState,
    tenant: &Tenant,
    root: &Arc<[TokenId]>,
    part: &PartBody,
    param: &str,
) -> Result<(Placement, FragmentUse), ApiError> {
    refuse_given(
        param,
        &[("in_place", part.in_place.is_some()), ("binding", part.binding.is_some())],
    )?;
    check_name(&format!("{param}.name"), part.name.as_deref())?;
    let (placed, named, other_root) = match &part.fragment {
        None => {
            let tokens: Arc<[TokenId]> = part_tokens(state, param, part)?.into();
            (Placement::from(tokens), None, false)
        }
        Some(id) => {
            refuse_given(
                param,
                &[
                    ("text", part.text.is_some()),
                    ("tokens", part.tokens.is_some()),
                    ("role", part.role.is_some()),
                ],
            )?;
            let fragment = known_fragment(state, tenant, id, &format!("{param}.fragment"))?;
            let named = state.fragment_names.get(&tenant.0, fragment.id);
            let other_root = fragment.root != *root;
            if other_root && fragment.sealed.is_some() {
                return Err(sealed_elsewhere(param, id));
            }
            let FragmentInfo { tokens, sealed, .. } = fragment;
            (Placement { tokens, sealed }, named.and_then(|named| named.name), other_root)
        }
    };
    let id = state.engine.placement_id(&tenant.0, root, &placed);
    if part.name.is_some() {
        let now = state.time.unix_seconds();
        state.fragment_names.put(&tenant.0, id, part.name.clone(), now);
    }
    let name = part.name.clone().or(named);
    let tokens = placed.tokens.len();
    let used = FragmentUse { id, name, tokens, other_root, side: None };
    Ok((placed, used))
}

/// 400: what is sealed cannot be encoded again, so it stands after its own root only.
fn sealed_elsewhere(param: &str, id: &str) -> ApiError {
    let message = format!(
        "{param}: {id} was sealed after another root than this composition's, and a sealed \
         fragment cannot be encoded again"
    );
    ApiError::bad_request(format!("{param}.fragment"), message).with_code("other_root")
}

/// Refuses live bindings where rows are computed again over what would go, and where the tail would be
/// sealed after it saw two things.
pub(crate) fn check_live(
    bindings: &[Binding],
    policy: JoinPolicy,
    seals: bool,
) -> Result<(), ApiError> {
    if bindings.is_empty() {
        return Ok(());
    }
    let side = &bindings[0].side;
    if !matches!(policy, JoinPolicy::Reuse | JoinPolicy::Parallel { .. }) {
        let message = format!(
            "{side} is bound live under {policy:?}: that is for `reuse` and `parallel`, which compute \
             no row of the fragments again",
            policy = policy.form().name,
        );
        return Err(ApiError::bad_request("join.policy", message).with_code("not_live"));
    }
    if seals {
        let message = format!("{side} is bound live: a tail that saw two versions is not sealed");
        return Err(ApiError::bad_request("seal", message).with_code("not_live"));
    }
    let twice = bindings
        .iter()
        .enumerate()
        .find(|(i, binding)| bindings[..*i].iter().any(|before| before.side == binding.side));
    match twice {
        None => Ok(()),
        Some((_, binding)) => {
            let message = format!("{} is bound live twice", binding.side);
            Err(ApiError::bad_request("compose", message).with_code("not_live"))
        }
    }
}

/// Tokens of turns put behind an answer, and whether they open a turn of the model's. Blocking.
pub(crate) fn further_turns(
    state: &AppState,
    parts: &[PartBody],
) -> Result<(Vec<TokenId>, bool), ApiError> {
    at_most("tail", "parts", parts.len(), TAIL_PARTS_MAX)?;
    Ok((tail_tokens(state, parts)?, awaits_answer(parts)))
}

/// The tail ends in a turn that awaits an answer.
fn awaits_answer(parts: &[PartBody]) -> bool {
    let last = parts.last().and_then(|part| part.role.as_deref());
    matches!(last, Some("user" | "tool"))
}

/// Tokens of a tail. After a turn that awaits an answer the model's turn is opened.
fn tail_tokens(state: &AppState, parts: &[PartBody]) -> Result<Vec<TokenId>, ApiError> {
    let mut tokens = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let param = format!("tail[{index}]");
        refuse_given(
            &param,
            &[
                ("fragment", part.fragment.is_some()),
                ("side", part.side.is_some()),
                ("in_place", part.in_place.is_some()),
                ("binding", part.binding.is_some()),
                ("name", part.name.is_some()),
            ],
        )?;
        tokens.extend(part_tokens(state, &param, part)?);
    }
    if awaits_answer(parts) {
        tokens.extend(state.turns.generation_prompt());
    }
    not_empty("tail", &tokens)?;
    Ok(tokens)
}

/// Tokens of a part given as text or tokens; not empty.
fn part_tokens(state: &AppState, param: &str, part: &PartBody) -> Result<Vec<TokenId>, ApiError> {
    let tokens = match (&part.text, &part.tokens) {
        (Some(text), None) => {
            let tokens = state.turns.part(part.role.as_deref(), text);
            tokens.map_err(|error| turns_error(param, &error))?
        }
        (None, Some(tokens)) => given_tokens(state, param, part, tokens)?,
        _ => return Err(one_of(param, "`fragment`, `side` (both in `compose`), `text`, `tokens`")),
    };
    not_empty(param, &tokens)?;
    Ok(tokens)
}

fn given_tokens(
    state: &AppState,
    param: &str,
    part: &PartBody,
    tokens: &[TokenId],
) -> Result<Vec<TokenId>, ApiError> {
    if part.role.is_some() {
        let message = format!("{param}: `role` goes with `text`; tokens are taken as they are");
        return Err(ApiError::bad_request(format!("{param}.role"), message));
    }
    check_tokens(state, &format!("{param}.tokens"), tokens)?;
    Ok(tokens.to_vec())
}

/// All ids are in the vocabulary.
pub(crate) fn check_tokens(
    state: &AppState,
    param: &str,
    tokens: &[TokenId],
) -> Result<(), ApiError> {
    let vocab = state.engine.shape().vocab;
    match tokens.iter().position(|&token| token as usize >= vocab) {
        None => Ok(()),
        Some(at) => {
            let error = RequestError::UnknownToken { token: tokens[at], vocab };
            Err(ApiError::from(error).with_param(format!("{param}[{at}]")))
        }
    }
}

/// A name that fits the listing.
pub(crate) fn check_name(param: &str, name: Option<&str>) -> Result<(), ApiError> {
    at_most(param, "bytes", name.map_or(0, str::len), NAME_BYTES_MAX)
}

/// A list or text within its bound.
pub(crate) fn at_most(param: &str, unit: &str, given: usize, limit: usize) -> Result<(), ApiError> {
    if given <= limit {
        return Ok(());
    }
    let message = format!("{param} has {given} {unit}; the limit is {limit}");
    Err(ApiError::bad_request(param, message).with_code("too_long"))
}

/// A fragment of this tenant by the id as written. Blocking.
pub(crate) fn known_fragment(
    state: &AppState,
    tenant: &Tenant,
    id: &str,
    param: &str,
) -> Result<FragmentInfo, ApiError> {
    let id = parse_id(id).map_err(|error| error.with_param(param))?;
    let found = state.engine.fragment(&tenant.0, id, false);
    found.map_err(|error| ApiError::from(error).with_param(param))
}

/// A fragment's id as written; one that cannot be an id is as unknown as any other.
pub(crate) fn parse_id(id: &str) -> Result<FragmentId, ApiError> {
    id.parse().map_err(|()| {
        let message = format!("no fragment {id:?}: ids are `frg_` and 32 hex digits");
        ApiError::not_found(message).with_code("fragment_not_found")
    })
}

pub(crate) fn turns_error(param: &str, error: &models::TurnsError) -> ApiError {
    ApiError::bad_request(param, format!("{param}: {error}"))
}

pub(crate) fn one_of(param: &str, names: &str) -> ApiError {
    ApiError::bad_request(param, format!("{param}: exactly one of {names} is needed"))
}

/// At least one token.
pub(crate) fn not_empty(param: &str, tokens: &[TokenId]) -> Result<(), ApiError> {
    if tokens.is_empty() {
        let message = format!("{param} is empty: at least one token is needed");
        return Err(ApiError::bad_request(param, message).with_code("empty"));
    }
    Ok(())
}

fn refuse_given(param: &str, fields: &[(&str, bool)]) -> Result<(), ApiError> {
    match fields.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((field, _)) => {
            let message = format!("{param}: `{field}` cannot be given here");
            Err(ApiError::bad_request(format!("{param}.{field}"), message))
        }
    }
}
