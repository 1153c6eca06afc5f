//! The rules of windows, each by hand.

use super::*;

const TEN: Windows = Windows::Tumbling { size: 10, offset: 0 };

const GAP_TEN: Windows = Windows::Session { gap: 10 };

fn record(value: u64, time: i64) -> Input {
    Input::Record(Record { key: 1, value, time })
}

/// The results as start, end and values, and the values that are late.
fn run(windows: Windows, lateness: i64, inputs: &[Input]) -> (Vec<(i64, i64, u64)>, Vec<u64>) {
    let (outputs, late) = super::windows(inputs, &Rules { windows, lateness });
    for output in &outputs {
        // A window that ends behind all times has its results at the last one.
        let is_cut_off = output.end == i64::MAX && output.time == i64::MAX;
        assert!(is_cut_off || output.time == output.end - 1, "{output:?}");
    }
    let outputs = outputs.iter().map(|output| (output.start, output.end, output.sum));
    (outputs.collect(), late.iter().map(|record| record.value).collect())
}

fn bounds(windows: Windows, time: i64) -> Vec<(i64, i64)> {
    windows.of(time).into_iter().map(|window| (window.start(), window.end())).collect()
}

#[test]
fn a_time_is_in_one_tumbling_window_before_zero_too() {
    for (time, expected) in [(0, (0, 10)), (9, (0, 10)), (10, (10, 20)), (-1, (-10, 0))] {
        assert_eq!(bounds(TEN, time), [expected]);
    }
    assert_eq!(bounds(TEN, -10), [(-10, 0)]);
    assert_eq!(bounds(TEN, -11), [(-20, -10)]);
}

#[test]
fn an_offset_moves_the_windows() {
    assert_eq!(bounds(Windows::Tumbling { size: 10, offset: 3 }, 2), [(-7, 3)]);
    assert_eq!(bounds(Windows::Tumbling { size: 10, offset: 3 }, 3), [(3, 13)]);
    assert_eq!(bounds(Windows::Tumbling { size: 10, offset: -3 }, 6), [(-3, 7)]);
    assert_eq!(bounds(Windows::Tumbling { size: 10, offset: -3 }, 7), [(7, 17)]);
}

#[test]
fn a_time_is_in_all_sliding_windows_around_it() {
    let sliding = |size, slide, offset| Windows::Sliding { size, slide, offset };
    assert_eq!(bounds(sliding(10, 5, 0), 12), [(10, 20), (5, 15)]);
    assert_eq!(bounds(sliding(10, 5, 0), -1), [(-5, 5), (-10, 0)]);
    assert_eq!(bounds(sliding(10, 4, 0), 9), [(8, 18), (4, 14), (0, 10)]);
    assert_eq!(bounds(sliding(10, 4, 0), 10), [(8, 18), (4, 14)]);
    assert_eq!(bounds(sliding(10, 5, 1), 10), [(6, 16), (1, 11)]);
}

#[test]
fn a_time_between_sliding_windows_is_in_none_and_not_late() {
    let gaps = Windows::Sliding { size: 3, slide: 10, offset: 0 };
    assert_eq!(bounds(gaps, 2), [(0, 3)]);
    assert_eq!(bounds(gaps, 3), []);
    let inputs = [record(1, 2), record(2, 3), Input::Watermark(50), record(4, 3), record(8, 2)];
    assert_eq!(run(gaps, 0, &inputs), (vec![(0, 3, 1)], vec![8]));
}

#[test]
fn windows_at_the_limits_of_time_are_cut_off_in_results() {
    assert_eq!(bounds(TEN, i64::MIN), [(i64::MIN, i64::MIN + 8)]);
    assert_eq!(bounds(TEN, i64::MAX), [(i64::MAX - 7, i64::MAX)]);
    let inputs = [record(1, i64::MAX), Input::Watermark(i64::MAX), record(2, i64::MAX - 7)];
    assert_eq!(run(TEN, 0, &inputs), (vec![(i64::MAX - 7, i64::MAX, 3)], vec![]));
    assert_eq!(windows(&inputs, &Rules { windows: TEN, lateness: 0 }).0[0].time, i64::MAX);
    // It ends with the last time but one, which a watermark reaches.
    let ends = Windows::Tumbling { size: 10, offset: 7 };
    assert_eq!(bounds(ends, i64::MAX - 1), [(i64::MAX - 10, i64::MAX)]);
    let inputs = [record(1, i64::MAX - 1), Input::Watermark(i64::MAX), record(2, i64::MAX - 1)];
    assert_eq!(run(ends, 0, &inputs), (vec![(i64::MAX - 10, i64::MAX, 1)], vec![2]));
    assert_eq!(bounds(GAP_TEN, i64::MAX - 2), [(i64::MAX - 2, i64::MAX)]);
}

#[test]
fn a_window_fires_at_its_last_millisecond_and_is_gone_without_lateness() {
    let inputs = [
        record(1, 3),
        Input::Watermark(8),
        record(2, 0),
        Input::Watermark(9),
        record(4, 9),
        record(8, 10),
    ];
    assert_eq!(run(TEN, 0, &inputs), (vec![(0, 10, 3), (10, 20, 8)], vec![4]));
}

