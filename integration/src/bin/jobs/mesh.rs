//! A job of many channels: each subtask of its four vertices is connected with all subtasks of the
//! next one.

use millstream::prelude::*;

/// Sends so many `--records`, or records without end, through three exchanges to files.
pub(crate) fn build(env: &mut Environment, args: &Args) -> Result<()> {
    let output = args.required("output")?.to_owned();
    let records: Option<u64> = args.optional("records")?;
    let mut numbers = Datagen::sequence(0..records.unwrap_or(1 << 40));
    if records.is_none() {
        numbers = numbers.rate_per_second(1);
    }
    env.source("numbers", numbers)
        .rebalance()
        .map(|number| Ok((number, 1)))
        .key_by(|(number, _): &(u64, u64)| *number)
        .into_stream()
        .map(|(number, hops)| Ok((number, hops + 1)))
        .rebalance()
        .sink(
            "hops",
            FileSink::with(output, |(number, hops): &(u64, u64), out| {
                Ok(std::io::Write::write_fmt(out, format_args!("{number} {hops}\n"))?)
            }),
        );
    env.execute("mesh")?;
    Ok(())
}
