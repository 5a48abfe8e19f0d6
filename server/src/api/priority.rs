//! How urgent a call says it is, on the wire.

use engine::Priority;
use serde::Deserialize;
use utoipa::ToSchema;

/// How urgent a call is, among those of its API key: keys take turns, whatever they say of their own.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum PriorityBody {
    /// Gets a place first, or that of a less urgent call, which goes on later and loses nothing.
    High,
    /// As calls are.
    Normal,
    /// Nobody waits for it: beside others it gets a few rows of a step.
    Low,
}

/// OpenAI's word for the same.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum ServiceTier {
    /// As calls are.
    Auto,
    /// As calls are.
    Default,
    /// As calls are.
    Scale,
    /// Cheaper and later: low.
    Flex,
    /// High.
    Priority,
}

impl TryFrom<String> for PriorityBody {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "high" => Ok(Self::High),
            "normal" => Ok(Self::Normal),
            "low" => Ok(Self::Low),
            _ => Err(format!("{text:?} is no priority: high, normal and low are")),
        }
    }
}

impl TryFrom<String> for ServiceTier {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "default" => Ok(Self::Default),
            "scale" => Ok(Self::Scale),
            "flex" => Ok(Self::Flex),
            "priority" => Ok(Self::Priority),
            _ => Err(format!("{text:?} is no tier: auto, default, scale, flex and priority are")),
        }
    }
}

impl From<PriorityBody> for Priority {
    fn from(body: PriorityBody) -> Self {
        match body {
            PriorityBody::High => Self::High,
            PriorityBody::Normal => Self::Normal,
            PriorityBody::Low => Self::Low,
        }
    }
}

impl From<ServiceTier> for Priority {
    fn from(tier: ServiceTier) -> Self {
        match tier {
            ServiceTier::Auto | ServiceTier::Default | ServiceTier::Scale => Self::Normal,
            ServiceTier::Flex => Self::Low,
            ServiceTier::Priority => Self::High,
        }
    }
}

/// What a body says, or normal.
pub fn priority(given: Option<impl Into<Priority>>) -> Priority {
    given.map_or(Priority::Normal, Into::into)
}
