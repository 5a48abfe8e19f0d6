//! `cento demo`: shows on a small model what joining fragments saves, and what it costs.

mod passages;

use crate::{
    config::EngineConfig,
    local::{self, Answer, Local},
};
use engine::{Composition, FragmentId, FragmentSpec, JoinPolicy, Priority, Request, Sampling};
use models::TokenId;
use passages::{PASSAGES, Passage, QUESTION, REPLACEMENT};
use std::{
    io::{self, Write as _},
    sync::Arc,
};

/// Whose fragments they are, in a process that serves nobody else.
const TENANT: &str = "demo";
/// Tokens of one answer.
const ANSWER_TOKENS: usize = 40;

/// Runs the demonstration and prints it.
pub(crate) fn run(config: &EngineConfig) -> anyhow::Result<()> {
    eprintln!("loading {} …", config.model);
    let local = Local::start(local::load(config)?, config);
    let mut stage = Stage { local, out: io::stdout().lock() };
    writeln!(stage.out, "{INTRODUCTION}")?;
    let mut shelf = stage.encode_once()?;
    stage.ask_both_ways(&shelf)?;
    stage.edit(&mut shelf)?;
    writeln!(stage.out, "{}", epilogue(&config.model))?;
    Ok(())
}

const INTRODUCTION: &str = "
Cento keeps every passage of a prompt on its own. A passage is read by the model once; what the model
computed for it (its KV) is kept. A prompt is then a list of passages in any order, and putting one
together costs a table of pointers, not another reading. Other servers reuse only an unchanged
beginning: touch a passage, and everything behind it is read again.
";

/// A passage whose KV is held.
#[derive(Clone)]
struct Held {
    title: &'static str,
    id: FragmentId,
    tokens: Arc<[TokenId]>,
    digest: [u8; 32],
}

/// Where the demonstration takes place.
struct Stage<'out> {
    local: Local,
    out: io::StdoutLock<'out>,
}

