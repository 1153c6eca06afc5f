//! Claims of the guide that no other test shows, in one process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::prelude::*;
use millstream::{WindowAssigner, testing};

/// Says of each number whether it is smaller than the one of its key before it.
struct Behind(ValueState<u64>);

impl KeyedProcess<u64, u64> for Behind {
    type Out = bool;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, bool>,
    ) -> Result<()> {
        let behind = self.0.get(ctx)?.is_some_and(|last| n < *last);
        self.0.set(ctx, n)?;
        out.emit(behind);
        Ok(())
    }
}

const KEYS: u64 = 7;
const NUMBERS: u64 = 50_000;

/// Runs a source of the numbers from 0 over four subtasks; how many come behind a larger one of
/// their key.
fn behind(source: impl FnOnce(&mut Environment) -> Stream<u64>) -> usize {
    let mut env = testing::environment();
    env.set_parallelism(4);
    let results = CollectSink::new();
    source(&mut env)
        .key_by(|n| n % KEYS)
        .process("behind", |states| Ok(Behind(states.value("last")?)))
        .sink("results", results.clone());
    env.execute("order").unwrap();
    let results = results.take();
    assert_eq!(results.len() as u64, NUMBERS, "every number comes once");
    results.into_iter().filter(|behind| *behind).count()
}

/// Whether it comes to disorder, which is a matter of luck in any one run.
fn may_come_behind(source: impl Fn(&mut Environment) -> Stream<u64>) -> bool {
    (0..50).any(|_| behind(&source) > 0)
}

fn numbers(env: &mut Environment) -> Stream<u64> {
    env.source("numbers", Datagen::sequence(0..NUMBERS)).parallelism(1)
}

/// A file with a number a line, that goes with the test.
struct Numbers(PathBuf);

impl Numbers {
    fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        // Wide, because pieces below a mebibyte go to one reader together.
        let lines: String = (0..NUMBERS).map(|n| format!("{n:0100}\n")).collect();
        std::fs::write(&file, lines).unwrap();
        Self(file)
    }

    /// A source of the file, which is cut into small pieces. They take a while to read, as large
    /// ones do, so that no reader has them all before the others begin.
    fn source(&self) -> FileSource<impl Format<Out = u64> + use<>> {
        let parse = |line: &[u8]| {
            let n = str::from_utf8(line)?.parse::<u64>()?;
            if n % 200 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(n)
        };
        FileSource::parse_lines(self.0.as_path(), parse).split_bytes(2_000)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn records_between_two_subtasks_keep_their_order() {
    assert_eq!(behind(numbers), 0);
    assert_eq!(behind(|env| numbers(env).map(Ok).parallelism(1)), 0);
}

#[test]
fn a_detour_over_several_subtasks_gives_up_the_order() {
    assert!(may_come_behind(|env| numbers(env).rebalance().map(Ok).parallelism(4)));
}

#[test]
fn two_inputs_have_no_order_between_them() {
    assert!(may_come_behind(|env| {
        let all = numbers(env).disable_chaining();
        let even = all.clone().filter(|n| Ok(n % 2 == 0)).disable_chaining();
        even.union(all.filter(|n| Ok(n % 2 == 1)).disable_chaining())
    }));
}

#[test]
fn the_pieces_of_a_file_are_read_side_by_side() {
    let file = Numbers::new("pieces");
    assert!(may_come_behind(|env| env.source("file", file.source())));
}

#[test]
fn one_reader_or_one_piece_keeps_the_order_of_a_file() {
    let file = Numbers::new("one-piece");
    assert_eq!(behind(|env| env.source("file", file.source()).parallelism(1)), 0);
    assert_eq!(behind(|env| env.source("file", file.source().split_bytes(u64::MAX))), 0);
    let csv = FileSource::csv::<(u64,)>(file.0.as_path()).headers(false).split_bytes(2_000);
    assert_eq!(behind(|env| env.source("file", csv).map(|(n,)| Ok(n))), 0);
}

/// The results of a `reduce` over 10 records.
fn sums(mode: RuntimeMode) -> Vec<u64> {
    let mut env = testing::environment();
    env.set_runtime_mode(mode);
    let results = CollectSink::new();
    env.source("numbers", Datagen::sequence(0..10))
        .key_by(|_| ())
        .reduce("sum", |sum, n| {
            *sum += n;
            Ok(())
        })
        .sink("results", results.clone());
    env.execute("sums").unwrap();
    results.take()
}

#[test]
fn a_job_whose_sources_all_end_is_a_batch_job_if_it_may_choose() {
    assert_eq!(sums(RuntimeMode::Automatic), [45]);
    assert_eq!(sums(RuntimeMode::Batch), [45]);
    assert_eq!(sums(RuntimeMode::Streaming).len(), 10);
}

#[test]
fn no_records_give_no_results() {
    let sums = testing::run_on([0_u64; 0], |numbers| {
        numbers.key_by(|_| ()).reduce("sum", |sum, n| {
            *sum += n;
            Ok(())
        })
    });
    assert_eq!(sums.unwrap(), [0_u64; 0]);
}

/// Records of the picture in `docs/guide/event-time.md`, with their times.
const LETTERS: [(char, i64); 7] =
    [('a', 10), ('c', 30), ('b', 20), ('e', 50), ('d', 40), ('g', 15), ('f', 70)];

static LATE: OutputTag<(char, i64)> = OutputTag::new("late");

/// Stays 20 ms behind the latest time, after each record.
struct Behind20(i64);

impl WatermarkGenerator<(char, i64)> for Behind20 {
    fn on_record(&mut self, _: &(char, i64), time: i64, out: &mut WatermarkOutput) {
        self.0 = self.0.max(time);
        out.emit(self.0 - 20);
    }
}

/// Draws each record, and before it the watermark if that has moved.
struct Draw(i64);

impl KeyedProcess<(), (char, i64)> for Draw {
    type Out = String;

    fn process(
        &mut self,
        (letter, time): (char, i64),
        ctx: &mut Context<'_, ()>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        if let Some(watermark) = ctx.current_watermark().filter(|now| *now > self.0) {
            self.0 = watermark;
            // That of the end is not drawn: no record follows it.
            out.emit(format!("|{watermark}"));
        }
        out.emit(format!("{letter}{time}"));
        Ok(())
    }
}

