//! A generation's result: what of it clients look at.

use super::{api::Reply, tally::Answer};
use anyhow::ensure;
use serde::Deserialize;

/// A generation's result.
#[derive(Default, Deserialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) answer: Answer,
    /// The fragment that tail and answer became.
    pub(crate) sealed: Option<String>,
    pub(crate) join: Join,
    /// What stood in the composition when it began.
    pub(crate) fragments: Vec<Placed>,
    #[serde(default)]
    pub(crate) swaps: Vec<Swap>,
}

/// What became of the composition's tokens.
#[derive(Default, Deserialize)]
pub(crate) struct Join {
    #[serde(rename = "reused_tokens")]
    pub(crate) reused: Option<usize>,
    #[serde(rename = "encoded_tokens")]
    pub(crate) encoded: Option<usize>,
    #[serde(rename = "recomputed_tokens")]
    pub(crate) recomputed: Option<usize>,
}

/// A fragment in it.
#[derive(Deserialize)]
pub(crate) struct Placed {
    pub(crate) tokens: usize,
    pub(crate) side: Option<Side>,
}

/// The side context that it is a piece of.
#[derive(Deserialize)]
pub(crate) struct Side {
    pub(crate) id: String,
    pub(crate) staleness_ms: Option<f64>,
}

/// A newer version of a side context that came into it.
#[derive(Deserialize)]
pub(crate) struct Swap {
    pub(crate) side: String,
    pub(crate) tokens: usize,
    pub(crate) staleness_ms: f64,
}

/// How asking for a generation ended.
pub(crate) enum Ended {
    /// By itself; the first, where there are several.
    Answered(Box<Outcome>),
    /// By the loss of the sealed fragment in it.
    Lost,
    /// Refused, cancelled, left, or wrong.
    Otherwise,
}

#[derive(Deserialize)]
struct Several {
    data: Vec<Outcome>,
}

impl Outcome {
    /// Those in a reply: one as it is, several in a list.
    pub(crate) fn all(reply: &Reply, answers: usize) -> anyhow::Result<Vec<Self>> {
        if answers == 1 {
            return Ok(vec![reply.json()?]);
        }
        let Several { data } = reply.json()?;
        ensure!(data.len() == answers, "{} answers instead of {answers}", data.len());
        Ok(data)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.answer.finish_reason.as_deref() == Some("cancelled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_as_it_is_and_several_in_a_list() {
        let one = r#"{"id": "gen_1", "object": "generation", "text": "a", "tokens": [1],
            "finish_reason": "stop", "join": {"policy": "reuse", "reused_tokens": 3},
            "fragments": [{"id": "frg_1", "tokens": 3}, {"id": "frg_2", "tokens": 2,
            "side": {"id": "sc_1", "version": 1, "staleness_ms": 0.5}}],
            "swaps": [{"side": "sc_1", "version": 2, "tokens": 2, "at_token": 1,
            "staleness_ms": 7.5}]}"#;
        let reply = |text: String| Reply { status: 200, retry_after: None, text };
        let whole = Outcome::all(&reply(one.to_owned()), 1).unwrap();
        assert_eq!((&*whole[0].answer.tokens, whole[0].join.reused), (&[1][..], Some(3)));
        assert_eq!((whole[0].fragments.len(), whole[0].swaps[0].tokens), (2, 2));
        let two = format!(r#"{{"object": "list", "data": [{one}, {one}]}}"#);
        assert_eq!(Outcome::all(&reply(two.clone()), 2).unwrap().len(), 2);
        assert!(Outcome::all(&reply(two), 3).is_err());
    }
}
