//! Reads `core-site.xml`, `hdfs-site.xml` and `yarn-site.xml` as Hadoop itself does.
//!
//! Later files win over earlier ones, except over properties marked `final`; `${other}` stands for
//! the value of another property or of an environment variable (`${env.NAME}`). Hadoop's own
//! defaults are not part of it: callers pass the default of a property.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The files of a configuration directory, the later ones over the earlier ones.
const FILES: [&str; 3] = ["core-site.xml", "hdfs-site.xml", "yarn-site.xml"];
/// As deep as Hadoop itself follows `${}`.
const SUBSTITUTIONS_MAX: usize = 20;
/// Larger than any real file; a configuration is read whole.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a Hadoop configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HadoopConfigError {
    /// No directory is named.
    #[error(
        "no Hadoop configuration was found: set HADOOP_CONF_DIR (or YARN_CONF_DIR) to the \
         directory of core-site.xml and yarn-site.xml"
    )]
    NoDirectory,
    /// A named directory holds none of the files.
    #[error(
        "{dir} ({variable}) holds neither core-site.xml, hdfs-site.xml nor yarn-site.xml: \
         set {variable} to the directory of Hadoop's configuration"
    )]
    Empty {
        /// The directory.
        dir: PathBuf,
        /// The environment variable that names it.
        variable: String,
    },
    /// A file cannot be read.
    #[error("failed to read {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file is no XML, or no Hadoop configuration.
    #[error("{file}: {what}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The fault, with line and column where they are known.
        what: String,
    },
    /// A property has a value that cannot be used.
    #[error("{key} is {value:?}: {expected}")]
    Value {
        /// The property.
        key: String,
        /// Its value.
        value: String,
        /// The form of a value that can be used.
        expected: &'static str,
    },
    /// The cluster wants Kerberos.
    #[error(
        "hadoop.security.authentication is {0:?}: this version speaks to clusters with simple \
         authentication only, not to those with Kerberos"
    )]
    Kerberos(String),
}

/// Properties by name. Clones are whole copies; it is small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HadoopConfiguration {
    properties: BTreeMap<String, String>,
    finals: BTreeSet<String>,
}

impl HadoopConfiguration {
    /// One without properties.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The directories that the environment names: `HADOOP_CONF_DIR` and over it `YARN_CONF_DIR`,
    /// or else `HADOOP_HOME/etc/hadoop`; with the name of the variable.
    #[must_use]
    pub fn dirs_of_environment() -> Vec<(String, PathBuf)> {
        let named = |variable: &str| {
            let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
            Some((variable.to_owned(), PathBuf::from(value)))
        };
        let mut dirs: Vec<_> =
            ["HADOOP_CONF_DIR", "YARN_CONF_DIR"].into_iter().filter_map(named).collect();
        if dirs.is_empty() {
            dirs.extend(named("HADOOP_HOME").map(|(name, home)| (name, home.join("etc/hadoop"))));
        }
        dirs.dedup_by(|(_, a), (_, b)| a == b);
        dirs
    }

    /// Reads the directories that the environment names.
    ///
    /// # Errors
    /// None is named, one holds no configuration, or a file cannot be read.
    pub fn from_environment() -> Result<Self, HadoopConfigError> {
        let dirs = Self::dirs_of_environment();
        if dirs.is_empty() {
            return Err(HadoopConfigError::NoDirectory);
        }
        let mut configuration = Self::new();
        for (variable, dir) in dirs {
            if !configuration.add_dir(&dir)? {
                return Err(HadoopConfigError::Empty { dir, variable });
            }
        }
        Ok(configuration)
    }

