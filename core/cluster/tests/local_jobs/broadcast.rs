//! Broadcast state: each subtask has a copy, made of all broadcast records.

use super::*;

static REFUSED: OutputTag<u64> = OutputTag::new("refused");

/// A remainder, and how much is added to numbers that have it.
type Rule = (u64, u64);

const REMAINDERS: u64 = 10;

/// Adds to each number what the rule of its remainder says. Numbers wait in the state of their key
/// until their rule is there.
struct Add {
    rules: BroadcastState<u64, u64>,
    waiting: ListState<u64>,
}

impl KeyedBroadcastProcess<u64, u64, Rule> for Add {
    type Out = u64;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.waiting.add(ctx, n)?;
        self.finish_key(ctx, maps, out)
    }

    fn process_broadcast(
        &mut self,
        (remainder, added): Rule,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.rules.put(maps, remainder, added)?)
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if let Some(added) = self.rules.get(maps, &(ctx.key() % REMAINDERS))? {
            self.waiting.take(ctx)?.into_iter().for_each(|n| out.emit(n + added));
        }
        Ok(())
    }
}

#[test]
fn rules_reach_every_subtask() {
    // All remainders but the last have a rule.
    let ruled = (0..5_000).filter(|n| n % REMAINDERS < REMAINDERS - 1);
    let mut expected: Vec<u64> = ruled.map(|n| n + (n % REMAINDERS) * 10_000).collect();
    expected.sort_unstable();
    for parallelism in 1..=4 {
        let out = Collect::new();
        run(parallelism, |env| {
            let rules = env.source("rules", Numbers(REMAINDERS - 1)).map(|n| Ok((n, n * 10_000)));
            env.source("numbers", Numbers(5_000))
                .key_by(|n| n % 100)
                .connect_broadcast(rules)
                .process("add", |states| {
                    let (rules, waiting) = (states.broadcast("rules")?, states.list("waiting")?);
                    Ok(Add { rules, waiting })
                })
                .sink("out", out.clone());
            Ok(())
        });
        assert_eq!(out.records(), expected, "parallelism {parallelism}");
    }
}

/// Tells at the end what its copy holds, with the subtask.
struct Tell {
    rules: BroadcastState<u64, u64>,
    subtask: u32,
    records: u64,
}

impl BroadcastProcess<u64, u64> for Tell {
    /// A subtask, the number of records that it had, and the rules in its copy.
    type Out = (u32, u64, Vec<(u64, u64)>);

    fn process(
        &mut self,
        _: u64,
        _: &BroadcastMaps,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        self.records += 1;
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        n: u64,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let seen = self.rules.get(maps, &(n % 5))?.copied().unwrap_or_default();
        Ok(self.rules.put(maps, n % 5, seen + 1)?)
    }

    fn finish(&mut self, maps: &BroadcastMaps, out: &mut Collector<'_, Self::Out>) -> Result<()> {
        let rules = self.rules.entries(maps)?.map(|(rule, seen)| (*rule, *seen));
        out.emit((self.subtask, self.records, rules.collect()));
        Ok(())
    }
}

#[test]
fn each_subtask_has_a_copy_of_all_rules_in_one_order() {
    for parallelism in 1..=4 {
        let out = Collect::new();
        run(parallelism, |env| {
            let rules = env.source("rules", Numbers(500));
            env.source("numbers", Numbers(1_000))
                .connect_broadcast(rules)
                .process("tell", |states| {
                    let (rules, subtask) = (states.broadcast("rules")?, states.subtask());
                    Ok(Tell { rules, subtask, records: 0 })
                })
                .sink("out", out.clone());
            Ok(())
        });
        let told = out.records();
        assert_eq!(told.iter().map(|(_, records, _)| records).sum::<u64>(), 1_000);
        let subtasks: Vec<u32> = told.iter().map(|(subtask, ..)| *subtask).collect();
        assert_eq!(subtasks, (0..parallelism).collect::<Vec<u32>>());
        let all: Vec<(u64, u64)> = (0..5).map(|rule| (rule, 100)).collect();
        assert!(told.iter().all(|(.., rules)| *rules == all), "{told:?}");
    }
}

/// Changes the state of either side in every way, and refuses 3, 7 and so on.
struct Everything {
    map: BroadcastState<u64, u64>,
    last: BroadcastState<(), String>,
    count: ValueState<u64>,
}

fn refuse(n: u64) -> Result<()> {
    ensure!(n % 4 != 3, "refused");
    Ok(())
}

impl KeyedBroadcastProcess<u64, u64, u64> for Everything {
    type Out = String;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &BroadcastMaps,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let count = self.count.get_or_insert_with(ctx, || 0)?;
        *count += 1;
        out.emit(format!("record {n} is number {count}"));
        refuse(n)
    }

    fn process_broadcast(
        &mut self,
        n: u64,
        maps: &mut BroadcastMaps,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        out.emit(format!("before {n}"));
        self.map.put(maps, n % 6, n)?;
        self.last.put(maps, (), n.to_string())?;
        if n % 4 == 3 {
            self.map.remove(maps, &0)?;
            self.map.remove(maps, &(n % 6))?;
            self.last.clear(maps)?;
            self.map.clear(maps)?;
            self.map.put(maps, 99, 99)?;
        }
        refuse(n)?;
        let map: Vec<_> = self.map.entries(maps)?.collect();
        out.emit(format!("{n}: {map:?} {:?}", self.last.get(maps, &())?));
        Ok(())
    }
}

