//! The limit of a row about a shape of records: batches of them handed from one thread to another,
//! or as many bytes over loopback TCP, each record with its number at its start. TLS has the limit
//! of TCP.

use super::{BATCH_RECORDS, Found, hand_over};
use crate::process::own_cpu;
use crate::records::{Digest, scramble};
use crate::rows::{SEED, Way};
use crate::shapes::{self, Listed, Shape};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Bytes of a write and of a batch, unless one record is longer.
const WRITE_BYTES: usize = 32 << 10;
const BATCH_BYTES: usize = 256 << 10;

/// Finds the digest with the records themselves, and the limit of the way.
pub fn throughput(shape: Listed, way: Way, records: u64) -> Result<Found> {
    let batch = (BATCH_BYTES / shape.bytes).clamp(1, BATCH_RECORDS as usize) as u64;
    let found = shapes::visit(shape.name, HandOver { records, batch });
    let (digest, handed_over) = found.context("the shape is not in the list")?;
    let cpu = match way {
        Way::Rebalance | Way::Hash => handed_over,
        Way::Wire => wire(records, shape.bytes)?,
    };
    Ok(Found { digest, records, cpu })
}

struct HandOver {
    records: u64,
    batch: u64,
}

impl shapes::Visitor for HandOver {
    type Out = (Digest, Duration);

    fn visit<S: Shape>(self, shape: S) -> Self::Out {
        let before = own_cpu();
        let make = |index| shape.make(scramble(SEED, index));
        let digest = hand_over(0..self.records, self.batch, make, |record| S::word(&record));
        (digest, own_cpu() - before)
    }
}

/// CPU time of both ends.
fn wire(records: u64, bytes: usize) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let before = own_cpu();
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || send(TcpStream::connect(address)?, records, bytes));
        let sum = receive(listener.accept()?.0, bytes)?;
        ensure!(sum == records * (records - 1) / 2, "the probe lost a record");
        match sender.join() {
            Ok(sent) => sent,
            Err(_) => bail!("the sending thread of the probe panicked"),
        }
    })?;
    Ok(own_cpu() - before)
}

fn send(mut stream: TcpStream, records: u64, bytes: usize) -> Result<()> {
    let record = vec![0x5A; bytes];
    let mut buffer = Vec::with_capacity(WRITE_BYTES + bytes);
    for index in 0..records {
        let start = buffer.len();
        buffer.extend_from_slice(&record);
        let number = buffer.get_mut(start..start + 8).context("a record is too short")?;
        number.copy_from_slice(&index.to_le_bytes());
        if buffer.len() >= WRITE_BYTES {
            stream.write_all(&buffer)?;
            buffer.clear();
        }
    }
    Ok(stream.write_all(&buffer)?)
}

/// The sum of the numbers.
fn receive(mut stream: TcpStream, bytes: usize) -> Result<u64> {
    let mut buffer = vec![0; WRITE_BYTES.max(bytes) + bytes];
    let (mut filled, mut sum) = (0, 0u64);
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            return Ok(sum);
        }
        filled += read;
        let whole = filled - filled % bytes;
        for record in buffer.get(..whole).unwrap_or_default().chunks_exact(bytes) {
            let number = record.first_chunk().context("a record is too short")?;
            sum = sum.wrapping_add(u64::from_le_bytes(*number));
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_arrives_over_the_wire() {
        for bytes in [16, 100, 40_000] {
            wire(1_000, bytes).unwrap();
        }
    }

    #[test]
    fn the_digest_has_every_record() {
        for shape in shapes::ALL.iter().filter(|shape| shape.bytes < 100_000) {
            assert_eq!(throughput(*shape, Way::Rebalance, 100).unwrap().digest.count, 100);
        }
    }
}
