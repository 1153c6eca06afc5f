//! From rounds to one JSON line.

use crate::rows::Row;
use serde::Serialize;

/// Figures of one round, in the row's unit; a side that did not run has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Round {
    /// Millstream.
    pub ours: Option<f64>,
    /// The other side.
    pub peer: Option<f64>,
    /// The same work without an engine.
    pub limit: f64,
}

/// The output line of a row.
#[derive(Debug, Serialize, PartialEq)]
pub struct Line {
    /// The row's name.
    pub row: String,
    /// Median of the rounds' ratios; above 1 ours is better.
    pub ratio: Option<f64>,
    /// The worst round.
    pub low: Option<f64>,
    /// The best round.
    pub high: Option<f64>,
    /// Median.
    pub ours: Option<f64>,
    /// Median.
    pub peer: Option<f64>,
    /// Median.
    pub limit: Option<f64>,
    /// Of the last three.
    pub unit: &'static str,
    /// Bytes of a record, where the row is about a shape of records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_bytes: Option<usize>,
}

impl Line {
    /// Sums the rounds up.
    #[must_use]
    pub fn new(row: &Row, rounds: &[Round]) -> Self {
        let more = row.kind.more_is_better();
        let ratios: Vec<f64> = rounds
            .iter()
            .filter_map(|round| Some((round.ours?, round.peer?)))
            .map(|(ours, peer)| if more { ours / peer } else { peer / ours })
            .collect();
        Self {
            row: row.name.clone(),
            ratio: median(&ratios).map(rounded),
            low: ratios.iter().copied().reduce(f64::min).map(rounded),
            high: ratios.iter().copied().reduce(f64::max).map(rounded),
            ours: median_of(rounds, |round| round.ours),
            peer: median_of(rounds, |round| round.peer),
            limit: median_of(rounds, |round| Some(round.limit)),
            unit: row.kind.unit(),
            record_bytes: row.kind.record_bytes(),
        }
    }
}

/// The rows of the group `shapes` as a table in Markdown: a line for each shape and a column for
/// each way, with ours and the other side per CPU-second.
#[must_use]
pub fn table(lines: &[Line]) -> String {
    let mut shapes: Vec<(&str, usize, [String; WAYS.len()])> = Vec::new();
    for line in lines {
        let named = line.row.strip_prefix("shape-").and_then(|name| name.rsplit_once('-'));
        let (Some((name, way)), Some(bytes)) = (named, line.record_bytes) else { continue };
        let Some(column) = WAYS.iter().position(|known| *known == way) else { continue };
        if !shapes.iter().any(|(known, ..)| *known == name) {
            shapes.push((name, bytes, std::array::from_fn(|_| String::new())));
        }
        if let Some((.., cells)) = shapes.iter_mut().find(|(known, ..)| *known == name) {
            cells[column] = cell(line, bytes);
        }
    }
    let mut table = format!("| shape | bytes | {} |\n|---|---:|", WAYS.join(" | "));
    table.push_str(&"---|".repeat(WAYS.len()));
    for (name, bytes, cells) in shapes {
        table.push_str(&format!("\n| {name} | {bytes} | {} |", cells.join(" | ")));
    }
    table
}

const WAYS: [&str; 3] = ["local", "tcp", "tls"];

fn cell(line: &Line, bytes: usize) -> String {
    let side = |figure: Option<f64>| {
        let records = figure.unwrap_or(f64::NAN);
        format!("{:.0} k/s, {:.0} MB/s", records / 1e3, records * bytes as f64 / 1e6)
    };
    let ratio = line.ratio.unwrap_or(f64::NAN);
    format!("**{ratio:.2}**: {}; {}", side(line.ours), side(line.peer))
}

fn median_of(rounds: &[Round], figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
    median(&rounds.iter().filter_map(figure).collect::<Vec<_>>()).map(rounded)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted.get(middle.checked_sub(1)?)? + upper) / 2.0)
}

/// Four significant digits: more would be noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Kind;

    fn rounds(pairs: &[(f64, f64)]) -> Vec<Round> {
        let round = |&(ours, peer)| Round { ours: Some(ours), peer: Some(peer), limit: 1.0 };
        pairs.iter().map(round).collect()
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        let row = Row { name: "p".to_owned(), group: None, kind: Kind::ColdStart };
        let line = Line::new(&row, &rounds(&[(1.0, 2.0), (1.0, 30.0), (2.0, 8.0)]));
        assert_eq!((line.ratio, line.low, line.high), (Some(4.0), Some(2.0), Some(30.0)));
        assert_eq!((line.ours, line.peer), (Some(1.0), Some(8.0)));
    }

    #[test]
    fn one_side_alone_has_no_ratio() {
        let row = Row { name: "p".to_owned(), group: None, kind: Kind::List };
        let line = Line::new(&row, &[Round { peer: Some(2.46813), ..Round::default() }]);
        assert_eq!((line.ratio, line.ours, line.peer), (None, None, Some(2.468)));
    }

    #[test]
    fn a_table_has_a_line_per_shape_and_a_column_per_way() {
        let of = |name: &str| {
            let row = crate::rows::all().into_iter().find(|row| row.name == name).unwrap();
            Line::new(&row, &rounds(&[(4e6, 2e6)]))
        };
        let lines = [of("p4"), of("shape-text-100-local"), of("shape-text-100-tls")];
        let cell = "**2.00**: 4000 k/s, 400 MB/s; 2000 k/s, 200 MB/s";
        let last = format!("| text-100 | 100 | {cell} |  | {cell} |");
        assert_eq!(table(&lines).lines().last(), Some(last.as_str()));
        assert_eq!(table(&lines).lines().count(), 3);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_too() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
