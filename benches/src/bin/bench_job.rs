//! Our side of the paired benchmarks, the counterpart of `flink/BenchJob.java`; README.md says what
//! every job computes.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream::connectors::{Datagen, FileSink, FileSource};
use millstream::{
    Args, Collector, Context, Environment, KeyedProcess, Result, Session, Sliding, Str, Stream,
    Timer, Timers, Tumbling, ValueState, WatermarkStrategy, WindowAssigner, bail,
};
use millstream_benches::ends::{DigestSink, Sequence};
use millstream_benches::paced::Paced;
use millstream_benches::records::{self, Wide};
use millstream_benches::rows::{GAP_MS, NEAR_MS, Spans, TEXT_BYTES};
use millstream_benches::wide_start;
use millstream_benches::words::Words;

type Pair = (u64, u64);

#[millstream::main]
fn bench_job(env: &mut Environment, args: Args) -> Result<()> {
    let job = args.required("job")?.to_owned();
    let parallelism = args.optional("parallelism")?;
    if let Some(parallelism) = parallelism {
        env.set_parallelism(parallelism);
    }
    let bench = Bench {
        parallelism: parallelism.unwrap_or(1),
        records: args.optional("records")?.unwrap_or(0),
        keys: args.optional("keys")?.unwrap_or(1),
        seed: args.optional("seed")?.unwrap_or(0),
        rate: args.optional("rate")?.unwrap_or(0),
        input: args.optional("input")?.unwrap_or_default(),
        output: PathBuf::from(args.required("output")?),
    };
    bench.build(env, &job)?;
    env.execute(&job)?;
    Ok(())
}

struct Bench {
    parallelism: u32,
    records: u64,
    keys: u64,
    seed: u64,
    /// Records per second, where they come at a steady rate.
    rate: u64,
    input: String,
    output: PathBuf,
}

impl Bench {
    fn build(&self, env: &mut Environment, job: &str) -> Result<()> {
        match job {
            "chain" => self.chain(env),
            "rebalance" => self.finish_pairs(self.pairs(env).rebalance()),
            "hash" => self.finish_pairs(self.pairs(env).key_by(|pair| pair.0).into_stream()),
            "wide-rebalance" => self.finish_wide(self.wide(env, "default").rebalance(), "default"),
            "wide-hash" => {
                let wide = self.wide(env, "default").key_by(|record| record.key);
                self.finish_wide(wide.into_stream(), "default");
            }
            // Two groups never share a slot: every record crosses from one worker to the other.
            "wide-wire" => self.finish_wide(self.wide(env, "left").rebalance(), "right"),
            "keyed-sum" => self.keyed_sum(env),
            "wide-sum" => self.wide_sum(env),
            "timed-sum" => self.timed_sum(env),
            "tumbling" => self.windows(env, Spans::Second),
            "sessions" => self.in_windows(env, Session::event_time(millis(GAP_MS))),
            "interval-join" => self.interval_join(env),
            "sliding-1s" => self.windows(env, Spans::TenBySecond),
            "sliding-100ms" => self.windows(env, Spans::TenByTenth),
            "text-sum" => self.text_sum(env),
            "word-count" => self.word_count(env),
            "stamp" => self.stamp(env),
            "recover" => self.recover(env),
            "trillion" => self.trillion(env),
            "wide-start" => wide_start::build(env),
            _ => bail!("there is no job {job}"),
        }
        Ok(())
    }

    fn numbers(&self, env: &mut Environment) -> Stream<u64> {
        env.source("numbers", Sequence { records: self.records })
    }

    fn chain(&self, env: &mut Environment) {
        self.numbers(env)
            .map(|number| Ok(number.wrapping_mul(3).wrapping_add(1)))
            .filter(|number| Ok(number & 15 != 0))
            .map(|number| Ok(number ^ (number >> 7)))
            .sink("digest", self.digest(|number: &u64| *number));
    }

    fn pairs(&self, env: &mut Environment) -> Stream<Pair> {
        let seed = self.seed;
        self.numbers(env).map(move |index| Ok((records::scramble(seed, index), index)))
    }

    fn finish_pairs(&self, pairs: Stream<Pair>) {
        pairs
            .map(|(key, value)| Ok((key, value + 1)))
            .sink("digest", self.digest(|pair: &Pair| records::pair(pair.0, pair.1)));
    }

    fn wide(&self, env: &mut Environment, group: &str) -> Stream<Wide> {
        let seed = self.seed;
        self.numbers(env)
            .slot_sharing_group(group)
            .map(move |index| Ok(Wide::new(seed, index)))
            .slot_sharing_group(group)
    }

