//! A refused record leaves no trace.

use super::*;

static REFUSED: OutputTag<u64> = OutputTag::new("refused");
static NOTED: OutputTag<u64> = OutputTag::new("noted");

/// Runs a job at parallelism 1 whose records 3 and 7 are refused; returns the number of dropped
/// records.
fn run_dropping(build: impl FnOnce(&mut Environment) -> Result<()>) -> u64 {
    let (result, _, dropped) = run_with(JobSettings::default(), build);
    result.unwrap();
    dropped
}

/// The records of a sink in order.
fn in_order<T: Clone>(sink: &Collect<T>) -> Vec<T> {
    sink.0.lock().unwrap().iter().map(|(_, record)| record.clone()).collect()
}

/// Sums of 0, 1, 2, 3, 4 by a function that adds first and refuses 3 afterwards.
fn sums<T>(of: fn(u64) -> T, number: fn(&mut T) -> &mut u64, mode: RuntimeMode) -> Vec<u64>
where
    T: Data + millstream_types::State + Clone + Sync,
{
    let out = Collect::new();
    let dropped = run_dropping(|env| {
        env.set_runtime_mode(mode);
        env.source("numbers", Numbers(5))
            .map(move |n| Ok(of(n)))
            .key_by(|_| ())
            .on_error(OnError::drop_record())
            .reduce("sum", move |sum, mut next| {
                let next = *number(&mut next);
                *number(sum) += next;
                ensure!(next != 3, "three");
                Ok(())
            })
            .sink("out", out.clone());
        Ok(())
    });
    assert_eq!(dropped, 1);
    in_order(&out).into_iter().map(|mut record| *number(&mut record)).collect()
}

#[test]
fn a_record_that_reduce_refuses_leaves_no_trace_whatever_its_type() {
    for (mode, expected) in
        [(RuntimeMode::Streaming, vec![0, 1, 3, 7]), (RuntimeMode::Batch, vec![7])]
    {
        assert_eq!(sums(|n| (0u64, n), |record| &mut record.1, mode), expected);
        assert_eq!(sums(|n| (String::new(), n), |record| &mut record.1, mode), expected);
        assert_eq!(sums(|n| vec![n], |record| &mut record[0], mode), expected);
        assert_eq!(sums(Box::new, |record| &mut **record, mode), expected);
        assert_eq!(sums(|n| [n; 30], |record| &mut record[7], mode), expected);
    }
}

#[test]
fn a_record_that_reduce_sends_aside_leaves_no_trace() {
    let (out, refused) = (Collect::new(), Collect::new());
    run(1, |env| {
        let words = env.source("numbers", Numbers(5)).map(|n| Ok((String::new(), n)));
        static BAD: OutputTag<(String, u64)> = OutputTag::new("bad");
        let sums =
            words.key_by(|_| ()).on_error(OnError::side_output(&BAD)).reduce("sum", |sum, next| {
                sum.0.push_str(&next.1.to_string());
                sum.1 += next.1;
                ensure!(next.1 != 3, "three");
                Ok(())
            });
        sums.side_output(&BAD).sink("refused", refused.clone());
        sums.sink("out", out.clone());
        Ok(())
    });
    let last = ("124".to_owned(), 7);
    assert_eq!(in_order(&out).last(), Some(&last));
    assert_eq!(in_order(&refused), [(String::new(), 3)]);
}

/// Changes every kind of state in every way, emits to every output, and refuses 3 and 7.
struct Everything {
    sum: ValueState<Vec<u64>>,
    last: ValueState<u64>,
    list: ListState<u64>,
    map: MapState<u64, u64>,
}

impl Everything {
    fn new(states: &mut KeyedRuntimeContext<'_, u64>) -> Result<Self> {
        Ok(Self {
            sum: states.value("sum")?,
            last: states.value("last")?,
            list: states.list("list")?,
            map: states.map("map")?,
        })
    }

