//! The watermarks that must come of those of several channels.

use super::probe::Item;

/// Watermarks advance, and in the end they have reached the least of the channels that are not
/// idle. The channels are given by their last watermarks and whether they are idle.
pub(super) fn check_watermarks(
    channels: &[(i64, bool)],
    seen: &[Item],
    all: bool,
) -> Result<(), String> {
    let told = seen.iter().filter_map(|item| match item {
        Item::Event(0, millis) => Some(*millis),
        Item::Event(..) | Item::Record(_) | Item::Timed(..) => None,
    });
    if !told.clone().is_sorted_by(|one, next| one < next) {
        return Err("a watermark does not advance".to_owned());
    }
    let that_are = |idle| {
        let channels = channels.iter().filter(move |channel| channel.1 == idle);
        channels.map(|channel| channel.0)
    };
    let now = that_are(false).min().or_else(|| that_are(true).max()).unwrap_or(i64::MIN);
    let most = channels.iter().map(|channel| channel.0).max().unwrap_or(i64::MIN);
    let told = told.max().unwrap_or(i64::MIN);
    if told > most || all && told < now {
        return Err(format!("the watermark is {told} and not from {now} to {most}"));
    }
    Ok(())
}
