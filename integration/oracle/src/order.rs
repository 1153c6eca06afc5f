//! Records in order of their event times.

use crate::{Input, Now, Record};

/// The records in order of time, and those that came too late.
#[must_use]
pub fn order(inputs: &[Input]) -> (Vec<Record>, Vec<Record>) {
    let (mut kept, mut ordered, mut late) = (Vec::new(), Vec::new(), Vec::new());
    let mut now = Now::before();
    for input in inputs {
        match *input {
            Input::Record(record) if now.has_reached(record.time) => late.push(record),
            Input::Record(record) => kept.push(record),
            Input::Watermark(watermark) => {
                if now.move_to(watermark) {
                    // Those of one time in the order in which they came.
                    kept.sort_by_key(|record| record.time);
                    let reached = kept.iter().filter(|record| now.has_reached(record.time)).count();
                    ordered.extend(kept.drain(..reached));
                }
            }
        }
    }
    kept.sort_by_key(|record| record.time);
    ordered.append(&mut kept);
    (ordered, late)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: u64, time: i64) -> Record {
        Record { key: 0, value, time }
    }

    #[test]
    fn records_wait_for_the_watermark() {
        let inputs = [
            Input::Record(record(1, 5)),
            Input::Record(record(2, 3)),
            Input::Record(record(3, 4)),
            Input::Watermark(4),
            Input::Record(record(4, 4)),
            Input::Watermark(2),
            Input::Record(record(5, 5)),
        ];
        let expected = [record(2, 3), record(3, 4), record(1, 5), record(5, 5)];
        assert_eq!(order(&inputs), (expected.to_vec(), vec![record(4, 4)]));
    }

    #[test]
    fn before_the_first_watermark_nothing_is_late() {
        let inputs = [Input::Watermark(i64::MIN), Input::Record(record(1, i64::MIN))];
        assert_eq!(order(&inputs), (vec![record(1, i64::MIN)], Vec::new()));
    }
}
