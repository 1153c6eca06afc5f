//! Memory of jobs: nothing is allocated per record, and nothing grows while a consumer stalls.
//!
//! A program of its own, because it brings an allocator that counts.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_api::*;
use millstream_cluster::MiniCluster;
use millstream_connectors::{Datagen, DiscardSink};
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::JobMasterConfig;
use millstream_network::{
    ChannelId, ChannelLayout, ChannelWriter, Event, Exchange, ExchangeConfig, Generation, Inbox,
    InputChannels, PeerAddress, Received,
};
use millstream_security::Secret;
use millstream_soak::scale;
use millstream_types::{Barrier, BarrierKind, CheckpointId, HostId, Key, Timestamp};
use serde::{Deserialize, Serialize};

/// The number of allocations of this process, and of the bytes that it holds.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn note(allocated: usize, freed: usize) {
    ALLOCATIONS.fetch_add(u64::from(allocated > 0), Ordering::Relaxed);
    HELD.fetch_add(allocated as u64, Ordering::Relaxed);
    HELD.fetch_sub(freed as u64, Ordering::Relaxed);
}

// SAFETY: everything is left to the system's allocator, the sizes are only noted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Held by the one test that runs: the whole process is counted.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs jobs in this process, on so many TaskManagers.
struct Local(u32);

impl Executor for Local {
    fn settings(&self) -> JobSettings {
        JobSettings { parallelism: 1, ..JobSettings::default() }
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let cluster = MiniCluster::start_on(self.0, program, graph, JobMasterConfig::default())?;
        Ok(Execution::Finished(cluster.wait()?))
    }
}

fn run(workers: u32, build: impl FnOnce(&mut Environment)) {
    let mut env = Environment::new(Box::new(Local(workers)));
    build(&mut env);
    env.execute("test").unwrap();
}

/// The number of a job's allocations for each of its records.
fn allocations_per_record(build: impl Fn(&mut Environment, u64)) -> f64 {
    let of = |records| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        run(1, |env| build(env, records));
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let (few, many) = (50_000, 550_000);
    of(few);
    let (of_few, of_many) = (of(few), of(many));
    of_many.saturating_sub(of_few) as f64 / (many - few) as f64
}

/// Counts the records of a key.
struct Count(ValueState<u64>);

impl<K: Key, I> KeyedProcess<K, I> for Count {
    type Out = u64;

    fn process(
        &mut self,
        _record: I,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        let count = self.0.get_or_insert_with(ctx, || 0)?;
        *count += 1;
        let count = *count;
        out.emit(count);
        Ok(())
    }
}

impl<K: Key, A, B> KeyedCoProcess<K, A, B> for Count {
    type Out = u64;

    fn process_left(
        &mut self,
        _record: A,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        KeyedProcess::<K, A>::process(self, _record, ctx, out)
    }

    fn process_right(
        &mut self,
        _record: B,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        KeyedProcess::<K, B>::process(self, _record, ctx, out)
    }
}

#[test]
fn no_operator_allocates_per_record() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let measured = allocations_per_record(|env, records| {
        let numbers = env
            .source("numbers", Datagen::from_fn(|n| n).count(records))
            .map_with(|ctx| {
                let (seen, newest) = (ctx.counter("seen")?, ctx.gauge("newest")?);
                let number = ctx.histogram("number")?;
                Ok(move |n: u64| {
                    seen.add(1);
                    newest.set(n as f64);
                    number.update(n);
                    Ok(n + 1)
                })
            })
            .filter(|n| Ok(n % 10 != 0))
            .flat_map(|n| Ok([n, n + 1]))
            .rebalance();
        numbers
            .key_by(|n| n % 1_000)
            .reduce("sum", |sum, n| {
                *sum = sum.wrapping_add(n);
                Ok(())
            })
            .key_by(|n| n % 1_000)
            .process("count", |states| Ok(Count(states.value("count")?)))
            .sink("out", DiscardSink::new());
    });
    eprintln!("numbers: {measured:.3} allocations per record");
    assert!(measured < 0.2, "{measured} allocations per record");
}

/// Longer than what any text keeps without allocating.
fn word(number: u64) -> (String, u64) {
    (format!("a word that is not among the shortest: {:03}", number % 100), number)
}

