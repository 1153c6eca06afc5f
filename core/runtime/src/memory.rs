//! The memory of the process.

/// Has the kernel give the process no more transparent huge pages. What has some keeps them.
pub(crate) fn avoid_huge_pages() {
    // SAFETY: this request takes no pointer; it sets a flag of the process.
    let done = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "the process goes on with huge pages");
    }
}
