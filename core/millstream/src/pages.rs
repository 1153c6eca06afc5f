//! Has the examples in pages of the guide run as doc tests.

#[doc = include_str!("../../../docs/guide/order.md")]
mod order {}

#[doc = include_str!("../../../docs/guide/bounded-input.md")]
mod bounded_input {}

#[doc = include_str!("../../../docs/guide/event-time.md")]
mod event_time {}

#[doc = include_str!("../../../docs/guide/windows.md")]
mod windows {}

#[doc = include_str!("../../../docs/guide/broadcast-state.md")]
mod broadcast_state {}

#[doc = include_str!("../../../docs/guide/state-and-checkpoints.md")]
mod state_and_checkpoints {}

#[doc = include_str!("../../../docs/guide/upgrading-jobs.md")]
mod upgrading_jobs {}

#[doc = include_str!("../../../docs/guide/joins.md")]
mod joins {}

#[doc = include_str!("../../../docs/guide/testing-jobs.md")]
mod testing_jobs {}

#[doc = include_str!("../../../docs/guide/debugging.md")]
mod debugging {}

#[doc = include_str!("../../../docs/guide/coming-from-flink.md")]
mod coming_from_flink {}

#[doc = include_str!("../../../docs/guide/write-a-source-or-a-sink.md")]
mod write_a_source_or_a_sink {}
