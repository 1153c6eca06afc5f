//! Number of bytes that the kernel gathers before it wakes a connection's reader: `SO_RCVLOWAT`.
//!
//! A long frame comes in many packets. Woken for each of them, the reader takes time from the tasks
//! that share its cores, and waking it is a third of the work of the thread that sends: with
//! 128 KiB a wake-up, records of 10 KB move at 1.2 times the rate. More makes nothing faster.

use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use tokio::net::TcpStream;

const GATHERED_BYTES: usize = 128 << 10;

/// The low-water mark of one socket.
#[derive(Debug)]
pub(crate) struct LowWater(usize);

impl LowWater {
    /// That of a new socket.
    pub(crate) const fn new() -> Self {
        Self(1)
    }

    /// Has the reader of `stream` woken as suits a frame of which so many bytes are `missing`:
    /// none if nothing of a frame has come. A socket on which that fails stays as it is.
    pub(crate) fn set(&mut self, stream: &TcpStream, missing: usize) {
        let bytes = if *KERNEL_GATHERS { low_water(missing) } else { 1 };
        if bytes != self.0 && set_low_water(stream, bytes) {
            self.0 = bytes;
        }
    }
}

/// Never more than is missing: its sender may have nothing to say after that. The last packets of a
/// frame are not worth a call.
fn low_water(missing: usize) -> usize {
    if missing > GATHERED_BYTES / 2 { missing.min(GATHERED_BYTES) } else { 1 }
}

/// Whether the kernel wakes the reader although fewer bytes have come, if the socket has no room
/// for more. Before 4.18 Linux never did, and `tcp_set_rcvlowat` and its relatives were mended
/// until 5.10 for packets that take far more memory than their bytes: a connection stood still.
static KERNEL_GATHERS: LazyLock<bool> = LazyLock::new(|| {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.is_ok_and(|release| gathers(&release))
});

fn gathers(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 10),
        _ => false,
    }
}

fn set_low_water(stream: &TcpStream, bytes: usize) -> bool {
    let Ok(value) = libc::c_int::try_from(bytes) else { return false };
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as its stream lives, and the kernel reads an int,
    // whose address and size these are, before the call returns.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size,
        )
    };
    done == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_bytes_are_waited_for_than_are_missing() {
        assert_eq!([0, 1, 1 << 16].map(low_water), [1; 3]);
        for missing in [(1 << 16) + 1, 100_000, GATHERED_BYTES, GATHERED_BYTES + 1, usize::MAX] {
            assert_eq!(low_water(missing), missing.min(GATHERED_BYTES));
        }
    }

    #[test]
    fn only_kernels_that_wake_a_reader_without_room_gather_bytes() {
        let gather = ["5.10.0-28-amd64\n", "5.15.0", "6.1.0-rc3", "10.0"];
        let do_not = ["5.9.16", "4.18.0-553.el8_10.x86_64\n", "3.10.0", "4.4", "5", "", "v5.10"];
        assert_eq!(gather.map(gathers), [true; 4]);
        assert_eq!(do_not.map(gathers), [false; 7]);
    }
}
