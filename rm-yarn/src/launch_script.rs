//! Checks all text that enters the script that launches a container.
//!
//! A NodeManager writes a bash script per container. Names of links, and the names of the files
//! behind them, stand there between double quotes, and the directories of a link with no quotes at
//! all; so do the user's name and the names of variables. A shell metacharacter in them would run
//! on the node as the user of the container. Names are therefore made of characters that no shell
//! interprets ([`LinkName`], [`VariableName`], [`check_user`]), and values are quoted ([`quoted`]).
//! Everything that [`crate::container`] puts into a launch context goes through here.

use std::collections::BTreeMap;
use std::fmt;

/// Safe characters beside ASCII letters and digits. A colon is unsafe: Hadoop takes `a:b` for a
/// URI.
const SAFE: &str = "._+@=,-";
/// Variables set by NodeManagers or the driver: a user's value would be overwritten silently.
const OWN_VARIABLES: [&str; 17] = [
    "APPLICATION_WEB_PROXY_BASE",
    "APP_SUBMIT_TIME_ENV",
    "CONTAINER_ID",
    "HADOOP_TOKEN_FILE_LOCATION",
    "HADOOP_USER_NAME",
    "HOME",
    "JVM_PID",
    "LOCALIZATION_COUNTERS",
    "LOCAL_DIRS",
    "LOCAL_USER_DIRS",
    "LOGNAME",
    "LOG_DIRS",
    "NM_HOST",
    "NM_HTTP_PORT",
    "NM_PORT",
    "PWD",
    "USER",
];
/// The engine's own variables.
const OWN_PREFIX: &str = "MILLSTREAM_";

/// A text that may not stand in a launch script, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeName {
    /// A file's name that a shell or Hadoop would read.
    #[error(
        "{name:?} cannot be the name of a file in a container because of {part}: the shell that \
         launches it would read that; use letters, digits and {SAFE}, or ship an archive of it \
         (yarn.ship-archives)"
    )]
    Link {
        /// The name.
        name: String,
        /// The character or part.
        part: String,
    },
    /// No shell exports a variable of this name.
    #[error(
        "{key}: {name:?} is no name of an environment variable: use letters, digits and _, and no \
         digit at the start"
    )]
    Variable {
        /// The key of the configuration.
        key: String,
        /// The name.
        name: String,
    },
    /// The variable has its value from YARN or from the engine.
    #[error("{key}: {name} is set by YARN or by Millstream in every container, and cannot be set")]
    OwnVariable {
        /// The key of the configuration.
        key: String,
        /// The name.
        name: String,
    },
    /// A value that no variable can have.
    #[error("{key}: the value holds a zero byte, which no environment variable can")]
    Value {
        /// The key of the configuration.
        key: String,
    },
    /// A variable of the C library that it cannot use.
    #[error("{name} is {value:?}: set a number")]
    NoNumber {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The directories of a node hold the user's name.
    #[error(
        "the user {0:?} cannot start containers: its name stands in their launch scripts; use \
         letters, digits and {SAFE} (HADOOP_USER_NAME names another)"
    )]
    User(String),
}

/// The name of a file in a container's directory, with `/` between a directory and its entries; it
/// holds no character that a shell interprets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