type Outputs = (Vec<String>, Vec<u64>);

/// Results and refused numbers of the function for the numbers below 20 that `keep` lets through.
/// They come on both inputs, and the results of each are in order.
fn processed(keep: fn(u64) -> bool) -> Outputs {
    let (out, refused) = (Collect::new(), Collect::new());
    run(1, |env| {
        let numbers = env.source("numbers", Numbers(20)).filter(move |n| Ok(keep(*n)));
        let rules = numbers.clone().on_error(OnError::side_output(&REFUSED));
        let keyed = numbers.key_by(|n| n % 2).on_error(OnError::side_output(&REFUSED));
        let stream = keyed.connect_broadcast(rules).process("everything", |states| {
            let (map, last) = (states.broadcast("map")?, states.broadcast("last")?);
            Ok(Everything { map, last, count: states.value("count")? })
        });
        stream.side_output(&REFUSED).sink("refused", refused.clone());
        stream.sink("out", out.clone());
        Ok(())
    });
    let (mut out, refused) = (out.0.lock().unwrap().clone(), refused.records());
    // Stable: what one input gave stays in order.
    out.sort_by_key(|(_, text)| text.starts_with("record"));
    (out.into_iter().map(|(_, text)| text).collect(), refused)
}

#[test]
fn a_record_that_is_refused_leaves_no_trace_on_either_side() {
    let (out, refused) = processed(|_| true);
    assert_eq!(refused, [3, 3, 7, 7, 11, 11, 15, 15, 19, 19]);
    // As if the refused records had never come.
    let (expected, none) = processed(|n| n % 4 != 3);
    assert_eq!(out, expected);
    assert!(none.is_empty());
}

#[test]
fn a_rule_that_is_refused_fails_the_job_unless_told_otherwise() {
    let (failed, ..) = run_with(JobSettings::default(), |env| {
        let rules = env.source("rules", Numbers(4));
        env.source("numbers", Numbers(1))
            .key_by(|n| *n)
            .connect_broadcast(rules)
            .process("everything", |states| {
                let (map, last) = (states.broadcast("map")?, states.broadcast("last")?);
                Ok(Everything { map, last, count: states.value("count")? })
            })
            .sink("out", Collect::new());
        Ok(())
    });
    let error = failed.unwrap_err().to_string();
    let expected = "operator \"everything\" failed on a record: refused";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn two_broadcast_states_of_one_name_are_refused() {
    let (failed, ..) = run_with(JobSettings::default(), |env| {
        let rules = env.source("rules", Numbers(1));
        env.source("numbers", Numbers(1))
            .key_by(|n| *n)
            .connect_broadcast(rules)
            .process("everything", |states| {
                let (map, last) = (states.broadcast("map")?, states.broadcast("map")?);
                Ok(Everything { map, last, count: states.value("count")? })
            })
            .sink("out", Collect::new());
        Ok(())
    });
    let error = format!("{:#}", failed.unwrap_err());
    assert!(error.contains("\"map\" is declared twice"), "{error}");
}

/// Rings once the watermark of both streams has reached the time of its record.
struct Ring {
    rings: Timers,
    rules: BroadcastState<u64, u64>,
}

impl KeyedBroadcastProcess<u64, u64, u64> for Ring {
    type Out = (u64, usize);

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        _: &BroadcastMaps,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Ok(self.rings.set(ctx, n as i64)?)
    }

    fn process_broadcast(
        &mut self,
        n: u64,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Ok(self.rules.put(maps, n, n)?)
    }

    /// Rules up to the timer's time have come by now.
    fn on_timer(
        &mut self,
        timer: Timer,
        _: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let time = timer.time() as u64;
        out.emit((time, self.rules.entries(maps)?.filter(|(rule, _)| **rule <= time).count()));
        Ok(())
    }
}

#[test]
fn timers_wait_for_the_rules_of_their_time() {
    for parallelism in 1..=4 {
        let out = Collect::new();
        run(parallelism, |env| {
            env.set_runtime_mode(RuntimeMode::Streaming);
            let timed = |numbers: Stream<u64>| {
                let times = WatermarkStrategy::monotonous();
                numbers.assign_timestamps(times.timestamps(|n: &u64| Ok(*n as i64)))
            };
            let rules = timed(env.source("rules", Numbers(2_000)));
            timed(env.source("numbers", Numbers(2_000)))
                .key_by(|n| n % 7)
                .connect_broadcast(rules)
                .process("ring", |states| {
                    let (rings, rules) =
                        (states.event_timers("rings")?, states.broadcast("rules")?);
                    Ok(Ring { rings, rules })
                })
                .sink("out", out.clone());
            Ok(())
        });
        let expected: Vec<(u64, usize)> = (0..2_000).map(|n| (n, n as usize + 1)).collect();
        assert_eq!(out.records(), expected, "parallelism {parallelism}");
    }
}
