//! The watermark of several channels or splits: the least of those that take part.

use millstream_types::Timestamp;

/// Whether a channel takes part in the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The watermark waits for it.
    Active,
    /// It has no records for now, and the watermark does not wait for it.
    Idle,
    /// It has ended.
    Ended,
}

#[derive(Debug)]
struct Channel {
    part: Part,
    watermark: Timestamp,
    /// Its place in the heap while it is active.
    place: usize,
}

/// The change for operators that wait for the watermark. Idleness is told after a watermark, and
/// its end before one, so that a watermark is told only while the stream is active.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advance {
    /// The stream is active again.
    pub awake: bool,
    /// The watermark, if it has advanced.
    pub watermark: Option<Timestamp>,
    /// No channel takes part any more.
    pub idle: bool,
}

/// Finds the watermark of several channels, which is the least of those that are active; if none
/// is, the largest of those that are idle. It never goes back: a channel that was idle and is
/// behind when it returns holds the watermark where it is until it has caught up.
///
/// The active channels stand in a heap, so that an event costs the logarithm of their number.
#[derive(Debug)]
pub struct WatermarkTracker {
    channels: Vec<Channel>,
    /// The numbers of the active channels; the one with the least watermark comes first.
    heap: Vec<usize>,
    /// Number of channels that have not ended.
    open: usize,
    /// The channels that have ended.
    ended: Vec<usize>,
    /// The watermark as it was told last.
    told: Option<Timestamp>,
    idle: bool,
}

impl WatermarkTracker {
    /// A tracker of so many channels, all active and without a watermark.
    pub fn new(channels: usize) -> Self {
        let (part, watermark) = (Part::Active, Timestamp::MIN);
        let channel = |place| Channel { part, watermark, place };
        Self {
            channels: (0..channels).map(channel).collect(),
            heap: (0..channels).collect(),
            open: channels,
            ended: Vec::new(),
            told: None,
            idle: false,
        }
    }

    /// Whether all channels have ended, or there is none.
    pub const fn has_ended(&self) -> bool {
        self.open == 0
    }

    /// Whether no channel takes part, though some have not ended.
    pub const fn is_idle(&self) -> bool {
        self.idle
    }

    /// Whether the channel has ended, or there is none of this number.
    pub fn is_ended(&self, number: usize) -> bool {
        self.channels.get(number).is_none_or(|channel| channel.part == Part::Ended)
    }

    /// The watermark of a channel that has not ended, if it has one.
    pub fn channel_watermark(&self, number: usize) -> Option<Timestamp> {
        let open = self.channels.get(number).filter(|channel| channel.part != Part::Ended)?;
        (open.watermark > Timestamp::MIN).then_some(open.watermark)
    }

    /// The least watermark of the active channels; `None` if there is none.
    pub fn least_active(&self) -> Option<Timestamp> {
        self.heap.first().map(|first| self.watermark(*first))
    }

    /// Adds a channel, active and without a watermark, and returns its number, which is that of a
    /// channel that has ended if there is one.
    pub fn add(&mut self) -> (usize, Advance) {
        let channel = Channel { part: Part::Active, watermark: Timestamp::MIN, place: 0 };
        let number = self.ended.pop().unwrap_or(self.channels.len());
        match self.channels.get_mut(number) {
            Some(place) => *place = channel,
            None => self.channels.push(channel),
        }
        self.open += 1;
        self.insert(number);
        (number, self.advance())
    }

    /// No record of the channel at or before this time will follow.
    pub fn on_watermark(&mut self, number: usize, watermark: Timestamp) -> Advance {
        let Some(channel) = self.channels.get_mut(number) else { return Advance::default() };
        if watermark <= channel.watermark || channel.part == Part::Ended {
            return Advance::default();
        }
        channel.watermark = watermark;
        if channel.part == Part::Active {
            self.sift_down(self.place(number));
        }
        self.advance()
    }

    /// The channel has no records for now, or it has some again.
    pub fn on_idle(&mut self, number: usize, idle: bool) -> Advance {
        let part = if idle { Part::Idle } else { Part::Active };
        self.change(number, part)
    }

    /// The channel has ended.
    pub fn on_end(&mut self, number: usize) -> Advance {
        self.change(number, Part::Ended)
    }

