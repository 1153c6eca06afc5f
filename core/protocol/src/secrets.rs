//! `Debug` of messages that hold secrets, without the secrets.

use std::fmt;

use crate::host::{Begin, Credentials};

impl fmt::Debug for Begin {
    /// Without the exchange token and the credentials; and without the graph, which is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begin")
            .field("role", &self.role())
            .field("attempt", &self.attempt)
            .field("bind_address", &self.bind_address)
            .field("temp_dir", &self.temp_dir)
            .field("secured", &!self.credentials.is_empty())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    /// Without what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::StartHost;
    use crate::host::{ToHost, to_host};

    #[test]
    fn no_message_shows_what_is_secret() {
        let begin = Begin {
            exchange_token: vec![0xab; 32],
            credentials: vec![0xcd; 64],
            ..Begin::default()
        };
        let start = StartHost { begin: Some(begin.clone()), ..StartHost::default() };
        let first = ToHost { message: Some(to_host::Message::Begin(begin)) };
        let renewed = Credentials { credentials: vec![0xcd; 64] };
        let later = ToHost { message: Some(to_host::Message::Credentials(renewed)) };
        let shown = format!("{start:?} {first:#?} {later:?}");
        assert!(shown.contains("secured: true"), "{shown}");
        for secret in ["171, 171", "205, 205", "171,\n", "205,\n", "\\xab", "\\xcd", "abab", "cdcd"]
        {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
