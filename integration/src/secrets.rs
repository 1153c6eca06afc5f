//! Looks for secrets where they must not be.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// So many bytes of a secret are never there by chance.
const WINDOW: usize = 10;

/// The forms in which secrets could show: as they are, in hexadecimal, in base64, as a list of
/// numbers, escaped.
#[derive(Debug, Default)]
pub struct Secrets {
    forms: Vec<Vec<u8>>,
}

impl Secrets {
    /// Looks for this one too: its bytes, from any place in it on.
    ///
    /// # Panics
    /// It is too short to be told from chance.
    #[must_use]
    pub fn and(mut self, secret: &[u8]) -> Self {
        assert!(secret.len() >= WINDOW, "{} bytes are no secret", secret.len());
        // Windows from the middle of a long secret: its ends may be public.
        for at in [0, secret.len() / 3, secret.len() / 2, secret.len() - WINDOW] {
            let at = at.min(secret.len() - WINDOW);
            self.forms.extend(forms(&secret[at..at + WINDOW]));
        }
        self
    }

    /// Whether these bytes hold one of the secrets.
    #[must_use]
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
    }

    /// The files below a directory that hold one. What cannot be read is not looked at.
    #[must_use]
    pub fn files_below(&self, directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() && !path.is_symlink() {
                found.extend(self.files_below(&path));
            } else if path.is_file() && self.are_in(&fs::read(&path).unwrap_or_default()) {
                found.push(path);
            }
        }
        found
    }

    /// The processes whose command line or environment holds one, by number.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let shows = |path: &Path| {
            ["cmdline", "environ"]
                .iter()
                .any(|file| self.are_in(&fs::read(path.join(file)).unwrap_or_default()))
        };
        entries
            .filter(|entry| shows(&entry.path()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hexadecimal = bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = vec![
        bytes.to_vec(),
        hexadecimal.clone().into_bytes(),
        hexadecimal.to_uppercase().into_bytes(),
        numbers.join(", ").into_bytes(),
        numbers.join(",").into_bytes(),
        bytes.escape_ascii().to_string().into_bytes(),
    ];
    // Where base64 begins within a text is one of three places.
    for skip in 0..3 {
        let whole = &bytes[skip..skip + (bytes.len() - skip) / 3 * 3];
        forms.push(base64(whole, b'+', b'/'));
        forms.push(base64(whole, b'-', b'_'));
    }
    forms
}

fn base64(bytes: &[u8], sixty_two: u8, sixty_three: u8) -> Vec<u8> {
    let digit = |value: u8| match value {
        0..26 => b'A' + value,
        26..52 => b'a' + value - 26,
        52..62 => b'0' + value - 52,
        62 => sixty_two,
        _ => sixty_three,
    };
    let four = |three: &[u8]| {
        let [a, b, c] = [three[0], three[1], three[2]];
        [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63].map(digit)
    };
    bytes.chunks_exact(3).flat_map(four).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found() {
        let secret: Vec<u8> = (100..140).map(|byte: u8| byte.wrapping_mul(37)).collect();
        let secrets = Secrets::default().and(&secret);
        let text = |bytes: &[u8]| format!("before {bytes:?} after").into_bytes();
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        for shown in [
            [b"x".as_slice(), &secret].concat(),
            text(&secret),
            hexadecimal.into_bytes(),
            secret.escape_ascii().to_string().into_bytes(),
            base64(&[b"x".as_slice(), &secret[..38]].concat(), b'+', b'/'),
            base64(&[b"xy".as_slice(), &secret[..37]].concat(), b'-', b'_'),
        ] {
            assert!(secrets.are_in(&shown), "{}", shown.escape_ascii());
        }
        assert!(!secrets.are_in(&secret[..WINDOW - 1]));
        assert!(!secrets.are_in(b"nothing of that kind"));
    }
}
