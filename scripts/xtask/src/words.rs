//! Refuses doc comments that open with a question word instead of the thing that they are about.
//!
//! "What a record weighs." has to be read twice; "The weight of a record in bytes." does not.

use crate::source::Source;

/// First words of doc comments that are refused, and how to begin instead.
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

/// The faults of the doc comments of one file.
pub fn check(file: &str, source: &Source) -> Vec<String> {
    let openings = refused(source.lines()).into_iter();
    let fault = |(line, word, instead)| {
        format!("{file}:{}: a doc comment opens with `{word}`: {instead}", line + 1)
    };
    openings.map(fault).collect()
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

    fn lines_of_openings(text: &str) -> Vec<usize> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        refused(&lines).into_iter().map(|(line, ..)| line).collect()
    }

    #[test]
    fn the_first_word_of_a_doc_comment_counts() {
        assert_eq!(
            lines_of_openings("//! What it is.\n\n    /// How many.\nfn a() {}\n/// Who, then?"),
            [0, 2, 4]
        );
        let later = "/// The slots.\n/// What follows a first line is free.\nx,";
        assert_eq!(lines_of_openings(later), [0; 0]);
        let free = "/// Whatsoever.\nx,\n/// `What` names it.\ny,\n// What is no doc.";
        assert_eq!(lines_of_openings(free), [0; 0]);
    }

    #[test]
    fn a_fault_has_its_place() {
        let faults = check("a.rs", &Source::parse("\n/// What is it?\nx,"));
        assert!(matches!(&*faults, [fault] if fault.starts_with("a.rs:2: ")), "{faults:?}");
    }
}
