//! Looks at published files again and again, and judges them.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::time::Duration;

use super::difference::{Difference, Place};
use super::expected::{Expected, Outcome};
use super::published::{Published, PublishedFile};
use super::workload::Workload;

/// The state of the output at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number of published files.
    pub files: u64,
    /// Number of published results.
    pub results: u64,
    /// The longest time from one look with new results to the next, or to the last look.
    pub longest_pause: Duration,
}

/// A file as it was when it was published.
#[derive(Debug)]
struct Known {
    file: PublishedFile,
    checksum: u64,
}

/// Judges the committed output of one run.
///
/// A file is read when it appears, when its length or stamp is another one, and once more at the
/// end; besides, each look reads one file again, so that a change that leaves no trace is found.
#[derive(Debug)]
pub struct Watcher {
    expected: Expected,
    /// For each result the number of its file, from 1; 0: not published yet.
    seen: Vec<u32>,
    /// In the order in which they appeared.
    known: Vec<Known>,
    numbers: HashMap<String, usize>,
    /// The file that the next look reads again.
    next_again: usize,
    results: u64,
    /// The time of the last look with new results.
    grew: Duration,
    longest_pause: Duration,
}

impl Watcher {
    /// A watcher of an output that is empty at time zero.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        Self {
            seen: vec![0; expected.results() as usize],
            expected,
            known: Vec::new(),
            numbers: HashMap::new(),
            next_again: 0,
            results: 0,
            grew: Duration::ZERO,
            longest_pause: Duration::ZERO,
        }
    }

    /// The job.
    #[must_use]
    pub const fn workload(&self) -> Workload {
        self.expected.workload()
    }

    /// Looks at the output at time `now`, counted from the start of the run.
    ///
    /// # Errors
    /// The output is wrong. Later looks have no meaning.
    pub fn look(&mut self, output: &impl Published, now: Duration) -> Result<Progress, Difference> {
        let before = self.results;
        let listed = output.list();
        let listed = listed.map_err(|error| Difference::Unlisted { why: error.to_string() })?;
        let names: HashSet<&str> = listed.iter().map(|file| file.name.as_str()).collect();
        if let Some(gone) = self.known.iter().find(|it| !names.contains(it.file.name.as_str())) {
            return Err(Difference::Disappeared { file: gone.file.name.clone() });
        }
        for file in listed {
            match self.numbers.get(&file.name).copied() {
                None => self.add(output, file)?,
                Some(number) => self.compare(output, number, file)?,
            }
        }
        if let Some(again) = self.known.get(self.next_again) {
            check_content(output, again)?;
        }
        self.next_again = (self.next_again + 1).checked_rem(self.known.len()).unwrap_or(0);
        self.longest_pause = self.longest_pause.max(now.saturating_sub(self.grew));
        if self.results > before {
            self.grew = now;
        }
        Ok(self.progress())
    }

    /// Looks at the output of a job that has finished: it must be complete.
    ///
    /// # Errors
    /// The output is wrong, or results are missing.
    pub fn finish(
        &mut self,
        output: &impl Published,
        now: Duration,
    ) -> Result<Progress, Difference> {
        let progress = self.look(output, now)?;
        self.known.iter().try_for_each(|known| check_content(output, known))?;
        let Some(first) = self.seen.iter().position(|file| *file == 0) else {
            return Ok(progress);
        };
        let (workload, outcome) = (self.expected.workload(), self.expected.outcomes()[first]);
        Err(Difference::Missing {
            missing: self.expected.results() - self.results,
            results: self.expected.results(),
            result: outcome.name(workload),
            expected: outcome.computed(workload),
            results_of_key: self.expected.results_of(outcome.identity[0]),
        })
    }

    fn progress(&self) -> Progress {
        let files = self.known.len() as u64;
        Progress { files, results: self.results, longest_pause: self.longest_pause }
    }

    /// Takes a file in that was not there before.
    fn add(&mut self, output: &impl Published, file: PublishedFile) -> Result<(), Difference> {
        let content = read(output, &file)?;
        self.numbers.insert(file.name.clone(), self.known.len());
        self.known.push(Known { checksum: checksum(&content), file: file.clone() });
        self.judge(&file.name, &content)
    }

    /// Reads a file again whose length or stamp is another one.
    fn compare(
        &mut self,
        output: &impl Published,
        number: usize,
        file: PublishedFile,
    ) -> Result<(), Difference> {
        let Some(known) = self.known.get_mut(number) else { return Ok(()) };
        if file.length != known.file.length {
            let (was, is) = (known.file.length, file.length);
            return Err(Difference::Changed { file: file.name, was, is });
        }
        if file.stamp != known.file.stamp {
            check_content(output, known)?;
            known.file.stamp = file.stamp;
        }
        Ok(())
    }

    /// Judges the lines of the newest file.
    fn judge(&mut self, name: &str, content: &[u8]) -> Result<(), Difference> {
        let fields = self.expected.workload().fields();
        let mut last = HashMap::<i64, Outcome>::new();
        for (line, text) in (1..).zip(content.split_inclusive(|byte| *byte == b'\n')) {
            let at = Place { file: name.to_owned(), line };
            let shown = || String::from_utf8_lossy(text).trim_end_matches('\n').to_owned();
            let Some(text) = text.strip_suffix(b"\n") else {
                return Err(Difference::Torn { at, text: shown() });
            };
            let text = str::from_utf8(text).ok();
            let workload = self.expected.workload();
            let Some(outcome) = text.and_then(|text| Outcome::parse(workload, text)) else {
                let fields = [fields.identity, fields.content].concat().join(", ");
                return Err(Difference::Malformed { at, text: shown(), fields });
            };
            self.take(&at, &outcome)?;
            let before = last.insert(outcome.identity[0], outcome);
            if let Some(before) = before.filter(|it| fields.ordered && *it > outcome) {
                let (result, before) = (outcome.name(workload), before.name(workload));
                return Err(Difference::Disordered { at, result, before });
            }
        }
        Ok(())
    }

    /// Takes a result of the newest file in.
    fn take(&mut self, at: &Place, outcome: &Outcome) -> Result<(), Difference> {
        let workload = self.expected.workload();
        let at = || at.clone();
        let result = || outcome.name(workload);
        let Some(index) = self.expected.index(&outcome.identity) else {
            let results_of_key = self.expected.results_of(outcome.identity[0]);
            return Err(Difference::NotInInput { at: at(), result: result(), results_of_key });
        };
        let expected = self.expected.outcomes()[index];
        if *outcome != expected {
            let (computed, expected) = (outcome.computed(workload), expected.computed(workload));
            return Err(Difference::Wrong { at: at(), result: result(), computed, expected });
        }
        if self.seen[index] != 0 {
            let first = self.known.get(self.seen[index] as usize - 1);
            let first = first.map(|known| known.file.name.clone()).unwrap_or_default();
            return Err(Difference::Repeated { at: at(), result: result(), first });
        }
        self.seen[index] = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.results += 1;
        Ok(())
    }
}

/// Reads a file of a listing; it is as long as the listing says, since it is complete.
fn read(output: &impl Published, file: &PublishedFile) -> Result<Vec<u8>, Difference> {
    let name = || file.name.clone();
    let content = output.read(&file.name).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Difference::Disappeared { file: name() },
        _ => Difference::Unreadable { file: name(), why: error.to_string() },
    })?;
    let (was, is) = (file.length, content.len() as u64);
    if was == is { Ok(content) } else { Err(Difference::Changed { file: name(), was, is }) }
}

/// Reads a file again, which must be as it was.
fn check_content(output: &impl Published, known: &Known) -> Result<(), Difference> {
    let (was, content) = (known.file.length, read(output, &known.file)?);
    if checksum(&content) == known.checksum {
        return Ok(());
    }
    Err(Difference::Changed { file: known.file.name.clone(), was, is: was })
}

fn checksum(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}
