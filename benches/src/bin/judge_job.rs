//! Our side of the jobs on event time that `judge.sh` compares, the counterpart of
//! `flink/Judge.java`.
//!
//! Rows are lines `key,value,time,watermark`: the watermark comes right behind the row, and `-`
//! stands for none. One subtask reads them in their order, so that a job says the same whenever it
//! runs.

use std::time::Duration;

use millstream::prelude::*;
use millstream::{WindowAssigner, ensure};

/// Key, value, event time, and the watermark behind the record.
type Row = (u64, u64, i64, Option<i64>);

static LATE: OutputTag<Row> = OutputTag::new("late");

#[millstream::main]
fn judge_job(env: &mut Environment, args: Args) -> Result<()> {
    let job = args.required("job")?.to_owned();
    env.set_parallelism(2);
    env.set_runtime_mode(RuntimeMode::Streaming);
    let rows = rows(env, args.required("input")?);
    let output = FileSink::lines(args.required("output")?);
    build(rows, &job)?.sink("lines", output);
    env.execute(&job)?;
    Ok(())
}

fn rows(env: &mut Environment, input: &str) -> Stream<Row> {
    let strategy = WatermarkStrategy::generator(|| BehindRows).max_ahead(None);
    env.source("rows", FileSource::text(input))
        .parallelism(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let [key, value, time, watermark] = fields[..] else { bail!("{line:?} is no row") };
            let watermark = (watermark != "-").then(|| watermark.parse()).transpose()?;
            Ok((key.parse()?, value.parse()?, time.parse()?, watermark))
        })
        .parallelism(1)
        .assign_timestamps(strategy.timestamps(|(_, _, time, _): &Row| Ok(*time)))
        .parallelism(1)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn build(rows: Stream<Row>, job: &str) -> Result<Stream<String>> {
    let hundred = Tumbling::event_time(millis(100));
    Ok(match job {
        "tumbling" => sums(rows, hundred, 0),
        "offset" => sums(rows, hundred.offset_millis(30), 0),
        "sliding" => sums(rows, Sliding::event_time(millis(100), millis(30)), 0),
        "session" => sums(rows, Session::event_time(millis(50)), 0),
        "late" => sums(rows, hundred, 80),
        "late-sliding" => sums(rows, Sliding::event_time(millis(90), millis(30)), 50),
        "late-session" => sums(rows, Session::event_time(millis(50)), 60),
        "count" => {
            let fives = rows.key_by(|row| row.0).count_window(5);
            fives.sum("sums", |row| row.1).map(|(key, sum)| Ok(format!("{key},{sum}")))
        }
        "sequence" => {
            let sums = rows.key_by(|row| row.0).window(hundred).sum("sums", |row| row.1);
            sums.window_all(hundred).reduce_then(
                "largest",
                |largest, sum| {
                    largest.1 = largest.1.max(sum.1);
                    Ok(())
                },
                |(), window, (_, largest)| Ok(format!("{},{largest}", window.start)),
            )
        }
        "timers" => rows.key_by(|row| row.0).process("counts", |states| {
            Ok(Counts { count: states.value("count")?, later: states.event_timers("later")? })
        }),
        "interval" => {
            let (even, odd) = halves(rows);
            even.key_by(|row| row.0).interval_join(odd.key_by(|row| row.0), -40..=60).apply(
                "pairs",
                |left, right| {
                    Ok(format!("{},{},{},{}", left.0, left.1, right.1, left.2.max(right.2)))
                },
            )
        }
        "join" => {
            let (even, odd) = halves(rows);
            let joined = even.key_by(|row| row.0).join(odd.key_by(|row| row.0)).window(hundred);
            joined.apply("pairs", |left, right| Ok(format!("{},{},{}", left.0, left.1, right.1)))
        }
        _ => bail!("there is no job {job}"),
    })
}

fn halves(rows: Stream<Row>) -> (Stream<Row>, Stream<Row>) {
    let even = rows.clone().filter(|row| Ok(row.1.is_multiple_of(2))).parallelism(1);
    (even, rows.filter(|row| Ok(!row.1.is_multiple_of(2))).parallelism(1))
}

/// The sum of each window, and the records that were late.
fn sums(rows: Stream<Row>, windows: impl WindowAssigner<Row>, lateness: u64) -> Stream<String> {
    let sums = rows
        .key_by(|row| row.0)
        .window(windows)
        .allowed_lateness(millis(lateness))
        .late(LateRecords::side_output(&LATE))
        .reduce_then(
            "sums",
            |sum, row| {
                sum.1 += row.1;
                Ok(())
            },
            |key, window, sum| Ok(format!("{key},{},{},{}", window.start, window.end, sum.1)),
        );
    let late = sums.side_output(&LATE);
    let late = late.map(|(key, value, time, _)| Ok(format!("late,{key},{value},{time}")));
    sums.union(late)
}

/// Emits the watermark that a row names.
struct BehindRows;

impl WatermarkGenerator<Row> for BehindRows {
    fn on_record(&mut self, row: &Row, _: i64, out: &mut WatermarkOutput) {
        if let Some(watermark) = row.3 {
            out.emit(watermark);
        }
    }
}

/// The number of a key's records so far, 50 ms after each.
struct Counts {
    count: ValueState<u64>,
    later: Timers,
}

impl KeyedProcess<u64, Row> for Counts {
    type Out = String;

    fn process(
        &mut self,
        row: Row,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        *self.count.get_or_insert_with(ctx, || 0)? += 1;
        Ok(self.later.set(ctx, row.2 + 50)?)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let count = self.count.get(ctx)?.copied().unwrap_or_default();
        ensure!(count > 0, "a timer without a record");
        out.emit(format!("{},{},{count}", ctx.key(), timer.time()));
        Ok(())
    }
}
