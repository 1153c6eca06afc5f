//! The jobs of the workloads `tumbling`, `sliding` and `session`: each window writes `key start end
//! count sum`.

use std::time::Duration;

use millstream::WindowAssigner;
use millstream::prelude::*;

use super::Line;
use super::entries::{Entry, Input};

pub(super) fn tumbling(env: &mut Environment, input: &Input) -> Stream<Line> {
    windows(env, input, Tumbling::event_time(millis(input.span)))
}

pub(super) fn sliding(env: &mut Environment, input: &Input) -> Stream<Line> {
    let slide = input.span * 2 / 5 + 1;
    windows(env, input, Sliding::event_time(millis(input.span), millis(slide)))
}

pub(super) fn session(env: &mut Environment, input: &Input) -> Stream<Line> {
    windows(env, input, Session::event_time(millis(96 * input.keys_per_lane as i64)))
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

fn windows(
    env: &mut Environment,
    input: &Input,
    windows: impl WindowAssigner<Entry>,
) -> Stream<Line> {
    input.timed(env, "entries").key_by(|entry| entry.key).window(windows).aggregate(
        "windows",
        || (0i64, 0i64),
        |(count, sum), entry| {
            *count += 1;
            *sum += entry.amount as i64;
            Ok(())
        },
        |(count, sum), later| {
            *count += later.0;
            *sum += later.1;
            Ok(())
        },
        |key, window, (count, sum)| Ok(vec![key as i64, window.start, window.end, count, sum]),
    )
}
