//! References to files: which files are in use, and by how many.

use std::collections::BTreeMap;

use crate::messages::OperatorSnapshot;

/// The number of references to each file. Every holder adds the paths that it refers to, and
/// removes the same ones later.
#[derive(Debug, Default)]
pub(crate) struct Files {
    references: BTreeMap<String, u64>,
}

impl Files {
    /// Adds references.
    pub(crate) fn add<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        for path in paths {
            match self.references.get_mut(path) {
                Some(count) => *count += 1,
                None => drop(self.references.insert(path.to_owned(), 1)),
            }
        }
    }

    /// Removes references, and returns the files that have none any more.
    pub(crate) fn remove<'a>(&mut self, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut unused = Vec::new();
        for path in paths {
            let Some(count) = self.references.get_mut(path) else { continue };
            *count -= 1;
            if *count == 0 {
                self.references.remove(path);
                unused.push(path.to_owned());
            }
        }
        unused
    }

    /// Removes references of a holder that lives on outside. Files to which others refer too keep
    /// them for good, so that none of these is ever unused.
    pub(crate) fn give_away<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        let mut given: BTreeMap<&str, u64> = BTreeMap::new();
        paths.for_each(|path| *given.entry(path).or_default() += 1);
        for (path, count) in given {
            if self.references.get(path) == Some(&count) {
                self.references.remove(path);
            }
        }
    }

    /// Whether a file is in use.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.references.contains_key(path)
    }
}

/// The paths of all files of a task's snapshots.
pub(crate) fn of(snapshots: &[OperatorSnapshot]) -> impl Iterator<Item = &str> {
    snapshots.iter().flat_map(|snapshot| snapshot.subtask.files())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_unused_when_its_last_reference_is_gone() {
        let mut files = Files::default();
        files.add(["a", "b", "a"].into_iter());
        assert_eq!(files.remove(["a", "b"].into_iter()), ["b"]);
        assert!(files.has("a"));
        assert_eq!(files.remove(["a", "a", "c"].into_iter()), ["a"]);
        assert!(!files.has("a"));
    }

    #[test]
    fn a_file_that_was_given_away_is_never_unused() {
        let mut files = Files::default();
        files.add(["a", "a", "b", "b"].into_iter());
        files.give_away(["a", "a", "b"].into_iter());
        assert!(!files.has("a"), "nothing of ours refers to it");
        assert!(files.remove(["b"].into_iter()).is_empty());
    }
}
