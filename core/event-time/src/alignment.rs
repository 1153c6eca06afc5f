//! Decides how far the splits of sources may be ahead of each other in event time. Pure: both
//! halves are told what comes and what time it is.
//!
//! The subtasks of all sources of a group are its members. A member tells the [`AlignmentGroups`],
//! in the coordinator host, the least watermark of its splits, and is answered the least one of the
//! other members. Its [`Aligner`] lets splits wait whose watermark is more than the drift ahead of
//! the least of all.
//!
//! # Invariants
//! - A member is in its group from before any subtask runs until it says that none of its splits
//!   takes part: that they are idle or have ended.
//! - The split with the least watermark never waits, so a split that is the only one never does.
//! - Without an answer a member goes by the last one: it is never stopped before that, and never
//!   goes beyond it by more than the drift.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_types::{OperatorId, Timestamp};

/// A group of sources, and the drift that one of them allows its splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// The name of the group in the job.
    pub group: Arc<str>,
    /// A split waits while it is further ahead of the least watermark of the group than this.
    pub max_drift: Duration,
}

/// A member of a group: a subtask of a source.
type Member = (OperatorId, u32);

/// The members of each group; `None` for those that do not take part.
type Groups = BTreeMap<Arc<str>, BTreeMap<Member, Option<Timestamp>>>;

/// The alignment groups of a job, shared by the coordinators of its sources.
#[derive(Debug, Clone, Default)]
pub struct AlignmentGroups(Arc<Mutex<Groups>>);

impl AlignmentGroups {
    /// Makes so many subtasks of a source members of a group. None has a watermark yet, so that all
    /// others wait for it.
    pub fn join(&self, group: &Arc<str>, source: OperatorId, parallelism: u32) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let members = (0..parallelism).map(|subtask| ((source, subtask), Some(Timestamp::MIN)));
        groups.entry(Arc::clone(group)).or_default().extend(members);
    }

    /// Notes the least watermark of a member's splits, `None` if none takes part, and returns the
    /// least one of the other members.
    pub fn tell(
        &self,
        group: &Arc<str>,
        member: (OperatorId, u32),
        least: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let members = groups.entry(Arc::clone(group)).or_default();
        members.insert(member, least);
        let others = members.iter().filter(|(other, _)| **other != member);
        others.filter_map(|(_, watermark)| *watermark).min()
    }
}

/// The longest time between two reports of a member, unless it waits for an answer.
const REPORT_MAX: Duration = Duration::from_secs(1);
/// The shortest one, and the part of it for each subtask: those of a source send at most 500
/// reports a second.
const REPORT_MIN: Duration = Duration::from_millis(10);
const REPORT_SHARE: Duration = Duration::from_millis(2);

/// One member's half: says which of its splits wait, and when to report.
#[derive(Debug)]
pub struct Aligner {
    max_drift: Duration,
    report_min: Duration,
    /// The least watermark of the other members as it was told last; `None`: none takes part.
    others: Option<Timestamp>,
    /// The least watermark of the own splits; `None`: none takes part.
    least: Option<Timestamp>,
    /// The last report and its time.
    reported: Option<(Option<Timestamp>, Instant)>,
    awaits_answer: bool,
    /// Some of the own splits wait.
    has_waiting: bool,
}

impl Aligner {
    /// The half of a subtask of a source with so many.
    #[must_use]
    pub fn new(alignment: &Alignment, parallelism: u32) -> Self {
        Self {
            max_drift: alignment.max_drift,
            report_min: (REPORT_SHARE * parallelism).clamp(REPORT_MIN, REPORT_MAX),
            others: Some(Timestamp::MIN),
            least: Some(Timestamp::MIN),
            reported: None,
            awaits_answer: false,
            has_waiting: false,
        }
    }

    /// Notes the least watermark of the own splits that take part, and whether some wait.
    pub const fn note(&mut self, least: Option<Timestamp>, has_waiting: bool) {
        self.least = least;
        self.has_waiting = has_waiting;
    }

    /// The answer to a report: the least watermark of the other members.
    pub const fn on_answer(&mut self, others: Option<Timestamp>) {
        self.others = others;
        self.awaits_answer = false;
    }

    /// The group has forgotten this member: its next report is due at once.
    pub const fn on_forgotten(&mut self) {
        self.reported = None;
        self.awaits_answer = false;
    }

    /// A split waits while its watermark is later than this, if `least` is the least watermark of
    /// the own splits.
    #[must_use]
    pub fn limit(&self, least: Timestamp) -> Timestamp {
        let all = self.others.map_or(least, |others| others.min(least));
        all.saturating_add(self.max_drift)
    }

