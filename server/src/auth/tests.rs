//! Key files and their tenants.
