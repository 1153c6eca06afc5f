//! The coordinator, one behaviour at a time.
