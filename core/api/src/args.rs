//! The arguments of a job's program.

use std::fmt::Display;
use std::str::FromStr;

use crate::Result;

/// The arguments after the artifact on the command line (or of the program, run locally), as
/// `--name value` or `--name=value` pairs.
///
/// ```
/// # use millstream::Args;
/// let args = Args::new(["--input", "words.txt", "--limit=10", "--verbose"]);
/// assert_eq!(args.required("input")?, "words.txt");
/// assert_eq!(args.optional::<u64>("limit")?, Some(10));
/// assert_eq!(args.optional("output")?.unwrap_or("counts".to_owned()), "counts");
/// assert!(args.has("verbose"));
/// assert_eq!(args.all().len(), 4);
/// assert!(args.required("output").is_err());
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(Vec<String>);

impl Args {
    /// Wraps the arguments, without the program's name.
    #[must_use]
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(args.into_iter().map(Into::into).collect())
    }

    /// All of them as they came.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.0
    }

    fn find(&self, name: &str) -> Option<Option<&str>> {
        let mut args = self.0.iter();
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix("--") else { continue };
            match option.split_once('=') {
                Some((key, value)) if key == name => return Some(Some(value)),
                None if option == name => return Some(args.next().map(String::as_str)),
                _ => {}
            }
        }
        None
    }

    /// The value of `--name`.
    ///
    /// # Errors
    /// There is none.
    pub fn required(&self, name: &str) -> Result<&str> {
        match self.find(name) {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(anyhow::anyhow!("--{name} has no value: give it as --{name} VALUE")),
            None => Err(anyhow::anyhow!("--{name} is missing: give it as --{name} VALUE")),
        }
    }

    /// The value of `--name`, parsed; `None` if it was not given.
    ///
    /// # Errors
    /// The value cannot be parsed.
    pub fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>>
    where
        T::Err: Display,
    {
        match self.find(name) {
            None => Ok(None),
            Some(None) => Err(anyhow::anyhow!("--{name} has no value: give it as --{name} VALUE")),
            Some(Some(value)) => value
                .parse()
                .map(Some)
                .map_err(|error| anyhow::anyhow!("--{name} {value:?} cannot be read: {error}")),
        }
    }

    /// Whether `--name` was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_with_a_space_or_an_equals_sign() {
        let args = Args::new(["--input", "a b", "--n=3", "rest", "--last"]);
        assert_eq!(args.required("input").unwrap(), "a b");
        assert_eq!(args.optional::<u32>("n").unwrap(), Some(3));
        assert_eq!(args.optional::<u32>("missing").unwrap(), None);
        assert!(args.required("last").unwrap_err().to_string().contains("--last has no value"));
        assert!(args.optional::<u32>("input").is_err());
    }
}