impl Stage<'_> {
    fn root(&self) -> Arc<[TokenId]> {
        self.local.turns.default_root().into()
    }

    /// Puts a passage and looks at the bytes of its KV.
    fn put(&self, passage: &Passage) -> anyhow::Result<Held> {
        let tokens: Arc<[TokenId]> = self.local.turns.part(None, passage.text)?.into();
        let spec = FragmentSpec {
            tenant: TENANT.into(),
            root: self.root(),
            tokens: tokens.clone(),
            priority: Priority::Normal,
            pin: false,
        };
        let id = self.local.engine.put_fragment(spec)?.id;
        let digest = self.digest(id)?;
        Ok(Held { title: passage.title, id, tokens, digest })
    }

    fn digest(&self, id: FragmentId) -> anyhow::Result<[u8; 32]> {
        let info = self.local.engine.fragment(TENANT, id, true)?;
        info.digest.ok_or_else(|| anyhow::anyhow!("{id} has no KV in memory"))
    }

    fn encode_once(&mut self) -> anyhow::Result<Vec<Held>> {
        writeln!(self.out, "1. Six passages, each encoded once\n")?;
        let mut shelf = Vec::new();
        for passage in &PASSAGES {
            let held = self.put(passage)?;
            let (tokens, kv) = (held.tokens.len(), hex(&held.digest));
            writeln!(self.out, "   {:<12} {tokens:>4} tokens   KV {kv}", held.title)?;
            shelf.push(held);
        }
        Ok(shelf)
    }

    fn ask_both_ways(&mut self, shelf: &[Held]) -> anyhow::Result<()> {
        writeln!(self.out, "\n2. One question, two ways\n\n   {QUESTION}\n")?;
        self.heading()?;
        let whole = self.row("plain concatenation", shelf, JoinPolicy::Recompute)?;
        let joined = self.row("joined fragments", shelf, JoinPolicy::Reuse)?;
        writeln!(self.out, "\n   concatenated: {}", one_line(&whole.text))?;
        writeln!(self.out, "   joined:       {}", one_line(&joined.text))?;
        writeln!(self.out, "{HONESTY}")?;
        Ok(())
    }

    /// Three edits; each is answered by a prefix cache and by a join.
    fn edit(&mut self, shelf: &mut Vec<Held>) -> anyhow::Result<()> {
        writeln!(self.out, "3. Edits: what has to be read again\n")?;
        self.heading()?;
        let dropped = shelf.remove(1);
        self.compare(&format!("drop {}", dropped.title), shelf)?;
        let same = shelf.iter().map(|held| Ok(self.digest(held.id)? == held.digest));
        let same = same.collect::<anyhow::Result<Vec<_>>>()?;
        shelf.swap(0, 3);
        let swapped = format!("swap {}, {}", shelf[0].title, shelf[3].title);
        self.compare(&swapped, shelf)?;
        let place = shelf.iter().position(|held| held.title == "bakery").unwrap_or(0);
        let replacement = self.put(&REPLACEMENT)?;
        let fresh = replacement.tokens.len();
        shelf[place] = replacement;
        self.compare("replace bakery", shelf)?;
        let kept = same.iter().filter(|&&same| same).count();
        writeln!(
            self.out,
            "\n   Each join reads the question only; the new bakery text was encoded once when it was put\n   \
             ({fresh} tokens). Checked just now, byte for byte: after the drop the KV of {kept} of the {} other\n   \
             passages is what it was before.",
            same.len()
        )?;
        anyhow::ensure!(kept == same.len(), "a drop changed the KV of another passage");
        Ok(())
    }

    fn compare(&mut self, what: &str, shelf: &[Held]) -> anyhow::Result<()> {
        self.row(&format!("{what}: prefix cache"), shelf, JoinPolicy::Recompute)?;
        self.row(&format!("{what}: joined"), shelf, JoinPolicy::Reuse)?;
        Ok(())
    }

    fn heading(&mut self) -> io::Result<()> {
        let (tokens, reused, first) = ("prefilled", "reused", "first token");
        writeln!(self.out, "   {:<34} {tokens:>10} {reused:>8} {first:>14}", "")
    }

    /// Asks, and prints one line of the table.
    fn row(&mut self, label: &str, shelf: &[Held], policy: JoinPolicy) -> anyhow::Result<Answer> {
        let answer = self.ask(shelf, policy)?;
        let counts = &answer.summary.counts;
        let reused = counts.reused + counts.prefix_reused;
        writeln!(
            self.out,
            "   {label:<34} {:>10} {reused:>8} {:>11.0} ms",
            counts.prefilled(),
            answer.summary.timings.first_token_ms
        )?;
        self.out.flush()?;
        Ok(answer)
    }

    fn ask(&self, shelf: &[Held], policy: JoinPolicy) -> anyhow::Result<Answer> {
        let turns = &self.local.turns;
        let role = turns.has_template().then_some("user");
        let mut tail = turns.part(role, QUESTION)?;
        tail.extend(turns.generation_prompt());
        let request = Request {
            tenant: TENANT.into(),
            composition: Composition {
                root: self.root(),
                placements: shelf.iter().map(|held| held.tokens.clone().into()).collect(),
                tail,
            },
            policy,
            selected: None,
            sampling: Sampling::greedy(),
            stop_tokens: self.local.tokenizer.end_tokens().to_vec(),
            stop_strings: Vec::new(),
            max_tokens: ANSWER_TOKENS,
            logprobs: None,
            echo: false,
            priority: Priority::Normal,
            seal: None,
        };
        self.local.ask(request, |_| Ok(()))
    }
}

const HONESTY: &str = "
   A join is not free of cost: joined passages never saw each other, so its answer can differ from the
   concatenated one. Every result says whether it is exact, and \"join\": {\"policy\": \"recompute\"} asks
   for exactly what concatenation gives.
";

fn epilogue(model: &str) -> String {
    format!(
        "
Next: serve the model, and compose over HTTP.

   cargo run --release -- serve --model {model}

   curl -s http://127.0.0.1:8080/v1/generate -d '{{
     \"compose\": [{{\"text\": \"The ferry leaves at seven.\\n\"}}, {{\"text\": \"The bakery opens at six.\\n\"}}],
     \"tail\": [{{\"role\": \"user\", \"text\": \"When does the ferry leave?\"}}],
     \"join\": {{\"policy\": \"reuse\"}}, \"max_tokens\": 32, \"temperature\": 0}}'
"
    )
}

/// The first bytes of a digest: enough to see that two differ.
fn hex(digest: &[u8; 32]) -> String {
    let [a, b, c, d, e, f, ..] = digest;
    format!("{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
