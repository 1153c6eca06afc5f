//! Refuses doc comments that open with a question word instead of the thing that they are about.
//!
//! "What a record weighs." has to be read twice; "The weight of a record in bytes." does not. Old
//! comments of this kind are counted by crate in [`LEFT`], whose numbers may only fall; a crate
//! without a row has none.

use std::collections::BTreeMap;

use crate::source::Source;

/// First words that are refused, and how to begin instead.
const OPENINGS: [(&str, &str); 11] = [
    ("How", "name the number, the time or the way: `Number of ..`, `Interval of ..`"),
    ("Nobody", "say who or what does it, or that it is refused"),
    ("Somebody", "name the component or the user"),
    ("Something", "name the thing"),
    ("What", "name the thing, or begin with a verb: `The address of ..`, `Returns ..`"),
    ("Whatever", "name the thing: `Any ..`, `Every ..`"),
    ("Which", "name the thing: `The slot that ..`, `Index of ..`"),
    ("Who", "name the component or the user"),
    ("Whoever", "name the component or the user"),
    ("Whom", "name the component or the user"),
    ("Whose", "name the owner: `The job of ..`"),
];

/// Number of such comments that each crate still has.
const LEFT: &[(&str, usize)] =
    &[("core/api", 2), ("core/connector", 15), ("core/network", 6), ("core/runtime", 2)];

/// The result of [`Openings::judge`].
pub struct Judgement {
    pub faults: Vec<String>,
    pub warnings: Vec<String>,
}

/// The refused openings of doc comments, by the folder of the crate.
#[derive(Default)]
pub struct Openings(BTreeMap<String, Vec<String>>);

impl Openings {
    /// Looks through one file of the crate in `folder`.
    pub fn read(&mut self, folder: &str, file: &str, source: &Source) {
        for (line, word, instead) in refused(source.lines()) {
            let places = self.0.entry(folder.to_owned()).or_default();
            places
                .push(format!("{file}:{}: a doc comment opens with `{word}`: {instead}", line + 1));
        }
    }

    /// Compares what was found with what may be left.
    pub fn judge(self) -> Judgement {
        judge(self.0, LEFT)
    }
}

fn judge(found: BTreeMap<String, Vec<String>>, left: &[(&str, usize)]) -> Judgement {
    let mut judgement = Judgement { faults: Vec::new(), warnings: Vec::new() };
    let mut left: BTreeMap<&str, usize> = left.iter().copied().collect();
    for (folder, places) in found {
        let (count, limit) = (places.len(), left.remove(folder.as_str()).unwrap_or(0));
        if count > limit {
            judgement.faults.extend(places);
            judgement.faults.push(format!(
                "{folder}: {count} doc comments open with a refused word, at most {limit}; the \
                 number moves only with code that moves, in {}",
                file!()
            ));
        } else if count < limit {
            judgement.warnings.push(lower(&folder, count));
        }
    }
    judgement.warnings.extend(left.keys().map(|folder| lower(folder, 0)));
    judgement
}

fn lower(folder: &str, count: usize) -> String {
    format!("{folder}: only {count} doc comments open with a refused word: lower it in {}", file!())
}

/// The first lines of doc comments that begin with a refused word: the line from 0, the word, and
/// how to begin instead.
fn refused(lines: &[String]) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    let mut before = None;
    for (number, line) in lines.iter().enumerate() {
        let comment = doc_comment(line);
        if let (Some(text), None) = (comment, before) {
            let word = text.split_whitespace().next().unwrap_or_default();
            let word = word.trim_end_matches([',', ':', '.', ';', '?']);
            let opening = OPENINGS.iter().find(|(opening, _)| *opening == word);
            found.extend(opening.map(|(opening, instead)| (number, *opening, *instead)));
        }
        before = comment;
    }
    found
}

fn doc_comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        refused(&lines).into_iter().map(|(line, ..)| line).collect()
    }

    #[test]
    fn the_first_word_of_a_doc_comment_counts() {
        assert_eq!(
            lines("//! What it is.\n\n    /// How many.\nfn a() {}\n/// Who, then?"),
            [0, 2, 4]
        );
        assert_eq!(lines("/// The slots.\n/// What follows a first line is free.\nx,"), [0; 0]);
        assert_eq!(
            lines("/// Whatsoever.\nx,\n/// `What` names it.\ny,\n// What is no doc."),
            [0; 0]
        );
    }

    fn judgement(count: usize, left: &[(&str, usize)]) -> (usize, usize) {
        let places = (0..count).map(|line| format!("a.rs:{line}")).collect();
        let judgement = judge(BTreeMap::from([("a".to_owned(), places)]), left);
        (judgement.faults.len(), judgement.warnings.len())
    }

    #[test]
    fn the_number_of_a_crate_may_only_fall() {
        assert_eq!(judgement(3, &[("a", 3)]), (0, 0));
        assert_eq!(judgement(4, &[("a", 3)]), (5, 0));
        assert_eq!(judgement(2, &[("a", 3)]), (0, 1));
        assert_eq!(judgement(1, &[]), (2, 0));
        assert_eq!(judgement(1, &[("a", 1), ("gone", 2)]), (0, 1));
    }
}
