//! Right outputs pass, and outputs with one fault have the verdict that names it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Difference, Directory, Expected, Input, Outcome, Place, Progress, Published, PublishedFile,
    Watcher, Workload,
};

const RECORDS: u64 = 600;
const INPUT: Input = Input::keyed_sum(42, RECORDS, 2);
/// The file that tests change, and how many files there are before the last ones.
const FILE: &str = "part-1-0";

type Files = BTreeMap<String, Vec<u8>>;

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// The right output of an input: three files of each of two writers.
fn output_of(input: &Input) -> Files {
    let expected = Expected::of(input);
    let mut seen = BTreeMap::<i64, u64>::new();
    let mut files = Files::new();
    for outcome in expected.outcomes() {
        let key = outcome.identity[0];
        let before = seen.entry(key).or_default();
        *before += 1;
        let third = 3 * (*before - 1) / expected.results_of(key);
        let name = format!("part-{}-{third}", key % 2);
        let line = outcome.line(input.workload) + "\n";
        files.entry(name).or_default().extend(line.into_bytes());
    }
    files
}

fn output() -> Files {
    output_of(&INPUT)
}

fn watcher() -> Watcher {
    Watcher::new(Expected::of(&INPUT))
}

fn judge(files: &Files) -> Result<Progress, Difference> {
    watcher().finish(files, second(1))
}

