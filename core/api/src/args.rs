//! The arguments of a job's program.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;

/// The arguments after the artifact on the command line (or of the program, run locally), as
/// `--name value` or `--name=value` pairs.
///
/// A value that starts with two dashes is written with an equals sign. The last step of reading
/// arguments is [`Args::finish`], which refuses those that the program does not know.
///
/// ```
/// # use millstream::Args;
/// let args = Args::new(["--input", "words.txt", "--limit=10", "--verbose"]);
/// assert_eq!(args.required("input")?, "words.txt");
/// assert_eq!(args.optional::<u64>("limit")?, Some(10));
/// assert_eq!(args.optional("output")?.unwrap_or("counts".to_owned()), "counts");
/// assert!(args.has("verbose"));
/// args.finish()?;
/// assert_eq!(args.all().len(), 4);
/// assert!(args.required("output").is_err());
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Args {
    args: Arc<[String]>,
    asked: Arc<Mutex<Asked>>,
}

/// Names that the program has asked for, through any clone.
#[derive(Debug, Default)]
struct Asked {
    /// Options, and whether they take a value.
    names: BTreeMap<String, bool>,
    /// It has seen all arguments, and so decides about them itself.
    all: bool,
}

/// Where an option stands.
enum Found<'a> {
    Nowhere,
    WithoutValue,
    Value(&'a str),
}

impl Args {
    /// Wraps the arguments, without the program's name.
    #[must_use]
    pub fn new(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { args: args.into_iter().map(Into::into).collect(), asked: Arc::default() }
    }

    /// The arguments in a process that runs a planned program again. There plan values are not
    /// computed, so that not all arguments are asked for; [`Args::finish`] has accepted them.
    #[doc(hidden)]
    #[must_use]
    pub fn accepted(args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let args = Self::new(args);
        args.asked(|asked| asked.all = true);
        args
    }

    /// All of them as they came.
    #[must_use]
    pub fn all(&self) -> &[String] {
        self.asked(|asked| asked.all = true);
        &self.args
    }

    fn asked<R>(&self, look: impl FnOnce(&mut Asked) -> R) -> R {
        look(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for an option and remembers that the program knows it.
    fn find(&self, name: &str, takes_value: bool) -> Found<'_> {
        self.asked(|asked| {
            *asked.names.entry(name.to_owned()).or_default() |= takes_value;
        });
        let mut args = self.args.iter().peekable();
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix("--") else { continue };
            match option.split_once('=') {
                Some((key, value)) if key == name => return Found::Value(value),
                None if option == name => {
                    let value = args.next_if(|next| !next.starts_with("--"));
                    return value.map_or(Found::WithoutValue, |value| Found::Value(value));
                }
                _ => {}
            }
        }
        Found::Nowhere
    }

    /// The value of `--name`.
    ///
    /// # Errors
    /// There is none.
    pub fn required(&self, name: &str) -> Result<&str> {
        match self.find(name, true) {
            Found::Value(value) => Ok(value),
            Found::WithoutValue => Err(without_value(name)),
            Found::Nowhere => {
                Err(anyhow::anyhow!("--{name} is missing: give it as --{name} VALUE"))
            }
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
        match self.find(name, true) {
            Found::Nowhere => Ok(None),
            Found::WithoutValue => Err(without_value(name)),
            Found::Value(value) => value
                .parse()
                .map(Some)
                .map_err(|error| anyhow::anyhow!("--{name} {value:?} cannot be read: {error}")),
        }
    }

    /// Whether `--name` was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !matches!(self.find(name, false), Found::Nowhere)
    }

    /// Refuses arguments that nothing has asked for, and options that are given twice, of which
    /// only the first would count. Call it after the last argument was read.
    ///
    /// ```
    /// # use millstream::Args;
    /// let args = Args::new(["--input", "words.txt", "--outptu", "counts"]);
    /// let (_input, _output) = (args.required("input")?, args.optional::<String>("output")?);
    /// let error = args.finish().unwrap_err().to_string();
    /// assert_eq!(error, "there is no argument --outptu; did you mean --output?");
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// Every such argument, with the nearest one that exists.
    pub fn finish(&self) -> Result<()> {
        let faults = self.asked(|asked| match asked.all {
            true => Vec::new(),
            false => faults(&self.args, &asked.names),
        });
        match faults.is_empty() {
            true => Ok(()),
            false => Err(anyhow::anyhow!("{}", faults.join("; "))),
        }
    }
}

