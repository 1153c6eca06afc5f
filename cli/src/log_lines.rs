//! Log files in which one event is one line, even if names and causes hold line breaks.

use std::io::{self, Write};

use millstream_types::Escaped;

/// Writes events, of which each comes in one piece, as lines without control characters.
#[derive(Debug)]
pub(crate) struct LogLines<W>(pub(crate) W);

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = Escaped::line(text.trim_end_matches('\n'));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let shared = Shared::default();
        let writer = Mutex::new(LogLines(shared.clone()));
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(name = %"a\n2026 ERROR forged\u{1b}[2J", "job\nsubmitted");
            tracing::info!("second");
        });
        let written = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 2, "{written}");
        assert!(written.contains("a\\n2026 ERROR forged") && !written.contains('\u{1b}'));
    }
}
