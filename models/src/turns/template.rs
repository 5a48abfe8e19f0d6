//! Running a chat template: Jinja as `transformers` runs it.
//!
//! A template comes with a model file, so it is not trusted: it reads nothing but the values
//! given here, and it runs on a budget.

use super::{Date, Message, TurnsError};
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, State, context};
use serde_json::ser::{Formatter, Serializer};
use std::io;

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
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
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
            .map(|message| context! { role => message.role, content => message.content })
            .collect();
        let values = context! {
            messages => messages,
            add_generation_prompt => generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
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

/// `tojson` as `transformers` has it: Python's separators, nothing escaped for HTML.
fn to_json(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let _ = state;
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PythonJson);
    serde::Serialize::serialize(value, &mut serializer).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "tojson").with_source(error)
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `json.dumps`: a space after each comma and colon.
struct PythonJson;

impl Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The one template of its environment.
const NAME: &str = "chat";
/// Instructions a rendering may take: a chat of ten thousand messages takes less than a tenth.
const FUEL: u64 = 5_000_000;
