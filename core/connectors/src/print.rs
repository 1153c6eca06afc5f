//! Prints records to the standard output of the task's process: on a cluster, the task host's.

use std::fmt::{Debug, Display};
use std::io::{self, Stdout, Write};
use std::marker::PhantomData;

use millstream_connector::{
    Batch, Blocks, CheckpointId, ErrorContext, Flow, NoCommitter, Result, Sink, SinkWriter,
    WriterInfo,
};

/// Prints a line per record, as `2> record` if the sink has several subtasks (this one is the
/// second).
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// use std::io::Write;
///
/// let pairs = env.source("pairs", Datagen::from_fn(|n| (n, n * n)).count(3));
/// pairs.clone().map(|(_, square)| Ok(square)).sink("squares", PrintSink::new());
/// pairs.clone().sink("pairs as they are", PrintSink::debug());
/// pairs.sink("sentences", PrintSink::with(|(n, square): &(u64, u64), out: &mut Vec<u8>| {
///     write!(out, "{n} times {n} is {square}")
/// }));
/// env.execute("print")?;
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PrintSink<F> {
    print: F,
}

/// Adds a record's text to a buffer.
pub type PrintFunction<T> = fn(&T, &mut Vec<u8>) -> io::Result<()>;

impl PrintSink<()> {
    /// Prints records as `Display` writes them.
    #[must_use]
    pub fn new<T: Display>() -> PrintSink<PrintFunction<T>> {
        PrintSink { print: |record, out| write!(out, "{record}") }
    }

    /// Prints records as `Debug` writes them.
    #[must_use]
    pub fn debug<T: Debug>() -> PrintSink<PrintFunction<T>> {
        PrintSink { print: |record, out| write!(out, "{record:?}") }
    }

    /// Prints what a function adds to the buffer, without the line end.
    #[must_use]
    pub const fn with<T, F>(print: F) -> PrintSink<F>
    where
        F: Fn(&T, &mut Vec<u8>) -> io::Result<()> + Clone + Send + Sync + 'static,
    {
        PrintSink { print }
    }
}

impl<T, F> Sink<T> for PrintSink<F>
where
    T: Send + 'static,
    F: Fn(&T, &mut Vec<u8>) -> io::Result<()> + Clone + Send + Sync + 'static,
{
    type Committable = ();
    type Writer = PrintWriter<T, F, Stdout>;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<Self::Writer> {
        Ok(PrintWriter::new(self.print.clone(), info, io::stdout()))
    }
}

/// Prints the records of one subtask, a batch at a time.
pub struct PrintWriter<T, F, W> {
    print: F,
    prefix: String,
    out: W,
    buffer: Vec<u8>,
    records: PhantomData<fn(T)>,
}

impl<T, F, W> PrintWriter<T, F, W> {
    fn new(print: F, info: &WriterInfo, out: W) -> Self {
        let prefix = match info.parallelism {
            0 | 1 => String::new(),
            _ => format!("{}> ", info.subtask + 1),
        };
        Self { print, prefix, out, buffer: Vec::new(), records: PhantomData }
    }
}

impl<T, F, W> SinkWriter<T> for PrintWriter<T, F, W>
where
    F: Fn(&T, &mut Vec<u8>) -> io::Result<()> + Send,
    W: Write + Send,
{
    type Committable = ();

    fn blocks(&self) -> Blocks {
        Blocks::Nothing
    }

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.buffer.clear();
        for record in batch.records() {
            self.buffer.extend_from_slice(self.prefix.as_bytes());
            (self.print)(record, &mut self.buffer)?;
            self.buffer.push(b'\n');
        }
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        written.context("failed to print to standard output")?;
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::writer_info;

    fn printed(parallelism: u32) -> String {
        let print = PrintSink::new::<&str>().print;
        let mut writer = PrintWriter::new(print, &writer_info(1, parallelism, 0), Vec::new());
        writer.write(Batch::of(vec!["one", "two"])).unwrap();
        writer.write(Batch::of(vec!["three"])).unwrap();
        assert!(writer.pre_commit(CheckpointId::FIRST).unwrap().is_empty());
        String::from_utf8(writer.out).unwrap()
    }

    #[test]
    fn the_subtask_is_named_where_there_are_several() {
        assert_eq!(printed(1), "one\ntwo\nthree\n");
        assert_eq!(printed(4), "2> one\n2> two\n2> three\n");
    }
}
