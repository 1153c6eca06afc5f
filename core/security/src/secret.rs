//! Values that do not print.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A value that is shown only by [`expose`](Secret::expose), and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

/// Secret bytes.
pub type SecretBytes = Secret<Vec<u8>>;

impl<T: Zeroize> Secret<T> {
    /// Hides a value. The caller wipes copies that were made of it before.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. It must not reach a log, an error, an environment or a command line.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("swordfish".to_owned());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("swordfish").count(), 0);
        assert_eq!(secret.expose(), "swordfish");
    }
}
