//! Functions at the end of bounded input, and functions that are made in their subtask.

use super::*;

static LATE: OutputTag<u64> = OutputTag::new("late");

/// Remembers numbers in two states and tells of each key at the end.
struct Ledger {
    last: ValueState<u64>,
    all: MapState<u64, u64>,
}

impl Ledger {
    fn new(ctx: &mut KeyedRuntimeContext<'_, u64>) -> Result<Self> {
        Ok(Self { last: ctx.value("last")?, all: ctx.map("all")? })
    }

    /// Every third number is forgotten in one state, so that keys have one, both or none.
    fn note(&self, n: u64, ctx: &mut Context<'_, u64>) -> Result<()> {
        if n.is_multiple_of(3) {
            return Ok(self.last.clear(ctx)?);
        }
        self.last.set(ctx, n)?;
        self.all.put(ctx, n, n)?;
        if n % 3 == 1 {
            self.last.clear(ctx)?;
        }
        Ok(())
    }

    fn tell(&self, ctx: &Context<'_, u64>, out: &mut Collector<'_, (u64, u64)>) -> Result<()> {
        // Two states at once, and results while both are borrowed.
        let (last, mut all) = (self.last.get(ctx)?, self.all.values(ctx)?);
        let mut sum = 0u64;
        while let Some(n) = all.next()? {
            sum = sum.checked_add(*n).context("too much")?;
        }
        out.emit((*ctx.key(), last.copied().unwrap_or_default() + sum));
        out.emit_to(&LATE, *ctx.key())
    }
}

impl KeyedProcess<u64, u64> for Ledger {
    type Out = (u64, u64);

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        self.note(n, ctx)?;
        ensure!(n % 1_000 != 998, "refused after the change");
        Ok(())
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        self.tell(ctx, out)
    }
}

impl KeyedCoProcess<u64, u64, u64> for Ledger {
    type Out = (u64, u64);

    fn process_left(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        self.note(n, ctx)
    }

    fn process_right(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        self.note(n, ctx)
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        self.tell(ctx, out)
    }
}

/// The pairs that `Ledger` emits for the numbers below `end`, each its own key.
fn told(end: u64, refused: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
    (0..end)
        .filter(|n| n % 3 != 0 && !refused(*n))
        .map(|n| (n, if n % 3 == 1 { n } else { 2 * n }))
        .collect()
}

#[test]
fn finish_key_sees_every_key_with_state_once() {
    for (mode, parallelism) in
        [(RuntimeMode::Streaming, 1), (RuntimeMode::Batch, 3), (RuntimeMode::Streaming, 2)]
    {
        let (out, late) = (Collect::new(), Collect::new());
        run(parallelism, |env| {
            env.set_runtime_mode(mode);
            let told = env
                .source("numbers", Numbers(5_000))
                .key_by(|n| *n)
                .on_error(OnError::drop_record())
                .process("ledger", Ledger::new);
            told.side_output(&LATE).sink("late", late.clone());
            told.sink("out", out.clone());
            Ok(())
        });
        let expected = told(5_000, |n| n % 1_000 == 998);
        assert_eq!(out.records(), expected);
        assert_eq!(late.records(), expected.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    }
}

#[test]
fn finish_key_of_two_inputs_waits_for_both() {
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        let out = Collect::new();
        run(2, |env| {
            env.set_runtime_mode(mode);
            let few = env.source("few", Numbers(10));
            let many = env.source("many", Numbers(5_000));
            few.key_by(|n| *n)
                .connect(many.key_by(|n| *n))
                .process("ledger", Ledger::new)
                .sink("out", out.clone());
            Ok(())
        });
        assert_eq!(out.records(), told(5_000, |_| false));
    }
}

/// A million keys through a slow exchange: the output is full in the middle of the keys.
#[test]
fn finish_key_is_suspended_by_a_full_output() {
    let count = Collect::new();
    run(1, |env| {
        env.source("numbers", Numbers(1_000_000))
            .key_by(|n| *n)
            .on_error(OnError::drop_record())
            .process("ledger", Ledger::new)
            .rebalance()
            .map(|(key, _)| Ok(key))
            .slot_sharing_group("slow")
            .key_by(|_| 0u64)
            .aggregate(
                "total",
                || (0u64, 0u64),
                |(count, sum), key| {
                    (*count, *sum) = (*count + 1, *sum + key);
                    Ok(())
                },
            )
            .map(|(_, total)| Ok(total))
            .sink("count", count.clone());
        Ok(())
    });
    let keys = told(1_000_000, |n| n % 1_000 == 998);
    let expected = (keys.len() as u64, keys.iter().map(|(key, _)| key).sum());
    assert_eq!(count.records().last(), Some(&expected));
}

#[test]
fn an_error_of_finish_key_fails_the_job_whatever_the_policy() {
    struct Fails(ValueState<()>);
    impl KeyedProcess<u64, u64> for Fails {
        type Out = u64;

        fn process(
            &mut self,
            _: u64,
            ctx: &mut Context<'_, u64>,
            _: &mut Collector<'_, u64>,
        ) -> Result<()> {
            Ok(self.0.set(ctx, ())?)
        }

        fn finish_key(
            &mut self,
            ctx: &mut Context<'_, u64>,
            _: &mut Collector<'_, u64>,
        ) -> Result<()> {
            bail!("no end for key {}", ctx.key())
        }
    }
    for (first, fails) in [(0, false), (5, true)] {
        let (result, ..) = run_with(JobSettings::default(), |env| {
            env.source("numbers", Numbers(first))
                .key_by(|n| *n)
                .on_error(OnError::drop_record())
                .process("fails", |ctx| Ok(Fails(ctx.value("seen")?)))
                .sink("out", Collect::new());
            Ok(())
        });
        let error = result.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert_eq!(error.contains("no end for key"), fails, "{error}");
    }
}

