//! Running a chat template: Jinja as `transformers` runs it.
//!
//! A template comes with a model file, so it is not trusted: it reads nothing but the values
//! given here, and it runs on a budget.

use super::{Date, Message, TurnsError};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, context};

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// Spellings of BOS and EOS, which templates may write.
    bos: String,
    eos: String,
}

impl Template {
    pub(super) fn new(
        source: &str,
        (bos, eos): (String, String),
        date: Date,
    ) -> Result<Self, TurnsError> {
        let mut environment = Environment::new();
        // As in `transformers.utils.chat_template_utils._compile_jinja_template`.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the default delimiters are valid"));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", move |format: &str| date.format(format));
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| TurnsError::Template(describe(&error)))?;
        Ok(Self { environment, bos, eos })
    }

    /// The text of a chat.
    pub(super) fn render(
        &self,
        messages: &[Message],
        generation_prompt: bool,
    ) -> Result<String, TurnsError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                context! { role => message.role.as_str(), content => message.content.as_str() }
            })
            .collect();
        let values = context! {
            messages => messages,
            add_generation_prompt => generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => Value::from(()),
            documents => Value::from(()),
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(values))
            .map_err(|error| TurnsError::Template(describe(&error)))
    }
}

/// What the template's author said, or what Jinja says.
fn describe(error: &Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

/// `{% generation %}` marks what training looks at; Jinja proper does not know it. A comment in
/// its place leaves the white space around it the same.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let tag = rest[at..].find("%}").map(|end| &rest[at..at + end + 2]);
        let Some(tag) = tag else { break };
        out.push_str(&rest[..at]);
        let inner = &tag[2..tag.len() - 2];
        let name = inner.trim_matches(['-', '+']).trim();
        if name == "generation" || name == "endgeneration" {
            let (open, close) = (inner.starts_with('-'), inner.ends_with('-'));
            out.push_str(if open { "{#-" } else { "{#" });
            out.push_str(if close { "-#}" } else { "#}" });
        } else {
            out.push_str(tag);
        }
        rest = &rest[at + tag.len()..];
    }
    out.push_str(rest);
    out
}

/// `tojson` as `transformers` has it: `json.dumps` without escapes beyond JSON's own.
fn to_json(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    push_json(value, &mut out)?;
    Ok(out)
}

fn push_json(value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool | ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::Map => {
            let mut open = "{";
            for key in value.try_iter()? {
                out.push_str(open);
                push_json(&Value::from(key.to_string()), out)?;
                out.push_str(": ");
                push_json(&value.get_item(&key)?, out)?;
                open = ", ";
            }
            out.push_str(if open == "{" { "{}" } else { "}" });
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut open = "[";
            for item in value.try_iter()? {
                out.push_str(open);
                push_json(&item, out)?;
                open = ", ";
            }
            out.push_str(if open == "[" { "[]" } else { "]" });
        }
        _ => out.push_str(&serde_json::Value::from(value.to_string()).to_string()),
    }
    Ok(())
}

/// The one template of its environment.
const NAME: &str = "chat";
/// Instructions a rendering may take: a chat of ten thousand messages takes less than a tenth.
const FUEL: u64 = 2_000_000;
