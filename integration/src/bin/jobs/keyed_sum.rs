//! The job of the workload `keyed-sum`: for each record it writes the line `key sequence sum` of
//! its key's records so far.
//!
//! The input is the formula of `millstream_oracle::committed`, written a second time so that the
//! oracle and the job share no code. The source reads the numbers of a lane in order, since it has
//! as many splits as there are lanes.

use std::io::Write as _;

use millstream::prelude::*;

/// Number of lanes: the number of splits of [`Datagen`].
const LANES: u64 = 128;

/// A key and an amount.
type Entry = (u64, u64);
/// A key, the number of its records so far, and their sum.
type Total = (u64, u64, u64);

/// Reads `--records` records of `--seed`, or without end, with `--keys-per-lane` keys in each lane,
/// at `--rate` per second, and publishes the results in `--output`.
pub(crate) fn build(env: &mut Environment, args: &Args) -> Result<()> {
    let required = |name: &str| -> Result<u64> {
        args.optional(name)?.ok_or_else(|| millstream::error!("--{name} is missing"))
    };
    let seed = required("seed")?;
    let records: Option<u64> = args.optional("records")?;
    let (keys_per_lane, rate) = (required("keys-per-lane")?.max(1), required("rate")?);
    let output = args.required("output")?.to_owned();
    let entries = Datagen::from_fn(move |number| entry(seed, keys_per_lane, number));
    let entries = entries.rate_per_second(rate);
    let entries = match records {
        Some(records) => env.source("entries", entries.count(records)),
        None => env.source("entries", entries),
    };
    entries
        .key_by(|(key, _): &Entry| *key)
        .process("sums", |states| Ok(Sums(states.value("total")?)))
        .sink(
            "results",
            FileSink::with(output, |(key, sequence, sum): &Total, out| {
                Ok(writeln!(out, "{key} {sequence} {sum}")?)
            }),
        );
    env.execute("keyed-sum")?;
    Ok(())
}

/// The record with a number.
fn entry(seed: u64, keys_per_lane: u64, number: u64) -> Entry {
    let start = scramble(seed);
    let draw = |of: u64| {
        let at = number.wrapping_mul(4).wrapping_add(of).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        scramble(start.wrapping_add(at))
    };
    let (left, right) = (draw(0) % keys_per_lane, draw(1) % keys_per_lane);
    let key = number % LANES + LANES * left.min(right);
    (key, draw(2) % 1_000_000 + 1)
}

/// The last steps of SplitMix64.
fn scramble(mut bits: u64) -> u64 {
    bits ^= bits >> 30;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 27;
    bits = bits.wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Counts and sums the records of each key.
struct Sums(ValueState<(u64, u64)>);

impl KeyedProcess<u64, Entry> for Sums {
    type Out = Total;

    fn process(
        &mut self,
        (key, amount): Entry,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Total>,
    ) -> Result<()> {
        let total = self.0.get_or_insert_with(ctx, || (0, 0))?;
        total.0 += 1;
        total.1 += amount;
        out.emit((key, total.0, total.1));
        Ok(())
    }
}
