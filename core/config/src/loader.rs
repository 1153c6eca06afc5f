//! Loading: defaults, then the file, then the environment, then the command line.
//!
//! A later layer replaces single keys of an earlier one. Nothing is logged here, because the log
//! level is among the settings: [`Loaded`] carries the warnings.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::configuration::Configuration;
use crate::error::{ConfigError, Origin};
use crate::flink::{self, KeyStatus};
use crate::known::KnownOptions;
use crate::syntax::{self, Setting};

/// The environment variable that names the configuration's directory.
pub const CONF_DIR_VARIABLE: &str = "MILLSTREAM_CONF_DIR";
/// The environment variable that names the installation, whose `conf` is the directory.
pub const HOME_VARIABLE: &str = "MILLSTREAM_HOME";
/// The environment variable that holds options, one `key: value` a line.
pub const PROPERTIES_VARIABLE: &str = "MILLSTREAM_PROPERTIES";

const FILE: &str = "config.yaml";
const OLD_FILE: &str = "flink-conf.yaml";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration and what its reader should be told.
#[derive(Debug)]
pub struct Loaded {
    /// The settings; the value of every known option parses.
    pub configuration: Configuration,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Sentences to log: options without effect, old names, a file that is ignored.
    pub warnings: Vec<String>,
}

/// Where to load from.
#[derive(Debug, Clone)]
pub struct Loader {
    options: KnownOptions,
    directory: Option<PathBuf>,
    properties: Option<OsString>,
    dynamic_properties: Vec<String>,
}

impl Loader {
    /// From nowhere: the defaults. No other options than these can be set.
    #[must_use]
    pub const fn new(options: KnownOptions) -> Self {
        Self { options, directory: None, properties: None, dynamic_properties: Vec::new() }
    }

    /// From what this process was started with: `MILLSTREAM_PROPERTIES`, and the directory
    /// `MILLSTREAM_CONF_DIR`, else `conf` of `MILLSTREAM_HOME`, else `conf` beside the `bin` that
    /// the executable is in. Only a directory that a variable names must exist.
    #[must_use]
    pub fn from_process(options: KnownOptions) -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let directory = variable(CONF_DIR_VARIABLE)
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variable(HOME_VARIABLE)?).join("conf")))
            .or_else(conf_of_installation);
        Self { directory, properties: variable(PROPERTIES_VARIABLE), ..Self::new(options) }
    }

    /// Reads the file in `directory`, which must hold one.
    #[must_use]
    pub fn with_conf_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Reads `text` as the environment's layer.
    #[must_use]
    pub fn with_properties(mut self, text: impl Into<String>) -> Self {
        self.properties = Some(OsString::from(text.into()));
        self
    }

    /// Adds `key=value` texts as `-D` gives them; a key alone means true, the last of two wins.
    #[must_use]
    pub fn with_dynamic_properties<S: Into<String>>(
        mut self,
        properties: impl IntoIterator<Item = S>,
    ) -> Self {
        self.dynamic_properties.extend(properties.into_iter().map(Into::into));
        self
    }

    /// Loads all layers and checks every option.
    ///
    /// # Errors
    /// The first fault of the configuration, with its place.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let mut configuration = Configuration::knowing(self.options);
        let mut warnings = Vec::new();
        let (file, layers) = self.layers(&mut warnings)?;
        for layer in layers {
            warnings.extend(configuration.apply(layer)?);
        }
        configuration.check_values()?;
        warnings.extend(without_effect(&configuration));
        Ok(Loaded { configuration, file, warnings })
    }

    /// Loads what can be used: an unknown key or a value that does not parse is left out and
    /// becomes a warning. For commands that end what an older configuration has started.
    ///
    /// # Errors
    /// The text is no configuration at all, or cannot be read.
    pub fn load_leniently(self) -> Result<Loaded, ConfigError> {
        let mut configuration = Configuration::knowing(self.options);
        let mut warnings = Vec::new();
        let (file, layers) = self.layers(&mut warnings)?;
        for setting in layers.into_iter().flatten() {
            let mut next = configuration.clone();
            let applied = next.apply(vec![setting]);
            match applied.and_then(|_| next.check_each()) {
                Ok(()) => configuration = next,
                Err(error) => warnings.push(error.to_string()),
            }
        }
        Ok(Loaded { configuration, file, warnings })
    }

    fn layers(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<(Option<PathBuf>, Vec<Vec<Setting>>), ConfigError> {
        let mut layers = Vec::new();
        let mut file = None;
        if let Some(directory) = &self.directory {
            let path = find_file(directory, warnings)?;
            layers.push(read_file(&path)?);
            file = Some(path);
        }
        if let Some(text) = &self.properties {
            let text = text.to_str().ok_or_else(|| ConfigError::Syntax {
                origin: Origin::Environment { line: 1 },
                reason: "the bytes are not UTF-8 text".to_owned(),
            })?;
            layers.push(syntax::read_yaml(text, |line| Origin::Environment { line })?);
        }
        let layer = self.dynamic_properties.iter().map(|text| dynamic_property(text));
        layers.push(layer.collect::<Result<_, _>>()?);
        Ok((file, layers))
    }
}