    fn finish_wide(&self, wide: Stream<Wide>, group: &str) {
        wide.map(|record| Ok(Wide { value: record.value + 1, ..record }))
            .slot_sharing_group(group)
            .sink("digest", self.digest(Wide::word))
            .slot_sharing_group(group);
    }

    fn keyed_sum(&self, env: &mut Environment) {
        let (seed, keys) = (self.seed, self.keys);
        self.numbers(env)
            .map(move |index| Ok((records::key(seed, index, keys), 1u64)))
            .key_by(|pair| pair.0)
            .reduce("sum", |sum, pair| {
                sum.1 += pair.1;
                Ok(())
            })
            .sink("digest", self.digest(|pair: &Pair| records::pair(pair.0, pair.1)));
    }

    fn wide_sum(&self, env: &mut Environment) {
        let (seed, keys) = (self.seed, self.keys);
        self.numbers(env)
            .map(move |index| Ok((records::key(seed, index, keys), 1u64)))
            .key_by(|pair| pair.0)
            .process("sum", |ctx| Ok(WideSum(ctx.value("sum")?)))
            .sink("digest", self.digest(|pair: &Pair| records::pair(pair.0, pair.1)));
    }

    fn timed_sum(&self, env: &mut Environment) {
        let (seed, keys) = (self.seed, self.keys);
        self.numbers(env)
            .map(move |index| Ok((records::key(seed, index, keys), 1u64)))
            .key_by(|pair| pair.0)
            .process("sum", |ctx| {
                Ok(TimedSum {
                    sum_and_timeout: ctx.value("sum")?,
                    timeout: ctx.processing_timers("timeout")?,
                })
            })
            .sink("digest", self.digest(|pair: &Pair| records::pair(pair.0, pair.1)));
    }

    fn windows(&self, env: &mut Environment, spans: Spans) {
        let (size, slide) = spans.millis();
        self.in_windows(env, Sliding::event_time(millis(size), millis(slide)));
    }

    fn in_windows(&self, env: &mut Environment, windows: impl WindowAssigner<Pair>) {
        let (seed, keys, sources) = (self.seed, self.keys, u64::from(self.parallelism));
        let each = self.records / sources;
        let time = move |index: &u64| records::event_time(*index, each, sources).cast_signed();
        self.numbers(env)
            .assign_timestamps(WatermarkStrategy::monotonous().timestamps(move |n| Ok(time(n))))
            .map(move |index| Ok((records::key(seed, index, keys), 1u64)))
            .key_by(|pair| pair.0)
            .window(windows)
            .reduce("windows", |sum, pair| {
                sum.1 += pair.1;
                Ok(())
            })
            .sink("digest", self.digest(|pair: &Pair| records::pair(pair.0, pair.1)));
    }

    fn interval_join(&self, env: &mut Environment) {
        let (seed, keys, sources) = (self.seed, self.keys, u64::from(self.parallelism));
        let each = self.records / sources;
        let time = move |index| records::disordered_time(seed, index, each, sources).cast_signed();
        let times = WatermarkStrategy::bounded_out_of_orderness(millis(records::DISORDER_MS))
            .timestamps(move |index| Ok(time(*index)));
        let entries = self
            .numbers(env)
            .assign_timestamps(times)
            .map(move |index| Ok((records::key(seed, index, keys), index)));
        let even = entries.clone().filter(|entry: &Pair| Ok(entry.1.is_multiple_of(2)));
        let odd = entries.filter(|entry| Ok(!entry.1.is_multiple_of(2)));
        let near = NEAR_MS.cast_signed();
        even.key_by(|entry| entry.0)
            .interval_join(odd.key_by(|entry| entry.0), -near..=near)
            .apply("join", |even, odd| Ok((even.1, odd.1)))
            .sink("digest", self.digest(|pair: &Pair| records::pair(pair.0, pair.1)));
    }

    fn text_sum(&self, env: &mut Environment) {
        let (seed, keys) = (self.seed, self.keys);
        self.numbers(env)
            .map(move |index| Ok((records::text(records::key(seed, index, keys)), 1u64)))
            .key_by_ref(|(text, _)| text)
            .sum("sum", |(_, number)| *number)
            .sink(
                "digest",
                self.digest(|(text, sum): &(String, u64)| {
                    records::pair(records::ends(text.as_bytes()), *sum)
                }),
            );
    }

