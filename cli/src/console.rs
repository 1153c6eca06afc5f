//! Standard output and standard error. A reader that has gone away is no failure.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line.
pub(crate) fn print(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Says on standard error why the command failed.
pub(crate) fn complain(error: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "error: {error}");
}

/// Says something on standard error that does not make the command fail.
pub(crate) fn warn(warning: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "warning: {warning}");
}
