//! The name of a file, with the file system that it is on.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The local disk's scheme.
const LOCAL: &str = "file";

/// A path, and which file system it is on: `hdfs://namenode:8020/data/in`, `hdfs://nameservice/in`,
/// `hdfs:///in` on the default one; `file:///data/in` or a plain path on the local disk.
///
/// Names are taken literally: nothing is decoded, `%20` are three characters. Local paths may be
/// relative and hold any bytes. A text that resembles a URL and is none (`file://data/in`,
/// `hdfs:in`) is kept as it is, and refused where it is used: see [`FilePath::check`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FilePath {
    /// None for the local disk. In a box, because paths are in every error.
    remote: Option<Box<Remote>>,
    path: OsString,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Remote {
    scheme: String,
    authority: String,
}

impl FilePath {
    /// Makes a path of a scheme, an authority such as `namenode:8020`, and an absolute path.
    #[must_use]
    pub fn remote(scheme: &str, authority: &str, path: &str) -> Self {
        let remote = Remote { scheme: scheme.to_owned(), authority: authority.to_owned() };
        Self { remote: Some(Box::new(remote)), path: normal(OsStr::new(path)) }
    }

    /// The scheme of the file system: `file`, `hdfs`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.remote.as_ref().map_or(LOCAL, |remote| &remote.scheme)
    }

    /// The authority of the URI (`namenode:8020`); empty for local paths and the default HDFS.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.remote.as_ref().map_or("", |remote| &remote.authority)
    }

    /// The path on its file system.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The path if it is on the local disk.
    #[must_use]
    pub fn local(&self) -> Option<&Path> {
        self.remote.is_none().then(|| self.path())
    }

    /// A path below this one.
    #[must_use]
    pub fn join(&self, name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().as_bytes();
        // A name from elsewhere never leads out of the directory as `Path::join` would let it.
        let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
        let name = OsStr::from_bytes(name.get(start..).unwrap_or_default());
        Self { remote: self.remote.clone(), path: self.path().join(name).into_os_string() }
    }

    /// The directory of the path.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let parent = self.path().parent()?;
        Some(Self { remote: self.remote.clone(), path: parent.as_os_str().to_owned() })
    }

    /// Its last part.
    #[must_use]
    pub fn file_name(&self) -> Option<&OsStr> {
        self.path().file_name()
    }

    /// Whether it is a local path that starts from a working directory.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        self.local().is_some_and(Path::is_relative)
    }

    /// The path itself, or in `directory` if it is relative.
    #[must_use]
    pub fn absolute_in(&self, directory: &Path) -> Self {
        if !self.is_relative() {
            return self.clone();
        }
        let path = directory.join(self.path()).components().collect::<PathBuf>();
        Self { remote: None, path: path.into_os_string() }
    }

    /// The fault of a path that cannot be used as it is written; `None` if it can.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault = match &self.remote {
            _ if self.path.as_bytes().contains(&0) => "it holds a zero byte".to_owned(),
            None if self.path.is_empty() => "it is empty".to_owned(),
            None => return None,
            Some(remote) if !self.path().is_absolute() => {
                let (scheme, path) = (&remote.scheme, self.path().display());
                format!(
                    "no slash follows the colon: write {scheme}:///{path}, or ./{scheme}:{path} for \
                     a local file of this name"
                )
            }
            Some(remote) if remote.scheme == LOCAL => {
                let (host, path) = (&remote.authority, self.path().display());
                format!(
                    "{host:?} stands where a host does, and the local disk has none: did you \
                     forget a slash, as in file:///{host}{path}?"
                )
            }
            Some(_) if self.path().components().any(|part| part == Component::ParentDir) => {
                "it holds `..`, which only local paths may".to_owned()
            }
            Some(_) => return None,
        };
        Some(fault)
    }

    fn parse(text: &OsStr) -> Self {
        let Some((scheme, rest)) = split_scheme(text) else {
            return Self { remote: None, path: text.to_owned() };
        };
        if !rest.starts_with(b"/") || (scheme == LOCAL && rest == b"//") {
            let path = OsStr::from_bytes(rest.strip_prefix(b"//").unwrap_or(rest)).to_owned();
            let remote = Remote { scheme, authority: String::new() };
            return Self { remote: Some(Box::new(remote)), path };
        }
        let (authority, path) = match rest.strip_prefix(b"//") {
            Some(rest) => {
                let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                rest.split_at_checked(slash).unwrap_or((rest, b""))
            }
            None => (&b""[..], rest),
        };
        let path = if path.is_empty() { OsStr::new("/") } else { OsStr::from_bytes(path) };
        if scheme == LOCAL && (authority.is_empty() || authority == b"localhost") {
            return Self { remote: None, path: path.to_owned() };
        }
        let authority = String::from_utf8_lossy(authority).into_owned();
        let remote = Remote { scheme, authority };
        Self { remote: Some(Box::new(remote)), path: normal(path) }
    }
}

