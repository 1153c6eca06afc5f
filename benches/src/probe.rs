//! The physical limit of every row: the same work written by hand, without an engine.
//!
//! A probe of a throughput row also computes the expected records of the sinks, so the two engines
//! are compared with a third, independent answer and not only with each other.

mod shaped;

use crate::paced::Times;
use crate::process::{monotonic_ns, own_cpu, resident_bytes};
use crate::records::{self, Digest, Wide};
use crate::rows::{
    GAP_MS, Job, Kind, NEAR_MS, SEED, Spans, StartFigure, TEXT_BYTES, Throughput, YarnFigure,
};
use anyhow::{Context, Result, bail};
use hashbrown::HashMap;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

const BATCH_RECORDS: u64 = 1_024;
const BATCHES_IN_FLIGHT: usize = 8;
const WIDE_BYTES: usize = 100;
/// Records in one write of 32 KiB.
const WRITE_RECORDS: usize = 327;

/// The result of a throughput probe.
pub struct Found {
    /// The expected records of the sink.
    pub digest: Digest,
    /// Records that went in; words for WordCount.
    pub records: u64,
    /// CPU time of all threads.
    pub cpu: Duration,
}

/// Does the work of `row` by hand.
pub fn throughput(row: &Throughput, text: &Path) -> Result<Found> {
    if let Job::Shape(shape, way) = row.job {
        return shaped::throughput(shape, way, row.records);
    }
    let before = own_cpu();
    let (digest, records) = match row.job {
        Job::Chain => (chain(row.records), row.records),
        Job::Rebalance | Job::Hash => (hand_over_pairs(row.records), row.records),
        Job::WideRebalance | Job::WideHash => (half_wire(row.records)?, row.records),
        Job::WideWire => (wire(0..row.records)?, row.records),
        Job::KeyedSum => (keyed_sum(row.records, row.keys), row.records),
        Job::WideSum => (wide_sum(row.records, row.keys), row.records),
        Job::TimedSum => (timed_sum(row.records, row.keys), row.records),
        Job::Windows(spans) => (windows(row, spans), row.records),
        Job::Sessions => (sessions(row), row.records),
        Job::IntervalJoin => (interval_join(row), row.records),
        Job::TextSum => (text_sum(row.records, row.keys), row.records),
        Job::WordCount => {
            let digest = word_count(text)?;
            (digest, digest.count)
        }
        Job::JsonLines { .. } => crate::json::sums(text)?,
        Job::Stamp
        | Job::WideStart
        | Job::Paced
        | Job::Shape(..)
        | Job::Recover
        | Job::Trillion => {
            bail!("this job has no throughput here")
        }
    };
    Ok(Found { digest, records, cpu: own_cpu() - before })
}

/// The limit of a row that is no throughput: seconds or bytes.
pub fn simple(kind: &Kind) -> Result<f64> {
    match kind {
        Kind::ColdStart
        | Kind::Submit { .. }
        | Kind::Start(StartFigure::Seconds | StartFigure::Slots)
        | Kind::Yarn(YarnFigure::WarmJob) => {
            let start = Instant::now();
            spawn_nothing()?;
            Ok(start.elapsed().as_secs_f64())
        }
        Kind::List | Kind::Start(StartFigure::JobManagerCpu) => {
            let before = crate::process::children_cpu();
            // One start is below the clock's resolution.
            (0..20).try_for_each(|_| spawn_nothing())?;
            Ok((crate::process::children_cpu() - before).as_secs_f64() / 20.0)
        }
        Kind::IdleJobManager
        | Kind::IdleTaskManager
        | Kind::Memory { .. }
        | Kind::Yarn(YarnFigure::MasterMemory | YarnFigure::WorkerMemory) => {
            let mut sleeper = Command::new("sleep").arg("60").spawn()?;
            std::thread::sleep(Duration::from_millis(100));
            let bytes = resident_bytes(sleeper.id());
            sleeper.kill()?;
            sleeper.wait()?;
            Ok(bytes? as f64)
        }
        Kind::Recovery => read_back_s(),
        Kind::Throughput(_) | Kind::Latency { .. } | Kind::Yarn(_) => {
            bail!("this row has a probe of its own")
        }
    }
}

/// The time of reading half of 1 GB from a file that the system has in memory.
fn read_back_s() -> Result<f64> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), vec![b'x'; 500_000_000])?;
    let start = Instant::now();
    std::hint::black_box(fs::read(file.path())?);
    Ok(start.elapsed().as_secs_f64())
}

