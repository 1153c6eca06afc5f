//! The jobs whose committed output the oracle judges. Each publishes lines of integers.
//!
//! Input and results are those of `millstream_oracle::committed`, written a second time so that the
//! oracle and the jobs share no code.

mod broadcast;
mod entries;
mod interval_join;
mod keyed_sum;
mod timers;
mod windows;

use std::io::Write as _;

use millstream::prelude::*;

use entries::Input;

/// Adds the job of a name, if it is one of these. It reads `--records` records of `--seed`, or
/// without end, with `--keys-per-lane` keys in each lane, at `--rate` per second, and publishes the
/// results in `--output`. Spans of event time have `--span` milliseconds.
pub(crate) fn build(name: &str, env: &mut Environment, args: &Args) -> Result<bool> {
    let lines = match name {
        "keyed-sum" => keyed_sum::lines(env, &Input::of(args)?),
        "timers" => timers::lines(env, &Input::of(args)?),
        "tumbling" => windows::tumbling(env, &Input::of(args)?),
        "sliding" => windows::sliding(env, &Input::of(args)?),
        "session" => windows::session(env, &Input::of(args)?),
        "interval-join" => interval_join::lines(env, &Input::of(args)?),
        "broadcast" => broadcast::lines(env, &Input::of(args)?),
        _ => return Ok(false),
    };
    let output = args.required("output")?.to_owned();
    lines.sink(
        "results",
        FileSink::with(output, |integers: &Line, out| {
            let mut between = "";
            for integer in integers {
                write!(out, "{between}{integer}")?;
                between = " ";
            }
            Ok(writeln!(out)?)
        }),
    );
    env.execute(name)?;
    Ok(true)
}

/// The integers of a line.
type Line = Vec<i64>;
