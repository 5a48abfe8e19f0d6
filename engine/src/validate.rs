//! The border: what is refused before it waits. Behind it nothing checks again, it asserts.

use crate::{
    FragmentInfo, FragmentSpec, JoinPolicy, PolicyError, Request, RequestError, Sampling,
    fragments::Content,
    job::{Job, Work},
    limits::{LOGPROBS_MAX, PIN_SHARE, PLACEMENTS_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX},
    policy::Places,
    sequence::closing_len,
    state::State,
};
use models::{ModelShape, TokenId};

/// Refuses a request that no state of the engine could serve. `has_text`: there is a tokenizer.
pub(crate) fn check_request(
    request: &Request,
    shape: &ModelShape,
    has_text: bool,
) -> Result<(), RequestError> {
    check_policy(request)?;
    let composition = &request.composition;
    // Plain text begins at its first token: without fragments, `recompute` needs no root. `reuse`
    // may be measured without one.
    let is_plain = request.policy == JoinPolicy::Recompute && composition.placements.is_empty();
    let needs_root = !is_plain && request.policy != JoinPolicy::Reuse;
    if needs_root || !composition.root.is_empty() {
        check_tokens("the root", &composition.root, shape)?;
    }
    for placement in &composition.placements {
        check_tokens("a fragment", &placement.tokens, shape)?;
    }
    check_seal(request, shape)?;
    check_tokens("the tail", &composition.tail, shape)?;
    let placements = composition.placements.len();
    range("compose", placements, placements <= PLACEMENTS_MAX, "at most 4096 fragments")?;
    check_length(positions(request), shape)?;
    check_sampling(&request.sampling)?;
    check_forced(request, shape)?;
    if let Some(logprobs) = request.logprobs {
        range("logprobs", logprobs, logprobs <= LOGPROBS_MAX, "at most 1000")?;
    }
    range("logprobs", "absent", !request.echo || request.logprobs.is_some(), "given with echo")?;
    for &token in &request.stop_tokens {
        check_tokens("stop", &[token], shape)?;
    }
    let stops = &request.stop_strings;
    range("stop", stops.len(), stops.len() <= STOP_STRINGS_MAX, "at most 64 texts")?;
    for stop in stops {
        let fits = (1..=STOP_STRING_BYTES_MAX).contains(&stop.len());
        range("stop", format!("a text of {} bytes", stop.len()), fits, "1 to 1024 bytes each")?;
    }
    range("stop", "a text", has_text || stops.is_empty(), "absent: there is no tokenizer")
}

/// Refuses policies out of range or not built, and a selection where none is made.
fn check_policy(request: &Request) -> Result<(), RequestError> {
    let Request { policy, selected, .. } = request;
    if let Err(PolicyError::OutOfRange { name, given, expected }) = policy.check() {
        return Err(RequestError::OutOfRange { name, given, expected });
    }
    let Some(selected) = selected else { return Ok(()) };
    let places = Places::new(&request.composition);
    range("selected", "given", policy.chooses_rows(), "absent: the policy chooses no rows")?;
    let is_inside =
        |row: &&u32| (places.root..places.root + places.rows()).contains(&(**row as usize));
    let expected = "positions of fragment rows in the sequential composition, ascending";
    if let Some(outside) = selected.iter().find(|row| !is_inside(row)) {
        range("selected", outside, false, expected)?;
    }
    range("selected", "unordered", selected.is_sorted_by(|a, b| a < b), expected)
}

/// What is sealed, or was, stands after a root; and tail and answer have a run of their own only
/// where fragments are joined.
fn check_seal(request: &Request, shape: &ModelShape) -> Result<(), RequestError> {
    let Request { composition, policy, seal, .. } = request;
    let is_rooted = !composition.root.is_empty();
    let is_placed = composition.placements.iter().any(|placement| placement.sealed.is_some());
    range("root", "empty", is_rooted || !is_placed, "what sealed fragments were sealed after")?;
    let Some(seal) = seal else { return Ok(()) };
    let can_seal = is_rooted && !policy.is_plain();
    range("seal", format!("given under {policy}"), can_seal, "absent unless fragments are joined")?;
    if seal.closing.is_empty() { Ok(()) } else { check_tokens("closing", &seal.closing, shape) }
}

/// Positions that a composition takes as it is joined, and what closes its answer.
fn positions(request: &Request) -> usize {
    let Request { composition, policy, .. } = request;
    let start = policy.layout().tail_start(&Places::new(composition));
    start + composition.tail.len() + closing_len(request)
}

/// Refuses a fragment that no state of the engine could encode.
pub(crate) fn check_fragment(spec: &FragmentSpec, shape: &ModelShape) -> Result<(), RequestError> {
    check_tokens("the root", &spec.root, shape)?;
    check_tokens("the fragment", &spec.tokens, shape)?;
    check_length(spec.root.len() + spec.tokens.len(), shape)
}

/// Refuses a job that could never fit the memory, even alone.
pub(crate) fn check_alone(job: &Job, shape: &ModelShape) -> Result<(), RequestError> {
    check_pages(job.pages_max(shape.page_rows), shape.pages)
}

pub(crate) fn check_pages(given: usize, limit: usize) -> Result<(), RequestError> {
    if given > limit { Err(RequestError::MemoryTooSmall { given, limit }) } else { Ok(()) }
}

pub(crate) fn check_tokens(
    what: &'static str,
    tokens: &[TokenId],
    shape: &ModelShape,
) -> Result<(), RequestError> {
    if tokens.is_empty() {
        return Err(RequestError::Empty { what });
    }
    match tokens.iter().find(|&&token| token as usize >= shape.vocab) {
        Some(&token) => Err(RequestError::UnknownToken { token, vocab: shape.vocab }),
        None => Ok(()),
    }
}

