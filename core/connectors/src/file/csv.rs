//! CSV, parsed as it comes: a record may begin in one chunk and end in another.

use std::marker::PhantomData;

use csv::ByteRecord;
use csv_core::ReadRecordResult;
use millstream_api::{Data, ReaderContext};

use crate::file::format::{BadRecord, Decoder, Format};
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

    fn has_head_line(&self) -> bool {
        self.headers
    }

    fn decoder(&self, _ctx: &ReaderContext) -> CsvDecoder<T> {
        CsvDecoder {
            parser: csv_core::ReaderBuilder::new().delimiter(self.delimiter).build(),
            delimiter: self.delimiter,
            has_headers: self.headers,
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

/// Reads CSV; what it holds of a record that is not complete waits for the next chunk.
pub struct CsvDecoder<T> {
    parser: csv_core::Reader,
    delimiter: u8,
    has_headers: bool,
    headers: Option<ByteRecord>,
    /// The unquoted fields of the record at hand, one after another.
    fields: Vec<u8>,
    fields_len: usize,
    /// Where each of them ends.
    ends: Vec<usize>,
    ends_len: usize,
    /// Where the record at hand begins in the file.
    begins_at: Option<u64>,
    record: ByteRecord,
    out: PhantomData<fn() -> T>,
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
        self.fields_len = 0;
        self.ends_len = 0;
    }

    /// The next range is another file's, or another part of this one.
    fn reset(&mut self) {
        self.parser.reset();
        self.headers = None;
        self.fields_len = 0;
        self.ends_len = 0;
        self.begins_at = None;
    }

    fn bad(&self, chunk: &Chunk, offset: u64, reason: String) -> BadRecord {
        let fields: Vec<&[u8]> = self.record.iter().collect();
        let file = chunk.origin.display().to_string();
        BadRecord { file, offset, reason, bytes: fields.join(&self.delimiter) }
    }

    /// Goes on with the record at hand; `false` if it needs the next chunk.
    fn complete_record(&mut self, chunk: &Chunk, at: &mut usize) -> bool {
        loop {
            let input = chunk.bytes().get(*at..).unwrap_or_default();
            if input.is_empty() && !chunk.ends_range {
                return false;
            }
            self.begins_at.get_or_insert(chunk.offset + *at as u64);
            let fields = self.fields.get_mut(self.fields_len..).unwrap_or_default();
            let ends = self.ends.get_mut(self.ends_len..).unwrap_or_default();
            let (result, read, written, ended) = self.parser.read_record(input, fields, ends);
            *at += read;
            self.fields_len += written;
            self.ends_len += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => return true,
                ReadRecordResult::End => {
                    self.reset();
                    return false;
                }
            }
        }
    }
}

impl<T: Data> Decoder for CsvDecoder<T> {
    type Out = T;

    fn next(&mut self, chunk: &Chunk, at: &mut usize) -> Option<Result<T, BadRecord>> {
        while self.complete_record(chunk, at) {
            let offset = self.begins_at.take().unwrap_or_default();
            self.take_record();
            if self.has_headers && self.headers.is_none() {
                self.headers = Some(std::mem::take(&mut self.record));
                continue;
            }
            if let Some(headers) = &self.headers
                && headers.len() != self.record.len()
            {
                let (found, expected) = (self.record.len(), headers.len());
                let reason = format!("it has {found} fields instead of {expected}");
                return Some(Err(self.bad(chunk, offset, reason)));
            }
            let value = self.record.deserialize(self.headers.as_ref());
            return Some(value.map_err(|error| self.bad(chunk, offset, error.to_string())));
        }
        None
    }
}