#[test]
fn a_key_by_reference_is_cloned_for_new_keys_alone() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let words = |env: &mut Environment, uid, records| {
        env.source(uid, Datagen::from_fn(word).count(records))
    };
    let process = allocations_per_record(|env, records| {
        words(env, "words", records)
            .key_by_ref(|(word, _)| word)
            .process("count", |states| Ok(Count(states.value("count")?)))
            .sink("out", DiscardSink::new());
    });
    let connected = allocations_per_record(|env, records| {
        let left = words(env, "left", records / 2).key_by_ref(|(word, _)| word);
        let right = words(env, "right", records / 2).key_by_ref(|(word, _)| word);
        left.connect(right)
            .process("count", |states| Ok(Count(states.value("count")?)))
            .sink("out", DiscardSink::new());
    });
    eprintln!("words: {process:.3} and {connected:.3} allocations per record");
    // Formatting a record's own text allocates once.
    assert!(process < 1.2, "{process} allocations per record");
    assert!(connected < 1.2, "{connected} allocations per record");
}

/// The most that the process of a worker may grow during a job.
const GROWTH_MAX: u64 = 16 << 20;

type Wide = [u64; 32];

/// 256 bytes a record: unbounded, each stream would take 100 MiB while its consumer stalls.
const RECORDS: u64 = 400_000;

fn fast(env: &mut Environment, name: &str) -> Stream<Wide> {
    env.source(name, Datagen::from_fn(|n| [n; 32]).count(RECORDS)).slot_sharing_group(name)
}

/// Has each subtask of a consumer that is told to sleep at its first record.
fn stalled_in<T: Data>(
    stream: Stream<T>,
    subtasks: std::ops::Range<u32>,
    group: &str,
    stall: Duration,
    seen: &DiscardSink,
) {
    let slow = stream.map_with(move |ctx| {
        let mut waits = subtasks.contains(&ctx.subtask());
        Ok(move |record| {
            if std::mem::take(&mut waits) {
                std::thread::sleep(stall);
            }
            Ok(record)
        })
    });
    let slow = slow.slot_sharing_group(group).start_new_chain().parallelism(SUBTASKS);
    slow.sink(group, seen.clone()).slot_sharing_group(group).parallelism(SUBTASKS);
}

/// Of each consumer.
const SUBTASKS: u32 = 2;

fn stalled<T: Data>(stream: Stream<T>, group: &str, stall: Duration, seen: &DiscardSink) {
    stalled_in(stream, 0..SUBTASKS, group, stall, seen);
}

static REFUSED: OutputTag<Wide> = OutputTag::new("refused");

/// 4 KiB a record.
#[derive(Clone, Serialize, Deserialize)]
struct Wider([Wide; 16]);

/// 60 MiB in five seconds.
const SLOW_RECORDS: u64 = 15_000;

/// A lane of it gets less than a batch (16 records) within a buffer timeout.
fn slow(env: &mut Environment, name: &str) -> Stream<Wider> {
    let wider = Datagen::from_fn(|n| Wider([[n; 32]; 16]));
    env.source(name, wider.count(SLOW_RECORDS).rate_per_second(3_000)).slot_sharing_group(name)
}

/// Every kind of producer, each before a consumer that stalls; how many records arrive.
fn every_kind(env: &mut Environment, stall: Duration, seen: &DiscardSink) -> u64 {
    env.set_buffer_timeout(Some(Duration::from_millis(5)));
    stalled(fast(env, "forward").rescale(), "behind forward", stall, seen);
    stalled(fast(env, "round").rebalance(), "behind round", stall, seen);
    stalled(fast(env, "everywhere").broadcast(), "behind broadcast", stall, seen);
    let united = fast(env, "one").union(fast(env, "other"));
    stalled(united, "behind union", stall, seen);
    let refusing = fast(env, "sides").on_error(OnError::side_output(&REFUSED));
    let refusing = refusing.map(|_| -> Result<Wide> { bail!("refused") });
    stalled(refusing.side_output(&REFUSED), "behind side", stall, seen);
    refusing.sink("never", DiscardSink::new());
    let keyed = fast(env, "keyed").key_by(|record| record[0] % 100);
    stalled(keyed.into_stream(), "behind keys", stall, seen);
    let left = fast(env, "left").key_by(|record| record[0] % 100);
    let right = fast(env, "right").key_by(|record| record[0] % 100);
    let count = left.connect(right).process("both", |states| Ok(Count(states.value("count")?)));
    stalled(count.slot_sharing_group("both"), "behind both", stall, seen);
    stalled(slow(env, "slow lanes").rebalance(), "behind slow lanes", stall, seen);
    let keyed = slow(env, "slow lane").key_by(|record| record.0[0][0] % 100).into_stream();
    stalled_in(keyed, 0..1, "behind slow lane", stall, seen);
    // Broadcast records arrive once in each subtask.
    (9 + u64::from(SUBTASKS) - 1) * RECORDS + 2 * SLOW_RECORDS
}

