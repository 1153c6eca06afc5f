//! Our side of the paired benchmarks, the counterpart of `flink/BenchJob.java`; README.md says what
//! every job computes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream::connectors::{
    CheckpointId, FileSink, FileSource, Flow, NoCommitter, NoEnumerator, Polled, ReaderContext,
    ReaderOutput, Sink, SinkWriter, Source, SourceReader, WriterInfo,
};
use millstream::{
    Args, Batch, Boundedness, Data, Environment, ErrorContext, Result, Str, Stream, bail,
};
use millstream_benches::json::{self, Counted};
use millstream_benches::paced::{LatencySink, Paced};
use millstream_benches::records::{self, Digest, Wide};
use millstream_benches::shapes::{self, Shape};
use millstream_benches::wide_start;
use millstream_benches::words::Words;

type Pair = (u64, u64);

#[millstream::main]
fn bench_job(env: &mut Environment, args: Args) -> Result<()> {
    let job = args.required("job")?.to_owned();
    if let Some(parallelism) = args.optional("parallelism")? {
        env.set_parallelism(parallelism);
    }
    let bench = Bench {
        records: args.optional("records")?.unwrap_or(0),
        keys: args.optional("keys")?.unwrap_or(1),
        seed: args.optional("seed")?.unwrap_or(0),
        rate: args.optional("rate")?.unwrap_or(0),
        tick_ms: args.optional("tick-ms")?.unwrap_or(1),
        shape: args.optional("shape")?.unwrap_or_default(),
        input: args.optional("input")?.unwrap_or_default(),
        output: PathBuf::from(args.required("output")?),
    };
    bench.build(env, &job)?;
    env.execute(&job)?;
    Ok(())
}

struct Bench {
    records: u64,
    keys: u64,
    seed: u64,
    rate: u64,
    tick_ms: u64,
    shape: String,
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
            "text-sum" => self.text_sum(env),
            "word-count" => self.word_count(env),
            "json-lines" => self.json_lines::<json::Needed>(env),
            "json-lines-12" => self.json_lines::<json::Visit>(env),
            "paced" => self.paced(env),
            "stamp" => self.stamp(env),
            "wide-start" => wide_start::build(env),
            "shape-rebalance" | "shape-hash" | "shape-wire" => {
                let built = shapes::visit(&self.shape, Shaped { bench: self, env, job });
                built.with_context(|| format!("there is no shape {}", self.shape))?;
            }
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

    fn json_lines<T: Counted>(&self, env: &mut Environment) {
        env.source("lines", FileSource::json_lines::<T>(&self.input))
            .filter(|visit| Ok(visit.is_view()))
            .map(|visit| Ok(visit.into_pair()))
            .key_by_ref(|(user, _)| user)
            .sum("sum", |(_, quantity)| *quantity)
            .sink("files", FileSink::csv(self.output.join("lines")));
    }

    fn paced(&self, env: &mut Environment) {
        let tick = Duration::from_millis(self.tick_ms);
        let source = Paced { seed: self.seed, records: self.records, rate: self.rate, tick };
        env.source("paced", source)
            .key_by(|(key, _)| *key)
            .into_stream()
            .sink("latency", LatencySink { directory: self.output.clone() });
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

    fn digest<T, W: Fn(&T) -> u64>(&self, word: W) -> DigestSink<W> {
        DigestSink { directory: self.output.clone(), word }
    }
}

/// Builds the job that sends records of a shape through an exchange.
struct Shaped<'a> {
    bench: &'a Bench,
    env: &'a mut Environment,
    job: &'a str,
}

impl shapes::Visitor for Shaped<'_> {
    type Out = ();

    fn visit<S: Shape>(self, shape: S) {
        // Two groups never share a slot: every record crosses from one worker to the other.
        let (from, to) =
            if self.job == "shape-wire" { ("left", "right") } else { ("default", "default") };
        let seed = self.bench.seed;
        let numbers = self.bench.numbers(self.env).slot_sharing_group(from);
        let made = numbers
            .map(move |index| Ok(shape.make(records::scramble(seed, index))))
            .slot_sharing_group(from);
        let sent = match self.job {
            "shape-hash" => made.key_by(S::word).into_stream(),
            _ => made.rebalance(),
        };
        sent.sink("digest", self.bench.digest(S::word)).slot_sharing_group(to);
    }
}

/// The numbers from 0, an even range per subtask.
struct Sequence {
    records: u64,
}

struct SequenceReader {
    next: u64,
    end: u64,
}

impl Source for Sequence {
    type Out = u64;
    type Split = ();
    type Reader = SequenceReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<SequenceReader> {
        let bound = |subtask| self.records * u64::from(subtask) / u64::from(ctx.parallelism);
        Ok(SequenceReader { next: bound(ctx.subtask), end: bound(ctx.subtask + 1) })
    }
}

impl SourceReader for SequenceReader {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, batch: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let end = self.end.min(self.next + 1_024);
        batch.extend(self.next..end)?;
        self.next = end;
        Ok(if self.next == self.end { Polled::Finished } else { Polled::Ready })
    }
}

/// Counts the records and sums their folds; at the end of input every subtask writes both to a file
/// of its own.
struct DigestSink<W> {
    directory: PathBuf,
    word: W,
}

struct DigestWriter<W> {
    file: PathBuf,
    word: W,
    digest: Digest,
}

impl<T, W> Sink<T> for DigestSink<W>
where
    T: Data,
    W: Fn(&T) -> u64 + Clone + Send + Sync + 'static,
{
    type Committable = ();
    type Writer = DigestWriter<W>;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<DigestWriter<W>> {
        let file = Path::new(&self.directory).join(info.subtask.to_string());
        Ok(DigestWriter { file, word: self.word.clone(), digest: Digest::default() })
    }
}

impl<T, W: Fn(&T) -> u64 + Send> SinkWriter<T> for DigestWriter<W> {
    type Committable = ();

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        for record in batch.records() {
            self.digest.add((self.word)(record));
        }
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        fs::write(&self.file, format!("{}\n", self.digest))?;
        Ok(Vec::new())
    }
}
