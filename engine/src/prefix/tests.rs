//! The prefix cache.