/// Runs something on a thread of its own; the most bytes that the process held meanwhile beyond
/// what it held before.
fn growth(run: impl FnOnce() + Send + 'static) -> u64 {
    let before = HELD.load(Ordering::Relaxed);
    let run = std::thread::spawn(run);
    let mut most = 0;
    while !run.is_finished() {
        most = most.max(HELD.load(Ordering::Relaxed).saturating_sub(before));
        std::thread::sleep(Duration::from_millis(5));
    }
    run.join().unwrap();
    most
}

/// The duration of a stall.
fn stall() -> Duration {
    scale(Duration::from_secs(10), Duration::from_secs(60))
}

/// The growth of a job whose consumers stall, all at the same time.
fn growth_behind_consumers_that_stall(workers: u32) -> u64 {
    let stall = stall();
    growth(move || {
        let (start, seen, mut expected) = (Instant::now(), DiscardSink::new(), 0);
        run(workers, |env| expected = every_kind(env, stall, &seen));
        assert!(start.elapsed() >= stall);
        assert_eq!(seen.count(), expected, "records arrived");
    })
}

#[test]
fn nothing_grows_behind_a_consumer_that_stalls() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let most = growth_behind_consumers_that_stall(1);
    eprintln!("one process, {:?}: most growth {} KiB", stall(), most >> 10);
    assert!(most < GROWTH_MAX, "it grew by {} MiB", most >> 20);
}

/// Channels lead from one of two workers to the other; both of them are in this process.
#[test]
fn nothing_grows_behind_a_consumer_in_another_process_that_stalls() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let most = growth_behind_consumers_that_stall(2);
    eprintln!("two processes, {:?}: most growth {} KiB", stall(), most >> 10);
    assert!(most < 2 * GROWTH_MAX, "the two grew by {} MiB", most >> 20);
}

fn host(number: u128) -> Exchange {
    let (token, bind) = (Secret::new([7; 32]), vec!["127.0.0.1:0".parse().unwrap()]);
    let (host, generation) = (HostId::from_u128(number), Generation::FIRST);
    let config = ExchangeConfig {
        host,
        generation,
        token,
        credentials: None,
        bind,
        layout: ChannelLayout::all_to(64),
    };
    Exchange::start(config).unwrap()
}

type Channel = (ChannelWriter<u64>, Arc<Inbox<u64>>);

/// So many channels within a process and as many between two.
fn channels(low: &Exchange, high: &Exchange, count: u32) -> Vec<Channel> {
    let address = high.address().unwrap().to_string();
    low.connect([PeerAddress { host: HostId::from_u128(2), address }]);
    let ends = |edge, consumer: &Exchange, to| {
        let channel = ChannelId { edge, from: 0, to, generation: Generation::FIRST };
        let input = vec![InputChannels::one(channel, HostId::from_u128(1))];
        let inbox = Inbox::new(input, 4, Waker::noop().clone(), Arc::default());
        consumer.attach(&inbox);
        (low.writer(channel, Waker::noop().clone(), Arc::default()), inbox)
    };
    (0..count).flat_map(|to| [ends(0, low, to), ends(1, high, to)]).collect()
}

fn watermark(number: u64) -> Event {
    Event::Watermark(Timestamp::from_millis(number as i64))
}

