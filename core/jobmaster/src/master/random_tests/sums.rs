//! The things that the world has to see.

/// The number of times that things happen in a thousand seeds, at least: a test that sees too
/// little shows nothing.
pub(super) const LEAST: &[(&str, u64)] = &[
    ("TaskManager killed", 10_000),
    ("asked", 100_000),
    ("canceled", 2_000),
    ("complete", 4_000),
    ("event", 5_000),
    ("event held back", 50),
    ("failed", 400),
    ("final", 2_000),
    ("finished", 2_000),
    ("host ended", 50_000),
    ("in doubt", 1_000),
    ("recovered", 10_000),
    ("regions restarted", 1_000),
    ("restored", 1_000),
    ("run twice", 9),
    ("savepoint", 500),
    ("steps behind a checkpoint", 200_000),
    ("stop", 400),
    ("taken over", 250),
    ("task failed", 1_000),
    ("virtual seconds", 10_000_000),
];