/// Splits `hdfs://…` or `hdfs:/…` into the scheme in lower case and the rest. A single letter is no
/// scheme; a word before a colon without a slash is one only if it can mean nothing else.
fn split_scheme(text: &OsStr) -> Option<(String, &[u8])> {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = bytes.split_at_checked(colon)?;
    let rest = rest.strip_prefix(b":")?;
    let ordinary = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let is_scheme = scheme.len() > 1
        && scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(ordinary);
    let scheme = std::str::from_utf8(scheme).ok().filter(|_| is_scheme)?.to_ascii_lowercase();
    let is_url = rest.starts_with(b"/") || [LOCAL, "hdfs"].contains(&scheme.as_str());
    is_url.then_some((scheme, rest))
}

/// Makes a path absolute, with single slashes and none at the end. `..` stays: file systems refuse
/// it.
fn normal(path: &OsStr) -> OsString {
    let mut normal = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => normal.push(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal.into_os_string()
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(remote) = &self.remote
            && !self.path().is_absolute()
        {
            write!(f, "{}:", remote.scheme)?;
        } else if let Some(remote) = &self.remote {
            write!(f, "{}://{}", remote.scheme, remote.authority)?;
        }
        write!(f, "{}", self.path().display())
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl From<&OsStr> for FilePath {
    fn from(text: &OsStr) -> Self {
        Self::parse(text)
    }
}

impl From<OsString> for FilePath {
    fn from(text: OsString) -> Self {
        Self::parse(&text)
    }
}

impl From<&str> for FilePath {
    fn from(text: &str) -> Self {
        Self::parse(OsStr::new(text))
    }
}

impl From<String> for FilePath {
    fn from(text: String) -> Self {
        Self::parse(OsStr::new(&text))
    }
}

impl From<&String> for FilePath {
    fn from(text: &String) -> Self {
        Self::parse(OsStr::new(text))
    }
}

impl From<&FilePath> for FilePath {
    fn from(path: &FilePath) -> Self {
        path.clone()
    }
}

impl FromStr for FilePath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

impl From<&Path> for FilePath {
    fn from(path: &Path) -> Self {
        Self::parse(path.as_os_str())
    }
}

impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> Self {
        Self::parse(path.as_os_str())
    }
}

impl From<&PathBuf> for FilePath {
    fn from(path: &PathBuf) -> Self {
        Self::parse(path.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_plain_paths() {
        for (text, scheme, authority, path, shown) in [
            ("hdfs://nn:8020/a/b", "hdfs", "nn:8020", "/a/b", "hdfs://nn:8020/a/b"),
            ("hdfs://ns1//a//b/", "hdfs", "ns1", "/a/b", "hdfs://ns1/a/b"),
            ("hdfs:///a b%20c", "hdfs", "", "/a b%20c", "hdfs:///a b%20c"),
            ("hdfs:/a", "hdfs", "", "/a", "hdfs:///a"),
            ("hdfs://nn:8020", "hdfs", "nn:8020", "/", "hdfs://nn:8020/"),
            ("hdfs://nn/a/./../b", "hdfs", "nn", "/a/../b", "hdfs://nn/a/../b"),
            ("file:///a/b", "file", "", "/a/b", "/a/b"),
            ("file:/a", "file", "", "/a", "/a"),
            ("/a//b", "file", "", "/a//b", "/a//b"),
            ("a/b:c", "file", "", "a/b:c", "a/b:c"),
            ("c:/a", "file", "", "c:/a", "c:/a"),
            ("time:12", "file", "", "time:12", "time:12"),
            ("", "file", "", "", ""),
            ("HDFS://nn/a", "hdfs", "nn", "/a", "hdfs://nn/a"),
            ("file://localhost/a", "file", "", "/a", "/a"),
            ("file:////a", "file", "", "//a", "//a"),
            ("file:///a%20b", "file", "", "/a%20b", "/a%20b"),
            ("file://data/in", "file", "data", "/in", "file://data/in"),
            ("file:in", "file", "", "in", "file:in"),
            ("hdfs:in/a", "hdfs", "", "in/a", "hdfs:in/a"),
        ] {
            let parsed = FilePath::from(text);
            let parts = (parsed.scheme(), parsed.authority(), parsed.path());
            assert_eq!(parts, (scheme, authority, Path::new(path)), "{text}");
            assert_eq!(parsed.to_string(), shown);
        }
    }

    #[test]
    fn names_below_and_above() {
        let directory = FilePath::from("hdfs://nn/data");
        let file = directory.join("part-1");
        assert_eq!(file.to_string(), "hdfs://nn/data/part-1");
        assert_eq!(file.parent(), Some(directory.clone()));
        assert_eq!(file.file_name(), Some(OsStr::new("part-1")));
        assert_eq!(directory.join("/etc").to_string(), "hdfs://nn/data/etc");
        assert_eq!(FilePath::from("hdfs://nn").parent(), None);
    }

    #[test]
    fn relative_paths_start_from_a_directory() {
        let here = Path::new("/here");
        for (path, absolute) in [
            ("x", "/here/x"),
            ("./x/", "/here/x"),
            ("../x", "/here/../x"),
            ("/x", "/x"),
            ("hdfs://nn/x", "hdfs://nn/x"),
        ] {
            assert_eq!(FilePath::from(path).absolute_in(here).to_string(), absolute);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_may_be() {
        for (path, reason) in [
            ("file://data/in", "did you forget a slash, as in file:///data/in?"),
            ("file://data", "did you forget a slash, as in file:///data/?"),
            ("FILE://data/in", "did you forget a slash, as in file:///data/in?"),
            ("file:in", "write file:///in, or ./file:in for a local file of this name"),
            ("file://", "no slash follows the colon"),
            ("hdfs:in", "write hdfs:///in, or ./hdfs:in for a local file of this name"),
            ("hdfs://nn/a/../b", "it holds `..`"),
            ("a\0b", "it holds a zero byte"),
            ("", "it is empty"),
        ] {
            let error = FilePath::from(path).check().unwrap_err().to_string();
            assert!(error.contains(reason), "{path}: {error}");
        }
        for path in ["./hdfs:in", "/a/../b", "time:12", "c:/a", "hdfs://nn:8020", "s3://b/a"] {
            assert_eq!(FilePath::from(path).check(), Ok(()), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_path(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let path = FilePath::from(OsStr::from_bytes(&bytes));
            let _ = (path.to_string(), path.join("x").parent(), path.check());
        }

        #[test]
        fn what_is_shown_is_read_again(path in "[a-z]{2,4}://[a-z0-9.:]{0,8}(/[a-z .%]{1,5}){0,3}") {
            let parsed = FilePath::from(path.as_str());
            proptest::prop_assert_eq!(FilePath::from(parsed.to_string()), parsed);
        }
    }
}