    fn change(&mut self, number: usize, part: Part) -> Advance {
        let Some(channel) = self.channels.get_mut(number) else { return Advance::default() };
        let before = channel.part;
        if before == part || before == Part::Ended {
            return Advance::default();
        }
        channel.part = part;
        if part == Part::Ended {
            self.open -= 1;
            self.ended.push(number);
        }
        if before == Part::Active {
            self.remove(self.place(number));
        } else if part == Part::Active {
            self.insert(number);
        }
        self.advance()
    }

    /// Finds the change since the last one that was told.
    fn advance(&mut self) -> Advance {
        let least = self.heap.first().map(|first| self.watermark(*first));
        // That all are idle or have ended is rare.
        let watermark = least.or_else(|| self.latest_of_idle());
        let new = watermark.filter(|new| self.told.is_none_or(|told| *new > told));
        let new = new.filter(|new| *new > Timestamp::MIN);
        self.told = new.or(self.told);
        let was_idle = std::mem::replace(&mut self.idle, self.heap.is_empty() && self.open > 0);
        Advance {
            awake: was_idle && !self.heap.is_empty(),
            watermark: new,
            idle: self.idle && !was_idle,
        }
    }

    fn latest_of_idle(&self) -> Option<Timestamp> {
        let idle = self.channels.iter().filter(|channel| channel.part == Part::Idle);
        idle.map(|channel| channel.watermark).max()
    }

    /// The watermark of a channel; the last of all times if there is no such channel.
    pub fn watermark(&self, number: usize) -> Timestamp {
        self.channels.get(number).map_or(Timestamp::MAX, |channel| channel.watermark)
    }

    fn place(&self, number: usize) -> usize {
        self.channels.get(number).map_or(usize::MAX, |channel| channel.place)
    }

    fn insert(&mut self, number: usize) {
        self.heap.push(number);
        self.sift_up(self.heap.len() - 1);
    }