    /// The report that is due, if one is.
    pub fn report(&mut self, now: Instant) -> Option<Option<Timestamp>> {
        if self.awaits_answer || self.due().is_some_and(|due| now < due) {
            return None;
        }
        self.reported = Some((self.least, now));
        self.awaits_answer = true;
        Some(self.least)
    }

    /// The time of the next report, unless the last one is not answered yet.
    #[must_use]
    pub fn next_time(&self) -> Option<Instant> {
        if self.awaits_answer { None } else { self.due() }
    }

    /// `None` before the first report, which is due at once.
    fn due(&self) -> Option<Instant> {
        let (reported, at) = self.reported?;
        let has_news = self.least != reported
            && match (reported, self.least) {
                (Some(before), Some(least)) => least >= before.saturating_add(self.max_drift / 4),
                _ => true,
            };
        Some(at + if has_news || self.has_waiting { self.report_min } else { REPORT_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIFT: Duration = Duration::from_secs(1);

    fn at(millis: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(millis))
    }

    fn group() -> Alignment {
        Alignment { group: Arc::from("clicks"), max_drift: DRIFT }
    }

    fn source(number: u128) -> OperatorId {
        OperatorId::from_u128(number)
    }

    #[test]
    fn a_member_is_told_the_least_of_the_others_that_take_part() {
        let groups = AlignmentGroups::default();
        let name = group().group;
        groups.join(&name, source(1), 1);
        groups.join(&name, source(2), 2);
        groups.join(&Arc::from("another"), source(3), 1);
        assert_eq!(groups.tell(&name, (source(1), 0), at(500)), Some(Timestamp::MIN));
        assert_eq!(groups.tell(&name, (source(2), 0), at(700)), Some(Timestamp::MIN));
        assert_eq!(groups.tell(&name, (source(2), 1), at(600)), at(500));
        assert_eq!(groups.tell(&name, (source(1), 0), at(900)), at(600));
        assert_eq!(groups.tell(&name, (source(2), 1), None), at(700));
        assert_eq!(groups.tell(&name, (source(2), 0), None), at(900));
        assert_eq!(groups.tell(&name, (source(1), 0), at(900)), None, "it is the only one");
    }

    #[test]
    fn a_split_may_be_ahead_by_the_drift() {
        let mut aligner = Aligner::new(&group(), 1);
        let limit = |aligner: &Aligner, least| aligner.limit(Timestamp::from_millis(least));
        let first = Timestamp::MIN.saturating_add(DRIFT);
        assert_eq!(limit(&aligner, 500), first, "the others have no watermark yet");
        aligner.on_answer(at(100));
        assert_eq!(Some(limit(&aligner, 500)), at(1_100));
        assert_eq!(Some(limit(&aligner, 50)), at(1_050), "its own split is the least");
        aligner.on_answer(None);
        assert_eq!(Some(limit(&aligner, 500)), at(1_500), "there are no others");
        assert_eq!(aligner.limit(Timestamp::MAX), Timestamp::MAX);
    }

    #[test]
    fn reports_are_as_frequent_as_the_group_needs() {
        let start = Instant::now();
        let mut aligner = Aligner::new(&group(), 1);
        assert_eq!(aligner.report(start), Some(Some(Timestamp::MIN)), "the first is due at once");
        assert_eq!(aligner.report(start + 10 * REPORT_MAX), None, "it is not answered");
        assert_eq!(aligner.next_time(), None);
        aligner.on_forgotten();
        assert_eq!(aligner.report(start), Some(Some(Timestamp::MIN)), "of another coordinator");
        aligner.on_answer(None);
        aligner.note(at(0), false);
        assert_eq!(aligner.next_time(), Some(start + REPORT_MIN), "it has a watermark");
        let second = start + REPORT_MIN;
        assert_eq!(aligner.report(second), Some(at(0)));
        aligner.on_answer(None);
        aligner.note(at(249), false);
        assert_eq!(aligner.next_time(), Some(second + REPORT_MAX), "it has not moved far");
        aligner.note(at(250), false);
        assert_eq!(aligner.next_time(), Some(second + REPORT_MIN), "by a quarter of the drift");
        aligner.note(at(249), true);
        assert_eq!(aligner.next_time(), Some(second + REPORT_MIN), "a split waits");
        aligner.note(None, false);
        assert_eq!(aligner.next_time(), Some(second + REPORT_MIN), "it takes no part any more");
        let many = Aligner::new(&group(), 400);
        assert_eq!(many.report_min, Duration::from_millis(800));
    }
}
