//! The jobs of the system tests: `--job NAME`, or `-c NAME`, and the job's own options.

mod mesh;
mod misbehave;
mod neighbour;
mod pressure;
mod trial;

use std::io::Write as _;
use std::time::Duration;

use millstream::JobStatus;
use millstream::prelude::*;

#[millstream::main]
fn jobs(env: &mut Environment, args: Args) -> Result<()> {
    let entry = env.entry().map(str::to_owned);
    match entry.map_or_else(|| args.required("job").map(str::to_owned), Ok)?.as_str() {
        "mesh" => mesh::build(env, &args),
        "misbehave" => misbehave::build(env, &args),
        "neighbour" => neighbour::build(env, &args),
        "pressure" => pressure::build(env, &args),
        "copy" => copy(env, &args, args.required("output")?),
        "lanes" => lanes(env, &args),
        "lines" => lines(env, &args),
        "twice" => {
            let output = args.required("output")?;
            copy(env, &args, &format!("{output}/first"))?;
            copy(env, &args, &format!("{output}/second"))
        }
        "cancels" => cancels(env),
        "parse" => parse(env, &args),
        "surroundings" => surroundings(env, &args),
        other => match trial::build(other, env, &args)? {
            true => Ok(()),
            false => Err(millstream::error!("there is no job {other:?}")),
        },
    }
}

/// Waits until its endless job runs, cancels it, and says what it hears of it. A state and an end
/// that the program is not told are errors.
fn cancels(env: &mut Environment) -> Result<()> {
    env.source("endless", Datagen::from_fn(|n| n)).sink("none", DiscardSink::new());
    let job = env.execute_async("endless")?;
    while job.status()? != JobStatus::Running {
        millstream::ensure!(!job.status()?.is_globally_terminal(), "it ends before it runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    job.cancel()?;
    let Err(end) = job.result() else { millstream::bail!("it has finished") };
    let mut out = std::io::stdout();
    writeln!(out, "its end: {end}\nits state: {}", job.status()?)?;
    Ok(())
}

/// Reads a file of one JSON number per line and fails at the first line that is none.
fn parse(env: &mut Environment, args: &Args) -> Result<()> {
    env.source("numbers", FileSource::json_lines::<u64>(args.required("input")?))
        .sink("none", DiscardSink::new());
    env.execute("parse")?;
    Ok(())
}

/// Writes the environment of the program and of a task: the named variables and files, separated by
/// commas.
fn surroundings(env: &mut Environment, args: &Args) -> Result<()> {
    let list = |name: &str| -> Result<Vec<String>> {
        let named = args.required(name)?.split(',');
        Ok(named.filter(|item| !item.is_empty()).map(str::to_owned).collect())
    };
    let (variables, files) = (list("variables")?, list("files")?);
    let seen = |place: &str, variables: &[String]| -> Vec<String> {
        let value = |name: &String| std::env::var(name).unwrap_or_else(|_| "none".to_owned());
        variables.iter().map(|name| format!("{place} {name}: {}", value(name))).collect()
    };
    let planned = env.plan_value("variables", || Ok(seen("program", &variables)))?;
    let lines = env.source("one", Datagen::sequence(0..1)).flat_map(move |_| {
        let read = |name: &String| match std::fs::read_to_string(name) {
            Ok(text) => format!("file {name}: {text}"),
            Err(error) => format!("file {name}: {error}"),
        };
        let files = files.iter().map(read);
        let lines = planned.iter().cloned().chain(seen("task", &variables)).chain(files);
        Ok(lines.collect::<Vec<_>>())
    });
    lines.sink("lines", FileSink::lines(args.required("output")?.to_owned()));
    env.execute("surroundings")?;
    Ok(())
}

/// Writes numbers to files at a limited rate, one a line.
fn copy(env: &mut Environment, args: &Args, output: &str) -> Result<()> {
    let records: u64 = args.optional("records")?.unwrap_or(10_000);
    let rate: u64 = args.optional("rate")?.unwrap_or(10_000);
    env.source("numbers", Datagen::sequence(0..records).rate_per_second(rate)).rebalance().sink(
        "files",
        FileSink::with(output.to_owned(), |number: &u64, out| {
            Ok(std::io::Write::write_fmt(out, format_args!("{number}\n"))?)
        }),
    );
    env.execute("copy")?;
    Ok(())
}

/// Copies the numbers of a file that is read in many splits, each number after a pause. Nothing
/// connects the subtasks.
fn lines(env: &mut Environment, args: &Args) -> Result<()> {
    let pause = Duration::from_micros(args.required("pause-us")?.parse()?);
    let input = FileSource::text(args.required("input")?).split_bytes(1 << 20);
    let lines = env.source("input", input).map(move |line| {
        std::thread::sleep(pause);
        Ok(line.parse::<u64>()?.to_string())
    });
    lines.sink("files", FileSink::lines(args.required("output")?.to_owned()));
    env.execute("lines")?;
    Ok(())
}

/// Writes numbers to files at a limited rate, one a line. Nothing connects the subtasks.
fn lanes(env: &mut Environment, args: &Args) -> Result<()> {
    let (records, rate) = (args.required("records")?.parse()?, args.required("rate")?.parse()?);
    let numbers = env.source("numbers", Datagen::sequence(0..records).rate_per_second(rate));
    let lines = numbers.map(|number| Ok(number.to_string()));
    lines.sink("files", FileSink::lines(args.required("output")?.to_owned()));
    env.execute("lanes")?;
    Ok(())
}
