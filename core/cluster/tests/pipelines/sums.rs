//! The things that the world has to see.

/// The number of times that things happen in a thousand seeds, at least: a test that sees too
/// little shows nothing.
pub const LEAST: &[(&str, u64)] = &[];
