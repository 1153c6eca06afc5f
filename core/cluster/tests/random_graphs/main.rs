//! Random graphs of up to eight nodes, run by the engine and by an interpreter of a page that knows
//! nothing of chains, tasks, channels or threads.
//!
//! Every sink must receive exactly the records that the interpreter says, each in a subtask that
//! its way through the graph allows. A failure prints its seed; the environment can ask for others,
//! see [`millstream_soak::simulation`].

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

mod graph;
mod interpreter;
mod job;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::catch_unwind;

use graph::{Graph, Record};
use millstream_soak::{rounds, simulation};

/// Number of seeds in a run of the tests.
const SEEDS: u64 = 1_000;

/// A sink's records and the subtasks that received them.
type Received = BTreeMap<usize, Vec<(Record, u32)>>;

/// The subtasks that a record may have reached, a bit for each.
type Mask = u32;

#[test]
fn random_graphs_run_as_the_interpreter_says() {
    let asked = simulation::asked();
    let is_asked = asked.is_some();
    let seeds: Box<dyn Iterator<Item = u64>> = match asked {
        Some(seeds) => Box::new(seeds),
        None => Box::new(rounds("random graphs", 0.1, SEEDS, 20 * SEEDS)),
    };
    let (mut all, mut failed) = (0, Vec::new());
    for seed in seeds {
        all += 1;
        let graph = Graph::random(seed);
        if let Err(why) = catch_unwind(|| check(&graph)).unwrap_or_else(|_| Err("panic".into())) {
            eprintln!("SIM_SEED={seed}: {why}\n{graph}");
            failed.push(seed);
        }
    }
    let count = failed.len();
    failed.truncate(10);
    if is_asked {
        let _ = writeln!(std::io::stderr(), "simulation graphs: seeds {all}");
    }
    assert!(failed.is_empty(), "{count} of {all} graphs failed; first seeds: {failed:?}");
}

fn check(graph: &Graph) -> Result<(), String> {
    let expected = interpreter::run(graph);
    let received = job::run(graph).map_err(|error| format!("{error:#}"))?;
    for (sink, expected) in expected {
        compare(expected, received.get(&sink).cloned().unwrap_or_default())
            .map_err(|why| format!("sink {sink}: {why}"))?;
    }
    Ok(())
}

/// Gives every received record one of the expected that it may be.
fn compare(expected: Vec<(Record, Mask)>, received: Vec<(Record, u32)>) -> Result<(), String> {
    let mut ways: BTreeMap<Record, (Vec<Mask>, Vec<u32>)> = BTreeMap::new();
    for (record, mask) in expected {
        ways.entry(record).or_default().0.push(mask);
    }
    for (record, subtask) in received {
        ways.entry(record).or_default().1.push(subtask);
    }
    for (record, (masks, subtasks)) in ways {
        if !is_matching(&masks, &subtasks) {
            let masks: Vec<String> = masks.iter().map(|mask| format!("{mask:04b}")).collect();
            return Err(format!("{record:?} may reach {masks:?} and reached {subtasks:?}"));
        }
    }
    Ok(())
}

/// Whether each of `subtasks` can be paired with a mask of its own that allows it.
fn is_matching(masks: &[Mask], subtasks: &[u32]) -> bool {
    fn place(
        at: usize,
        adjacent: &[Vec<usize>],
        seen: &mut [bool],
        of: &mut [Option<usize>],
    ) -> bool {
        adjacent[at].iter().any(|&mask| {
            !std::mem::replace(&mut seen[mask], true)
                && of[mask].is_none_or(|other| place(other, adjacent, seen, of))
                && {
                    of[mask] = Some(at);
                    true
                }
        })
    }
    let allows = |subtask: u32| (0..masks.len()).filter(move |at| masks[*at] >> subtask & 1 == 1);
    let adjacent: Vec<Vec<usize>> = subtasks.iter().map(|it| allows(*it).collect()).collect();
    let mut of = vec![None; masks.len()];
    masks.len() == subtasks.len()
        && (0..subtasks.len())
            .all(|at| place(at, &adjacent, &mut vec![false; masks.len()], &mut of))
}

#[test]
fn a_record_in_a_wrong_subtask_is_found() {
    assert!(is_matching(&[0b01, 0b11, 0b10], &[1, 0, 1]));
    assert!(is_matching(&[0b11, 0b01], &[0, 1]));
    assert!(!is_matching(&[0b01, 0b11, 0b01], &[1, 0, 1]));
    assert!(!is_matching(&[0b01], &[0, 0]));
    assert!(!is_matching(&[0b01, 0b01], &[0]));
}
