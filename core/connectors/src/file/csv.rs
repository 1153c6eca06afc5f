//! CSV, parsed as it comes: a record may begin in one chunk and end in another.

use std::marker::PhantomData;

use csv::ByteRecord;
use csv_core::ReadRecordResult;
use millstream_connector::{Data, ReaderContext};

use crate::file::format::{BadRecord, DecodeError, Decoder, Format};
use crate::file::head::Head;
use crate::lines::Chunk;

/// CSV whose records serde makes values of.
pub struct Csv<T> {
    pub(crate) headers: bool,
    pub(crate) delimiter: u8,
    pub(crate) newlines_end_records: bool,
    out: PhantomData<fn() -> T>,
}

impl<T> Csv<T> {
    pub(crate) const fn new() -> Self {
        Self { headers: true, delimiter: b',', newlines_end_records: false, out: PhantomData }
    }
}

impl<T: Data> Format for Csv<T> {
    type Out = T;
    type Decoder = CsvDecoder<T>;

    fn may_cut_files(&self) -> bool {
        self.newlines_end_records
    }

    fn needs_whole_lines(&self) -> bool {
        false
    }

    fn head(&self) -> Head {
        if self.headers { Head::CsvRecord { delimiter: self.delimiter } } else { Head::None }
    }

    fn decoder(&self, _ctx: &ReaderContext) -> CsvDecoder<T> {
        CsvDecoder {
            parser: csv_core::ReaderBuilder::new().delimiter(self.delimiter).build(),
            delimiter: self.delimiter,
            headers: None,
            fields: vec![0; 1024],
            fields_len: 0,
            ends: vec![0; 32],
            ends_len: 0,
            begins_at: None,
            record: ByteRecord::new(),
            out: PhantomData,
        }
    }
}

/// Reads CSV. An incomplete record is kept until the next chunk arrives.
pub struct CsvDecoder<T> {
    parser: csv_core::Reader,
    delimiter: u8,
    headers: Option<ByteRecord>,
    /// The unquoted fields of the record at hand, one after another.
    fields: Vec<u8>,
    fields_len: usize,
    /// Where each of them ends.
    ends: Vec<usize>,
    ends_len: usize,
    /// Where the record at hand begins in the file, once its first byte was seen.
    begins_at: Option<u64>,
    record: ByteRecord,
    out: PhantomData<fn() -> T>,
}

/// The progress of the parser over some bytes.
enum Parsed {
    /// A record has ended.
    Record,
    /// The bytes are used up.
    NeedsMore,
}

impl<T> CsvDecoder<T> {
    /// Takes over the fields that the parser has finished.
    fn take_record(&mut self) {
        self.record.clear();
        let mut start = 0;
        for end in self.ends.get(..self.ends_len).unwrap_or_default() {
            self.record.push_field(self.fields.get(start..*end).unwrap_or_default());
            start = *end;
        }
        self.begin_record();
    }

    fn begin_record(&mut self) {
        self.fields_len = 0;
        self.ends_len = 0;
        self.begins_at = None;
    }

    /// The next chunk belongs to another range.
    fn reset(&mut self) {
        self.parser.reset();
        // The parser would take a byte order mark for one wherever a range begins.
        self.parse(b"\n");
        self.headers = None;
        self.begin_record();
    }

    fn bad(&self, chunk: &Chunk, offset: u64, reason: String) -> DecodeError {
        let fields: Vec<&[u8]> = self.record.iter().collect();
        let file = chunk.origin.display().to_string();
        DecodeError::Bad(BadRecord { file, offset, reason, bytes: fields.join(&self.delimiter) })
    }

    /// Gives bytes to the parser up to the end of the record at hand; also how many it took.
    fn parse(&mut self, mut input: &[u8]) -> (Parsed, usize) {
        let mut taken = 0;
        loop {
            let fields = self.fields.get_mut(self.fields_len..).unwrap_or_default();
            let ends = self.ends.get_mut(self.ends_len..).unwrap_or_default();
            let (result, read, written, ended) = self.parser.read_record(input, fields, ends);
            input = input.get(read..).unwrap_or_default();
            taken += read;
            self.fields_len += written;
            self.ends_len += ended;
            match result {
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {
                    return (Parsed::NeedsMore, taken);
                }
                ReadRecordResult::Record => return (Parsed::Record, taken),
            }
        }
    }

    /// Goes on with the record at hand; where it begins if it has ended, `None` if it needs the
    /// next chunk.
    fn complete_record(
        &mut self,
        chunk: &Chunk,
        at: &mut usize,
    ) -> Result<Option<u64>, DecodeError> {
        let rest = chunk.bytes().get(*at..).unwrap_or_default();
        let blank = match self.begins_at {
            None => rest.iter().take_while(|byte| b"\r\n".contains(byte)).count(),
            Some(_) => 0,
        };
        let rest = rest.get(blank..).unwrap_or_default();
        *at += blank;
        if rest.is_empty() {
            return Ok(None);
        }
        let begins_at = *self.begins_at.get_or_insert(chunk.offset + *at as u64);
        let (parsed, taken) = self.parse(rest);
        *at += taken;
        let is_complete = matches!(parsed, Parsed::Record);
        let length = chunk.offset + *at as u64 - begins_at - u64::from(is_complete);
        if length > chunk.record_bytes_max as u64 {
            return Err(DecodeError::LongRecord { offset: begins_at });
        }
        Ok(is_complete.then_some(begins_at))
    }

    /// The range is over: what is at hand is a whole record, unless a quote is open.
    fn end_record(&mut self, chunk: &Chunk) -> Result<Option<u64>, DecodeError> {
        let Some(offset) = self.begins_at else { return Ok(None) };
        // Where no quote is open, a line end is the end of the record.
        let (parsed, _) = self.parse(b"\n");
        if matches!(parsed, Parsed::Record) {
            return Ok(Some(offset));
        }
        self.take_record();
        let bad = self.bad(chunk, offset, "a quote is open at the end of the file".to_owned());
        self.reset();
        Err(bad)
    }

    /// Takes the names of the fields from the head of the file.
    fn read_head(&mut self, chunk: &Chunk, at: &mut usize) -> Result<(), DecodeError> {
        self.reset();
        let found = match self.complete_record(chunk, at)? {
            Some(offset) => Some(offset),
            None => self.end_record(chunk)?,
        };
        *at = chunk.bytes().len();
        if found.is_some() {
            self.take_record();
            self.headers = Some(std::mem::take(&mut self.record));
        }
        Ok(())
    }
}

impl<T: Data> Decoder for CsvDecoder<T> {
    type Out = T;

    fn next(&mut self, chunk: &Chunk, at: &mut usize) -> Option<Result<T, DecodeError>> {
        if chunk.is_head() {
            return self.read_head(chunk, at).err().map(Err);
        }
        let complete = match self.complete_record(chunk, at) {
            Ok(None) if chunk.ends_range() => self.end_record(chunk),
            complete => complete,
        };
        let offset = match complete {
            Ok(Some(offset)) => offset,
            Ok(None) => {
                if chunk.ends_range() {
                    self.reset();
                }
                return None;
            }
            Err(error) => return Some(Err(error)),
        };
        self.take_record();
        if let Some(headers) = &self.headers
            && headers.len() != self.record.len()
        {
            let (found, expected) = (self.record.len(), headers.len());
            let reason = format!("it has {found} fields instead of {expected}");
            return Some(Err(self.bad(chunk, offset, reason)));
        }
        let value = self.record.deserialize(self.headers.as_ref());
        Some(value.map_err(|error| self.bad(chunk, offset, error.to_string())))
    }
}