    fn remove(&mut self, place: usize) {
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.sift_up(place);
            self.sift_down(place);
        }
    }

    /// Notes that the channel at this place of the heap stands there.
    fn settle(&mut self, place: usize) {
        if let Some(channel) = self.heap.get(place).and_then(|at| self.channels.get_mut(*at)) {
            channel.place = place;
        }
    }

    /// Whether the channel at one place of the heap must stand before that at another.
    fn is_before(&self, place: usize, other: usize) -> bool {
        let at = |place: usize| self.heap.get(place).map(|number| self.watermark(*number));
        at(place).is_some_and(|watermark| at(other).is_some_and(|other| watermark < other))
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 && self.is_before(place, (place - 1) / 2) {
            let parent = (place - 1) / 2;
            self.heap.swap(place, parent);
            self.settle(place);
            place = parent;
        }
        self.settle(place);
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let least = if self.is_before(right, left) { right } else { left };
            if !self.is_before(least, place) {
                break;
            }
            self.heap.swap(place, least);
            self.settle(place);
            place = least;
        }
        self.settle(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_oracle::Random;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn watermark(millis: i64) -> Advance {
        Advance { watermark: Some(at(millis)), ..Advance::default() }
    }

    const NOTHING: Advance = Advance { awake: false, watermark: None, idle: false };

    #[test]
    fn the_slowest_channel_decides() {
        let mut tracker = WatermarkTracker::new(2);
        assert_eq!(tracker.on_watermark(0, at(10)), NOTHING, "nothing is known of the other one");
        assert_eq!(tracker.on_watermark(1, at(5)), watermark(5));
        assert_eq!(tracker.on_watermark(1, at(4)), NOTHING, "watermarks do not go back");
        assert_eq!(tracker.on_watermark(1, at(20)), watermark(10));
        assert_eq!(tracker.on_end(0), watermark(20));
        assert!(!tracker.has_ended());
        assert_eq!(tracker.on_end(1), NOTHING);
        assert!(tracker.has_ended());
    }

    #[test]
    fn nothing_waits_for_an_idle_channel_until_it_is_back() {
        let mut tracker = WatermarkTracker::new(2);
        tracker.on_watermark(0, at(100));
        assert_eq!(tracker.on_idle(1, true), watermark(100));
        assert_eq!(tracker.on_idle(1, false), NOTHING);
        assert_eq!(tracker.on_watermark(0, at(200)), NOTHING, "the other one is behind");
        assert_eq!(tracker.on_watermark(1, at(150)), watermark(150));
    }

    #[test]
    fn when_all_are_idle_the_watermark_is_what_it_would_be_in_any_order() {
        for order in [[0, 1], [1, 0]] {
            let mut tracker = WatermarkTracker::new(3);
            tracker.on_watermark(0, at(100));
            tracker.on_watermark(1, at(50));
            tracker.on_end(2);
            let advances = order.map(|channel| tracker.on_idle(channel, true));
            assert_eq!(advances[1].watermark.or(advances[0].watermark), Some(at(100)));
            assert_eq!(advances.map(|advance| advance.idle), [false, true]);
            assert_eq!(tracker.on_idle(0, false), Advance { awake: true, ..NOTHING });
            assert!(tracker.on_end(0).idle, "the one that is left is idle");
        }
    }

    #[test]
    fn a_channel_that_is_added_is_waited_for_and_does_not_move_the_watermark_back() {
        let mut tracker = WatermarkTracker::new(1);
        tracker.on_watermark(0, at(100));
        assert_eq!(tracker.add(), (1, NOTHING));
        assert_eq!(tracker.on_watermark(0, at(200)), NOTHING);
        assert_eq!(tracker.on_watermark(1, at(50)), NOTHING);
        assert_eq!(tracker.on_watermark(1, at(150)), watermark(150));
        assert_eq!(tracker.on_end(0), NOTHING);
        assert_eq!(tracker.add(), (0, NOTHING), "the place of the one that has ended");
        assert_eq!(tracker.on_watermark(1, at(300)), NOTHING);
        assert_eq!(tracker.on_idle(0, true), watermark(300));
        assert!(tracker.on_idle(1, true).idle);
        assert_eq!(tracker.add(), (2, Advance { awake: true, ..NOTHING }));
    }

    /// The same by a scan of all channels.
    struct Scan {
        channels: Vec<(Part, i64)>,
        told: i64,
    }

    impl Scan {
        fn watermark(&mut self) -> Option<Timestamp> {
            let of = |part| {
                let channels = self.channels.iter().filter(move |channel| channel.0 == part);
                channels.map(|channel| channel.1)
            };
            let now = of(Part::Active).min().or_else(|| of(Part::Idle).max())?;
            (now > self.told).then(|| {
                self.told = now;
                at(now)
            })
        }
    }

    #[test]
    fn the_heap_finds_what_a_scan_finds() {
        for seed in 0..2_000 {
            let mut random = Random::new(seed);
            let count = 1 + random.below(9) as usize;
            let mut tracker = WatermarkTracker::new(count);
            let channels = vec![(Part::Active, i64::MIN); count];
            let mut scan = Scan { channels, told: i64::MIN };
            for _ in 0..60 {
                let number = random.below(scan.channels.len() as u64) as usize;
                if random.below(16) == 0 {
                    let (added, advance) = tracker.add();
                    let fresh = (Part::Active, i64::MIN);
                    match scan.channels.get_mut(added) {
                        Some(ended) => {
                            assert_eq!(ended.0, Part::Ended, "seed {seed}");
                            *ended = fresh;
                        }
                        None => scan.channels.push(fresh),
                    }
                    assert_eq!(advance.watermark, None, "seed {seed}");
                    assert_eq!(scan.watermark(), None, "seed {seed}");
                    continue;
                }
                let channel = &mut scan.channels[number];
                let part = match random.below(8) {
                    0 => Some(Part::Idle),
                    1 | 2 => Some(Part::Active),
                    3 => Some(Part::Ended),
                    _ => None,
                };
                let advance = if let Some(part) = part {
                    if channel.0 != Part::Ended {
                        channel.0 = part;
                    }
                    match part {
                        Part::Ended => tracker.on_end(number),
                        Part::Active | Part::Idle => tracker.on_idle(number, part == Part::Idle),
                    }
                } else {
                    let time = random.below(100) as i64 - 50;
                    if channel.0 != Part::Ended {
                        channel.1 = channel.1.max(time);
                    }
                    tracker.on_watermark(number, at(time))
                };
                assert_eq!(advance.watermark, scan.watermark(), "seed {seed}");
                let is = |part| scan.channels.iter().any(|channel| channel.0 == part);
                assert_eq!(tracker.idle, is(Part::Idle) && !is(Part::Active), "seed {seed}");
                assert_eq!(tracker.has_ended(), !is(Part::Idle) && !is(Part::Active));
            }
        }
    }
}