fn barrier(number: u64) -> Event {
    Event::Barrier(Barrier::new(CheckpointId::new(number), BarrierKind::Checkpoint))
}

/// Watermarks come as long as a channel's consumer stalls, other events while there is room.
#[test]
fn no_event_takes_room_behind_a_consumer_that_stalls() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stall = stall();
    let (low, high) = (host(1), host(2));
    let mut channels = channels(&low, &high, 64);
    let most = growth(move || {
        let (start, mut number) = (Instant::now(), 0);
        while start.elapsed() < stall {
            for (writer, _) in &mut channels {
                number += 1;
                let event = match number % 3 {
                    _ if writer.waiting() > 0 => watermark(number),
                    0 => barrier(number),
                    1 => Event::Idle(number % 2 == 0),
                    _ => watermark(number),
                };
                writer.send_event(event).unwrap();
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        eprintln!("{} events for each channel", number / channels.len() as u64);
        let deadline = Instant::now() + Duration::from_secs(60);
        for (mut writer, inbox) in channels {
            assert!(inbox.waiting() <= 4 && writer.waiting() <= 2, "{}", writer.waiting());
            writer.send_event(Event::EndOfInput).unwrap();
            loop {
                assert!(Instant::now() < deadline, "the end did not arrive");
                writer.drain().unwrap();
                match inbox.receive().unwrap() {
                    Received::Event(_, Event::EndOfInput) => break,
                    Received::Nothing => std::thread::yield_now(),
                    Received::Batch(..) | Received::Event(..) => {}
                }
            }
        }
    });
    eprintln!("events, {stall:?}: most growth {} KiB", most >> 10);
    assert!(most < GROWTH_MAX, "events took {} MiB", most >> 20);
}

/// The bytes of memory that each of many open windows takes, one a key.
fn bytes_per_window<A: WindowAssigner<u64>>(windows: fn() -> A) -> f64 {
    let of = |keys: u64| {
        let before = HELD.load(Ordering::Relaxed);
        let (first, results) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        run(1, |env| {
            let times = WatermarkStrategy::none().timestamps(|_| Ok(0));
            let numbers = env.source("numbers", Datagen::from_fn(|n| n).count(2 * keys));
            let numbers = numbers.assign_timestamps(times).key_by(move |n| n % keys);
            let (first, results) = (Arc::clone(&first), Arc::clone(&results));
            let counts = numbers.window(windows()).aggregate(
                "counts",
                || 0u64,
                |count, _| {
                    *count += 1;
                    Ok(())
                },
                |count, later| {
                    *count += later;
                    Ok(())
                },
                move |_, _, count| {
                    ensure!(count == 2, "a key has {count} records");
                    // All windows are open when the first of them ends.
                    if results.fetch_add(1, Ordering::Relaxed) == 0 {
                        first.store(HELD.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    Ok(count)
                },
            );
            counts.sink("out", DiscardSink::new());
        });
        assert_eq!(results.load(Ordering::Relaxed), keys);
        first.load(Ordering::Relaxed).saturating_sub(before)
    };
    let (few, many) = (10_000, 1_000_000);
    let (of_few, of_many) = (of(few), of(many));
    of_many.saturating_sub(of_few) as f64 / (many - few) as f64
}

#[test]
fn a_million_open_windows_of_an_operator_cost_what_their_kind_costs() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let tumbling = bytes_per_window(|| Tumbling::event_time(Duration::from_secs(60)));
    let session = bytes_per_window(|| Session::event_time(Duration::from_secs(60)));
    let clock =
        bytes_per_window(|| Tumbling::processing_time(Duration::from_secs(100 * 365 * 86_400)));
    let triggered = bytes_per_window(|| Triggered {
        windows: Tumbling::event_time(Duration::from_secs(60)),
        trigger: AtEnd,
    });
    eprintln!(
        "bytes of an open window: tumbling {tumbling:.0}, session {session:.0}, of processing time \
         {clock:.0}, with a trigger {triggered:.0}"
    );
    assert!(tumbling < 60.0, "{tumbling} bytes");
    assert!(session < 400.0, "{session} bytes");
    assert!(clock < 600.0, "{clock} bytes");
    assert!(triggered < 600.0, "{triggered} bytes");
}
