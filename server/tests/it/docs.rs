//! Pages of `docs/` that are made from the code: stale ones fail. `UPDATE_DOCS=1` writes them.

use cento::{
    Args,
    api::openai::{chat, completions, fields::Fields},
};
use clap::CommandFactory as _;
use std::{fmt::Write as _, fs, path::Path};

fn check(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/{name} is stale: run the server's tests with UPDATE_DOCS=1");
}

#[test]
fn configuration() {
    let mut page = "\
# Configuration

Made from the command line's own definitions; `cento COMMAND --help` says the same. A flag wins over its
variable, and a value that does not parse is an error, wherever it stands.
"
    .to_owned();
    let mut command = Args::command();
    command.build();
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let about = subcommand.get_about().unwrap_or_default();
        write!(page, "\n## cento {}\n\n{about}.\n\n", subcommand.get_name()).unwrap();
        page += "| setting | variable | default | |\n|---|---|---|---|\n";
        let settings = subcommand.get_arguments().filter(|arg| arg.get_id() != "help");
        for arg in settings {
            let names = arg.get_value_names().unwrap_or_default();
            let value = names.iter().map(clap::builder::Str::as_str).collect::<Vec<_>>().join(" ");
            let takes_value = arg.get_action().takes_values();
            let name = match (arg.get_long(), takes_value) {
                (Some(long), true) => format!("--{long} {value}"),
                (Some(long), false) => format!("--{long}"),
                (None, _) => value,
            };
            let variable = arg.get_env().map_or(String::new(), |env| code(&env.to_string_lossy()));
            let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
            let default =
                defaults.filter(|_| takes_value).map(|value| code(&value)).collect::<String>();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(page, "| {} | {variable} | {default} | {} |", code(&name), cell(&help))
                .unwrap();
        }
    }
    check("configuration.md", &page);
}

#[test]
fn openai() {
    let mut page = INTRODUCTION.to_owned();
    for (path, fields) in
        [("/v1/chat/completions", &chat::FIELDS), ("/v1/completions", &completions::FIELDS)]
    {
        write!(page, "\n## `{path}`: fields beside those of the description\n\n").unwrap();
        page += &table(fields);
    }
    check("openai.md", &page);
}

fn table(fields: &Fields) -> String {
    let mut table = "| field | |\n|---|---|\n".to_owned();
    for (name, why) in fields.ignored {
        writeln!(table, "| {} | taken and ignored: {why} |", code(name)).unwrap();
    }
    for field in fields.limited {
        writeln!(table, "| {} | {} |", code(field.name), cell(field.why)).unwrap();
    }
    table
}

fn code(text: &str) -> String {
    format!("`{}`", cell(text))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

const INTRODUCTION: &str = "\
# The OpenAI-compatible endpoints

`GET /v1/models`, `GET /v1/models/{id}`, `POST /v1/chat/completions`, `POST /v1/completions`. Requests, answers, streams and
errors have OpenAI's shapes; `/openapi.json` describes every field. Where this server differs:

- **Exact by default.** Everything is computed as plain concatenation would, behind the longest prefix that is cached.
  `usage.prompt_tokens_details.cached_tokens` counts exact reuse only.
- **Joins are opted in to** by the chat field `cento`: `{\"compose\": [part, …], \"join\": {\"policy\": \"reuse\"}, \"root\"?}`. Parts are those of
  `/v1/generate`; they stand between the root (the leading system message, unless `root` is given) and the other messages.
  Without `join` the policy is `recompute`. The answer's `cento` object (in a stream: on the chunk with the finish
  reason) says which tokens were reused, encoded or recomputed, and whether the answer is `exact`.
- **Unknown fields are refused**, so that a misspelt one is noticed. Fields that clients send out of habit are taken, see below.
- `model` may be left out, or be `default`. Another model's name is 404.
- Extra sampling fields: `top_k`, `min_p`, `repetition_penalty`.
- Message content is text, or parts of type `text`, which are joined by line breaks. `developer` is read as `system`. A message's
  `name` and `tool_call_id` are taken and ignored.
- An answer ends with the context, by `finish_reason: \"length\"`, however large `max_tokens` is. A prompt that does not fit is 400.
- In completions, a text prompt gets the model's BOS put before it where the model wants one, and special tokens written in it count;
  token ids are taken as they are. Up to 64 prompts make a request.
- `echo` with `logprobs` scores the prompt; the first token's score is null. `text_offset` counts characters of the choice's text.
- An answer that is cut off (the server stops) is an error, in a stream a frame with a top-level `error` and no `[DONE]`.
";