fn check_length(given: usize, shape: &ModelShape) -> Result<(), RequestError> {
    let limit = shape.context_max;
    if given > limit { Err(RequestError::ContextTooLong { given, limit }) } else { Ok(()) }
}

fn check_sampling(sampling: &Sampling) -> Result<(), RequestError> {
    let Sampling { temperature, top_p, top_k: _, min_p, .. } = *sampling;
    let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = *sampling;
    let is_from_0 = |x: f32| x.is_finite() && x >= 0.0;
    range("temperature", temperature, is_from_0(temperature), "a finite number, 0 or more")?;
    range("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1")?;
    range("min_p", min_p, (0.0..=1.0).contains(&min_p), "from 0 to 1")?;
    let positive = repetition_penalty.is_finite() && repetition_penalty > 0.0;
    range("repetition_penalty", repetition_penalty, positive, "a finite number above 0")?;
    let finite = [("presence_penalty", presence_penalty), ("frequency_penalty", frequency_penalty)];
    finite
        .into_iter()
        .try_for_each(|(name, given)| range(name, given, given.is_finite(), "a finite number"))
}

/// Tokens forced on the answer are tokens, and fit into it.
fn check_forced(request: &Request, shape: &ModelShape) -> Result<(), RequestError> {
    let forced = &request.sampling.forced;
    let fits = forced.len() <= request.max_tokens;
    range("forced", format!("{} tokens", forced.len()), fits, "at most max_tokens tokens")?;
    if forced.is_empty() { Ok(()) } else { check_tokens("forced", forced, shape) }
}

fn range(
    name: &'static str,
    given: impl std::fmt::Display,
    is_inside: bool,
    expected: &'static str,
) -> Result<(), RequestError> {
    if is_inside {
        Ok(())
    } else {
        Err(RequestError::OutOfRange { name, given: format!("{given}"), expected })
    }
}

impl State {
    /// Refuses a job that pinned fragments leave too little memory for, now and later; and a pin,
    /// or sealed fragments to be held, that would leave too little for what was accepted already.
    pub(crate) fn check_job(&self, job: &Job) -> Result<(), RequestError> {
        for need in &job.needs {
            let expected = "an identity no other tokens have";
            range("fragment", need.id, self.fragments.agrees(need), expected)?;
        }
        let is_gone = |id| self.fragments.get(id).is_none() || self.is_lost(id);
        if let Some(gone) = job.sealed().find(|need| is_gone(need.id)) {
            return Err(RequestError::UnknownFragment(gone.id));
        }
        let total = self.pages.total();
        let page_rows = self.shape.page_rows;
        let pinned = self.pinned_with(&[]);
        check_pages(job.pages_max(page_rows), total - pinned.pages_besides(job))?;
        let is_pin = matches!(&job.work, Work::Put(put) if put.pin);
        let pin = is_pin.then(|| job.subject());
        let more: Vec<&Content> = job.sealed().chain(pin).collect();
        if more.is_empty() {
            return Ok(());
        }
        let pinned = self.pinned_with(&more);
        let needed = |job: &Job| job.pages_max(page_rows) + pinned.pages_besides(job);
        let most = self.jobs().map(needed).max().unwrap_or(0);
        if !is_pin {
            return check_pages(most, total);
        }
        let (is_small, leaves_room) = (pinned.pages() <= total / PIN_SHARE, most <= total);
        let given = format!("true, for {} of {total} pages in all", pinned.pages());
        let expected = "false unless pinned fragments take at most half of the KV memory and \
                        leave room for every request accepted before";
        range("pin", given, is_small && leaves_room, expected)
    }

    /// Pages that a job holds at most when it runs alone, beside what must stay.
    pub(crate) fn pages_with_pins(&self, job: &Job) -> usize {
        job.pages_max(self.shape.page_rows) + self.pinned_with(&[]).pages_besides(job)
    }

    fn pinned_with(&self, more: &[&Content]) -> Pinned {
        let records = self.fragments.iter().filter(|r| r.pinned).map(|r| &r.content);
        let coming = self
            .jobs()
            .filter(|job| matches!(&job.work, Work::Put(put) if put.pin))
            .map(Job::subject);
        let page_rows = self.shape.page_rows;
        let held = self.jobs().flat_map(Job::sealed);
        let all = records.chain(coming).chain(held).chain(more.iter().copied());
        Pinned(all.map(|content| (content.id, content.pages(page_rows))).collect())
    }

    /// Touches a cached fragment that is put again.
    pub(crate) fn hit(&mut self, content: &Content, pin: bool) -> Option<FragmentInfo> {
        let now = self.now;
        let record = self.fragments.get_mut(content.id).filter(|record| record.is_cached())?;
        record.used_at = now;
        record.pinned |= pin;
        if pin {
            self.stored.pin(content.id);
        }
        self.info(content.id)
    }
}

/// Pages of fragments that are pinned, or being put to be, or sealed and needed by jobs.
struct Pinned(std::collections::BTreeMap<crate::FragmentId, usize>);

impl Pinned {
    fn pages(&self) -> usize {
        self.0.values().sum()
    }

    /// Without those that the job needs itself.
    fn pages_besides(&self, job: &Job) -> usize {
        let others = self.0.iter().filter(|(id, _)| !job.needs.iter().any(|need| need.id == **id));
        others.map(|(_, pages)| pages).sum()
    }
}
