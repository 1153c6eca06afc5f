//! Paths that a user writes for a server, which has another working directory.

use std::path::Path;

use anyhow::{Context as _, Result};
use millstream_storage::FilePath;

/// Makes a relative local path absolute. A path with a scheme or a root is returned as written.
pub(crate) fn absolute(text: &str) -> Result<String> {
    let path = FilePath::from(Path::new(text));
    if text.is_empty() || !path.is_relative() {
        return Ok(text.to_owned());
    }
    let here = std::env::current_dir()
        .with_context(|| format!("{text} is relative, and there is no working directory"))?;
    let path = path.absolute_in(&here);
    let name = path.path().to_str().map(str::to_owned);
    name.with_context(|| format!("the working directory {} is not UTF-8", here.display()))
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn only_relative_local_paths_change() {
        for same in ["/s", "hdfs:///s", "hdfs://n:1/s", "file:///s", "s3://b/s", ""] {
            assert_eq!(absolute(same).unwrap(), same);
        }
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        for relative in ["s/t", "./s/t"] {
            assert_eq!(absolute(relative).unwrap(), format!("{here}/s/t"));
        }
    }
}