    /// Reads the files of a directory over earlier properties; returns whether there is any.
    ///
    /// # Errors
    /// A file cannot be read, or is no configuration.
    pub fn add_dir(&mut self, dir: &Path) -> Result<bool, HadoopConfigError> {
        let mut any = false;
        for file in FILES.map(|name| dir.join(name)) {
            match std::fs::metadata(&file) {
                Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                    let what = format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20);
                    return Err(HadoopConfigError::Malformed { file, what });
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(HadoopConfigError::Read { file, source }),
            }
            let text = std::fs::read_to_string(&file);
            let text =
                text.map_err(|source| HadoopConfigError::Read { file: file.clone(), source })?;
            self.add_xml(&text)
                .map_err(|what| HadoopConfigError::Malformed { file: file.clone(), what })?;
            any = true;
        }
        Ok(any)
    }

    /// Reads one file's text over earlier properties.
    ///
    /// # Errors
    /// The text is no XML, or no configuration; the message names the fault.
    pub fn add_xml(&mut self, text: &str) -> Result<(), String> {
        // Hadoop's own files have no document type, and one could name other files.
        let document = roxmltree::Document::parse(text).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if !root.has_tag_name("configuration") {
            let found = root.tag_name().name();
            return Err(format!("its root element is <{found}>, not <configuration>"));
        }
        let mut finals = BTreeSet::new();
        for property in root.children().filter(|node| node.has_tag_name("property")) {
            let child = |name: &str| {
                let child = property.children().find(|node| node.has_tag_name(name));
                let element = child.map(|node| node.text().unwrap_or_default().to_owned());
                element.or_else(|| property.attribute(name).map(str::to_owned))
            };
            let Some(name) = child("name") else {
                let at = document.text_pos_at(property.range().start);
                return Err(format!("the property at {at} has no <name>"));
            };
            let name = name.trim().to_owned();
            if child("final").is_some_and(|text| text.trim() == "true") {
                finals.insert(name.clone());
            }
            if let Some(value) = child("value").filter(|_| !self.finals.contains(&name)) {
                self.properties.insert(name, value);
            }
        }
        self.finals.append(&mut finals);
        Ok(())
    }

    /// Sets a property over all files, `final` ones too, because it is set explicitly.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.properties.insert(key.into(), value.into());
    }

    /// Every property as it was written, without substitution.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A property with `${}` replaced, trimmed; none when it is unset or empty.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        let mut value = self.properties.get(key)?.clone();
        for _ in 0..SUBSTITUTIONS_MAX {
            let Some((start, end, name)) = variable(&value) else { break };
            let replacement = match name.strip_prefix("env.") {
                Some(variable) => std::env::var(variable).ok(),
                None => self.properties.get(name).cloned(),
            };
            // An unknown variable stays as it was written, as in Hadoop.
            let Some(replacement) = replacement else { break };
            value.replace_range(start..end, &replacement);
        }
        let trimmed = value.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// A property, or its default.
    #[must_use]
    pub fn get_or(&self, key: &str, default: &str) -> String {
        self.get(key).unwrap_or_else(|| default.to_owned())
    }

    /// A comma-separated list without empty items.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<String> {
        let value = self.get(key).unwrap_or_default();
        let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    /// A truth; anything but `true` and `false` is the default, as in Hadoop.
    #[must_use]
    pub fn truth(&self, key: &str, default: bool) -> bool {
        match self.get(key).map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("true") => true,
            Some("false") => false,
            _ => default,
        }
    }

    /// A number.
    ///
    /// # Errors
    /// It is none.
    pub fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T, HadoopConfigError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.parse().map_err(|_| HadoopConfigError::Value {
            key: key.to_owned(),
            value,
            expected: "set a number in its range",
        })
    }

    /// A time: a number of `unit`s, or one with a unit of its own (`ns us ms s m h d`).
    ///
    /// # Errors
    /// It is none.
    pub fn duration(
        &self,
        key: &str,
        unit: Duration,
        default: Duration,
    ) -> Result<Duration, HadoopConfigError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let (count, suffix) = value.split_at(digits);
        let unit = match suffix.trim().to_ascii_lowercase().as_str() {
            "" => Some(unit),
            "ns" => Some(Duration::from_nanos(1)),
            "us" => Some(Duration::from_micros(1)),
            "ms" => Some(Duration::from_millis(1)),
            "s" => Some(Duration::from_secs(1)),
            "m" => Some(Duration::from_secs(60)),
            "h" => Some(Duration::from_secs(3600)),
            "d" => Some(Duration::from_secs(86_400)),
            _ => None,
        };
        let count = count.parse::<u32>().ok();
        count.zip(unit).and_then(|(count, unit)| unit.checked_mul(count)).ok_or_else(|| {
            HadoopConfigError::Value {
                key: key.to_owned(),
                value: value.clone(),
                expected: "set a time such as 500ms or 30s",
            }
        })
    }

    /// Refuses clusters that want more than a name.
    ///
    /// # Errors
    /// This one does.
    pub fn refuse_kerberos(&self) -> Result<(), HadoopConfigError> {
        match self.get("hadoop.security.authentication") {
            Some(kind) if !kind.eq_ignore_ascii_case("simple") => {
                Err(HadoopConfigError::Kerberos(kind))
            }
            _ => Ok(()),
        }
    }

    /// The configuration as one XML file, nothing substituted and nothing final.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let escaped =
            |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let mut text = "<?xml version=\"1.0\"?>\n<configuration>\n".to_owned();
        for (name, value) in &self.properties {
            let (name, value) = (escaped(name), escaped(value));
            text += &format!("<property><name>{name}</name><value>{value}</value></property>\n");
        }
        text + "</configuration>\n"
    }
}

/// The name under which this process is known to Hadoop: `HADOOP_USER_NAME`, or else the user that
/// it runs as, by name or number.
#[must_use]
pub fn user_name() -> String {
    let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    named("HADOOP_USER_NAME")
        .or_else(name_of_process)
        .unwrap_or_else(|| rustix::process::geteuid().as_raw().to_string())
}

