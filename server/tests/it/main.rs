//! The HTTP side over the real engine and a model that spells the alphabet.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed, helpers included")]

mod bodies;
mod docs;
mod forks;
mod fragments;
mod generate;
mod golden_joins;
mod harness;
mod host_memory;
mod inboxes;
mod letters;
mod live_forks;
mod openai;
mod openai_refusals;
mod openapi;
mod restarts;
mod served;
mod side_contexts;
mod side_events;
mod side_sources;
mod sockets;
mod starts;
mod streams;
