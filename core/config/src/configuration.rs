//! The loaded settings: text by key, read through typed options.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{ConfigError, Origin};
use crate::flink::{self, Meaning};
use crate::known::KnownOptions;
use crate::option::{ConfigOption, OptionValue};
use crate::options;
use crate::syntax::Setting;

/// All settings of a process, and the options that it knows. Only keys that were set are held;
/// [`Configuration::get`] adds defaults.
///
/// `Debug` and [`Configuration::shown`] hide the values of keys that hold secrets.
#[derive(Clone)]
pub struct Configuration {
    options: KnownOptions,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    value: String,
    origin: Origin,
}

/// Parts of keys whose values must not be shown.
const SECRET_PARTS: [&str; 12] = [
    "password",
    "secret",
    "token",
    "access-key",
    "account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "basic-auth",
    "jaas.config",
    "http-headers",
];

impl Configuration {
    /// Nothing is set: all defaults. The engine's options can be set.
    #[must_use]
    pub const fn new() -> Self {
        Self::knowing(KnownOptions::ENGINE)
    }

    /// Nothing is set, and these are the options that can be.
    #[must_use]
    pub const fn knowing(options: KnownOptions) -> Self {
        Self { options, entries: BTreeMap::new() }
    }

    /// Settings of the engine's options from keys and texts, for tests and for settings that came
    /// from another process.
    ///
    /// # Errors
    /// An unknown key, or a value that its option cannot read.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        Self::new().with_pairs(pairs)
    }

    /// The same with these keys and texts over it.
    ///
    /// # Errors
    /// An unknown key, or a value that its option cannot read.
    pub fn with_pairs<K, V>(
        self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        self.with_layer(&Origin::Program, pairs)
    }

    /// The same with the configuration of a request to the REST server over it.
    ///
    /// # Errors
    /// An unknown key, or a value that its option cannot read.
    pub fn with_request<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        self.clone().with_layer(&Origin::Request, pairs)
    }

    fn with_layer<K, V>(
        mut self,
        origin: &Origin,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let setting = |(key, value): (K, V)| Setting {
            key: key.into(),
            value: value.into(),
            origin: origin.clone(),
        };
        self.apply(pairs.into_iter().map(setting).collect())?;
        self.check_values()?;
        Ok(self)
    }

    /// The value of `option`: its setting, else its fallback option, else its default.
    ///
    /// # Errors
    /// The text does not parse. [`crate::Loader`] has checked that for all options, so after a load
    /// it cannot happen.
    pub fn get<T: OptionValue>(&self, option: &ConfigOption<T>) -> Result<T, ConfigError> {
        let info = option.info();
        let names = [Some(info.key), info.fallback];
        let entry = names.into_iter().flatten().find_map(|key| Some((key, self.entries.get(key)?)));
        let (key, text, origin) = match (entry, info.default) {
            (Some((key, entry)), _) => (key, entry.value.as_str(), &entry.origin),
            (None, Some(default)) => (info.key, default, &Origin::Default),
            (None, None) => {
                let missing = || value_error(info.key, "", &Origin::Default, "it must be set");
                return T::unset().ok_or_else(missing);
            }
        };
        T::read(text).map_err(|reason| value_error(key, text, origin, &reason))
    }

    /// Sets `option` to what `text` says.
    ///
    /// # Errors
    /// The text is not a value of it.
    pub fn set<T: OptionValue>(
        &mut self,
        option: &ConfigOption<T>,
        text: impl Into<String>,
    ) -> Result<(), ConfigError> {
        let value = text.into();
        T::read(&value)
            .map_err(|reason| value_error(option.key(), &value, &Origin::Program, &reason))?;
        let entry = Entry { value, origin: Origin::Program };
        self.entries.insert(option.key().to_owned(), entry);
        Ok(())
    }

    /// The text of a key that was set.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.value.as_str())
    }

    /// Every key that was set with its text, secrets included: to hand to another process.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry.value.as_str()))
    }

    /// Every key that was set with its text, secrets hidden: to show to people.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().map(|(key, value)| (key, if is_secret(key) { "******" } else { value }))
    }

    /// Adds a layer over the settings. Old names become new ones; where a layer has both, the new
    /// one wins. Returns one warning per old name.
    pub(crate) fn apply(&mut self, layer: Vec<Setting>) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        let mut by_new_name = Vec::new();
        for Setting { key, value, origin } in layer {
            match flink::meaning(self.options, &key) {
                Meaning::Key(_) => by_new_name.push((key, Entry { value, origin })),
                Meaning::OldName(new_names) => {
                    warnings.push(format!("{origin}: {key} is now {}", new_names.join(" and ")));
                    for new in new_names {
                        let entry = Entry { value: value.clone(), origin: origin.clone() };
                        self.entries.insert(new.to_owned(), entry);
                    }
                }
                Meaning::Unknown => {
                    let nearest = flink::nearest(self.options, &key).map(str::to_owned);
                    return Err(ConfigError::UnknownKey { origin, key, nearest });
                }
            }
        }
        self.entries.extend(by_new_name);
        Ok(warnings)
    }

    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        self.check_each()?;
        self.check_pairs()
    }

    /// Refuses values that their options cannot read.
    pub(crate) fn check_each(&self) -> Result<(), ConfigError> {
        for info in self.options.iter() {
            let Some(Entry { value, origin }) = self.entries.get(info.key) else { continue };
            info.check(value).map_err(|reason| value_error(info.key, value, origin, &reason))?;
        }
        Ok(())
    }

    /// Refuses options that contradict each other.
    fn check_pairs(&self) -> Result<(), ConfigError> {
        let interval = self.get(&options::HEARTBEAT_INTERVAL)?;
        let timeout = self.get(&options::HEARTBEAT_TIMEOUT)?;
        if timeout <= interval {
            return Err(ConfigError::Conflict(format!(
                "{} of {timeout:?} is not longer than {} of {interval:?}, so that living processes \
                 would count as lost: raise the former or lower the latter",
                options::HEARTBEAT_TIMEOUT.key(),
                options::HEARTBEAT_INTERVAL.key()
            )));
        }
        let min = self.get(&options::SLOTMANAGER_NUMBER_OF_SLOTS_MIN)?;
        let max = self.get(&options::SLOTMANAGER_NUMBER_OF_SLOTS_MAX)?;
        if min > max {
            return Err(ConfigError::Conflict(format!(
                "{} of {min} is more than {} of {max}",
                options::SLOTMANAGER_NUMBER_OF_SLOTS_MIN.key(),
                options::SLOTMANAGER_NUMBER_OF_SLOTS_MAX.key()
            )));
        }
        Ok(())
    }

    /// The options that can be set.
    #[must_use]
    pub const fn options(&self) -> KnownOptions {
        self.options
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), &entry.origin))
    }
}

