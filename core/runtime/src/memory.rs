//! The memory of the process.

use std::io;

/// From so many resident bytes on huge pages save time: a smaller process needs few entries of the
/// translation cache, and the kernel clears megabytes of which it uses a part.
const LARGE: u64 = 64 << 20;

/// Has the kernel give the process transparent huge pages from now on, or no more of them. What
/// it has it keeps.
pub(crate) fn allow_huge_pages(allow: bool) {
    let disabled = libc::c_ulong::from(!allow);
    // SAFETY: this request takes no pointer; it sets a flag of the process.
    let done = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, disabled, 0, 0, 0) };
    if done != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, allow, "huge pages stay as they were");
    }
}

/// Whether the process is so large that huge pages are worth their memory.
pub(crate) fn is_large() -> bool {
    resident_bytes().is_some_and(is_large_with)
}

const fn is_large_with(resident: u64) -> bool {
    resident >= LARGE
}

/// The second number of `statm` (proc_pid_statm(5)), which counts pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: the call reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn huge_pages_allowed() -> bool {
        // SAFETY: this request takes no pointer.
        unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0 }
    }

    #[test]
    fn huge_pages_come_when_the_process_is_large() {
        allow_huge_pages(false);
        assert!(!huge_pages_allowed());
        // The other tests of this process have memory of their own.
        assert!(!is_large_with(LARGE - 1) && is_large_with(LARGE));
        let filled = std::hint::black_box(vec![1_u8; LARGE as usize]);
        assert!(is_large(), "{:?} bytes with {} more", resident_bytes(), filled.len());
        allow_huge_pages(true);
        assert!(huge_pages_allowed());
    }
}
