//! The coordinator of a source: its enumerator, and its seat in an alignment group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connector::{
    HandedOut, HandedSplits, NextSplit, Opening, OperatorCoordinator, Replies, Reply, Restart,
    SplitEnumerator, TakeOver, decode, encode,
};
use millstream_event_time::AlignmentGroups;
use millstream_types::{CheckpointId, OperatorId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Result;

/// A message between a source's subtask and its coordinator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SourceEvent<S> {
    /// Subtask: I have nothing to read. The number is that of the request: one that is repeated
    /// has the same.
    RequestSplit(u64),
    /// Enumerator: read these.
    Splits(Vec<S>),
    /// Enumerator: there will never be more.
    NoMoreSplits,
    /// Subtask: the least watermark of my splits is this; `None`: none takes part.
    Least(Option<Timestamp>),
    /// Alignment group: the least one of all other members is this; `None`: there is none.
    Others(Option<Timestamp>),
}

fn reply<S: Serialize>(subtask: u32, event: &SourceEvent<S>) -> Result<Reply> {
    let hands_out = matches!(event, SourceEvent::Splits(_));
    Ok(Reply { subtask, payload: encode(event)?, hands_out })
}

/// The splits that a message hands out.
fn splits_of<S: DeserializeOwned>(payload: &[u8]) -> Result<Vec<S>> {
    let SourceEvent::Splits(splits) = decode(payload)? else { return Ok(Vec::new()) };
    Ok(splits)
}

/// A source's place in its alignment group.
pub(crate) struct Seat {
    pub(crate) groups: AlignmentGroups,
    pub(crate) group: Arc<str>,
    pub(crate) source: OperatorId,
}

/// The bounds of the time between two looks for splits: a delay of nothing would keep a core busy,
/// one beyond what a clock can show would end the coordinator.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Serves the readers of one source.
pub(crate) struct SourceCoordinator<E: SplitEnumerator> {
    /// `None` for a source that hands out no splits.
    enumerator: Option<E>,
    seat: Option<Seat>,
    /// The subtasks that have asked for a split, each once.
    waiting: VecDeque<u32>,
    /// The number of the last request of each subtask.
    requests: BTreeMap<u32, u64>,
    next_discovery: Option<Instant>,
    discovered: bool,
    /// The splits that a restart gives back; `None` if the job takes no checkpoints.
    handed: Option<HandedSplits<E::Split>>,
}

impl<E: SplitEnumerator> SourceCoordinator<E> {
    pub(crate) const fn new(enumerator: Option<E>, seat: Option<Seat>) -> Self {
        Self {
            enumerator,
            seat,
            waiting: VecDeque::new(),
            requests: BTreeMap::new(),
            next_discovery: None,
            discovered: false,
            handed: None,
        }
    }
}

impl<E: SplitEnumerator> SourceCoordinator<E>
where
    E::Split: Serialize,
{
    /// Answers the subtasks that wait, as far as there are splits.
    fn serve(&mut self, replies: &mut Replies) -> Result<()> {
        let Some(enumerator) = &mut self.enumerator else { return Ok(()) };
        for _ in 0..self.waiting.len() {
            let Some(subtask) = self.waiting.pop_front() else { break };
            match enumerator.next_split(subtask)? {
                NextSplit::Split(split) => {
                    let splits = SourceEvent::Splits(vec![split]);
                    replies.push(reply(subtask, &splits)?);
                    if let (SourceEvent::Splits(splits), Some(handed)) = (splits, &mut self.handed)
                    {
                        splits.into_iter().for_each(|split| handed.add(subtask, split));
                    }
                }
                NextSplit::NoMore => {
                    replies.push(reply(subtask, &SourceEvent::<E::Split>::NoMoreSplits)?);
                }
                NextSplit::Later if self.next_discovery.is_none() => {
                    return Err(anyhow::anyhow!(
                        "the source's enumerator answered subtask {subtask} with \
                         NextSplit::Later, but there is no later: its discover() has answered \
                         None and is not called again. Answer NextSplit::NoMore, or let discover() \
                         answer the time until the next look"
                    ));
                }
                NextSplit::Later => self.waiting.push_back(subtask),
            }
        }
        Ok(())
    }
}