/// The records of the paced job.
#[must_use]
pub fn paced(records: u64) -> Digest {
    let mut digest = Digest::default();
    (0..records).for_each(|index| digest.add(records::scramble(SEED, index)));
    digest
}

/// Times from one thread to another, a thousand batches a second for two seconds.
#[must_use]
pub fn hand_over_times(rate: u64) -> Times {
    let (sender, receiver) = sync_channel::<Vec<u64>>(BATCHES_IN_FLIGHT);
    let mut times = Times::default();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..2_000 {
                std::thread::sleep(Duration::from_millis(1));
                let now = monotonic_ns();
                if sender.send(vec![now; rate.div_ceil(1_000) as usize]).is_err() {
                    return;
                }
            }
        });
        for batch in receiver {
            batch.into_iter().for_each(|created| times.add(monotonic_ns() - created));
        }
    });
    times
}

/// fork, exec and wait: the least that a command costs.
fn spawn_nothing() -> Result<()> {
    Command::new("true").status().context("cannot run `true`")?;
    Ok(())
}

/// The fused loop.
fn chain(records: u64) -> Digest {
    let mut digest = Digest::default();
    for number in 0..records {
        if let Some(number) = records::chain(number) {
            digest.add(number);
        }
    }
    digest
}

fn hand_over_pairs(records: u64) -> Digest {
    let make = |index| (records::scramble(SEED, index), index);
    let word = |(key, value)| records::pair(key, value + 1);
    hand_over(0..records, BATCH_RECORDS, make, word)
}

/// Batches from one thread to another.
fn hand_over<T: Send>(
    records: Range<u64>,
    batch_records: u64,
    make: impl Fn(u64) -> T + Send,
    word: impl Fn(T) -> u64,
) -> Digest {
    let (batches, incoming) = sync_channel::<Vec<T>>(BATCHES_IN_FLIGHT);
    let (empties, returned) = sync_channel::<Vec<T>>(BATCHES_IN_FLIGHT + 2);
    let mut digest = Digest::default();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut index = records.start;
            while index < records.end {
                let mut batch = returned.try_recv().unwrap_or_default();
                let end = records.end.min(index + batch_records);
                batch.extend((index..end).map(&make));
                index = end;
                if batches.send(batch).is_err() {
                    return;
                }
            }
        });
        for mut batch in incoming {
            batch.drain(..).for_each(|record| digest.add(word(record)));
            // If the producer has finished, the buffer is not wanted back.
            empties.try_send(batch).ok();
        }
    });
    digest
}

/// Two subtasks on two workers: every other record finds its target in its own process.
fn half_wire(records: u64) -> Result<Digest> {
    let mut digest = wire(0..records / 2)?;
    let word = |record: Wide| Wide { value: record.value + 1, ..record }.word();
    let make = |index| Wide::new(SEED, index);
    let local = hand_over(records / 2..records, BATCH_RECORDS, make, word);
    digest.merge(local);
    Ok(digest)
}

/// Records of 100 bytes over loopback TCP, 32 KiB a write.
fn wire(records: Range<u64>) -> Result<Digest> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            let mut stream = TcpStream::connect(address)?;
            let mut buffer = Vec::with_capacity(WRITE_RECORDS * WIDE_BYTES);
            for index in records {
                encode(&Wide::new(SEED, index), &mut buffer);
                if buffer.len() == WRITE_RECORDS * WIDE_BYTES {
                    stream.write_all(&buffer)?;
                    buffer.clear();
                }
            }
            Ok(stream.write_all(&buffer)?)
        });
        let digest = receive(listener.accept()?.0)?;
        match sender.join() {
            Ok(sent) => sent.map(|()| digest),
            Err(_) => bail!("the sending thread of the probe panicked"),
        }
    })
}

fn encode(record: &Wide, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&record.key.to_le_bytes());
    buffer.extend_from_slice(&record.value.to_le_bytes());
    for word in record.payload {
        buffer.extend_from_slice(&word.to_le_bytes());
    }
    buffer.extend_from_slice(&record.tail.to_le_bytes());
}

