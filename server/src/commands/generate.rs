//! `cento generate`: one generation from the command line.

use crate::{
    config::GenerateConfig,
    local::{self, Answer, Local},
};
use engine::{Composition, Placement, Priority, Request};
use std::{
    io::{self, Write as _},
    sync::Arc,
};

/// Whose fragments they are, in a process that serves nobody else.
const TENANT: &str = "local";

/// Prints the answer as it comes, or the whole result as JSON.
pub(crate) fn run(config: &GenerateConfig) -> anyhow::Result<()> {
    let local = Local::start(local::load(&config.engine)?, &config.engine);
    let request = request(&local, config)?;
    let mut out = io::stdout().lock();
    let streams = !config.json;
    let answer = local.ask(request, |piece| {
        if streams {
            out.write_all(piece.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    })?;
    if config.json {
        let result = to_json(config, &answer);
        writeln!(out, "{result:#}")?;
    } else {
        writeln!(out)?;
    }
    Ok(())
}

/// Root, fragments and tail from their texts.
fn request(local: &Local, config: &GenerateConfig) -> anyhow::Result<Request> {
    let turns = &local.turns;
    let is_chat = turns.has_template() && !config.raw;
    let root = match &config.system {
        Some(text) if is_chat => turns.root(Some("system"), text)?,
        Some(text) => turns.root(None, text)?,
        None => turns.default_root(),
    };
    let placements = config
        .fragments
        .iter()
        .map(|text| Ok(Placement::from(Arc::from(turns.part(None, text)?))))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut tail = turns.part(is_chat.then_some("user"), &config.prompt)?;
    if is_chat {
        tail.extend(turns.generation_prompt());
    }
    Ok(Request {
        tenant: TENANT.into(),
        composition: Composition { root: root.into(), placements, tail },
        policy: config.policy,
        selected: None,
        sampling: config.sampling.clone(),
        stop_tokens: local.tokenizer.end_tokens().to_vec(),
        stop_strings: config.stop.clone(),
        max_tokens: config.max_tokens,
        logprobs: None,
        echo: false,
        priority: Priority::Normal,
        seal: None,
    })
}

fn to_json(config: &GenerateConfig, answer: &Answer) -> serde_json::Value {
    let Answer { text, tokens, summary } = answer;
    let (counts, timings) = (&summary.counts, &summary.timings);
    serde_json::json!({
        "model": config.engine.model,
        "text": text,
        "tokens": tokens,
        "finish_reason": format!("{:?}", summary.finish_reason).to_lowercase(),
        "join": {
            "policy": summary.policy.to_string(),
            "exact": summary.exact,
            "recomputed_share": summary.recomputed_share,
            "root_tokens": counts.root,
            "reused_tokens": counts.reused,
            "encoded_tokens": counts.encoded,
            "recomputed_tokens": counts.recomputed,
            "tail_tokens": counts.tail,
            "output_tokens": counts.output,
        },
        "timings": {
            "compose_ms": timings.compose_ms,
            "join_ms": timings.join_ms,
            "prefill_ms": timings.prefill_ms,
            "first_token_ms": timings.first_token_ms,
            "decode_tokens_per_second": timings.decode_tokens_per_second,
        },
    })
}