    fn word_count(&self, env: &mut Environment) {
        env.source("text", FileSource::byte_lines(&self.input))
            .flat_map(|line| Ok(Words::new(line).map(|word| (word, 1u64))))
            .key_by_ref(|counted| &counted.0)
            .reduce("count", |count, word| {
                count.1 += word.1;
                Ok(())
            })
            .sink(
                "digest",
                self.digest(|(word, count): &(Str, u64)| {
                    records::pair(records::hash(word.as_bytes()), *count)
                }),
            );
    }

    fn stamp(&self, env: &mut Environment) {
        let first = self.output.join("first");
        let mut stamped = false;
        self.numbers(env)
            .map(move |number| {
                if !stamped {
                    stamped = true;
                    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                    fs::write(&first, format!("{}\n", now.as_micros()))?;
                }
                Ok(number)
            })
            .sink("digest", self.digest(|number: &u64| *number));
    }

    /// As wide-sum at a steady rate, into files whose lines say which process wrote them.
    fn recover(&self, env: &mut Environment) {
        let Self { seed, keys, rate, records, .. } = *self;
        env.source("paced", Paced { seed, records, rate, tick: millis(1) })
            .map(move |(number, _)| Ok((((number >> 32) * keys) >> 32, 1u64)))
            .key_by(|pair| pair.0)
            .process("sum", |ctx| {
                Ok(WhereSum { sum: WideSum(ctx.value("sum")?), at: ctx.subtask() })
            })
            .sink("files", FileSink::csv(self.output.join("lines")));
    }

    /// Counts per key and second of the records' times, into files. Each time is the one at which
    /// the record is due.
    fn trillion(&self, env: &mut Environment) {
        let Self { seed, keys, rate, records, .. } = *self;
        let due = move |n: &u64| Ok((n * 1_000 / rate).cast_signed());
        env.source("numbers", Datagen::sequence(0..records).rate_per_second(rate))
            .assign_timestamps(WatermarkStrategy::monotonous().timestamps(due))
            .map(move |n| Ok((n / rate, records::key(seed, n, keys), 1u64)))
            .key_by(|(_, key, _)| *key)
            .window(Tumbling::event_time(millis(1_000)))
            .reduce("counts", |sum, (.., count)| {
                sum.2 += count;
                Ok(())
            })
            .sink("files", FileSink::csv(self.output.join("counts")));
    }

    fn digest<T, W: Fn(&T) -> u64>(&self, word: W) -> DigestSink<W> {
        DigestSink { directory: self.output.clone(), word }
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A running sum per key, with a text that never changes.
struct WideSum(ValueState<(u64, String)>);

impl KeyedProcess<u64, Pair> for WideSum {
    type Out = Pair;

    fn process(
        &mut self,
        pair: Pair,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Pair>,
    ) -> Result<()> {
        out.emit((pair.0, self.add(pair.1, ctx)?));
        Ok(())
    }
}

impl WideSum {
    fn add(&mut self, number: u64, ctx: &mut Context<'_, u64>) -> Result<u64> {
        let state = self.0.get_or_insert_with(ctx, || (0, "x".repeat(TEXT_BYTES)))?;
        state.0 += number;
        Ok(state.0)
    }
}

/// A running sum per key, with the subtask and the process that made it.
struct WhereSum {
    sum: WideSum,
    at: u32,
}

impl KeyedProcess<u64, Pair> for WhereSum {
    type Out = (u32, u32, u64, u64);

    fn process(
        &mut self,
        pair: Pair,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let sum = self.sum.add(pair.1, ctx)?;
        out.emit((self.at, std::process::id(), pair.0, sum));
        Ok(())
    }
}

/// A running sum per key, which is forgotten when the key has been silent for a minute.
struct TimedSum {
    sum_and_timeout: ValueState<(u64, i64)>,
    timeout: Timers,
}

const SILENCE_MS: i64 = 60_000;

impl KeyedProcess<u64, Pair> for TimedSum {
    type Out = Pair;

    fn process(
        &mut self,
        pair: Pair,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Pair>,
    ) -> Result<()> {
        let timeout = ctx.processing_time() + SILENCE_MS;
        let state = self.sum_and_timeout.get_or_insert_with(ctx, || (0, timeout))?;
        state.0 += pair.1;
        let (sum, before) = (state.0, std::mem::replace(&mut state.1, timeout));
        self.timeout.delete(ctx, before)?;
        self.timeout.set(ctx, timeout)?;
        out.emit((pair.0, sum));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Pair>,
    ) -> Result<()> {
        Ok(self.sum_and_timeout.clear(ctx)?)
    }
}
