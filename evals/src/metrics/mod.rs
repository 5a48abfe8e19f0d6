//! What is measured of one arm on one item, and how a list of such numbers is summed up.

pub(crate) mod bootstrap;
pub(crate) mod distribution;
pub(crate) mod text;

use serde::{Deserialize, Serialize};

/// One arm on one item. Holds numbers only: no text of a data set, and none of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbers {
    pub(crate) f1: f64,
    pub(crate) em: f64,
    pub(crate) sub_em: f64,
    pub(crate) rouge_l: f64,
    pub(crate) refused: f64,
    pub(crate) nll: f64,
    pub(crate) kl_first: f64,
    pub(crate) kl: f64,
    pub(crate) top1_first: f64,
    pub(crate) top1: f64,
    pub(crate) same_answer: f64,
    pub(crate) same_tokens: f64,
    /// None, as the next, where something was cached that the arm should have computed, or not
    /// cached that it should have found.
    pub(crate) first_token_ms: Option<f64>,
    pub(crate) share_recomputed: Option<f64>,
    /// The engine's word on whether it is plain concatenation.
    pub(crate) exact: bool,
    /// Tokens before the answer.
    pub(crate) context_tokens: usize,
}

/// One of [`Numbers`], for tables.
pub(crate) struct Metric {
    /// Its name in results.
    pub(crate) name: &'static str,
    /// Its heading in the report.
    pub(crate) title: &'static str,
    /// What it is, in a line of the report.
    pub(crate) about: &'static str,
    /// Its value on an item.
    pub(crate) of: fn(&Numbers) -> Option<f64>,
}

/// Every metric, in the order of the tables.
pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "f1",
        title: "F1",
        about: "words shared by the greedy answer and the nearest right one (SQuAD's normalisation)",
        of: |n| Some(n.f1),
    },
    Metric {
        name: "em",
        title: "EM",
        about: "share of greedy answers equal to a right one, normalised",
        of: |n| Some(n.em),
    },
    Metric {
        name: "sub_em",
        title: "sub-EM",
        about: "share of greedy answers that hold a right one",
        of: |n| Some(n.sub_em),
    },
    Metric {
        name: "rouge_l",
        title: "Rouge-L",
        about: "F-measure of the longest common subsequence of words",
        of: |n| Some(n.rouge_l),
    },
    Metric {
        name: "refused",
        title: "not found",
        about: "share of greedy answers that say that it is not in the documents",
        of: |n| Some(n.refused),
    },
    Metric {
        name: "nll",
        title: "NLL",
        about: "negative log-likelihood of the right answer, nats a token",
        of: |n| Some(n.nll),
    },
    Metric {
        name: "kl_first",
        title: "KL first",
        about: "KL(recompute ‖ arm) at the right answer's first token, nats",
        of: |n| Some(n.kl_first),
    },
    Metric {
        name: "kl",
        title: "KL",
        about: "the same, mean over the right answer's tokens",
        of: |n| Some(n.kl),
    },
    Metric {
        name: "top1_first",
        title: "top-1 first",
        about: "share of items whose likeliest first token is that of recompute",
        of: |n| Some(n.top1_first),
    },
    Metric {
        name: "top1",
        title: "top-1",
        about: "the same, over all tokens of the right answer",
        of: |n| Some(n.top1),
    },
    Metric {
        name: "same_answer",
        title: "same answer",
        about: "share of greedy answers that are those of recompute, token for token",
        of: |n| Some(n.same_answer),
    },
    Metric {
        name: "same_tokens",
        title: "diverges after",
        about: "tokens of the greedy answer before it leaves that of recompute, or to its end",
        of: |n| Some(n.same_tokens),
    },
    Metric {
        name: "first_token_ms",
        title: "first token ms",
        about: "from the request to the first token, fragments cached and nothing else",
        of: |n| n.first_token_ms,
    },
    Metric {
        name: "share_recomputed",
        title: "recomputed",
        about: "row-layers computed for this composition alone over those of all fragments",
        of: |n| n.share_recomputed,
    },
];