/// The lines of the file that tests change.
fn lines(files: &Files) -> Vec<String> {
    let text = str::from_utf8(&files[FILE]).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn put(files: &mut Files, lines: &[String]) {
    files.insert(FILE.to_owned(), (lines.join("\n") + "\n").into_bytes());
}

fn fields(line: &str) -> [i64; 3] {
    let fields: Vec<i64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
    fields.try_into().unwrap()
}

fn named(key: i64, sequence: i64) -> String {
    format!("key {key}, sequence {sequence}")
}

fn at(line: usize) -> Place {
    Place { file: FILE.to_owned(), line }
}

/// The inputs of all workloads.
fn inputs() -> impl Iterator<Item = Input> {
    Workload::ALL.into_iter().map(|workload| Input { workload, span_ms: 400, ..INPUT })
}

#[test]
fn a_right_output_of_each_workload_passes_and_one_record_more_or_less_does_not() {
    for input in inputs() {
        let judge = |files: &Files| Watcher::new(Expected::of(&input)).finish(files, second(1));
        let (right, workload) = (output_of(&input), input.workload);
        let progress = judge(&right).unwrap();
        assert!(progress.results > 100 && progress.files == 6, "{workload}: {progress:?}");

        let mut dropped = right.clone();
        let mut kept = lines(&right);
        let one = Outcome::parse(workload, &kept.remove(5)).unwrap();
        put(&mut dropped, &kept);
        let Difference::Missing { missing: 1, result, expected, .. } = judge(&dropped).unwrap_err()
        else {
            panic!("{workload}")
        };
        assert_eq!((result, expected), (one.name(workload), one.computed(workload)));

        let mut doubled = right.clone();
        doubled.insert("part-2-0".to_owned(), (one.line(workload) + "\n").into_bytes());
        let (result, first) = (one.name(workload), FILE.to_owned());
        let second_one = Place { file: "part-2-0".to_owned(), line: 1 };
        let repeated = Difference::Repeated { at: second_one, result, first };
        assert_eq!(judge(&doubled), Err(repeated), "{workload}");
    }
}

#[test]
fn a_result_of_each_workload_that_is_moved_by_one_millisecond_is_found() {
    // A sum has no time; its number is moved.
    let place = |workload| match workload {
        Workload::KeyedSum | Workload::Timers => (1, false),
        Workload::Tumbling | Workload::Sliding | Workload::Session => (2, false),
        Workload::IntervalJoin | Workload::Broadcast => (0, true),
    };
    for input in inputs() {
        let (right, workload) = (output_of(&input), input.workload);
        let all = lines(&right);
        for by in [-1, 1] {
            let mut moved = Outcome::parse(workload, &all[5]).unwrap();
            match place(workload) {
                (at, false) => moved.identity[at] += by,
                (at, true) => moved.content[at] += by,
            }
            let (mut files, mut altered) = (right.clone(), all.clone());
            altered[5] = moved.line(workload);
            put(&mut files, &altered);
            let verdict = Watcher::new(Expected::of(&input)).look(&files, second(1));
            let found = match verdict.unwrap_err() {
                Difference::NotInInput { at: found, .. } => found,
                Difference::Wrong { at: found, .. } => found,
                other => panic!("{workload}: {other}"),
            };
            assert_eq!(found, at(6), "{workload}");
        }
    }
}

#[test]
fn a_record_that_is_counted_twice_or_not_is_found_in_each_workload() {
    for input in inputs() {
        let (right, workload) = (output_of(&input), input.workload);
        let all = lines(&right);
        for by in [-1, 1] {
            let mut other = Outcome::parse(workload, &all[5]).unwrap();
            let last = workload.fields().content.len() - 1;
            other.content[last] += by;
            let (mut files, mut altered) = (right.clone(), all.clone());
            altered[5] = other.line(workload);
            put(&mut files, &altered);
            let verdict = Watcher::new(Expected::of(&input)).look(&files, second(1)).unwrap_err();
            assert!(matches!(verdict, Difference::Wrong { .. }), "{workload}: {verdict}");
        }
    }
}

#[test]
fn a_right_output_passes() {
    let progress = judge(&output()).unwrap();
    assert_eq!((progress.files, progress.results), (6, RECORDS));
}

#[test]
fn an_output_that_grows_passes_and_its_progress_is_told() {
    let (all, mut files, mut watcher) = (output(), Files::new(), watcher());
    for (number, (name, content)) in (1..).zip(&all) {
        files.insert(name.clone(), content.clone());
        let progress = watcher.look(&files, second(number * number)).unwrap();
        let results: usize =
            files.values().map(|it| it.iter().filter(|b| **b == b'\n').count()).sum();
        assert_eq!((progress.files, progress.results), (number, results as u64));
    }
    // From look 5, at second 25, to look 6, at second 36.
    assert_eq!(watcher.look(&files, second(37)).unwrap().longest_pause, second(11));
    let last = watcher.finish(&files, second(50)).unwrap();
    assert_eq!((last.results, last.longest_pause), (RECORDS, second(14)));
}

#[test]
fn an_output_without_results_is_as_long_a_pause_as_the_run() {
    let mut watcher = watcher();
    assert_eq!(watcher.look(&Files::new(), second(7)).unwrap().longest_pause, second(7));
}

#[test]
fn a_dropped_line_is_missing_at_the_end_and_not_before() {
    let mut files = output();
    let mut kept = lines(&files);
    let [key, sequence, sum] = fields(&kept.remove(5));
    put(&mut files, &kept);
    let mut watcher = watcher();
    assert_eq!(watcher.look(&files, second(1)).unwrap().results, RECORDS - 1);
    let results_of_key = Expected::of(&INPUT).results_of(key);
    let (result, expected) = (named(key, sequence), format!("sum {sum}"));
    let missing =
        Difference::Missing { missing: 1, results: RECORDS, result, expected, results_of_key };
    assert_eq!(watcher.finish(&files, second(2)), Err(missing.clone()));
    assert_eq!(
        missing.to_string(),
        format!(
            "1 of 600 results are missing, the first of them key {key}, sequence {sequence} with \
             sum {sum}; its key must have {results_of_key} results"
        )
    );
}

#[test]
fn an_empty_output_misses_everything() {
    let missing = judge(&Files::new()).unwrap_err();
    assert!(matches!(missing, Difference::Missing { missing: RECORDS, .. }), "{missing}");
}

#[test]
fn a_doubled_line_is_found_in_its_file_and_in_another_one() {
    let mut files = output();
    let mut doubled = lines(&files);
    let [key, sequence, _] = fields(&doubled[5]);
    let last = doubled.len() + 1;
    doubled.push(doubled[5].clone());
    let line = doubled[5].clone() + "\n";
    put(&mut files, &doubled);
    let first = FILE.to_owned();
    let repeated = Difference::Repeated { at: at(last), result: named(key, sequence), first };
    assert_eq!(judge(&files), Err(repeated));

    let mut files = output();
    files.insert("part-2-0".to_owned(), line.into_bytes());
    let verdict = judge(&files).unwrap_err().to_string();
    assert_eq!(
        verdict,
        format!(
            "part-2-0, line 1: the result key {key}, sequence {sequence} was published before, in \
             part-1-0"
        )
    );
}

#[test]
fn a_whole_file_that_is_there_twice_is_found() {
    let mut files = output();
    files.insert("part-9-0".to_owned(), files[FILE].clone());
    let verdict = judge(&files).unwrap_err();
    assert!(matches!(verdict, Difference::Repeated { .. }), "{verdict}");
}

#[test]
fn a_sum_that_is_wrong_by_one_is_found() {
    let mut files = output();
    let mut altered = lines(&files);
    let [key, sequence, expected] = fields(&altered[5]);
    for sum in [expected + 1, expected - 1] {
        altered[5] = format!("{key} {sequence} {sum}");
        put(&mut files, &altered);
        let [computed, expected] = [sum, expected].map(|sum| format!("sum {sum}"));
        let result = named(key, sequence);
        let wrong = Difference::Wrong { at: at(6), result, computed, expected };
        assert_eq!(judge(&files), Err(wrong));
    }
    let sum = expected - 1;
    assert_eq!(
        judge(&files).unwrap_err().to_string(),
        format!(
            "part-1-0, line 6: the result key {key}, sequence {sequence} has sum {sum}, and must \
             have sum {expected}"
        )
    );
}

#[test]
fn a_sequence_or_a_key_that_the_input_lacks_is_found() {
    let original = output();
    let [key, _, sum] = fields(&lines(&original)[5]);
    let results = Expected::of(&INPUT).results_of(key);
    let next = results.cast_signed() + 1;
    let cases = [(key, 0, results), (key, next, results), (256, 1, 0), (i64::MIN, 1, 0)];
    for (key, sequence, results_of_key) in cases {
        let mut files = original.clone();
        let mut altered = lines(&files);
        altered[5] = format!("{key} {sequence} {sum}");
        put(&mut files, &altered);
        let result = named(key, sequence);
        let wrong = Difference::NotInInput { at: at(6), result, results_of_key };
        assert_eq!(judge(&files), Err(wrong));
    }
}

#[test]
fn a_line_of_another_run_is_found() {
    let other = output_of(&Input { seed: 43, ..INPUT });
    let mut files = output();
    let mut altered = lines(&files);
    altered[5] = lines(&other)[5].clone();
    put(&mut files, &altered);
    assert!(judge(&files).is_err());
    let (_, content) = other.into_iter().next().unwrap();
    let mut watcher = watcher();
    let verdict = watcher.look(&Files::from([("part-0-0".to_owned(), content)]), second(1));
    assert!(verdict.is_err(), "{verdict:?}");
}

#[test]
fn a_torn_last_line_and_one_without_newline_are_found() {
    for cut in [1, 2, 4] {
        let mut files = output();
        let content = files.get_mut(FILE).unwrap();
        content.truncate(content.len() - cut);
        let lines = lines(&files);
        let text = lines.last().unwrap().clone();
        let torn = Difference::Torn { at: at(lines.len()), text };
        assert_eq!(judge(&files), Err(torn), "{cut} bytes are cut off");
    }
}

#[test]
fn lines_that_are_no_results_are_found() {
    let texts =
        ["", "1", "1 2", "1 2 3 4", "1  2 3", "1 2 3 ", "01 2 3", "+1 2 3", "1 2 -0", "a b c"];
    for text in texts {
        let mut files = output();
        let mut altered = lines(&files);
        altered[5] = text.to_owned();
        put(&mut files, &altered);
        let (text, fields) = (text.to_owned(), "key, sequence, sum".to_owned());
        let malformed = Difference::Malformed { at: at(6), text, fields };
        assert_eq!(judge(&files), Err(malformed));
    }
    let mut files = output();
    files.insert("part-2-0".to_owned(), b"\xff\n".to_vec());
    let verdict = judge(&files).unwrap_err();
    assert!(matches!(verdict, Difference::Malformed { .. }), "{verdict}");
}

#[test]
fn results_of_a_key_that_change_places_within_a_file_are_found() {
    let mut files = output();
    let mut swapped = lines(&files);
    let key = |line: &str| fields(line)[0];
    let (one, two) = (0..swapped.len())
        .flat_map(|one| (one + 1..swapped.len()).map(move |two| (one, two)))
        .find(|(one, two)| key(&swapped[*one]) == key(&swapped[*two]))
        .unwrap();
    let [_, before, _] = fields(&swapped[two]);
    let [key, sequence, _] = fields(&swapped[one]);
    swapped.swap(one, two);
    put(&mut files, &swapped);
    let (result, before) = (named(key, sequence), named(key, before));
    let disordered = Difference::Disordered { at: at(two + 1), result, before };
    assert_eq!(judge(&files), Err(disordered));
}

#[test]
fn a_file_that_is_removed_is_found() {
    let (mut files, mut watcher) = (output(), watcher());
    watcher.look(&files, second(1)).unwrap();
    files.remove(FILE);
    let disappeared = Difference::Disappeared { file: FILE.to_owned() };
    assert_eq!(watcher.look(&files, second(2)), Err(disappeared));
}

#[test]
fn a_file_that_is_longer_or_shorter_is_found() {
    let shorten = |content: &mut Vec<u8>| content.truncate(9);
    let lengthen = |content: &mut Vec<u8>| content.push(b'\n');
    for change in [shorten, lengthen] {
        let (mut files, mut watcher) = (output(), watcher());
        watcher.look(&files, second(1)).unwrap();
        let content = files.get_mut(FILE).unwrap();
        let was = content.len() as u64;
        change(content);
        let is = content.len() as u64;
        let changed = Difference::Changed { file: FILE.to_owned(), was, is };
        assert_eq!(watcher.look(&files, second(2)), Err(changed));
    }
}

/// Files that are still written: each is longer when it is read than when it was listed.
struct Growing(Files);

impl Published for Growing {
    fn list(&self) -> std::io::Result<Vec<PublishedFile>> {
        let mut listed = self.0.list()?;
        listed.iter_mut().for_each(|file| file.length = 9);
        Ok(listed)
    }

    fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        self.0.read(name)
    }
}

