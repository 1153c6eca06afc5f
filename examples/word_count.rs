//! Counts the words of a file or of all files in a directory.
//!
//! A word is a run of ASCII letters and digits, lower-cased; all other bytes separate words, also
//! those that are not UTF-8. With `--output` the counts become files of a directory, a line `word
//! count` for each word; without, they are printed. Paths may begin with `hdfs://`.
//!
//! ```text
//! cargo run --release --example word_count -- --input FILE [--output DIR]
//! millstream run word_count --input FILE --output DIR
//! millstream run word_count --input hdfs:///data/text --output hdfs:///user/me/counts
//! ```

use std::io::Write;

use millstream::prelude::*;

/// A word and how often it was seen.
type Count = (Str, u64);

#[millstream::main]
fn word_count(env: &mut Environment, args: Args) -> Result<()> {
    let input = args.required("input")?;
    let output: Option<FilePath> = args.optional("output")?;
    args.finish()?;

    // In batch mode each word is emitted once, with its final count.
    env.set_runtime_mode(RuntimeMode::Batch);
    let counts = env
        .source("text", FileSource::byte_lines(input))
        .flat_map(|line| Ok(Words::new(line).map(|word| (word, 1))))
        .key_by_ref(|(word, _): &Count| word)
        .reduce("count", |total, next| {
            total.1 += next.1;
            Ok(())
        });
    match output {
        Some(directory) => counts.sink(
            "counts",
            FileSink::with(directory, |(word, count): &Count, out| {
                Ok(writeln!(out, "{word} {count}")?)
            }),
        ),
        None => counts.sink(
            "counts",
            PrintSink::with(|(word, count): &Count, out| write!(out, "{word} {count}")),
        ),
    };
    env.execute("word count")?;
    Ok(())
}

/// The words of one line.
struct Words {
    line: Vec<u8>,
    /// Where the next word is looked for.
    at: usize,
}

impl Words {
    const fn new(line: Vec<u8>) -> Self {
        Self { line, at: 0 }
    }
}

impl Iterator for Words {
    type Item = Str;

    fn next(&mut self) -> Option<Str> {
        let rest = self.line.get_mut(self.at..)?;
        let start = rest.iter().position(u8::is_ascii_alphanumeric)?;
        let rest = rest.get_mut(start..)?;
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
        let word = rest.get_mut(..end.unwrap_or(rest.len()))?;
        word.make_ascii_lowercase();
        self.at += start + word.len();
        Str::from_utf8(word).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Vec<Str> {
        Words::new(line.to_vec()).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words(b"To be, or NOT-2-be?"), ["to", "be", "or", "not", "2", "be"]);
        assert_eq!(words(b"na\xc3\xafve \xff x"), ["na", "ve", "x"]);
        assert_eq!(words(b" -- "), [""; 0]);
    }
}
