//! A source that is faster than its sink: one number becomes many records of about 100 bytes, and
//! the sink takes its time with each batch.

use std::time::Duration;

use millstream::Batch;
use millstream::prelude::*;

pub(crate) fn build(env: &mut Environment, args: &Args) -> Result<()> {
    let fan_out: u64 = args.optional("fan-out")?.unwrap_or(1_000);
    let pause = Duration::from_millis(args.optional("pause-ms")?.unwrap_or(10));
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

struct SlowSink(Duration);

impl Sink<String> for SlowSink {
    type Committable = ();
    type Writer = SlowWriter;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<SlowWriter> {
        Ok(SlowWriter(self.0))
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Option<NoCommitter<()>>> {
        Ok(None)
    }

    fn has_committer(&self) -> bool {
        false
    }
}

struct SlowWriter(Duration);

impl SinkWriter<String> for SlowWriter {
    type Committable = ();

    fn write(&mut self, batch: Batch<String>) -> Result<()> {
        std::thread::sleep(self.0);
        drop(batch);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}