impl Default for Configuration {
    fn default() -> Self {
        Self::new()
    }
}

fn value_error(key: &str, value: &str, origin: &Origin, reason: &str) -> ConfigError {
    ConfigError::Value {
        origin: origin.clone(),
        key: key.to_owned(),
        value: if is_secret(key) { String::new() } else { value.to_owned() },
        reason: reason.to_owned(),
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| key.contains(part))
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Configuration {
        Configuration::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn an_unset_option_has_its_default() {
        let configuration = Configuration::new();
        assert_eq!(configuration.get(&options::REST_PORT).unwrap(), 8081);
        assert_eq!(configuration.get(&options::TASKMANAGER_HOST).unwrap(), None);
    }

    #[test]
    fn a_fallback_gives_the_value_before_the_default_does() {
        let configuration = with(&[("rest.port", "9000"), ("jobmanager.rpc.address", "master")]);
        let ports: Vec<u16> =
            configuration.get(&options::REST_BIND_PORT).unwrap().ports().collect();
        assert_eq!(ports, [9000]);
        assert_eq!(configuration.get(&options::REST_ADDRESS).unwrap(), "master");
    }

    #[test]
    fn an_old_name_sets_the_new_key_and_loses_against_it() {
        let old = with(&[("restart-strategy", "none"), ("web.port", "1")]);
        assert_eq!(old.text("restart-strategy.type"), Some("none"));
        assert_eq!(old.text("rest.port"), Some("1"));
        assert_eq!(old.text("web.port"), None);
        let both = with(&[
            ("execution.buffer-timeout.interval", "1 s"),
            ("execution.buffer-timeout", "2 s"),
        ]);
        assert_eq!(both.text("execution.buffer-timeout.interval"), Some("1 s"));
    }

    #[test]
    fn a_later_layer_wins_even_by_an_old_name() {
        let mut configuration = with(&[("restart-strategy.type", "none")]);
        let layer = Setting {
            key: "restart-strategy".into(),
            value: "fixed-delay".into(),
            origin: Origin::CommandLine,
        };
        let warnings = configuration.apply(vec![layer]).unwrap();
        assert_eq!(configuration.text("restart-strategy.type"), Some("fixed-delay"));
        assert_eq!(warnings, ["command line -D: restart-strategy is now restart-strategy.type"]);
    }

    #[test]
    fn errors_name_key_value_place_and_remedy() {
        let error = Configuration::from_pairs([("rest.port", "808l")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "set by the program: rest.port is \"808l\": expected a whole number from 0 to 65535"
        );
        let error = Configuration::from_pairs([("rest.prot", "1")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "set by the program: unknown option \"rest.prot\"; did you mean rest.port?"
        );
    }

    #[test]
    fn zero_is_refused_where_nothing_works_with_it() {
        for key in [
            "taskmanager.numberOfTaskSlots",
            "parallelism.default",
            "heartbeat.interval",
            "client.heartbeat.timeout",
            "rest.server.max-content-length",
        ] {
            let error = Configuration::from_pairs([(key, "0")]).unwrap_err().to_string();
            let expected = format!("set by the program: {key} is \"0\": expected more than 0");
            assert_eq!(error, expected);
        }
        assert!(Configuration::from_pairs([("restart-strategy.fixed-delay.delay", "0")]).is_ok());
    }

    #[test]
    fn a_path_that_is_empty_is_refused() {
        for key in ["env.log.dir", "env.pid.dir", "web.upload.dir", "io.tmp.dirs"] {
            for value in ["", " "] {
                let error = Configuration::from_pairs([(key, value)]).unwrap_err().to_string();
                assert!(error.contains(key) && error.contains("expected"), "{error}");
            }
        }
    }

    #[test]
    fn a_silence_shorter_than_the_signs_of_life_is_refused() {
        for (key, value) in [
            ("heartbeat.timeout", "10 s"),
            ("heartbeat.timeout", "1 s"),
            ("heartbeat.interval", "50 s"),
        ] {
            let error = Configuration::from_pairs([(key, value)]).unwrap_err().to_string();
            assert!(error.contains("is not longer than"), "{error}");
        }
        let both = [("heartbeat.timeout", "1 s"), ("heartbeat.interval", "900 ms")];
        assert!(Configuration::from_pairs(both).is_ok());
        let slots =
            [("slotmanager.number-of-slots.min", "3"), ("slotmanager.number-of-slots.max", "2")];
        let error = Configuration::from_pairs(slots).unwrap_err().to_string();
        assert!(error.contains("of 3 is more than"), "{error}");
    }

    #[test]
    fn a_request_is_a_layer_of_its_own_and_named_in_errors() {
        let cluster = with(&[("restart-strategy.type", "none"), ("rest.port", "9000")]);
        let old_name = cluster.with_request([("restart-strategy", "fixed-delay")]).unwrap();
        assert_eq!(old_name.text("restart-strategy.type"), Some("fixed-delay"));
        assert_eq!(old_name.text("rest.port"), Some("9000"));
        let error = cluster.with_request([("parallelism.default", "x")]).unwrap_err().to_string();
        assert!(error.starts_with("flinkConfiguration of the request: parallelism"), "{error}");
        let error = cluster.with_request([("rest.prot", "1")]).unwrap_err().to_string();
        assert!(error.starts_with("flinkConfiguration of the request: unknown"), "{error}");
    }

    #[test]
    fn secrets_are_hidden_from_people() {
        let configuration =
            with(&[("security.ssl.rest.key-password", "hunter2"), ("s3.secret-key", "x")]);
        assert!(!format!("{configuration:?}").contains("hunter2"));
        assert!(configuration.shown().all(|(_, value)| value == "******"));
        assert!(configuration.pairs().any(|(_, value)| value == "hunter2"));
    }
}
