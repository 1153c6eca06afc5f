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
            /// The same of each input, in a task with two.
            input_watermarks: [AtomicU64; 2],
        }

        /// The values of the counters at one time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)*
            /// The watermark of the task's inputs, if there is one.
            pub watermark: Option<Timestamp>,
            /// The watermark of each input of a task with two, if there is one.
            pub input_watermarks: [Option<Timestamp>; 2],
        }

        impl TaskCounters {
            $($(#[$doc])* #[inline] pub fn $add(&self, count: u64) {
                self.$name.store(self.$name.load(Relaxed).wrapping_add(count), Relaxed);
            })*

            /// The values now; exact once the task has ended.
            #[must_use]
            pub fn values(&self) -> CounterValues {
                CounterValues {
                    $($name: self.$name.load(Relaxed),)*
                    watermark: watermark(&self.watermark),
                    input_watermarks: self.input_watermarks.each_ref().map(watermark),
                }
            }

            /// Notes the watermark of the task's inputs.
            pub fn set_watermark(&self, watermark: Timestamp) {
                self.watermark.store(since_first(watermark), Relaxed);
            }

            /// Notes the watermark of one input, 0 or 1, of a task with two.
            pub fn set_input_watermark(&self, input: usize, watermark: Timestamp) {
                if let Some(of_input) = self.input_watermarks.get(input) {
                    of_input.store(since_first(watermark), Relaxed);
                }
            }
        }
    };
}

/// The number of milliseconds since the first of all times.
const fn since_first(watermark: Timestamp) -> u64 {
    watermark.as_millis().abs_diff(i64::MIN)
}

fn watermark(since_first: &AtomicU64) -> Option<Timestamp> {
    match since_first.load(Relaxed) {
        0 => None,
        since => Some(Timestamp::from_millis(i64::MIN.wrapping_add_unsigned(since))),
    }
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
