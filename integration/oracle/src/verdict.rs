//! The comparison of the outputs that came with those that must come.

use std::fmt::Debug;

/// Compares outputs that come in any order.
///
/// # Errors
/// Outputs are missing, or came too often, or must not come; the first few are named.
pub fn compare<T: Ord + Debug>(mut expected: Vec<T>, mut came: Vec<T>) -> Result<(), String> {
    expected.sort();
    came.sort();
    if expected == came {
        return Ok(());
    }
    let (missing, wrong) = (without(&expected, &came), without(&came, &expected));
    Err(format!(
        "{} outputs are missing, like {:?}; {} must not come, like {:?}",
        missing.len(),
        missing.iter().take(3).collect::<Vec<_>>(),
        wrong.len(),
        wrong.iter().take(3).collect::<Vec<_>>()
    ))
}

/// The elements of a sorted list, each as often as it is there, less those of another sorted list.
fn without<'a, T: Ord>(all: &'a [T], less: &[T]) -> Vec<&'a T> {
    let mut less = less.iter().peekable();
    let mut rest = Vec::new();
    for one in all {
        while less.next_if(|other| *other < one).is_some() {}
        if less.next_if(|other| *other == one).is_none() {
            rest.push(one);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_in_another_order_are_equal() {
        assert_eq!(compare(vec![(1, 5), (2, 6), (1, 5)], vec![(2, 6), (1, 5), (1, 5)]), Ok(()));
    }

    #[test]
    fn one_output_dropped_doubled_or_moved_by_a_millisecond_is_found() {
        let right: Vec<(&str, i64)> = (0..50).map(|time| ("window", time * 10)).collect();
        let mut dropped = right.clone();
        dropped.remove(7);
        let mut doubled = right.clone();
        doubled.push(right[7]);
        let mut moved = right.clone();
        moved[7].1 += 1;
        for (wrong, says) in [
            (dropped, "1 outputs are missing, like [(\"window\", 70)]; 0 must not come, like []"),
            (doubled, "0 outputs are missing, like []; 1 must not come, like [(\"window\", 70)]"),
            (
                moved,
                "1 outputs are missing, like [(\"window\", 70)]; 1 must not come, like \
                 [(\"window\", 71)]",
            ),
        ] {
            assert_eq!(compare(right.clone(), wrong), Err(says.to_owned()));
        }
    }
}