/// The name of the process's user in the system's list of users.
fn name_of_process() -> Option<String> {
    let id = rustix::process::geteuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut users = users.lines().map(|line| line.split(':'));
    users.find_map(|mut user| {
        let name = user.next()?;
        (user.nth(1) == Some(id.as_str())).then(|| name.to_owned())
    })
}

/// Where the innermost `${name}` is, and its name.
fn variable(text: &str) -> Option<(usize, usize, &str)> {
    let end = text.find('}')?;
    let start = text.get(..end)?.rfind("${")?;
    Some((start, end + 1, text.get(start + 2..end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xml: &str) -> HadoopConfiguration {
        let mut configuration = HadoopConfiguration::new();
        configuration.add_xml(xml).unwrap();
        configuration
    }

    fn property(name: &str, value: &str) -> String {
        format!("<property><name>{name}</name><value>{value}</value></property>")
    }

    #[test]
    fn values_are_substituted_from_properties_and_environment() {
        let a = property("rm.address", "${rm.host}:${rm.${kind}.port}");
        let b = property("rm.host", "\n  node-1 ") + &property("rm.rpc.port", "8032");
        let c = property("kind", "rpc") + &property("loop", "${loop}") + &property("who", "${x}");
        let path = property("path", "${env.PATH}");
        let read = of(&format!("<configuration>{a}{b}{c}{path}</configuration>"));
        assert_eq!(read.get("rm.address").unwrap(), "node-1 :8032");
        assert_eq!(read.get("rm.host").unwrap(), "node-1");
        assert_eq!(read.get("loop").unwrap(), "${loop}");
        assert_eq!(read.get("who").unwrap(), "${x}");
        assert_eq!(read.get("path"), std::env::var("PATH").ok());
        assert_eq!(read.get("nothing"), None);
    }

    #[test]
    fn later_files_win_except_over_final_properties() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, inner: &str| {
            let text = format!("<configuration>{inner}</configuration>");
            std::fs::write(dir.path().join(file), text).unwrap();
        };
        let fixed =
            "<property><name>b</name><value>core</value><final>true</final></property>".to_owned();
        write("core-site.xml", &(property("a", "core") + &fixed));
        write("yarn-site.xml", &(property("a", "yarn") + &property("b", "yarn")));
        let mut read = HadoopConfiguration::new();
        assert!(read.add_dir(dir.path()).unwrap());
        assert_eq!(
            (read.get("a").unwrap(), read.get("b").unwrap()),
            ("yarn".into(), "core".into())
        );
        read.set("b", "said");
        assert_eq!(read.get("b").unwrap(), "said");
        assert!(!HadoopConfiguration::new().add_dir(&dir.path().join("none")).unwrap());
    }

    #[test]
    fn what_is_no_configuration_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("<configuration><property>", "core-site.xml: "),
            ("<html/>", "root element is <html>"),
            ("<configuration>\n<property/></configuration>", "the property at 2:1 has no <name>"),
            ("", "core-site.xml: "),
        ] {
            std::fs::write(dir.path().join("core-site.xml"), text).unwrap();
            let error = HadoopConfiguration::new().add_dir(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn kinds_of_values() {
        let mut read = HadoopConfiguration::new();
        for (key, value) in
            [("n", "12"), ("t", "30s"), ("bare", "500"), ("x", "many"), ("b", "True")]
        {
            read.set(key, value);
        }
        read.set("l", " rm1, rm2 ,");
        let (ms, s) = (Duration::from_millis(1), Duration::from_secs(1));
        assert_eq!(read.number("n", 1).unwrap(), 12);
        assert_eq!(read.number("none", 1).unwrap(), 1);
        assert!(read.number("x", 1).is_err());
        assert_eq!(read.duration("t", ms, s).unwrap(), s * 30);
        assert_eq!(read.duration("bare", ms, s).unwrap(), ms * 500);
        assert!(read.duration("x", ms, s).is_err());
        assert!(read.truth("b", false) && read.truth("none", true) && !read.truth("x", false));
        assert_eq!(read.list("l"), ["rm1", "rm2"]);
    }

    #[test]
    fn written_and_read_it_is_the_same() {
        let mut first = HadoopConfiguration::new();
        first.set("a<b", "x & ${y}");
        assert_eq!(of(&first.to_xml()), first);
    }

    #[test]
    fn kerberos_is_refused() {
        let mut read = HadoopConfiguration::new();
        assert!(read.refuse_kerberos().is_ok());
        read.set("hadoop.security.authentication", "kerberos");
        let error = read.refuse_kerberos().unwrap_err().to_string();
        assert!(error.contains("not to those with Kerberos"), "{error}");
    }
}
