//! Encoders, which turn records into the bytes of a file.

use std::fmt::Display;
use std::io::Write;

use millstream_connector::Result;
use serde::Serialize;

/// A format that a file sink writes.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// /// The bytes of numbers, one after the other.
/// #[derive(Clone)]
/// struct LittleEndian;
///
/// impl Encoder<u64> for LittleEndian {
///     fn encode(&mut self, records: &[u64], _begins_file: bool, out: &mut Vec<u8>) -> Result<()> {
///         out.extend(records.iter().flat_map(|number| number.to_le_bytes()));
///         Ok(())
///     }
/// }
///
/// let numbers = env.source("numbers", Datagen::sequence(0..3));
/// numbers.sink("file", FileSink::with_encoder(directory, LittleEndian).roll_at_bytes(1 << 20));
/// env.execute("write numbers")?;
/// let file = std::fs::read_dir(directory)?.next().unwrap()?.path();
/// assert_eq!(std::fs::metadata(file)?.len(), 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Encoder<T>: Clone + Send + Sync + 'static {
    /// Adds `records` to `out`; `begins_file` says that nothing was written to the file yet.
    ///
    /// # Errors
    /// A record cannot be written in this format.
    fn encode(&mut self, records: &[T], begins_file: bool, out: &mut Vec<u8>) -> Result<()>;
}

/// A line per record, as `Display` writes it.
#[derive(Debug, Clone, Copy)]
pub struct DisplayLines;

impl<T: Display> Encoder<T> for DisplayLines {
    fn encode(&mut self, records: &[T], _begins_file: bool, out: &mut Vec<u8>) -> Result<()> {
        for record in records {
            writeln!(out, "{record}")?;
        }
        Ok(())
    }
}

/// A line of JSON per record.
#[derive(Debug, Clone, Copy)]
pub struct JsonLines;

impl<T: Serialize> Encoder<T> for JsonLines {
    fn encode(&mut self, records: &[T], _begins_file: bool, out: &mut Vec<u8>) -> Result<()> {
        for record in records {
            serde_json::to_writer(&mut *out, record)?;
            out.push(b'\n');
        }
        Ok(())
    }
}

/// CSV with a first line of names in each file, if the records have names.
#[derive(Debug, Clone, Copy)]
pub struct CsvRecords;

impl<T: Serialize> Encoder<T> for CsvRecords {
    fn encode(&mut self, records: &[T], begins_file: bool, out: &mut Vec<u8>) -> Result<()> {
        let mut csv = csv::WriterBuilder::new().has_headers(begins_file).from_writer(out);
        for record in records {
            csv.serialize(record)?;
        }
        Ok(csv.flush()?)
    }
}

/// Writes each record by a function.
#[derive(Debug, Clone, Copy)]
pub struct RecordsWith<F>(pub(crate) F);

impl<T, F> Encoder<T> for RecordsWith<F>
where
    F: FnMut(&T, &mut Vec<u8>) -> Result<()> + Clone + Send + Sync + 'static,
{
    fn encode(&mut self, records: &[T], _begins_file: bool, out: &mut Vec<u8>) -> Result<()> {
        records.iter().try_for_each(|record| (self.0)(record, out))
    }
}
