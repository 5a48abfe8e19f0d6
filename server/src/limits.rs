//! Every bound of the server, each with why.

use std::time::Duration;

/// Bounds an operator may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Time until a response starts. Streams start at once, so this bounds only answers that are
    /// sent whole.
    pub response_timeout: Duration,
}

impl Limits {
    /// What `cento serve` starts with.
    pub const DEFAULT: Self =
        Self { body_bytes_max: BODY_BYTES_MAX, response_timeout: RESPONSE_TIMEOUT };
}

/// 16 MiB hold a context of a million tokens, as text or as ids.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// A sender that has not delivered its body by then is too slow or malicious.
pub const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// A body over the limit is still read up to this multiple of it, so that the sender gets to
/// read the answer instead of a connection reset.
pub const BODY_DRAIN_FACTOR: usize = 4;
/// Long whole answers on a slow CPU take minutes; past this the reader should stream.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_mins(15);
/// A step on a slow machine takes seconds; a loop silent for longer is stuck.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);
/// A cancel waits this long for the loop to let go before it answers with the status so far.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// Comment lines that keep proxies from closing a silent stream.
pub const SSE_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Parts in a composition; each becomes a placement.
pub const COMPOSE_PARTS_MAX: usize = 4_096;
/// Parts in a tail, and messages in a fragment.
pub const TAIL_PARTS_MAX: usize = 4_096;
/// Texts that end an answer. Each is searched after each token.
pub const STOP_STRINGS_MAX: usize = 16;
/// Bytes of one such text: as much answer is held back while it may be beginning.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// Alternatives reported for a token: enough to compare two distributions. A context's tail of
/// 4,096 tokens then makes an answer of about 20 MB.
pub const LOGPROBS_MAX: usize = 200;
/// Alternatives that the OpenAI routes report for a token (OpenAI's limit).
pub const OPENAI_LOGPROBS_MAX: usize = 20;
/// Bytes of a fragment's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Tokens to generate when the request does not say.
pub const MAX_TOKENS_DEFAULT: usize = 256;

/// Answers to one request: each is a generation of its own.
pub const ANSWERS_MAX: usize = 16;

/// Side contexts of one tenant: each is looked at several times a second.
pub const SIDE_CONTEXTS_MAX: usize = 256;
/// Entries of one side context; each is a placement.
pub const SIDE_ENTRIES_MAX: usize = 1_024;
/// Bytes of an entry: side contexts are small.
pub const SIDE_ENTRY_BYTES_MAX: usize = 64 << 10;
/// Events of one side context that are held for readers that come later. A clock that ticks every
/// second is held for eight minutes; numbers and counts only, so all of a tenant's take a few MB.
pub const SIDE_EVENTS_MAX: usize = 512;
/// Lines of an inbox when it does not say: it stands in every call.
pub const INBOX_LINES_DEFAULT: usize = 16;
/// Bytes of a message's gist in an inbox: a line.
pub const INBOX_GIST_BYTES_MAX: usize = 512;
/// How often side contexts, and who reads them live, are looked at: it adds to how old they are, but for
/// clocks, which turn at their ticks.
pub const SIDE_UPKEEP_INTERVAL: Duration = Duration::from_millis(50);
/// Side contexts that are written and encoded at once; each holds a thread that waits.
pub const SIDE_UPKEEPS_MAX: usize = 16;
/// Bytes of a clock's template.
pub const CLOCK_TEMPLATE_BYTES_MAX: usize = 4 << 10;
/// So long before its tick a clock's next text is encoded: under load that takes a while, and what is
/// encoded takes its place at the tick.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(2);
/// A clock that changes more often would be encoded all the time.
pub const CLOCK_TICK_MIN: Duration = Duration::from_millis(100);
/// A day.
pub const CLOCK_TICK_MAX: Duration = Duration::from_hours(24);

/// Sources of one tenant: each is a task, and may be a process.
pub const SOURCES_MAX: usize = 16;
/// How often a followed file is looked at.
pub const SOURCE_FILE_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes that one look at a file reads; the rest waits for the next. Tokens of half a megabyte a second
/// are counted beside the decodes, more are not.
pub const SOURCE_FILE_BYTES_MAX: u64 = 256 << 10;
/// A URL is not asked more often, out of courtesy.
pub const SOURCE_URL_EVERY_MIN: Duration = Duration::from_secs(5);
/// How often a URL is asked when nothing is said.
pub const SOURCE_URL_EVERY_DEFAULT: Duration = Duration::from_mins(5);
/// Bytes of a URL.
pub const SOURCE_URL_BYTES_MAX: usize = 2 << 10;
/// Time for an answer, with all redirects.
pub const SOURCE_URL_TIMEOUT: Duration = Duration::from_secs(20);
/// Redirects that are followed; each is checked like a URL of its own.
pub const SOURCE_REDIRECTS_MAX: usize = 5;
/// Bytes of an answer: the largest feeds have a few hundred KiB.
pub const SOURCE_RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Items of a feed that are looked at, the newest.
pub const SOURCE_ITEMS_MAX: usize = 256;
/// Ids of items that are remembered, to know them again.
pub const SOURCE_SEEN_MAX: usize = 1_024;
/// Bytes of an item's title and summary together.
pub const SOURCE_ITEM_BYTES_MAX: usize = 1 << 10;
/// A command is not run more often.
pub const SOURCE_COMMAND_EVERY_MIN: Duration = Duration::from_secs(1);
/// How often a command is run when nothing is said.
pub const SOURCE_COMMAND_EVERY_DEFAULT: Duration = Duration::from_mins(1);
/// Time for one run of a command.
pub const SOURCE_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that a command may write before it is ended; an entry holds its beginning.
pub const SOURCE_OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// Bytes kept of what a failing command says.
pub const SOURCE_COMMAND_ERROR_BYTES_MAX: usize = 1 << 10;
/// A day: what is wanted less often is better pushed.
pub const SOURCE_EVERY_MAX: Duration = Duration::from_hours(24);
/// A source that goes on failing is tried this often, at least.
pub const SOURCE_BACKOFF_MAX: Duration = Duration::from_hours(1);

/// Fragment names kept for listings; the oldest go first.
pub const FRAGMENT_NAMES_MAX: usize = 65_536;
/// Bytes of the file they are kept in. A byte takes six, at most, in JSON; beside its name a fragment
/// has a tenant, an id and a time.
pub const FRAGMENT_NAMES_BYTES_MAX: u64 = 256 << 20;
const _: () =
    assert!((FRAGMENT_NAMES_MAX * 6 * (2 * NAME_BYTES_MAX)) as u64 <= FRAGMENT_NAMES_BYTES_MAX);
/// How often names that changed are written there.
pub const FRAGMENT_NAMES_SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// Ended generations kept for later reading.
pub const GENERATIONS_MAX: usize = 1_024;
/// How long an ended generation is kept.
pub const GENERATION_RETENTION: Duration = Duration::from_hours(1);
/// Memory of all ended generations' logs, roughly; about 150 bytes a token without scores.
pub const GENERATIONS_BYTES_MAX: usize = 128 << 20;
/// Fragments that are put at once; each holds a thread while it is encoded, others wait their turn.
pub const PUTS_MAX: usize = 32;

/// How often it is looked at whether the engine's loop still runs.
pub const ENGINE_WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Time given to connections to flush their last bytes once the engine has stopped.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(COMPOSE_PARTS_MAX < BODY_BYTES_MAX);
const _: () = assert!(SOURCE_ITEM_BYTES_MAX < SIDE_ENTRY_BYTES_MAX);