fn receive(mut stream: TcpStream) -> Result<Digest> {
    let mut digest = Digest::default();
    let mut buffer = vec![0; WRITE_RECORDS * WIDE_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            return Ok(digest);
        }
        filled += read;
        let whole = filled - filled % WIDE_BYTES;
        for bytes in buffer.get(..whole).unwrap_or_default().chunks_exact(WIDE_BYTES) {
            let record = decode(bytes).context("a record is too short")?;
            digest.add(Wide { value: record.value + 1, ..record }.word());
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn decode(bytes: &[u8]) -> Option<Wide> {
    let (words, rest) = bytes.as_chunks::<8>();
    let [key, value, payload @ ..] = words else { return None };
    let payload: &[[u8; 8]; 10] = payload.try_into().ok()?;
    Some(Wide {
        key: u64::from_le_bytes(*key),
        value: u64::from_le_bytes(*value),
        payload: payload.map(u64::from_le_bytes),
        tail: u32::from_le_bytes(rest.try_into().ok()?),
    })
}

/// A hash map, one probe per record.
fn keyed_sum(records: u64, keys: u64) -> Digest {
    let mut sums: HashMap<u64, u64> = HashMap::new();
    let mut digest = Digest::default();
    for index in 0..records {
        let key = records::key(SEED, index, keys);
        let sum = sums.entry(key).or_insert(0);
        *sum += 1;
        digest.add(records::pair(key, *sum));
    }
    digest
}

/// As [`keyed_sum`], with a text beside each sum.
fn wide_sum(records: u64, keys: u64) -> Digest {
    let mut sums: HashMap<u64, (u64, String)> = HashMap::new();
    let mut digest = Digest::default();
    for index in 0..records {
        let key = records::key(SEED, index, keys);
        let (sum, _) = sums.entry(key).or_insert_with(|| (0, "x".repeat(TEXT_BYTES)));
        *sum += 1;
        digest.add(records::pair(key, *sum));
    }
    digest
}

/// The time after which a silent key is forgotten: longer than the benchmark runs.
const SILENCE_MS: u128 = 60_000;

/// As [`keyed_sum`] with a timeout of each key, all in one ordered set.
fn timed_sum(records: u64, keys: u64) -> Digest {
    let mut sums: HashMap<u64, (u64, u128)> = HashMap::new();
    let mut timeouts = BTreeSet::new();
    let (mut digest, start) = (Digest::default(), Instant::now());
    for index in 0..records {
        let key = records::key(SEED, index, keys);
        let (sum, timeout) = sums.entry(key).or_default();
        if *sum > 0 {
            timeouts.remove(&(*timeout, key));
        }
        *sum += 1;
        *timeout = start.elapsed().as_millis() + SILENCE_MS;
        timeouts.insert((*timeout, key));
        digest.add(records::pair(key, *sum));
    }
    digest
}

/// A hash map for each pane; a window adds up those that it has. Sources are read by turns.
fn windows(row: &Throughput, spans: Spans) -> Digest {
    let (size, slide) = spans.millis();
    let sources = u64::from(row.parallelism);
    let each = row.records / sources;
    let mut digest = Digest::default();
    let mut panes: VecDeque<HashMap<u64, u64>> = VecDeque::from([HashMap::new()]);
    let mut next = |panes: &mut VecDeque<HashMap<u64, u64>>| {
        let mut window: HashMap<u64, u64> = HashMap::new();
        let add = |(key, count): (&u64, &u64)| *window.entry(*key).or_insert(0) += count;
        panes.iter().flatten().for_each(add);
        window.iter().for_each(|(key, count)| digest.add(records::pair(*key, *count)));
        panes.truncate((size / slide - 1) as usize);
        panes.push_front(HashMap::new());
    };
    let mut end = slide;
    for number in 0..each {
        if records::event_time(number, each, sources) >= end {
            next(&mut panes);
            end += slide;
        }
        let Some(pane) = panes.front_mut() else { continue };
        for source in 0..sources {
            let key = records::key(SEED, source * each + number, row.keys);
            *pane.entry(key).or_insert(0) += 1;
        }
    }
    for _ in 0..size / slide {
        next(&mut panes);
    }
    digest
}

/// A hash map of the sessions that are open, one for each key. Sources are read by turns.
fn sessions(row: &Throughput) -> Digest {
    let sources = u64::from(row.parallelism);
    let each = row.records / sources;
    let mut digest = Digest::default();
    let mut sessions: HashMap<u64, (u64, u64)> = HashMap::new();
    for number in 0..each {
        let time = records::event_time(number, each, sources);
        for source in 0..sources {
            let key = records::key(SEED, source * each + number, row.keys);
            let (count, last) = sessions.entry(key).or_insert((0, time));
            if time > *last + GAP_MS {
                digest.add(records::pair(key, *count));
                *count = 0;
            }
            (*count, *last) = (*count + 1, time);
        }
    }
    sessions.iter().for_each(|(key, (count, _))| digest.add(records::pair(*key, *count)));
    digest
}

/// The entries of a key that may still be joined, even and odd ones: their times and numbers.
type Near = [VecDeque<(u64, u64)>; 2];

/// Two short lists for each key in a hash map. Sources are read by turns.
fn interval_join(row: &Throughput) -> Digest {
    let sources = u64::from(row.parallelism);
    let each = row.records / sources;
    let mut digest = Digest::default();
    let mut keys: HashMap<u64, Near> = HashMap::new();
    for turn in 0..each {
        for source in 0..sources {
            let number = source * each + turn;
            let time = records::disordered_time(SEED, number, each, sources);
            let [even, odd] = keys.entry(records::key(SEED, number, row.keys)).or_default();
            let is_even = number.is_multiple_of(2);
            let (own, others) = if is_even { (even, odd) } else { (odd, even) };
            // The first entries are the earliest ones but for the disorder.
            let is_past =
                |other: &mut (u64, u64)| other.0 + NEAR_MS + 2 * records::DISORDER_MS < time;
            while others.pop_front_if(is_past).is_some() {}
            for (_, other) in others.iter().filter(|other| other.0.abs_diff(time) <= NEAR_MS) {
                let (even, odd) = if is_even { (number, *other) } else { (*other, number) };
                digest.add(records::pair(even, odd));
            }
            own.push_back((time, number));
        }
    }
    digest
}

/// As [`keyed_sum`] with texts.
fn text_sum(records: u64, keys: u64) -> Digest {
    let mut sums: HashMap<String, u64> = HashMap::new();
    let mut digest = Digest::default();
    for index in 0..records {
        let text = records::text(records::key(SEED, index, keys));
        let ends = records::ends(text.as_bytes());
        let sum = sums.entry(text).or_insert(0);
        *sum += 1;
        digest.add(records::pair(ends, *sum));
    }
    digest
}

/// Tokenise, then one probe per word.
fn word_count(text: &Path) -> Result<Digest> {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut digest = Digest::default();
    for entry in fs::read_dir(text)? {
        let mut content = fs::read(entry?.path())?;
        content.make_ascii_lowercase();
        for word in content.split(|byte| !byte.is_ascii_alphanumeric()) {
            if word.is_empty() {
                continue;
            }
            let count = counts.entry_ref(word).or_insert(0);
            *count += 1;
            digest.add(records::pair(records::hash(word), *count));
        }
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Size;

    #[test]
    fn hand_over_and_loop_agree() {
        let mut digest = Digest::default();
        for index in 0..5_000 {
            digest.add(records::pair(records::scramble(SEED, index), index + 1));
        }
        assert_eq!(hand_over_pairs(5_000), digest);
    }

    #[test]
    fn every_record_arrives_over_the_wire() {
        let mut digest = Digest::default();
        for index in 0..1_000 {
            let record = Wide::new(SEED, index);
            digest.add(Wide { value: record.value + 1, ..record }.word());
        }
        assert_eq!(wire(0..1_000).unwrap(), digest);
        assert_eq!(half_wire(1_000).unwrap(), digest);
    }

    #[test]
    fn a_running_sum_emits_every_record() {
        assert_eq!(keyed_sum(1_000, 10).count, 1_000);
    }

    #[test]
    fn timeouts_change_no_sum() {
        assert_eq!(timed_sum(1_000, 10), keyed_sum(1_000, 10));
    }

    #[test]
    fn an_interval_join_has_the_pairs_that_are_near() {
        let size = Size { workers: 1, slots: 2, memory_mb: 1_024, tls: false };
        let (records, keys) = (4_000, 20);
        let row = Throughput { job: Job::IntervalJoin, records, keys, parallelism: 2, size };
        let entry = |number| {
            let time = records::disordered_time(SEED, number, records / 2, 2);
            (records::key(SEED, number, keys), time, number)
        };
        let mut digest = Digest::default();
        for even in (0..records).step_by(2).map(entry) {
            for odd in (1..records).step_by(2).map(entry) {
                if even.0 == odd.0 && even.1.abs_diff(odd.1) <= NEAR_MS {
                    digest.add(records::pair(even.2, odd.2));
                }
            }
        }
        assert_eq!(interval_join(&row), digest);
        assert!(digest.count > 1_000, "{digest:?}");
    }

    #[test]
    fn a_running_sum_by_text_emits_every_record() {
        assert_eq!(text_sum(1_000, 10).count, 1_000);
    }

    #[test]
    fn words_are_lower_cased_runs_of_letters_and_digits() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), b"Ab-ab \xff 7x\n").unwrap();
        let mut digest = Digest::default();
        for (word, count) in [(b"ab", 1), (b"ab", 2), (b"7x", 1)] {
            digest.add(records::pair(records::hash(word), count));
        }
        assert_eq!(word_count(directory.path()).unwrap(), digest);
    }
}