fn conf_of_installation() -> Option<PathBuf> {
    let conf = env::current_exe().ok()?.parent()?.parent()?.join("conf");
    [FILE, OLD_FILE].iter().any(|name| conf.join(name).exists()).then_some(conf)
}

fn find_file(directory: &Path, warnings: &mut Vec<String>) -> Result<PathBuf, ConfigError> {
    let (new, old) = (directory.join(FILE), directory.join(OLD_FILE));
    match (new.exists(), old.exists()) {
        (true, true) => {
            warnings.push(format!("{} is ignored because {FILE} is beside it", old.display()));
            Ok(new)
        }
        (true, false) => Ok(new),
        (false, true) => Ok(old),
        (false, false) => Err(ConfigError::Missing { directory: directory.to_owned() }),
    }
}

fn read_file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let failed = |source: io::Error| ConfigError::Read { path: path.to_owned(), source };
    let shared: Arc<Path> = Arc::from(path);
    let at = |line| Origin::File { path: Arc::clone(&shared), line };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = "the file is larger than 1 MB, which no configuration is".to_owned();
        return Err(ConfigError::Syntax { origin: at(1), reason });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        let reason = "the bytes are not UTF-8 text; save the file as UTF-8".to_owned();
        ConfigError::Syntax { origin: at(line), reason }
    })?;
    let text = text.trim_start_matches('\u{feff}');
    match path.ends_with(OLD_FILE) {
        true => syntax::read_legacy(text, at),
        false => syntax::read_yaml(text, at),
    }
}

fn dynamic_property(text: &str) -> Result<Setting, ConfigError> {
    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
    if key.trim().is_empty() {
        let reason = format!("expected key=value, found {text:?}");
        return Err(ConfigError::Syntax { origin: Origin::CommandLine, reason });
    }
    Ok(Setting {
        key: key.trim().to_owned(),
        value: value.trim().to_owned(),
        origin: Origin::CommandLine,
    })
}

