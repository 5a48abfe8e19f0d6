//! Join policies: which rows of a composition are computed again, and where the others stand.
//!
//! One file each, with the form it is written in. Texts (`boundary:16`), JSON and checks of ranges
//! follow from [`JoinPolicy::FORMS`], so that a new policy is a file, a variant and a line there.

mod auto;
mod boundary;
mod choice;
mod deviation;
mod parallel;
mod query;
mod recompute;
mod reuse;

pub(crate) use choice::{Choice, Evidence, Layout, Places, Scores};
use std::{fmt, str::FromStr, sync::Arc};

/// Which tokens of a composition are recomputed, and where the others stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JoinPolicy {
    /// Everything, as plain concatenation would; reuses the longest exact prefix.
    Recompute,
    /// Nothing: cached fragments at sequential positions.
    Reuse,
    /// Nothing: all fragments at the same positions, their scores divided by `temperature` and
    /// their part of the attention weighed with `scale` (APE, Yang et al. 2025, arXiv:2502.05431).
    Parallel {
        /// Divides scores of tail queries with fragment rows.
        temperature: f64,
        /// Multiplies the fragments' log-sum-exp, together with the temperature.
        scale: f64,
    },
    /// The first rows of every fragment but the first (LegoLink of EPIC, Hu et al. 2025,
    /// arXiv:2410.15332).
    Boundary {
        /// Rows of each fragment.
        tokens: usize,
    },
    /// The rows whose V deviates most at layer 1 (CacheBlend, Yao et al. 2025, arXiv:2405.16444),
    /// under a mask by positions.
    Deviation {
        /// Share of the fragments' rows.
        ratio: f64,
    },
    /// The rows that the tail attends to most under `reuse` (ProphetKV).
    Query {
        /// Share of the fragments' rows.
        ratio: f64,
    },
    /// Boundary rows and the rows the tail attends to most, as many as this composition needs.
    Auto {
        /// How near the answer should come to that of `recompute`; 1 is `recompute`.
        quality: f64,
    },
}

/// How a policy is written.
#[derive(Debug)]
pub struct Form {
    /// Its name.
    pub name: &'static str,
    /// What it takes, in this order in texts.
    pub parameters: &'static [Parameter],
    make: fn(&[f64]) -> JoinPolicy,
    /// Values of the parameters, when the policy has this form.
    values: fn(&JoinPolicy) -> Option<Vec<f64>>,
    choice: fn(&JoinPolicy, &Places) -> Choice,
}

/// A number that a policy takes.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What is allowed, in words.
    pub expected: &'static str,
    /// A whole number.
    pub is_whole: bool,
    allows: fn(f64) -> bool,
}

/// Why a text or some numbers are no policy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// No policy has this name.
    #[error("no join policy {name:?}; there are {}", JoinPolicy::forms())]
    Unknown {
        /// Given.
        name: String,
    },
    /// A parameter is missing.
    #[error("join policy {policy:?} needs `{name}`, {expected}")]
    Missing {
        /// The policy.
        policy: &'static str,
        /// The parameter.
        name: &'static str,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// More parameters than the policy takes.
    #[error("join policy {policy:?} takes {takes} parameters; {given} are given")]
    TooMany {
        /// The policy.
        policy: &'static str,
        /// How many it takes.
        takes: usize,
        /// How many were given.
        given: usize,
    },
    /// A parameter that is no number, or outside its range.
    #[error("{name} is {given}; it must be {expected}")]
    OutOfRange {
        /// The parameter.
        name: &'static str,
        /// Given value, printed.
        given: String,
        /// What is allowed, in words.
        expected: &'static str,
    },
}

impl JoinPolicy {
    /// Every policy's form.
    pub const FORMS: [&'static Form; 7] = [
        &recompute::FORM,
        &reuse::FORM,
        &parallel::FORM,
        &boundary::FORM,
        &deviation::FORM,
        &query::FORM,
        &auto::FORM,
    ];

    /// The policy `name` with the parameters that `value` knows by name.
    ///
    /// # Errors
    /// When there is no such policy, or a parameter is missing or outside its range.
    pub fn new(name: &str, value: impl Fn(&str) -> Option<f64>) -> Result<Self, PolicyError> {
        let form = Form::named(name)?;
        let known = form.parameters.iter().map(|parameter| {
            let (policy, name, expected) = (form.name, parameter.name, parameter.expected);
            value(name).ok_or(PolicyError::Missing { policy, name, expected })
        });
        form.policy(&known.collect::<Result<Vec<_>, _>>()?)
    }

