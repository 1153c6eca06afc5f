//! Standard output and standard error.
//!
//! All text is escaped before it is printed, because names, causes and answers come from elsewhere.
//! A reader that has gone away (`| head`) is no failure; any other error of standard output fails
//! the command, once it has done its work.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use millstream_types::Escaped;

/// The first error of standard output; nothing is printed after it.
static OUTPUT_ERROR: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line.
pub(crate) fn print(line: Arguments<'_>) {
    let text = line.to_string();
    let mut stdout = io::stdout().lock();
    note(writeln!(stdout, "{}", Escaped::lines(&text)).and_then(|()| stdout.flush()));
}

/// Remembers why standard output took no more.
pub(crate) fn note(printed: io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != ErrorKind::BrokenPipe
    {
        OUTPUT_ERROR.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Whether all output has arrived, or its reader has closed the pipe.
pub(crate) fn output_error() -> Option<io::Error> {
    OUTPUT_ERROR.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Says on standard error why the command failed.
pub(crate) fn complain(error: Arguments<'_>) {
    to_stderr("error", error);
}

/// Prints a warning on standard error; the command does not fail.
pub(crate) fn warn(warning: Arguments<'_>) {
    to_stderr("warning", warning);
}

fn to_stderr(kind: &str, line: Arguments<'_>) {
    let text = line.to_string();
    // Standard error is closed too: there is no place left for a message.
    let _ = writeln!(io::stderr().lock(), "{kind}: {}", Escaped::lines(&text));
}