#[test]
fn a_process_without_key_has_side_outputs_and_an_end() {
    #[derive(Default)]
    struct Odd(u64);
    impl Process<u64> for Odd {
        type Out = u64;

        fn process(&mut self, n: u64, out: &mut Collector<'_, u64>) -> Result<()> {
            self.0 += 1;
            out.emit_to(&LATE, n)?;
            out.emit(n);
            ensure!(n % 2 == 1, "{n} is even");
            Ok(())
        }

        fn finish(&mut self, out: &mut Collector<'_, u64>) -> Result<()> {
            out.emit(1_000_000 + self.0);
            Ok(())
        }
    }
    for parallelism in [1, 2] {
        let (out, late) = (Collect::new(), Collect::new());
        run(parallelism, |env| {
            let odd = env
                .source("numbers", Numbers(2_000))
                .on_error(OnError::drop_record())
                .process(|_| Ok(Odd::default()));
            odd.side_output(&LATE).sink("late", late.clone());
            odd.sink("out", out.clone());
            Ok(())
        });
        let odd: Vec<u64> = (0..2_000).filter(|n| n % 2 == 1).collect();
        assert_eq!(late.records(), odd);
        let (numbers, ends): (Vec<u64>, Vec<u64>) =
            out.records().into_iter().partition(|n| *n < 1_000_000);
        assert_eq!(numbers, odd);
        assert_eq!(ends.len(), usize::try_from(parallelism).unwrap());
        assert_eq!(ends.iter().map(|n| n - 1_000_000).sum::<u64>(), 2_000);
    }
}

#[test]
fn aggregates_are_final_in_batch_mode_and_running_in_streaming_mode() {
    for (mode, expected) in [
        (RuntimeMode::Streaming, (20, vec![(0, 90), (1, 100)])),
        (RuntimeMode::Batch, (2, vec![(0, 90), (1, 100)])),
    ] {
        let (sums, counts, least, most) =
            (Collect::new(), Collect::new(), Collect::new(), Collect::new());
        run(1, |env| {
            env.set_runtime_mode(mode);
            let numbers = env.source("numbers", Numbers(20));
            numbers.clone().key_by(|n| n % 2).sum("sum", |n| *n).sink("sums", sums.clone());
            numbers.clone().key_by(|n| n % 2).count("count").sink("counts", counts.clone());
            numbers.clone().key_by(|n| n % 2).min("min", |n| *n).sink("least", least.clone());
            numbers.key_by(|n| n % 2).max("max", |n| *n).sink("most", most.clone());
            Ok(())
        });
        let all = sums.records();
        assert_eq!(all.len(), expected.0);
        let last = |key| all.iter().filter(|(of, _)| *of == key).max().copied();
        assert_eq!([last(0), last(1)].map(Option::unwrap).to_vec(), expected.1);
        assert_eq!(counts.records().last(), Some(&(1, 10)));
        assert_eq!(least.records().first(), Some(&(0, 0)));
        assert_eq!(most.records().last(), Some(&(1, 19)));
    }
}

#[test]
fn a_sum_beyond_its_type_is_refused_and_changes_nothing() {
    let out = Collect::new();
    let (result, _, dropped) = run_with(JobSettings::default(), |env| {
        env.source("numbers", Numbers(5))
            .map(|n| Ok(if n == 2 { 255u8 } else { 1 }))
            .key_by(|_| 0u64)
            .on_error(OnError::drop_record())
            .sum("sum", |n| *n)
            .sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    assert_eq!(dropped, 1);
    assert_eq!(out.records(), [(0, 1), (0, 2), (0, 3), (0, 4)]);
}

#[test]
fn a_function_that_is_made_in_its_subtask_may_own_what_cannot_be_cloned() {
    struct Connection(u32);
    let out = Collect::new();
    run(3, |env| {
        env.source("numbers", Numbers(30))
            .map_with(|ctx| {
                let connection = Connection(ctx.subtask());
                Ok(move |n: u64| Ok((n, u64::from(connection.0))))
            })
            .flat_map_with(|_| {
                let mut seen = Connection(0);
                Ok(move |(n, at)| {
                    seen.0 += 1;
                    Ok([(n, at, u64::from(seen.0))])
                })
            })
            .filter_with(|ctx| {
                let subtask = Connection(ctx.subtask());
                Ok(move |(_, at, _): &(u64, u64, u64)| Ok(*at == u64::from(subtask.0)))
            })
            .sink("out", out.clone());
        Ok(())
    });
    let expected: Vec<_> = (0..30).map(|n| (n, n % 3, n / 3 + 1)).collect();
    assert_eq!(out.records(), expected);
    let (failed, ..) = run_with(JobSettings::default(), |env| {
        env.source("numbers", Numbers(3))
            .map_with(|ctx| {
                ensure!(ctx.parallelism() > 1, "the database is not there");
                Ok(|n: u64| Ok(n))
            })
            .sink("out", Collect::new());
        Ok(())
    });
    assert!(format!("{:#}", failed.unwrap_err()).contains("the database is not there"));
}

#[test]
fn a_state_that_is_left_empty_is_forgotten() {
    let out = Collect::new();
    run(1, |env| {
        env.source("numbers", Numbers(6))
            .key_by(|_| 0u64)
            .map_with_state("toggle", |on: &mut Option<u64>, n| {
                let before = on.take();
                if before.is_none() {
                    *on = Some(n);
                }
                Ok((n, before))
            })
            .sink("out", out.clone());
        Ok(())
    });
    let expected = [(0, None), (1, Some(0)), (2, None), (3, Some(2)), (4, None), (5, Some(4))];
    assert_eq!(out.records(), expected);
}
