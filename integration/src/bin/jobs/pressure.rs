//! A source that is faster than its sink: one number becomes many records of about 100 bytes, and
//! the sink takes its time with each batch, or with each record.

use std::time::Duration;

use millstream::Batch;
use millstream::prelude::*;

pub(crate) fn build(env: &mut Environment, args: &Args) -> Result<()> {
    let fan_out: u64 = args.optional("fan-out")?.unwrap_or(1_000);
    let pause = Pause {
        per_batch: Duration::from_millis(args.optional("pause-ms")?.unwrap_or(10)),
        per_record: Duration::from_nanos(args.optional("pause-ns-per-record")?.unwrap_or(0)),
    };
    let apart = args.has("apart");
    if args.has("unchained") {
        env.disable_chaining();
    }
    let group = |name: &'static str| if apart { name } else { "default" };
    let numbers = env
        .source("numbers", Datagen::from_fn(|number| number))
        .slot_sharing_group(group("source"));
    let lines = numbers
        .flat_map(move |number| Ok((0..fan_out).map(move |at| format!("{number:050} {at:050}"))))
        .name("fan out")
        .slot_sharing_group(group("fan-out"));
    lines.sink("slow", SlowSink(pause)).slot_sharing_group(group("sink"));
    env.execute("pressure")?;
    Ok(())
}

#[derive(Clone, Copy)]
struct Pause {
    per_batch: Duration,
    per_record: Duration,
}

struct SlowSink(Pause);

impl Sink<String> for SlowSink {
    type Committable = ();
    type Writer = SlowWriter;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<SlowWriter> {
        Ok(SlowWriter(self.0))
    }
}

struct SlowWriter(Pause);

impl SinkWriter<String> for SlowWriter {
    type Committable = ();

    fn write(&mut self, batch: Batch<String>) -> Result<Flow> {
        let records = u32::try_from(batch.len())?;
        let pause = self.0.per_batch + self.0.per_record * records;
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        drop(batch);
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}