#[test]
fn a_file_that_grows_after_it_was_published_is_found() {
    let mut files = output();
    let is = files[FILE].len() as u64;
    files.retain(|name, _| name == FILE);
    let changed = Difference::Changed { file: FILE.to_owned(), was: 9, is };
    assert_eq!(watcher().look(&Growing(files), second(1)), Err(changed));
}

#[test]
fn bytes_that_change_without_a_trace_are_found_at_the_end_and_by_some_look() {
    let (mut files, mut watcher) = (output(), watcher());
    watcher.look(&files, second(1)).unwrap();
    let content = files.get_mut(FILE).unwrap();
    let length = content.len() as u64;
    content[0] ^= 1;
    let changed = Difference::Changed { file: FILE.to_owned(), was: length, is: length };
    let verdicts: Vec<_> = (2..8).map(|now| watcher.look(&files, second(now))).collect();
    assert!(verdicts.contains(&Err(changed.clone())), "{verdicts:?}");

    let mut files = output();
    let mut watcher = self::watcher();
    watcher.look(&files, second(1)).unwrap();
    files.get_mut(FILE).unwrap()[0] ^= 1;
    assert_eq!(watcher.finish(&files, second(2)), Err(changed));
}

#[test]
fn files_on_disk_are_watched_and_hidden_ones_are_not() {
    let folder = std::env::temp_dir().join(format!("millstream-oracle-{}", std::process::id()));
    let directory = Directory(folder.join("output"));
    let mut watcher = watcher();
    assert_eq!(watcher.look(&directory, second(1)).unwrap().files, 0);
    std::fs::create_dir_all(folder.join("output/.millstream-hidden")).unwrap();
    std::fs::write(folder.join("output/.other"), "no result").unwrap();
    for (name, content) in output() {
        std::fs::write(folder.join("output").join(name), content).unwrap();
    }
    let progress = watcher.look(&directory, second(2)).unwrap();
    assert_eq!((progress.files, progress.results), (6, RECORDS));
    watcher.finish(&directory, second(3)).unwrap();

    // A file that is replaced by an equal one is as it was; one with other bytes is not.
    let replace = |content: &[u8]| {
        std::fs::write(folder.join("new"), content).unwrap();
        std::fs::rename(folder.join("new"), folder.join("output").join(FILE)).unwrap();
    };
    let mut content = output().remove(FILE).unwrap();
    replace(&content);
    watcher.look(&directory, second(4)).unwrap();
    content[0] ^= 1;
    replace(&content);
    let length = content.len() as u64;
    let changed = Difference::Changed { file: FILE.to_owned(), was: length, is: length };
    let verdict = watcher.look(&directory, second(5));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(verdict, Err(changed));
}

#[test]
fn a_folder_among_the_files_is_refused() {
    let folder = std::env::temp_dir().join(format!("millstream-folder-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("part")).unwrap();
    let verdict = watcher().look(&Directory(folder.clone()), second(1));
    std::fs::remove_dir_all(&folder).unwrap();
    let why = "part is not a file".to_owned();
    assert_eq!(verdict, Err(Difference::Unlisted { why }));
}