#[test]
fn nothing_is_late_before_the_first_watermark() {
    let inputs = [Input::Watermark(i64::MIN), record(1, i64::MIN)];
    let one = Windows::Tumbling { size: 1, offset: 0 };
    assert_eq!(run(one, 0, &inputs), (vec![(i64::MIN, i64::MIN + 1, 1)], vec![]));
}

#[test]
fn a_window_fires_again_for_each_record_within_lateness() {
    let inputs = [
        record(1, 3),
        Input::Watermark(9),
        record(2, 4),
        Input::Watermark(13),
        record(4, 5),
        Input::Watermark(14),
        record(8, 6),
    ];
    assert_eq!(run(TEN, 5, &inputs), (vec![(0, 10, 1), (0, 10, 3), (0, 10, 7)], vec![8]));
    // A first record within lateness fires as well.
    let inputs = [Input::Watermark(13), record(1, 3)];
    assert_eq!(run(TEN, 5, &inputs), (vec![(0, 10, 1)], vec![]));
    let inputs = [Input::Watermark(500), record(1, 3)];
    assert_eq!(run(TEN, i64::MAX, &inputs), (vec![(0, 10, 1)], vec![]));
}

#[test]
fn a_record_is_late_if_it_is_late_for_all_windows() {
    let sliding = Windows::Sliding { size: 10, slide: 5, offset: 0 };
    let inputs = [Input::Watermark(9), record(1, 7), Input::Watermark(14), record(2, 7)];
    assert_eq!(run(sliding, 0, &inputs), (vec![(5, 15, 1)], vec![2]));
}

#[test]
fn keys_have_windows_of_their_own() {
    let other = Input::Record(Record { key: 2, value: 7, time: 1 });
    let (outputs, _) = super::windows(&[record(3, 1), other], &Rules { windows: TEN, lateness: 0 });
    let of = |key, value| Output {
        key,
        start: 0,
        end: 10,
        count: 1,
        sum: value,
        squares: value * value,
        time: 9,
    };
    assert_eq!(outputs, [of(1, 3), of(2, 7)]);
}

#[test]
fn sessions_that_touch_become_one() {
    assert_eq!(run(GAP_TEN, 0, &[record(1, 0), record(2, 10)]).0, [(0, 20, 3)]);
    assert_eq!(run(GAP_TEN, 0, &[record(1, 0), record(2, 11)]).0, [(0, 10, 1), (11, 21, 2)]);
    let bridged = [record(1, 0), record(2, 20), record(4, 10)];
    assert_eq!(run(GAP_TEN, 0, &bridged).0, [(0, 30, 7)]);
}

#[test]
fn a_session_is_late_as_the_one_that_it_becomes() {
    // Alone it would be late; the open session takes it.
    let inputs = [record(1, 8), Input::Watermark(12), record(2, 2)];
    assert_eq!(run(GAP_TEN, 0, &inputs), (vec![(2, 18, 3)], vec![]));
    // The session that it touches is gone.
    let inputs = [record(1, 0), Input::Watermark(9), record(2, 0), record(4, 5)];
    assert_eq!(run(GAP_TEN, 0, &inputs), (vec![(0, 10, 1), (5, 15, 4)], vec![2]));
}

#[test]
fn a_session_that_fired_fires_again_with_everything() {
    // At once, as time is past the new end too.
    let inputs = [record(1, 0), Input::Watermark(20), record(2, 5), record(4, 40)];
    assert_eq!(run(GAP_TEN, 20, &inputs).0, [(0, 10, 1), (0, 15, 3), (40, 50, 4)]);
    // At the new end, which is later than time.
    let inputs = [record(1, 0), Input::Watermark(12), record(2, 5), Input::Watermark(13)];
    assert_eq!(run(GAP_TEN, 20, &inputs).0, [(0, 10, 1), (0, 15, 3)]);
    // Two that fired and become one are one result.
    let inputs = [record(1, 0), record(2, 20), Input::Watermark(35), record(4, 10)];
    assert_eq!(run(GAP_TEN, 30, &inputs).0, [(0, 10, 1), (20, 30, 2), (0, 30, 7)]);
}

#[test]
fn rules_are_of_all_kinds() {
    let mut seen = [false; 7];
    for seed in 0..200 {
        let Rules { windows, lateness } = Rules::random(&mut Random::new(seed));
        seen[0] |= lateness == 0;
        seen[1] |= lateness > 0;
        match windows {
            Windows::Tumbling { size, offset } => {
                assert!(size > 0 && offset.abs() < size);
                seen[2] = true;
            }
            Windows::Sliding { size, slide, offset } => {
                assert!(size > 0 && slide > 0 && offset.abs() < slide);
                seen[3] |= size > slide && size % slide == 0;
                seen[4] |= size > slide && size % slide > 0;
                seen[5] |= size < slide;
            }
            Windows::Session { gap } => {
                assert!(gap > 0);
                seen[6] = true;
            }
        }
    }
    assert_eq!(seen, [true; 7]);
}
