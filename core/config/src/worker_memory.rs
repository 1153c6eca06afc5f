//! The memory of a TaskManager, and the share of each slot.
//!
//! Flink divides this memory into a dozen parts for its JVM. Here are two: the overhead of the
//! TaskManager's own process, and the task hosts' part, in equal shares per slot. The most precise
//! of Flink's three sizes that is set decides: `taskmanager.memory.task.heap.size` or else
//! `taskmanager.memory.flink.size` is the task hosts' part, with the overhead beside it;
//! `taskmanager.memory.process.size` includes the overhead.

use millstream_types::ByteSize;

use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::options;

/// The sizes of one TaskManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerMemory {
    /// The TaskManager with all its task hosts: the memory of its container.
    pub total: ByteSize,
    /// Of the TaskManager's own process.
    pub overhead: ByteSize,
    /// Of one slot: its share of the limit of its task host.
    pub slot: ByteSize,
}

/// Below this a task host does not even start.
const SLOT_MIN: ByteSize = ByteSize::from_mib(8);

impl WorkerMemory {
    /// The sizes that `configuration` asks for.
    ///
    /// # Errors
    /// The parts are larger than the whole, or a slot would get next to nothing.
    pub fn from_configuration(configuration: &Configuration) -> Result<Self, ConfigError> {
        let slots = configuration.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
        let overhead = configuration.get(&options::TASKMANAGER_MEMORY_OVERHEAD)?;
        let process = configuration.get(&options::TASKMANAGER_MEMORY_PROCESS_SIZE)?;
        let shared = match configuration.get(&options::TASKMANAGER_MEMORY_TASK_HEAP_SIZE)? {
            Some(heap) => Some(heap),
            None => configuration.get(&options::TASKMANAGER_MEMORY_FLINK_SIZE)?,
        };
        let whole = configuration.text(options::TASKMANAGER_MEMORY_PROCESS_SIZE.key());
        let (total, hosts) = match shared {
            None => (process, process.saturating_sub(overhead)),
            Some(hosts) => {
                let sum = hosts.as_bytes().saturating_add(overhead.as_bytes());
                let sum = ByteSize::from_bytes(sum);
                if whole.is_some() && sum > process {
                    return Err(ConfigError::Conflict(format!(
                        "the slots' memory of {hosts} and the overhead of {overhead} exceed \
                         taskmanager.memory.process.size of {process}; raise it or leave it out"
                    )));
                }
                (if whole.is_some() { process } else { sum }, hosts)
            }
        };
        let slot = hosts.divided_by(slots);
        if slots == 0 || slot < SLOT_MIN {
            return Err(ConfigError::Conflict(format!(
                "{slots} slots cannot share {hosts}: each needs {SLOT_MIN}; \
                 raise taskmanager.memory.process.size or lower taskmanager.numberOfTaskSlots"
            )));
        }
        Ok(Self { total, overhead, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pairs: &[(&str, &str)]) -> Result<WorkerMemory, ConfigError> {
        WorkerMemory::from_configuration(&Configuration::from_pairs(pairs.iter().copied())?)
    }

    fn mib(total: u64, overhead: u64, slot: u64) -> WorkerMemory {
        WorkerMemory {
            total: ByteSize::from_mib(total),
            overhead: ByteSize::from_mib(overhead),
            slot: ByteSize::from_mib(slot),
        }
    }

    #[test]
    fn slots_share_what_the_overhead_leaves() {
        assert_eq!(memory(&[]).unwrap(), mib(1728, 128, 1600));
        let four = memory(&[("taskmanager.numberOfTaskSlots", "4")]);
        assert_eq!(four.unwrap(), mib(1728, 128, 400));
    }

    #[test]
    fn the_most_precise_size_decides() {
        let flink = ("taskmanager.memory.flink.size", "1g");
        assert_eq!(memory(&[flink]).unwrap(), mib(1152, 128, 1024));
        let heap = ("taskmanager.memory.task.heap.size", "512m");
        assert_eq!(memory(&[flink, heap]).unwrap(), mib(640, 128, 512));
        let process = ("taskmanager.memory.process.size", "2g");
        assert_eq!(memory(&[process, heap]).unwrap(), mib(2048, 128, 512));
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let process = ("taskmanager.memory.process.size", "512m");
        let heap = ("taskmanager.memory.task.heap.size", "512m");
        let error = memory(&[process, heap]).unwrap_err().to_string();
        assert!(error.contains("exceed taskmanager.memory.process.size of 512 mb"), "{error}");
        let error = memory(&[("taskmanager.memory.process.size", "64m")]).unwrap_err().to_string();
        assert!(error.contains("slots cannot share"), "{error}");
    }
}