/// Faults of the arguments, given the known names.
fn faults(args: &[String], names: &BTreeMap<String, bool>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let Some(option) = arg.strip_prefix("--") else {
            faults.push(stray(arg));
            continue;
        };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let known = names.get(name).copied();
        if known.is_none() {
            faults.push(unknown(name, names));
        } else if seen.contains(&name) {
            faults.push(format!("--{name} is given twice: give it once"));
        }
        seen.push(name);
        if value.is_none() && known.unwrap_or(true) {
            args.next_if(|next| !next.starts_with("--"));
        }
    }
    faults
}

fn unknown(name: &str, names: &BTreeMap<String, bool>) -> String {
    let distance = |known: &String| (strsim::osa_distance(name, known), known.clone());
    let nearest = names.keys().map(distance).min();
    let near = nearest.filter(|(distance, _)| *distance <= (name.len() / 3).max(1));
    let hint = match near {
        Some((_, near)) => format!("; did you mean --{near}?"),
        None if names.is_empty() => ": the program takes none".to_owned(),
        None => {
            let known: Vec<String> = names.keys().map(|known| format!("--{known}")).collect();
            format!(": the program knows {}", known.join(", "))
        }
    };
    format!("there is no argument --{name}{hint}")
}

fn stray(arg: &str) -> String {
    match arg.starts_with('-') {
        true => format!(
            "{arg:?} is no argument of the program: options of `millstream run` stand before the \
             program, its own begin with two dashes"
        ),
        false => format!("{arg:?} stands behind no option: write --name {arg:?}"),
    }
}

fn without_value(name: &str) -> crate::Error {
    anyhow::anyhow!("--{name} has no value: give it as --{name} VALUE")
}

impl PartialEq for Args {
    fn eq(&self, other: &Self) -> bool {
        self.args == other.args
    }
}

impl Eq for Args {}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Args").field(&self.args).finish()
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

    #[test]
    fn an_option_is_no_value_of_the_one_before_it() {
        let args = Args::new(["--input", "--output", "o", "--n", "-5", "--text=--x"]);
        assert!(args.required("input").unwrap_err().to_string().contains("--input has no value"));
        assert_eq!(args.required("output").unwrap(), "o");
        assert_eq!(args.optional::<i32>("n").unwrap(), Some(-5));
        assert_eq!(args.required("text").unwrap(), "--x");
    }

    fn refused(args: &[&str]) -> String {
        let args = Args::new(args.iter().copied());
        let parsed = args.clone();
        let _ = (parsed.optional::<String>("input"), parsed.optional::<u32>("limit"));
        let _ = parsed.has("verbose");
        args.finish().map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn unknown_arguments_can_be_refused() {
        for (args, expected) in [
            (&["--input", "a", "--verbose", "--limit=3"][..], "fine"),
            (&["--inptu", "a"], "there is no argument --inptu; did you mean --input?"),
            (
                &["--colour", "red"],
                "there is no argument --colour: the program knows --input, --limit, --verbose",
            ),
            (&["--input", "a", "--input=b"], "--input is given twice: give it once"),
            (&["--verbose", "yes"], "\"yes\" stands behind no option: write --name \"yes\""),
            (&["--x=1", "--input", "a"], "there is no argument --x"),
            (&["-p", "2"], "options of `millstream run` stand before the program"),
        ] {
            let refused = refused(args);
            assert!(refused.contains(expected), "{args:?}: {refused}");
        }
        assert_eq!(
            Args::new(["--a"]).finish().unwrap_err().to_string(),
            "there is no argument --a: the program takes none"
        );
        let all = Args::new(["x", "y"]);
        assert_eq!(all.all().len(), 2);
        all.finish().unwrap();
        Args::accepted(["--input", "of a plan value"]).finish().unwrap();
    }
}