impl<E: SplitEnumerator> OperatorCoordinator for SourceCoordinator<E>
where
    E::Split: Serialize + DeserializeOwned + Send,
{
    fn open(&mut self, opening: Opening) -> Result<()> {
        self.handed = opening.takes_checkpoints.then(HandedSplits::new);
        Ok(())
    }

    fn on_event(&mut self, subtask: u32, payload: &[u8], replies: &mut Replies) -> Result<()> {
        match decode::<SourceEvent<E::Split>>(payload)? {
            // A restarted subtask asks again while its question before waits: it gets one split.
            SourceEvent::RequestSplit(number) => {
                let is_repeated = self.requests.insert(subtask, number) == Some(number);
                if !is_repeated && !self.waiting.contains(&subtask) {
                    self.waiting.push_back(subtask);
                }
            }
            SourceEvent::Least(least) => {
                if let Some(Seat { groups, group, source }) = &self.seat {
                    let others = groups.tell(group, (*source, subtask), least);
                    replies.push(reply(subtask, &SourceEvent::<E::Split>::Others(others))?);
                }
            }
            SourceEvent::Splits(_) | SourceEvent::NoMoreSplits | SourceEvent::Others(_) => {}
        }
        if self.discovered { self.serve(replies) } else { Ok(()) }
    }

    fn tick(&mut self, now: Instant, replies: &mut Replies) -> Result<Option<Instant>> {
        let due = !self.discovered || self.next_discovery.is_some_and(|next| now >= next);
        if due {
            self.discovered = true;
            let delay = match &mut self.enumerator {
                Some(enumerator) => enumerator.discover()?,
                None => None,
            };
            self.next_discovery = delay.map(|delay| now + delay.clamp(DELAY_MIN, DELAY_MAX));
            self.serve(replies)?;
        }
        Ok(self.next_discovery)
    }

    fn snapshot(&mut self, id: CheckpointId) -> Result<Option<Vec<u8>>> {
        if let Some(handed) = &mut self.handed {
            handed.on_snapshot(id);
        }
        let Some(enumerator) = &mut self.enumerator else { return Ok(None) };
        Ok(Some(encode(&enumerator.snapshot()?)?))
    }

    /// Gives back the splits that subtasks got behind the checkpoint that they begin from.
    fn restart(&mut self, restart: &Restart) -> Result<()> {
        self.waiting.retain(|subtask| !restart.subtasks.contains(subtask));
        self.requests.retain(|subtask, _| !restart.subtasks.contains(subtask));
        let (Some(enumerator), Some(handed)) = (&mut self.enumerator, &mut self.handed) else {
            return Ok(());
        };
        restart.subtasks.iter().try_for_each(|subtask| {
            let back = handed.take_back(*subtask, restart.restored);
            if back.is_empty() { Ok(()) } else { enumerator.give_back(*subtask, back) }
        })
    }

    fn take_over(&mut self, before: TakeOver) -> Result<()> {
        let TakeOver { from, newest, ended, handed } = before;
        if let Some(Seat { groups, group, source }) = &self.seat {
            for subtask in ended {
                groups.tell(group, (*source, subtask), None);
            }
        }
        let Some(enumerator) = &mut self.enumerator else { return Ok(()) };
        if self.handed.as_ref().is_none_or(HandedSplits::is_empty) {
            self.handed = Some(HandedSplits::taken_over(from, newest));
        }
        let mut splits = Vec::new();
        for HandedOut { subtask, after, payload } in handed {
            // One for the enumerator, and one to give back.
            splits.extend(splits_of(&payload)?.into_iter().map(|split| (subtask, split)));
            for split in splits_of(&payload)? {
                if let Some(handed) = &mut self.handed {
                    handed.add_behind(after, subtask, split);
                }
            }
        }
        if splits.is_empty() { Ok(()) } else { enumerator.was_handed_out(splits) }
    }

    fn on_complete(&mut self, id: CheckpointId) {
        if let Some(handed) = &mut self.handed {
            handed.on_complete(id);
        }
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::AttemptId;

    use super::*;

    /// Answers from lists; `None` and no more once they are used up.
    struct Scripted {
        delays: VecDeque<Option<Duration>>,
        splits: VecDeque<NextSplit<u32>>,
    }

    impl SplitEnumerator for Scripted {
        type Split = u32;
        type State = ();

        fn give_back(&mut self, _subtask: u32, splits: Vec<u32>) -> Result<()> {
            self.splits.extend(splits.into_iter().map(NextSplit::Split));
            Ok(())
        }

        fn snapshot(&mut self) -> Result<()> {
            Ok(())
        }

        fn discover(&mut self) -> Result<Option<Duration>> {
            Ok(self.delays.pop_front().flatten())
        }

        fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<u32>> {
            Ok(self.splits.pop_front().unwrap_or(NextSplit::NoMore))
        }
    }

    fn coordinator<const D: usize, const S: usize>(
        delays: [Option<Duration>; D],
        splits: [NextSplit<u32>; S],
    ) -> SourceCoordinator<Scripted> {
        let enumerator = Scripted { delays: delays.into(), splits: splits.into() };
        SourceCoordinator::new(Some(enumerator), None)
    }

    fn request(coordinator: &mut SourceCoordinator<Scripted>) -> Result<Replies> {
        let mut replies = Replies::new();
        let number = coordinator.requests.get(&3).map_or(1, |number| number + 1);
        let request = encode(&SourceEvent::<u32>::RequestSplit(number)).unwrap();
        coordinator.on_event(3, &request, &mut replies)?;
        Ok(replies)
    }

    #[test]
    fn later_after_the_last_discovery_is_an_error() {
        let mut source = coordinator([None], [NextSplit::Split(1), NextSplit::Later]);
        let mut replies = Replies::new();
        assert_eq!(source.tick(Instant::now(), &mut replies).unwrap(), None);
        assert_eq!(request(&mut source).unwrap().len(), 1);
        let error = request(&mut source).unwrap_err().to_string();
        assert!(error.contains("answered subtask 3 with NextSplit::Later"), "{error}");
    }

    #[test]
    fn a_reader_that_waits_when_the_discovery_ends_is_an_error() {
        let second = Duration::from_secs(1);
        let mut source = coordinator([Some(second), None], [NextSplit::Later, NextSplit::Later]);
        let (start, mut replies) = (Instant::now(), Replies::new());
        assert_eq!(source.tick(start, &mut replies).unwrap(), Some(start + second));
        assert!(request(&mut source).unwrap().is_empty());
        let error = source.tick(start + second, &mut replies).unwrap_err().to_string();
        assert!(error.contains("there is no later"), "{error}");
    }

    #[test]
    fn later_before_the_next_discovery_waits_for_it() {
        let second = Duration::from_secs(1);
        let mut source = coordinator([Some(second), None], [NextSplit::Later]);
        let (start, mut replies) = (Instant::now(), Replies::new());
        source.tick(start, &mut replies).unwrap();
        assert!(request(&mut source).unwrap().is_empty());
        source.tick(start + second, &mut replies).unwrap();
        assert_eq!(replies.len(), 1);
    }

    #[test]
    fn a_subtask_that_asks_again_while_it_waits_gets_one_split() {
        let mut source = coordinator([None], [NextSplit::Split(1), NextSplit::Split(2)]);
        for _ in 0..1_000 {
            assert!(request(&mut source).unwrap().is_empty(), "nothing is discovered yet");
        }
        let mut replies = Replies::new();
        source.tick(Instant::now(), &mut replies).unwrap();
        assert_eq!(replies.len(), 1);
    }

    /// The splits that a subtask gets for a question.
    fn ask(coordinator: &mut SourceCoordinator<Scripted>, subtask: u32) -> Vec<u32> {
        let mut replies = Replies::new();
        let number = coordinator.requests.get(&subtask).map_or(1, |number| number + 1);
        let request = encode(&SourceEvent::<u32>::RequestSplit(number)).unwrap();
        coordinator.on_event(subtask, &request, &mut replies).unwrap();
        let splits = replies.iter().flat_map(|Reply { subtask: to, payload, .. }| {
            assert_eq!(*to, subtask);
            match decode::<SourceEvent<u32>>(payload).unwrap() {
                SourceEvent::Splits(splits) => splits,
                SourceEvent::NoMoreSplits => Vec::new(),
                other => panic!("{other:?}"),
            }
        });
        splits.collect()
    }

    fn restart(coordinator: &mut SourceCoordinator<Scripted>, subtask: u32, restored: u64) {
        let restored = (restored > 0).then(|| CheckpointId::new(restored));
        let restart = Restart { attempt: AttemptId::new(1), subtasks: vec![subtask], restored };
        coordinator.restart(&restart).unwrap();
    }

    #[test]
    fn a_restart_gives_back_what_was_handed_out_behind_its_checkpoint() {
        let splits = [1, 2, 3, 4, 5].map(NextSplit::Split);
        let mut source = coordinator([None], splits);
        let opening =
            Opening { attempt: AttemptId::new(0), running: Vec::new(), takes_checkpoints: true };
        source.open(opening).unwrap();
        source.tick(Instant::now(), &mut Replies::new()).unwrap();
        assert_eq!((ask(&mut source, 0), ask(&mut source, 1)), (vec![1], vec![2]));
        source.snapshot(CheckpointId::new(7)).unwrap();
        assert_eq!((ask(&mut source, 0), ask(&mut source, 1)), (vec![3], vec![4]));
        // The first one is in the checkpoint; the other subtask keeps what it has.
        restart(&mut source, 0, 7);
        assert_eq!((ask(&mut source, 0), ask(&mut source, 0)), (vec![5], vec![3]));
        // Of what was handed out a second time nothing is lost either.
        restart(&mut source, 0, 7);
        assert_eq!((ask(&mut source, 0), ask(&mut source, 0)), (vec![5], vec![3]));
        assert!(ask(&mut source, 0).is_empty());
        source.on_complete(CheckpointId::new(7));
        restart(&mut source, 1, 7);
        assert_eq!((ask(&mut source, 1), ask(&mut source, 1)), (vec![4], vec![]));
        source.snapshot(CheckpointId::new(8)).unwrap();
        source.on_complete(CheckpointId::new(8));
        assert!(source.handed.unwrap().is_empty(), "a complete checkpoint has them");
    }

    #[test]
    fn a_request_that_is_repeated_is_answered_once() {
        let mut source = coordinator([None], [NextSplit::Split(1), NextSplit::Split(2)]);
        source.tick(Instant::now(), &mut Replies::new()).unwrap();
        let mut replies = Replies::new();
        let request = |number| encode(&SourceEvent::<u32>::RequestSplit(number)).unwrap();
        source.on_event(3, &request(7), &mut replies).unwrap();
        assert_eq!(replies.len(), 1);
        source.on_event(3, &request(7), &mut replies).unwrap();
        assert_eq!(replies.len(), 1, "the answer is on its way");
        source.on_event(3, &request(8), &mut replies).unwrap();
        assert_eq!(replies.len(), 2);
        assert!(replies.iter().all(|reply| reply.hands_out));
    }

    /// Hands out the numbers up to ten that were not handed out.
    struct Ten(Vec<u32>);

    impl SplitEnumerator for Ten {
        type Split = u32;
        type State = ();

        const RESTARTS_ALONE: bool = true;

        fn give_back(&mut self, _subtask: u32, splits: Vec<u32>) -> Result<()> {
            self.0.extend(splits);
            Ok(())
        }

        fn was_handed_out(&mut self, splits: Vec<(u32, u32)>) -> Result<()> {
            self.0.retain(|split| splits.iter().all(|(_, handed)| handed != split));
            Ok(())
        }

        fn snapshot(&mut self) -> Result<()> {
            Ok(())
        }

        fn discover(&mut self) -> Result<Option<Duration>> {
            Ok(None)
        }

        fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<u32>> {
            Ok(self.0.pop().map_or(NextSplit::NoMore, NextSplit::Split))
        }
    }

    #[test]
    fn one_that_takes_over_goes_on_and_gives_back_what_the_one_before_handed_out() {
        let groups = AlignmentGroups::default();
        let (group, source) = (Arc::<str>::from("clicks"), OperatorId::from_u128(1));
        groups.join(&group, source, 2);
        let seat = Seat { groups: groups.clone(), group: Arc::clone(&group), source };
        let mut coordinator = SourceCoordinator::new(Some(Ten((0..10).collect())), Some(seat));
        let attempt = AttemptId::new(0);
        let opening = Opening { attempt, running: vec![attempt], takes_checkpoints: true };
        coordinator.open(opening).unwrap();
        let handed = |after: u64, subtask: u32, splits: &[u32]| HandedOut {
            subtask,
            after,
            payload: encode(&SourceEvent::Splits(splits.to_vec())).unwrap(),
        };
        let parts = [vec![handed(5, 0, &[9])], vec![handed(6, 0, &[8]), handed(5, 1, &[7])]];
        for (ended, handed) in [vec![1], Vec::new()].into_iter().zip(parts) {
            coordinator.take_over(TakeOver { from: 5, newest: 6, ended, handed }).unwrap();
        }
        let others = groups.tell(&group, (source, 0), Some(Timestamp::from_millis(3)));
        assert_eq!(others, None, "the subtask that has finished holds up no other");
        let mut replies = Replies::new();
        coordinator.tick(Instant::now(), &mut replies).unwrap();
        let request = encode(&SourceEvent::<u32>::RequestSplit(4)).unwrap();
        coordinator.on_event(0, &request, &mut replies).unwrap();
        assert_eq!(splits_of::<u32>(&replies[0].payload).unwrap(), [6], "the first that is left");
        // 6 was the newest checkpoint that tasks knew of, and has become complete.
        let (subtasks, restored) = (vec![0], Some(CheckpointId::new(6)));
        let attempt = AttemptId::new(1);
        coordinator.on_complete(CheckpointId::new(6));
        coordinator.restart(&Restart { attempt, subtasks, restored }).unwrap();
        assert_eq!(coordinator.enumerator.unwrap().0, [0, 1, 2, 3, 4, 5, 8, 6]);
    }

    #[test]
    fn delays_of_nothing_and_of_for_ever_are_bounded() {
        let mut source = coordinator([Some(Duration::ZERO), Some(Duration::MAX)], []);
        let (start, mut replies) = (Instant::now(), Replies::new());
        let next = source.tick(start, &mut replies).unwrap().unwrap();
        assert_eq!(next, start + DELAY_MIN);
        assert_eq!(source.tick(next, &mut replies).unwrap(), Some(next + DELAY_MAX));
    }

    #[test]
    fn the_coordinators_of_a_group_answer_with_the_least_of_the_others() {
        let groups = AlignmentGroups::default();
        let group = Arc::<str>::from("clicks");
        let [mut first, mut second] = [1, 2].map(|number| {
            let source = OperatorId::from_u128(number);
            groups.join(&group, source, 1);
            let seat = Seat { groups: groups.clone(), group: Arc::clone(&group), source };
            SourceCoordinator::<Scripted>::new(None, Some(seat))
        });
        let tell = |coordinator: &mut SourceCoordinator<Scripted>, millis| {
            let least = Some(Timestamp::from_millis(millis));
            let mut replies = Replies::new();
            let payload = encode(&SourceEvent::<u32>::Least(least)).unwrap();
            coordinator.on_event(0, &payload, &mut replies).unwrap();
            let [Reply { subtask: 0, payload, .. }] = &replies[..] else { panic!("{replies:?}") };
            match decode::<SourceEvent<u32>>(payload).unwrap() {
                SourceEvent::Others(others) => others.map(Timestamp::as_millis),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(tell(&mut first, 5), Some(i64::MIN));
        assert_eq!(tell(&mut second, 7), Some(5));
        assert_eq!(tell(&mut first, 9), Some(7));
    }
}
