//! A job whose user code goes wrong in the way that `--how` names, once some records have passed.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::process::{Command, exit};
use std::time::Duration;

use millstream::prelude::*;

/// Set for the client alone: hosts and plan children have a clean environment.
const CLIENT_VARIABLE: &str = "MILLSTREAM_TEST_CLIENT";
/// The number at which it goes wrong.
const FATAL: u64 = 500;
/// More than any test waits for; a sink with a committer takes no source without end.
const ENDLESS: u64 = 1 << 40;

pub(crate) fn build(env: &mut Environment, args: &Args) -> Result<()> {
    let how = args.required("how")?.to_owned();
    let marker: Option<String> = args.optional("marker")?;
    let output: Option<String> = args.optional("output")?;
    let planning = std::env::var_os(CLIENT_VARIABLE).is_some();
    match how.as_str() {
        "plan-panic" => go_wrong("panic")?,
        "plan-error" => go_wrong("error")?,
        "plan-hang" => go_wrong("block")?,
        "plan-abort" => go_wrong("abort")?,
        "plan-nothing" => return Ok(()),
        "host-panic" if !planning => go_wrong("panic")?,
        "host-hang" if !planning => {
            writeln!(std::io::stderr(), "waiting for the tide")?;
            go_wrong("block")?;
        }
        "host-threads" if !planning => go_wrong("threads")?,
        "host-exit" if !planning => go_wrong("exit")?,
        "plan-exit" => exit(0),
        _ => {}
    }
    let numbers = env.source("numbers", Datagen::sequence(0..ENDLESS).rate_per_second(10_000));
    let numbers = match how.as_str() {
        "plan-differs" if !planning => numbers.rebalance().map(Ok).name("only in hosts"),
        _ => numbers,
    };
    let committer_how = how.strip_prefix("committer-").map(str::to_owned);
    let map_how = how.clone();
    let numbers = numbers.map(move |number| {
        if number == FATAL {
            if let Some(marker) = &marker {
                File::create(marker)?;
            }
            go_wrong(&map_how)?;
        }
        Ok(number)
    });
    match (committer_how, output) {
        (Some(how), _) => numbers.sink("sink", BadSink(how)),
        (None, Some(output)) => numbers.sink("sink", FileSink::lines(output)),
        (None, None) => numbers.sink("sink", DiscardSink::new()),
    };
    env.execute("misbehave")?;
    Ok(())
}

/// Misbehaves as the name says; names for other places have no effect here.
fn go_wrong(how: &str) -> Result<()> {
    match how {
        "panic" => {
            let nothing: Option<u64> = black_box(None);
            nothing.expect("the chosen number is here");
        }
        "error" => return Err(millstream::error!("the chosen number came")),
        "abort" => std::process::abort(),
        "overflow" => {
            black_box(deeper(black_box(1)));
        }
        "exit" => exit(7),
        "segfault" => {
            // SAFETY: none; the process is meant to be killed for it.
            unsafe { black_box(std::ptr::dangling_mut::<u64>()).write_volatile(1) };
        }
        "leak" => leak(),
        "reserve" => reserve(),
        "children" => {
            children()?;
            std::process::abort();
        }
        "close" => {
            // SAFETY: the process has no use for its descriptors any more.
            unsafe { libc::close_range(3, u32::MAX, 0) };
            block();
        }
        "stop" => {
            // SAFETY: takes no pointers; the process stops.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        "late-stop" => {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                go_wrong("stop")
            });
        }
        "block" => block(),
        "threads" => (0..2000).for_each(|_| drop(std::thread::spawn(block))),
        _ => {}
    }
    Ok(())
}

fn block() {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

#[expect(unconditional_recursion, reason = "the stack is meant to overflow")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 512]);
    deeper(black_box(frame[0] + 1)) + frame[511]
}

fn leak() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(black_box(vec![1; 1 << 20]));
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Addresses without memory: more than a check of virtual memory lets pass.
fn reserve() {
    let (size, flags) = (64 << 30, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: the mapping is new, and is never read or written.
    let reserved = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(reserved, libc::MAP_FAILED, "64 GiB could not be reserved");
    block();
}

/// A child, a grandchild, and one that has left its session and its parent.
fn children() -> Result<()> {
    let commands =
        ["exec sleep 1000", "sleep 1000 & sleep 1000", "setsid sh -c 'sleep 1000 & sleep 1000' &"];
    for command in commands {
        Command::new("sh").args(["-c", command]).spawn()?;
    }
    // Until the daemon has found its new parent.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// A sink whose committer, in the coordinator host, goes wrong when it is opened.
struct BadSink(String);

impl Sink<u64> for BadSink {
    type Committable = ();
    type Writer = NoWriter;
    type Committer = BadCommitter;

    fn writer(&self, _info: &WriterInfo) -> Result<NoWriter> {
        Ok(NoWriter)
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Option<BadCommitter>> {
        Ok(Some(BadCommitter(self.0.clone())))
    }

    fn has_committer(&self) -> bool {
        true
    }
}

struct NoWriter;

impl SinkWriter<u64> for NoWriter {
    type Committable = ();

    fn write(&mut self, _batch: millstream::Batch<u64>) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

struct BadCommitter(String);

impl Committer for BadCommitter {
    type Committable = ();

    fn open(&mut self) -> Result<()> {
        go_wrong(&self.0)
    }

    fn commit(&mut self, _committables: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
