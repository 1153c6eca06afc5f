//! Our side of the rows about records that people have, as `flink/BenchJob.java` has it; README.md
//! says what every job computes. A program of its own: its many types would make that of the other
//! rows larger, whose size counts in some.

use std::path::PathBuf;
use std::time::Duration;

use millstream::connectors::{FileSink, FileSource};
use millstream::{Args, Environment, ErrorContext, Result, bail};
use millstream_benches::ends::{DigestSink, Sequence};
use millstream_benches::json::{Counted, Needed, Visit};
use millstream_benches::paced::{LatencySink, Paced};
use millstream_benches::records::scramble;
use millstream_benches::shapes::{self, Shape};

#[millstream::main]
fn record_job(env: &mut Environment, args: Args) -> Result<()> {
    let job: String = args.required("job")?.to_owned();
    if let Some(parallelism) = args.optional("parallelism")? {
        env.set_parallelism(parallelism);
    }
    let bench = Bench {
        records: args.optional("records")?.unwrap_or(0),
        seed: args.optional("seed")?.unwrap_or(0),
        rate: args.optional("rate")?.unwrap_or(0),
        tick: Duration::from_millis(args.optional("tick-ms")?.unwrap_or(1)),
        shape: args.optional("shape")?.unwrap_or_default(),
        input: args.optional("input")?.unwrap_or_default(),
        output: PathBuf::from(args.required("output")?),
    };
    match job.as_str() {
        "json-lines" => bench.json_lines::<Needed>(env),
        "json-lines-12" => bench.json_lines::<Visit>(env),
        "paced" => bench.paced(env),
        "shape-rebalance" | "shape-hash" | "shape-wire" => {
            let built = shapes::visit(&bench.shape, Shaped { bench: &bench, env, job: &job });
            built.with_context(|| format!("there is no shape {}", bench.shape))?;
        }
        _ => bail!("there is no job {job}"),
    }
    env.execute(&job)?;
    Ok(())
}

struct Bench {
    records: u64,
    seed: u64,
    rate: u64,
    tick: Duration,
    shape: String,
    input: String,
    output: PathBuf,
}

impl Bench {
    fn json_lines<T: Counted>(&self, env: &mut Environment) {
        env.source("lines", FileSource::json_lines::<T>(&self.input))
            .filter(|visit| Ok(visit.is_view()))
            .map(|visit| Ok(visit.into_pair()))
            .key_by_ref(|(user, _)| user)
            .sum("sum", |(_, quantity)| *quantity)
            .sink("files", FileSink::csv(self.output.join("lines")));
    }

    fn paced(&self, env: &mut Environment) {
        let Self { records, seed, rate, tick, .. } = *self;
        env.source("paced", Paced { seed, records, rate, tick })
            .key_by(|(key, _)| *key)
            .into_stream()
            .sink("latency", LatencySink { directory: self.output.clone() });
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
        let (seed, records) = (self.bench.seed, self.bench.records);
        let made = self
            .env
            .source("numbers", Sequence { records })
            .slot_sharing_group(from)
            .map(move |index| Ok(shape.make(scramble(seed, index))))
            .slot_sharing_group(from);
        let sent = match self.job {
            "shape-hash" => made.key_by(S::word).into_stream(),
            _ => made.rebalance(),
        };
        let digest = DigestSink { directory: self.bench.output.clone(), word: S::word };
        sent.sink("digest", digest).slot_sharing_group(to);
    }
}