fn without_effect(configuration: &Configuration) -> impl Iterator<Item = String> {
    let options = configuration.options();
    configuration.origins().filter_map(move |(key, origin)| match flink::status(options, key)? {
        KeyStatus::Honoured => None,
        KeyStatus::Lacking => {
            Some(format!("{origin}: {key} has no effect, it is not supported yet"))
        }
        KeyStatus::WithoutJvm => Some(format!("{origin}: {key} has no effect without a JVM")),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::options;

    fn conf_dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn an_environment_that_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let properties = Some(OsString::from_vec(b"rest.port: 1\xff".to_vec()));
        let error = Loader { properties, ..Loader::new(KnownOptions::ENGINE) }.load().unwrap_err();
        assert!(error.to_string().ends_with("not UTF-8 text"), "{error}");
    }

    #[test]
    fn later_layers_replace_single_keys() {
        let directory = conf_dir(&[(
            FILE,
            "parallelism.default: 2\nrest.port: 1\nheartbeat:\n  interval: 1 s\n",
        )]);
        let loaded = Loader::new(KnownOptions::ENGINE)
            .with_conf_dir(directory.path())
            .with_properties("parallelism.default: 3\nrest.port: 2\n")
            .with_dynamic_properties(["rest.port=3", "rest.port=4"])
            .load()
            .unwrap();
        assert_eq!(loaded.configuration.get(&options::REST_PORT).unwrap(), 4);
        assert_eq!(loaded.configuration.get(&options::PARALLELISM_DEFAULT).unwrap(), 3);
        assert_eq!(loaded.configuration.text("heartbeat.interval"), Some("1 s"));
        assert_eq!(loaded.file, Some(directory.path().join(FILE)));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn an_old_file_is_read_when_it_is_alone() {
        let directory = conf_dir(&[(OLD_FILE, "taskmanager.numberOfTaskSlots: 4\n")]);
        let loaded =
            Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path()).load().unwrap();
        let slots = loaded.configuration.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS);
        assert_eq!(slots.unwrap(), 4);

        fs::write(directory.path().join(FILE), "rest.port: 1").unwrap();
        let loaded =
            Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path()).load().unwrap();
        assert_eq!(loaded.configuration.text("taskmanager.numberOfTaskSlots"), None);
        assert!(loaded.warnings[0].contains("flink-conf.yaml is ignored"));
    }

    #[test]
    fn what_has_no_effect_is_said_once() {
        let directory = conf_dir(&[(FILE, "state.backend.type: rocksdb\nenv.java.opts: -Xmx1g\n")]);
        let loaded = Loader::new(KnownOptions::ENGINE)
            .with_conf_dir(directory.path())
            .with_dynamic_properties(["state.backend.type=hashmap"])
            .load()
            .unwrap();
        let file = directory.path().join(FILE);
        let at = |line: usize| format!("{} line {line}: env.java.opts", file.display());
        assert_eq!(
            loaded.warnings,
            [
                format!("{} is now env.java.opts.all", at(2)),
                format!("{}.all has no effect without a JVM", at(2)),
                "command line -D: state.backend.type has no effect, it is not supported yet".into(),
            ]
        );
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, part) in [
            ("a: 1\nrest.prot: 1\n", "line 1: unknown option \"a\""),
            ("rest:\n  prot: 1\n", "line 2: unknown option \"rest.prot\"; did you mean rest.port?"),
            ("\nrest.port: x\n", "line 2: rest.port is \"x\": expected a whole number"),
            ("rest.port: 1\n  x: y\n", "line 2: "),
            ("rest.port: [1, 2]\n", "line 1: rest.port is \"[1, 2]\": expected"),
        ] {
            let directory = conf_dir(&[(FILE, text)]);
            let error = Loader::new(KnownOptions::ENGINE)
                .with_conf_dir(directory.path())
                .load()
                .unwrap_err();
            let message = error.to_string();
            assert!(message.contains(FILE) && message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_name_their_line() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), b"rest.port: 1\n# \xff\n").unwrap();
        let error =
            Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path()).load().unwrap_err();
        assert!(error.to_string().contains("line 2: the bytes are not UTF-8"), "{error}");
        fs::write(directory.path().join(FILE), vec![b'#'; 2 << 20]).unwrap();
        let error =
            Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path()).load().unwrap_err();
        assert!(error.to_string().contains("larger than 1 MB"), "{error}");
    }

    #[test]
    fn a_directory_without_a_file_is_a_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path()).load().unwrap_err();
        assert!(error.to_string().contains("no config.yaml or flink-conf.yaml"), "{error}");
    }

    #[test]
    fn a_stop_reads_what_a_start_would_refuse() {
        let text = "rest.prot: 1\nenv.pid.dir: /pids\nenv.log.max: many\nrest.port: 2\n";
        let directory = conf_dir(&[(FILE, text)]);
        let loader = Loader::new(KnownOptions::ENGINE).with_conf_dir(directory.path());
        assert!(loader.clone().load().is_err());
        let loaded = loader.load_leniently().unwrap();
        let pairs: Vec<_> = loaded.configuration.pairs().collect();
        assert_eq!(pairs, [("env.pid.dir", "/pids"), ("rest.port", "2")]);
        assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
        assert!(loaded.warnings[0].contains("line 1: unknown option"), "{:?}", loaded.warnings);
    }

    #[test]
    fn dynamic_properties_read_as_flink_reads_them() {
        let load =
            |text: &str| Loader::new(KnownOptions::ENGINE).with_dynamic_properties([text]).load();
        let loaded = load("execution.attached").unwrap();
        assert!(loaded.configuration.get(&options::EXECUTION_ATTACHED).unwrap());
        let loaded = load("pipeline.name=a=b").unwrap();
        assert_eq!(loaded.configuration.text("pipeline.name"), Some("a=b"));
        for text in ["", "=1", " =", "x=1"] {
            assert!(load(text).is_err(), "{text:?}");
        }
    }
}
