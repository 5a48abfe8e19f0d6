//! Bodies and their refusals.