    /// How this policy is written, and with which values.
    fn parts(&self) -> (&'static Form, Vec<f64>) {
        let all = Self::FORMS.into_iter();
        let mut own = all.filter_map(|form| Some((form, (form.values)(self)?)));
        own.next().expect("every policy has a form")
    }

    /// How this policy is written.
    pub fn form(&self) -> &'static Form {
        self.parts().0
    }

    /// The values of its parameters.
    pub fn values(&self) -> impl Iterator<Item = (&'static Parameter, f64)> {
        let (form, values) = self.parts();
        form.parameters.iter().zip(values)
    }

    /// Refuses parameters outside their range.
    ///
    /// # Errors
    /// The parameter, its range, and the value given.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.values().try_for_each(|(parameter, value)| parameter.check(value))
    }

    /// It goes by scores, at least where a composition is long: rows may be given in place of those
    /// it would choose.
    pub(crate) fn chooses_rows(&self) -> bool {
        let long = Places { root: 1, lengths: vec![1_000; 2], exact: 0, tail: 1 };
        !self.is_plain() && matches!(self.choice(&long), Choice::Scored { .. })
    }

    /// Nothing comes from fragments: the answer is computed as plain concatenation is.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Recompute) || *self == Self::Auto { quality: 1.0 }
    }

    /// The rows of a composition that are computed again, where it is joined of fragments.
    pub(crate) fn choice(&self, places: &Places) -> Choice {
        if places.rows() == 0 { nothing(self, places) } else { (self.form().choice)(self, places) }
    }

    /// Where fragments stand.
    pub(crate) fn layout(&self) -> Layout {
        match *self {
            Self::Parallel { temperature, scale } => {
                Layout::Parallel { temperature: temperature as f32, scale: scale as f32 }
            }
            _ => Layout::Sequential,
        }
    }

    /// All forms in one line, for messages.
    pub fn forms() -> String {
        let all: Vec<_> = Self::FORMS.iter().map(|form| form.text()).collect();
        all.join(", ")
    }
}

impl Form {
    /// The form of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<&'static Self, PolicyError> {
        let form = JoinPolicy::FORMS.into_iter().find(|form| form.name == name);
        form.ok_or_else(|| PolicyError::Unknown { name: name.to_owned() })
    }

    /// As in a text, with parameters by name: `boundary:TOKENS`.
    pub fn text(&self) -> String {
        let names: Vec<_> = self.parameters.iter().map(|p| p.name.to_uppercase()).collect();
        if names.is_empty() {
            self.name.into()
        } else {
            format!("{}:{}", self.name, names.join(","))
        }
    }

    /// The policy with these values, which are as many as it takes.
    fn policy(&self, values: &[f64]) -> Result<JoinPolicy, PolicyError> {
        let pairs = self.parameters.iter().zip(values);
        pairs.into_iter().try_for_each(|(parameter, &value)| parameter.check(value))?;
        Ok((self.make)(values))
    }
}

impl Parameter {
    fn check(&self, value: f64) -> Result<(), PolicyError> {
        if (self.allows)(value) && (!self.is_whole || value.fract() == 0.0) {
            return Ok(());
        }
        Err(self.refuse(value.to_string()))
    }

    fn refuse(&self, given: String) -> PolicyError {
        PolicyError::OutOfRange { name: self.name, given, expected: self.expected }
    }
}

/// No row is computed again.
fn nothing(_: &JoinPolicy, _: &Places) -> Choice {
    Choice::Rows(Arc::from([]))
}

/// `recompute`, `boundary:16`, `parallel:0.9,0.9`: what [`FromStr`] reads.
impl fmt::Display for JoinPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form().name)?;
        self.values()
            .enumerate()
            .try_for_each(|(i, (_, value))| write!(f, "{}{value}", if i == 0 { ':' } else { ',' }))
    }
}

impl FromStr for JoinPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (name, rest) = text.split_once(':').map_or((text, None), |(n, r)| (n, Some(r)));
        let form = Form::named(name)?;
        let given: Vec<&str> = rest.map_or(Vec::new(), |rest| rest.split(',').collect());
        let (policy, takes) = (form.name, form.parameters.len());
        if given.len() > takes {
            return Err(PolicyError::TooMany { policy, takes, given: given.len() });
        }
        let mut values = Vec::new();
        for (i, parameter) in form.parameters.iter().enumerate() {
            let (name, expected) = (parameter.name, parameter.expected);
            let text = given.get(i).ok_or(PolicyError::Missing { policy, name, expected })?;
            values.push(text.trim().parse().map_err(|_| parameter.refuse(format!("{text:?}")))?);
        }
        form.policy(&values)
    }
}

#[cfg(test)]
mod tests;