impl LinkName {
    /// Takes a name that is safe.
    ///
    /// # Errors
    /// It is not.
    pub fn new(name: &str) -> Result<Self, UnsafeName> {
        let refused = |part: String| UnsafeName::Link { name: name.to_owned(), part };
        for part in name.split('/') {
            if matches!(part, "" | "." | "..") {
                return Err(refused(format!("the part {part:?}")));
            }
            if part.starts_with('-') {
                return Err(refused("'-' at the start".to_owned()));
            }
            if let Some(c) = part.chars().find(|c| !is_safe(*c)) {
                return Err(refused(format!("{c:?}")));
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first part.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || SAFE.contains(c)
}

/// The name of an environment variable that users may set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(String);

impl VariableName {
    /// Takes the end of a key of the configuration.
    ///
    /// # Errors
    /// It is no such name, or the variable is not the user's to set.
    pub fn new(key: &str, name: &str) -> Result<Self, UnsafeName> {
        let (key, name) = (key.to_owned(), name.to_owned());
        let ordinary = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(ordinary) {
            return Err(UnsafeName::Variable { key, name });
        }
        if OWN_VARIABLES.contains(&name.as_str()) || name.starts_with(OWN_PREFIX) {
            return Err(UnsafeName::OwnVariable { key, name });
        }
        Ok(Self(name))
    }

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The variables that a configuration sets below these prefixes, the first prefix over the others.
///
/// # Errors
/// A name or a value that cannot be used.
pub fn variables(
    configuration: &BTreeMap<String, String>,
    prefixes: &[&str],
) -> Result<BTreeMap<VariableName, String>, UnsafeName> {
    let mut variables = BTreeMap::new();
    for prefix in prefixes.iter().rev() {
        for (key, value) in configuration {
            let Some(name) = key.strip_prefix(prefix) else { continue };
            let name = VariableName::new(key, name)?;
            if value.contains('\0') {
                return Err(UnsafeName::Value { key: key.clone() });
            }
            variables.insert(name, value.clone());
        }
    }
    Ok(variables)
}

/// Refuses a user name with characters that a shell would interpret.
///
/// # Errors
/// The name holds such a character.
pub fn check_user(user: &str) -> Result<(), UnsafeName> {
    let safe = LinkName::new(user).is_ok() && !user.contains('/');
    if safe { Ok(()) } else { Err(UnsafeName::User(user.to_owned())) }
}

/// A value as it must stand between the double quotes of a launch script, so that the variable has
/// exactly this value: neither the shell nor a NodeManager finds anything to replace in it. The
/// latter replaces some words before the shell sees them; quotes that end and begin again part
/// these words.
#[must_use]
pub fn quoted(value: &str) -> String {
    const REPLACED: [(&str, &str); 5] = [
        ("<LOG_DIR>", "<\"\"LOG_DIR>"),
        ("<CPS>", "<\"\"CPS>"),
        ("<ADD_OPENS>", "<\"\"ADD_OPENS>"),
        ("{{", "{\"\"{"),
        ("}}", "}\"\"}"),
    ];
    let mut quoted = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '$' | '`' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    for (word, parted) in REPLACED {
        // Three braces are two pairs.
        while quoted.contains(word) {
            quoted = quoted.replace(word, parted);
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Names with characters that a shell, Hadoop, or another system interprets.
    const STRANGE: [&str; 40] = [
        "x$(touch PWNED)",
        "x`touch PWNED`",
        "$HOME",
        "${HOME}",
        "a b",
        " a",
        "a ",
        "a\tb",
        "a\nb",
        "a\rb",
        "a\"b",
        "a'b",
        "a\\b",
        "a;b",
        "a&b",
        "a|b",
        "a<b",
        "a>b",
        "a(b",
        "a)b",
        "a*b",
        "a?b",
        "a[b]",
        "a{b,c}",
        "a!b",
        "a#b",
        "#a",
        "~",
        "~root",
        "a^b",
        "a%b",
        "a:b",
        "C:\\x",
        "-rf",
        "--",
        "a\u{0}b",
        "a\u{7f}b",
        "a\u{a0}b",
        "\u{202e}a",
        "a\u{1b}[31mb",
    ];

    #[test]
    fn no_name_holds_what_a_shell_reads() {
        for name in STRANGE {
            for name in [name.to_owned(), format!("lib/{name}"), format!("{name}/x")] {
                let error = LinkName::new(&name).unwrap_err().to_string();
                assert!(error.contains("yarn.ship-archives"), "{error}");
                assert!(!error.contains(char::is_control), "{error:?}");
            }
            assert!(check_user(name).is_err(), "{name:?}");
        }
        for name in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/-b"] {
            assert!(LinkName::new(name).is_err(), "{name:?}");
        }
        let every = (0..=u8::MAX).map(char::from).filter(|c| LinkName::new(&c.to_string()).is_ok());
        assert_eq!(
            every.collect::<String>(),
            "+,0123456789=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
        );
        for name in ["lib/a-b_c.1+2.so", ".hidden", "a=1,b=2", "user@host", "x..y"] {
            assert_eq!(LinkName::new(name).unwrap().as_str(), name);
        }
        assert!(check_user("alice").is_ok() && check_user("a.b@EXAMPLE.ORG").is_ok());
        assert!(check_user("a/b").is_err());
    }

    #[test]
    fn a_shell_gives_back_every_value_that_is_quoted() {
        let strange = STRANGE.iter().filter(|value| !value.contains('\0')).map(ToString::to_string);
        let words = ["<LOG_DIR>/x", "a<CPS>b", "{{HOME}}", "{{{x}}}", "{\"a\":{\"b\":1}}", "ä€"];
        for value in strange.chain(words.map(str::to_owned)) {
            let quoted = quoted(&value);
            // Mimics a NodeManager, which replaces these words before it writes the script.
            let expanded = quoted.replace("<LOG_DIR>", "/logs").replace("<CPS>", ":");
            let expanded = expanded.replace("{{", "$").replace("}}", "");
            for script in [
                format!("export A=\"{expanded}\"\nprintf %s \"$A\""),
                format!("export A=${{A:-\"{expanded}\"}}\nprintf %s \"$A\""),
            ] {
                let output = Command::new("bash").arg("-c").arg(&script).output().unwrap();
                assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{script}");
            }
        }
    }

    #[test]
    fn variables_have_names_that_a_shell_exports() {
        let of = |key: &str| {
            let pairs = [(key.to_owned(), "v".to_owned())].into_iter().collect();
            variables(&pairs, &["c.env.", "old.env."])
        };
        for name in ["A", "a", "_", "MYVAR", "my_var2", "LD_LIBRARY_PATH"] {
            let found = of(&format!("c.env.{name}")).unwrap();
            assert_eq!(found.keys().next().unwrap().as_str(), name);
        }
        for name in ["", "1A", "a.b", "a-b", "a b", "A=B", "$(x)", "ä", "A\n"] {
            let error = of(&format!("old.env.{name}")).unwrap_err().to_string();
            assert!(error.contains("no name of an environment variable"), "{error}");
        }
        for name in ["HADOOP_USER_NAME", "PWD", "CONTAINER_ID", "MILLSTREAM_HOST"] {
            let error = of(&format!("c.env.{name}")).unwrap_err().to_string();
            assert!(error.contains("cannot be set"), "{error}");
        }
        assert!(of("other.env.1").unwrap().is_empty());
        let both = [("c.env.A", "new"), ("old.env.A", "old")];
        let both = both.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let found = variables(&both, &["c.env.", "old.env."]).unwrap();
        assert_eq!(found.values().collect::<Vec<_>>(), ["new"]);
        let zero = [("c.env.A".to_owned(), "a\0b".to_owned())].into();
        assert!(variables(&zero, &["c.env."]).unwrap_err().to_string().contains("zero byte"));
    }
}
