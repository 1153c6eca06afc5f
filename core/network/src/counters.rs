//! A task's counters: written by its own thread alone, read by the one that reports them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millstream_types::Timestamp;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident / $add:ident,)*) => {
        /// Counters that only the task's thread adds to, once per batch: a plain load and store,
        /// no lock and no locked instruction.
        #[derive(Debug, Default)]
        pub struct TaskCounters {
            $($name: AtomicU64,)*
            /// The number of milliseconds since the first of all times; 0 while there is none.
            watermark: AtomicU64,
        }

        /// The values of the counters at one time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)*
            /// The watermark of the task's inputs, if there is one.
            pub watermark: Option<Timestamp>,
        }

        impl TaskCounters {
            $($(#[$doc])* #[inline] pub fn $add(&self, count: u64) {
                self.$name.store(self.$name.load(Relaxed).wrapping_add(count), Relaxed);
            })*

            /// The values now; exact once the task has ended.
            #[must_use]
            pub fn values(&self) -> CounterValues {
                let watermark = match self.watermark.load(Relaxed) {
                    0 => None,
                    since => Some(Timestamp::from_millis(i64::MIN.wrapping_add_unsigned(since))),
                };
                CounterValues { $($name: self.$name.load(Relaxed),)* watermark }
            }

            /// Notes the watermark of the task's inputs.
            pub fn set_watermark(&self, watermark: Timestamp) {
                self.watermark.store(watermark.as_millis().abs_diff(i64::MIN), Relaxed);
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
