//! A task's counters: written by its own thread alone, read by the one that reports them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident / $add:ident,)*) => {
        /// Counters that only the task's thread adds to, once per batch: a plain load and store,
        /// no lock and no locked instruction.
        #[derive(Debug, Default)]
        pub struct TaskCounters { $($name: AtomicU64,)* }

        /// The values of the counters at one time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CounterValues { $($(#[$doc])* pub $name: u64,)* }

        impl TaskCounters {
            $($(#[$doc])* #[inline] pub fn $add(&self, count: u64) {
                self.$name.store(self.$name.load(Relaxed).wrapping_add(count), Relaxed);
            })*

            /// The values now; exact once the task has ended.
            #[must_use]
            pub fn values(&self) -> CounterValues {
                CounterValues { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters!(
    /// Records that entered from other tasks.
    records_in / add_records_in,
    /// Records that left to other tasks.
    records_out / add_records_out,
    /// Batches that left to other tasks; one of long records leaves in several.
    buffers_out / add_buffers_out,
    /// Bytes that entered from other processes.
    bytes_in / add_bytes_in,
    /// Bytes that left to other processes.
    bytes_out / add_bytes_out,
    /// Bad records that were dropped.
    records_dropped / add_records_dropped,
);