#[test]
fn watermarks_say_how_far_time_has_come() {
    let (mut latest, mut comes) = (i64::MIN, Vec::new());
    for (letter, time) in LETTERS {
        comes.push(format!("{letter}{time}"));
        if time > latest {
            latest = time;
            comes.push(format!("|{}", latest - 20));
        }
    }
    let mut env = testing::environment();
    env.set_runtime_mode(RuntimeMode::Streaming);
    let (drawn, late) = (CollectSink::new(), CollectSink::new());
    let strategy = WatermarkStrategy::generator(|| Behind20(i64::MIN));
    let ordered = env
        .source("letters", Datagen::from_fn(|n| LETTERS[n as usize]).count(7))
        .assign_timestamps(strategy.timestamps(|(_, time)| Ok(*time)))
        .order_by_time("ordered", LateRecords::side_output(&LATE));
    let name = |(letter, time): (char, i64)| Ok(format!("{letter}{time}"));
    ordered.side_output(&LATE).map(name).sink("late", late.clone());
    ordered.key_by(|_| ()).process("draw", |_| Ok(Draw(i64::MIN))).sink("drawn", drawn.clone());
    env.execute("picture").unwrap();
    let [comes, drawn, late] = [comes, drawn.take(), late.take()].map(|items| items.join(" "));
    let picture = format!("comes     {comes}\nin order  {drawn}\nlate      {late}\n");
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let page = std::fs::read_to_string(root.join("docs/guide/event-time.md")).unwrap();
    assert!(page.contains(&picture), "the page shows another picture than\n{picture}");
}

/// Draws a window with its records, sorted.
struct DrawWindow;

impl WindowFunction<(), Vec<(char, i64)>> for DrawWindow {
    type Out = (Window, String);

    fn process(
        &mut self,
        _: (),
        window: Window,
        mut records: Vec<(char, i64)>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        records.sort();
        let letters = records.iter().map(|(letter, _)| letter.to_string());
        out.emit((window, format!("{window} {}", letters.collect::<Vec<_>>().join(" "))));
        Ok(())
    }
}