    fn take(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        out.emit(format!("before {n}"));
        out.emit_to(&NOTED, n)?;
        self.sum.get_or_insert_with(ctx, Vec::new)?.push(n);
        if n % 4 == 3 {
            self.last.clear(ctx)?;
            self.sum.set(ctx, vec![99])?;
            self.sum.get_or_insert_with(ctx, Vec::new)?.push(98);
            self.list.add(ctx, 97)?;
            self.list.take(ctx)?;
            self.list.add(ctx, 96)?;
            self.map.put(ctx, 0, 95)?;
            self.map.put(ctx, 94, 94)?;
            self.map.remove(ctx, &0)?;
            self.map.remove(ctx, &1)?;
        }
        self.last.set(ctx, n)?;
        self.list.add(ctx, n)?;
        self.map.put(ctx, n % 2, n)?;
        self.map.put(ctx, n, n)?;
        self.map.remove(ctx, &n)?;
        out.emit_to(&NOTED, n)?;
        ensure!(n % 4 != 3, "refused");
        self.map.put(ctx, n, n)?;
        let sum = self.sum.get(ctx)?.cloned();
        let last = self.last.get(ctx)?.copied();
        let (mut list, mut map) = (Vec::new(), Vec::new());
        let (mut elements, mut entries) = (self.list.elements(ctx)?, self.map.entries(ctx)?);
        while let Some(element) = elements.next()? {
            list.push(*element);
        }
        while let Some((name, value)) = entries.next()? {
            map.push((*name, *value));
        }
        map.sort_unstable();
        out.emit(format!("{n}: {sum:?} {last:?} {list:?} {map:?}"));
        Ok(())
    }
}

impl KeyedProcess<u64, u64> for Everything {
    type Out = String;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.take(n, ctx, out)
    }
}

impl KeyedCoProcess<u64, u64, u64> for Everything {
    type Out = String;

    fn process_left(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.take(n, ctx, out)
    }

    fn process_right(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.take(n, ctx, out)
    }
}

type Outputs = (Vec<String>, Vec<u64>, Vec<u64>);

/// Results, notes and refused numbers of the function, for the numbers below 20 that `keep` lets
/// through.
fn processed(keep: fn(u64) -> bool, build: fn(Stream<u64>) -> Stream<String>) -> Outputs {
    let (out, noted, refused) = (Collect::new(), Collect::new(), Collect::new());
    run(1, |env| {
        let numbers = env.source("numbers", Numbers(20)).filter(move |n| Ok(keep(*n)));
        let stream = build(numbers);
        stream.side_output(&NOTED).sink("noted", noted.clone());
        stream.side_output(&REFUSED).sink("refused", refused.clone());
        stream.sink("out", out.clone());
        Ok(())
    });
    (in_order(&out), in_order(&noted), in_order(&refused))
}

fn check_processed(build: fn(Stream<u64>) -> Stream<String>) {
    let (out, noted, refused) = processed(|_| true, build);
    assert_eq!(refused, [3, 7, 11, 15, 19]);
    // As if the refused records had never come.
    let (expected, expected_noted, none) = processed(|n| n % 4 != 3, build);
    assert_eq!((out, noted), (expected, expected_noted));
    assert!(none.is_empty());
}

#[test]
fn a_record_that_a_keyed_function_refuses_leaves_no_trace() {
    check_processed(|numbers| {
        let keyed = numbers.key_by(|n| n % 3).on_error(OnError::side_output(&REFUSED));
        keyed.process("everything", Everything::new)
    });
}

#[test]
fn a_record_that_a_function_of_two_streams_refuses_leaves_no_trace() {
    check_processed(|numbers| {
        let nothing = numbers.clone().filter(|_| Ok(false)).key_by(|n| n % 3);
        let keyed = numbers.key_by(|n| n % 3).on_error(OnError::side_output(&REFUSED));
        keyed.connect(nothing).process("everything", Everything::new)
    });
    check_processed(|numbers| {
        let nothing = numbers.clone().filter(|_| Ok(false)).key_by(|n| n % 3);
        let keyed = numbers.key_by(|n| n % 3).on_error(OnError::side_output(&REFUSED));
        nothing.connect(keyed).process("everything", Everything::new)
    });
}

#[test]
fn refused_records_that_nothing_reads_are_counted() {
    let out = Collect::new();
    let dropped = run_dropping(|env| {
        let numbers = env.source("numbers", Numbers(10)).on_error(OnError::side_output(&REFUSED));
        let good = numbers.map(|n| {
            ensure!(n % 4 != 3, "refused");
            Ok(n)
        });
        good.sink("out", out.clone());
        Ok(())
    });
    assert_eq!((out.records().len(), dropped), (8, 2));
}

/// The executor of these tests is not one that says that jobs run in its process.
#[test]
fn records_are_collected_only_where_the_job_runs() {
    let out = Collect::new();
    run(1, |env| {
        let numbers = env.source("numbers", Numbers(3));
        let refused = env.execute_and_collect("numbers", numbers).err().unwrap().to_string();
        assert!(refused.contains("on a cluster they are in other processes"), "{refused}");
        // What was refused is no part of the next job.
        env.source("numbers", Numbers(3)).sink("out", out.clone());
        Ok(())
    });
    assert_eq!(out.records(), [0, 1, 2]);
}
