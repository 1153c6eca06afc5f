//! A well-behaved bounded job whose output is known in advance: numbers, grouped by their
//! remainder, counted and summed.

use millstream::prelude::*;

/// A remainder, how many numbers had it, and their sum.
type Group = (u64, u64, u64);

pub(crate) fn build(env: &mut Environment, args: &Args) -> Result<()> {
    let records: u64 = args.optional("records")?.unwrap_or(10_000);
    let rate: u64 = args.optional("rate")?.unwrap_or(10_000);
    let groups: u64 = args.optional("groups")?.unwrap_or(97);
    let output = args.required("output")?.to_owned();
    env.set_runtime_mode(RuntimeMode::Batch);
    let mut numbers = Datagen::sequence(0..records);
    if rate > 0 {
        numbers = numbers.rate_per_second(rate);
    }
    env.source("numbers", numbers)
        .map(move |number| Ok((number % groups, 1, number)))
        .key_by(|(group, _, _): &Group| *group)
        .reduce("sum", |total, (_, count, sum)| {
            total.1 += count;
            total.2 += sum;
            Ok(())
        })
        .sink(
            "sums",
            FileSink::with(output, |(group, count, sum): &Group, out| {
                Ok(std::io::Write::write_fmt(out, format_args!("{group} {count} {sum}\n"))?)
            }),
        );
    env.execute("neighbour")?;
    Ok(())
}