/// The windows of the letters, in order of time, and the letters that are late.
fn drawn(windows: impl WindowAssigner<(char, i64)>) -> String {
    let mut env = testing::environment();
    env.set_runtime_mode(RuntimeMode::Streaming);
    let (drawn, late) = (CollectSink::new(), CollectSink::new());
    let strategy = WatermarkStrategy::generator(|| Behind20(i64::MIN));
    let results = env
        .source("letters", Datagen::from_fn(|n| LETTERS[n as usize]).count(7))
        .assign_timestamps(strategy.timestamps(|(_, time)| Ok(*time)))
        .window_all(windows)
        .late(LateRecords::side_output(&LATE))
        .process("draw", |_| Ok(DrawWindow));
    let late_letter = |(letter, _)| Ok(format!("late {letter}"));
    results.side_output(&LATE).map(late_letter).sink("late", late.clone());
    results.map(|(window, drawn)| Ok((window.start, drawn))).sink("drawn", drawn.clone());
    env.execute("picture").unwrap();
    let mut drawn: Vec<(i64, String)> = drawn.take();
    drawn.sort();
    let drawn = drawn.into_iter().map(|(_, drawn)| drawn).chain(late.take());
    drawn.collect::<Vec<_>>().join("   ")
}

#[test]
fn windows_have_the_records_between_their_bounds() {
    let millis = Duration::from_millis;
    let picture = format!(
        "tumbling of 30         {}\nsliding of 30 by 15    {}\nsessions, gap of 15    {}\n",
        drawn(Tumbling::event_time(millis(30))),
        drawn(Sliding::event_time(millis(30), millis(15))),
        drawn(Session::event_time(millis(15))),
    );
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let page = std::fs::read_to_string(root.join("docs/guide/windows.md")).unwrap();
    assert!(page.contains(&picture), "the page shows another picture than\n{picture}");
}

/// Features that `docs/compared-with-flink.md` lists as absent, with the names that they would
/// have.
const NOT_YET: [(&str, &[&str]); 10] = [
    ("Another parallelism", &["AdaptiveScheduler", "update_parallelism"]),
    ("Broadcast state", &["apply_to_keyed_state"]),
    ("Other state", &["OperatorListState", "operator_list"]),
    ("RocksDB", &["RocksDb", "rocksdb"]),
    ("Async I/O", &["async_map", "AsyncFunction", "unordered_wait"]),
    ("Iterations", &["iterate", "IterativeStream"]),
    ("Kafka", &["KafkaSource", "KafkaSink", "JdbcSink", "PulsarSource"]),
    ("SQL", &["TableEnvironment", "sql_query", "execute_sql"]),
    ("High availability", &["ZooKeeperElection", "HaServices"]),
    ("Reporters", &["MetricReporter", "PrometheusReporter"]),
];

#[test]
fn what_the_comparison_says_is_not_there_is_not_there() {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let page = std::fs::read_to_string(root.join("docs/compared-with-flink.md")).unwrap();
    let mut sources = Vec::new();
    for folder in ["core", "rm-standalone", "rm-yarn", "cli"] {
        list_sources(&root.join(folder), &mut sources);
    }
    for (topic, names) in NOT_YET {
        let row = page.lines().find(|line| line.starts_with(&format!("| {topic}")));
        assert!(row.is_some_and(|row| row.contains("not yet")), "{topic}: {row:?}");
        for (name, (file, text)) in
            names.iter().flat_map(|name| sources.iter().map(move |s| (name, s)))
        {
            let there = ["fn", "struct", "enum", "trait"].iter().any(|item| {
                let start = format!("pub {item} {name}");
                text.match_indices(&start).any(|(at, _)| {
                    let next = text[at + start.len()..].chars().next();
                    !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
                })
            });
            assert!(!there, "{} has `{name}` now: say so in the row {topic}", file.display());
        }
    }
}

#[test]
fn the_guide_shows_the_defaults_of_checkpoints() {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let page = |name: &str| std::fs::read_to_string(root.join("docs").join(name)).unwrap();
    let [guide, reference] = ["guide/state-and-checkpoints.md", "configuration.md"].map(page);
    let columns = |row: &str| row.split('|').map(|it| it.trim().to_owned()).collect::<Vec<_>>();
    let rows = |page: &str| -> Vec<Vec<String>> {
        let rows = page.lines().filter(|row| row.starts_with("| `execution.checkpointing."));
        rows.map(columns).collect()
    };
    let (shown, known) = (rows(&guide), rows(&reference));
    assert!(shown.len() > 5, "{shown:?}");
    for row in shown {
        let option = known.iter().find(|option| option[1] == row[1]);
        assert_eq!(option.map(|option| &option[3]), Some(&row[2]), "{}", row[1]);
    }
}

fn list_sources(folder: &Path, sources: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            list_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push((path, text));
        }
    }
}
