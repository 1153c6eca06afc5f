//! Windows by the calendar of a time zone: days, weeks and months, whatever their length.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Days, weeks or months of a place, each of which begins when its first day does there.
///
/// A day has 23 or 25 hours when the clocks of the place are changed. The rules of all time zones
/// are part of the program, those of the year in which it was built.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, Calendar};
/// // Of the 31st of March 2024, the day on which the clocks of Vienna were put forward, and later.
/// let hour = 3_600_000;
/// let midnight = 1_711_839_600_000;
/// let orders = [midnight, midnight + 22 * hour, midnight + 23 * hour];
/// let per_day = run_on(orders, |times| {
///     let strategy = WatermarkStrategy::monotonous().timestamps(|time| Ok(*time));
///     let orders = times.assign_timestamps(strategy);
///     orders.window_all(Calendar::days("Europe/Vienna")).count("orders per day")
/// });
/// assert_eq!(per_day.unwrap(), [((), 2), ((), 1)]);
/// ```
#[derive(Debug, Clone)]
pub struct Calendar {
    period: Period,
    name: String,
    /// `None` if there is no zone of this name.
    zone: Option<Zone>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Day,
    /// From Monday on.
    Week,
    Month,
}

/// A time zone, with the begins of two windows: all times before the first one are in one window,
/// and all from the second one on.
#[derive(Debug, Clone)]
struct Zone {
    rules: TimeZone,
    first: i64,
    last: i64,
}

/// About the years -9000 and 9000, in milliseconds since 1970: the calendar has a thousand more.
const FIRST: i64 = -346_000_000_000_000;
const LAST: i64 = 221_000_000_000_000;

impl Calendar {
    /// Days in a time zone of the IANA database, as `Europe/Vienna`.
    #[must_use]
    pub fn days(zone: &str) -> Self {
        Self::of(Period::Day, zone)
    }

    /// Weeks, which begin on Monday, in a time zone of the IANA database.
    #[must_use]
    pub fn weeks(zone: &str) -> Self {
        Self::of(Period::Week, zone)
    }

    /// Months in a time zone of the IANA database.
    #[must_use]
    pub fn months(zone: &str) -> Self {
        Self::of(Period::Month, zone)
    }

    fn of(period: Period, name: &str) -> Self {
        let zone = jiff::tz::db().get(name).ok().and_then(|rules| {
            let first = period.begin(&rules, FIRST, 0)?;
            let last = period.begin(&rules, LAST, 0)?;
            Some(Zone { rules, first, last })
        });
        Self { period, name: name.to_owned(), zone }
    }

    /// A sentence about a zone that there is not.
    #[doc(hidden)]
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.zone.is_none().then(|| {
            format!(
                "there is no time zone {:?}: name one of the IANA database, as \"Europe/Vienna\" \
                 or \"UTC\"",
                self.name
            )
        })
    }

    /// The first and the last time of the window that a time is in.
    #[doc(hidden)]
    #[must_use]
    pub fn span(&self, time: i64) -> (i64, i64) {
        let Some(Zone { rules, first, last }) = &self.zone else { return (i64::MIN, i64::MAX) };
        if time < *first {
            return (i64::MIN, first - 1);
        }
        let begin = |later| self.period.begin(rules, time, later);
        match (begin(0), begin(1)) {
            (Some(begin), Some(next)) if begin < *last => (begin, next - 1),
            _ => (*last, i64::MAX),
        }
    }
}

impl Period {
    /// The begin of the window that a time is in, or of one so many later; `None` about the end of
    /// the calendar.
    fn begin(self, rules: &TimeZone, time: i64, later: i64) -> Option<i64> {
        let local = Timestamp::from_millisecond(time).ok()?.to_zoned_datetime(rules.clone());
        let first = self.first_day(local.date())?;
        let day = match self {
            Self::Day => first.checked_add(later.days()),
            Self::Week => first.checked_add(later.weeks()),
            Self::Month => first.checked_add(later.months()),
        };
        let midnight = day.ok()?.to_zoned_datetime(rules.clone()).ok()?;
        Some(midnight.start_of_day().ok()?.timestamp().as_millisecond())
    }

    /// The first day of the period that a day is in.
    fn first_day(self, day: Date) -> Option<Date> {
        match self {
            Self::Day => Some(day),
            Self::Week => {
                let since_monday = i64::from(day.weekday().to_monday_zero_offset());
                day.checked_sub(since_monday.days()).ok()
            }
            Self::Month => Some(day.first_of_month()),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_oracle::Random;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn days_have_the_hours_that_they_have_in_their_place() {
        for (zone, noon, first, hours) in [
            ("UTC", "2024-03-31T12:00Z", "2024-03-31T00:00Z", 24 * HOUR),
            ("Europe/Vienna", "2024-03-31T12:00Z", "2024-03-30T23:00Z", 23 * HOUR),
            ("Europe/Vienna", "2024-10-27T12:00Z", "2024-10-26T22:00Z", 25 * HOUR),
            // Clocks are put forward by half an hour.
            ("Australia/Lord_Howe", "2024-10-06T00:00Z", "2024-10-05T13:30Z", 23 * HOUR + HOUR / 2),
            // The day begins at one o'clock.
            ("America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z", 23 * HOUR),
            // The last day before one that there was not.
            ("Pacific/Apia", "2011-12-30T09:00Z", "2011-12-29T10:00Z", 24 * HOUR),
        ] {
            let days = Calendar::days(zone);
            assert_eq!(days.fault(), None);
            let (begin, last) = days.span(at(noon));
            assert_eq!((begin, last - begin + 1), (at(first), hours), "{zone} {noon}");
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first_day() {
        let wednesday = at("2024-02-28T23:30Z");
        let span = Calendar::weeks("Europe/Vienna").span(wednesday);
        assert_eq!(span, (at("2024-02-25T23:00Z"), at("2024-03-03T23:00Z") - 1));
        let span = Calendar::months("UTC").span(wednesday);
        assert_eq!(span, (at("2024-02-01T00:00Z"), at("2024-03-01T00:00Z") - 1));
    }

    #[test]
    fn a_zone_that_there_is_not_is_a_fault() {
        let fault = Calendar::days("Europe/Wien").fault();
        let expected = "there is no time zone \"Europe/Wien\": name one of the IANA database";
        assert!(fault.is_some_and(|fault| fault.starts_with(expected)));
    }

    /// Each time is in one window, and the next window begins where it ends.
    #[test]
    fn windows_cover_time_without_gaps() {
        let zones = ["UTC", "Europe/Vienna", "America/Sao_Paulo", "Pacific/Apia", "Africa/Cairo"];
        let random = &mut Random::new(7);
        let near = |time: i64| [time.saturating_sub(1), time, time.saturating_add(1)];
        let limits = [i64::MIN, FIRST, 0, LAST, i64::MAX].into_iter().flat_map(near);
        let mut times: Vec<i64> = limits.collect();
        times.extend((0..2_000).map(|_| random.below(5_000_000_000_000).cast_signed()));
        for zone in zones {
            for days in [Calendar::days(zone), Calendar::weeks(zone), Calendar::months(zone)] {
                for time in &times {
                    let (first, last) = days.span(*time);
                    assert!(first <= *time && *time <= last, "{days:?} {time}");
                    assert_eq!(days.span(first), (first, last), "{days:?} {time}");
                    assert_eq!(days.span(last), (first, last), "{days:?} {time}");
                    if let Some(next) = last.checked_add(1) {
                        assert_eq!(days.span(next).0, next, "{days:?} {time}");
                    }
                }
            }
        }
    }
}
