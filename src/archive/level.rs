//! The compression level of members: fixed, or adapted to the speed of the other steps.
//!
//! Compression is the slowest step on most hosts, writing to the destination on some. While the compression threads
//! are busy all the time, they limit the speed, and a lower level makes the backup faster. While they wait (for a
//! slow destination or source), a higher level costs no time and makes the backup smaller.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The highest level; the lowest is 1. Each codec maps levels to its own settings.
pub const HIGHEST_LEVEL: i32 = 12;
/// The level is reviewed after this many members, and not before this much time.
const WINDOW_MEMBERS: u32 = 32;
const WINDOW_TIME: Duration = Duration::from_millis(100);
/// Above this share of busy time, compression is the bottleneck.
const BUSY: f64 = 0.85;
/// Below this share of busy time, compression has time to spare.
const IDLE: f64 = 0.6;

/// A level that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("the compression level {0} does not exist; it goes from 1 (fast) to 12 (small)")]
pub struct BadLevel(pub i32);

/// Checks that a level is from 1 to 12.
pub fn check_level(level: i32) -> Result<(), BadLevel> {
    if (1..=12).contains(&level) { Ok(()) } else { Err(BadLevel(level)) }
}

/// The compression level of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionLevel {
    /// The same for all, from 1 (fast) to 12 (small).
    Fixed(i32),
    /// Adapted while the archive is written.
    Auto {
        /// The lowest level allowed.
        lowest: i32,
        /// The highest level allowed.
        highest: i32,
    },
}

/// Level 6.
impl Default for CompressionLevel {
    fn default() -> Self {
        Self::Fixed(6)
    }
}

impl CompressionLevel {
    /// Checks that the levels exist, and the lowest is not above the highest.
    #[doc(hidden)]
    pub fn check(self) -> Result<(), BadLevel> {
        match self {
            Self::Fixed(level) => check_level(level),
            Self::Auto { lowest, highest } => {
                check_level(highest)?;
                check_level(lowest)?;
                if lowest <= highest { Ok(()) } else { Err(BadLevel(lowest)) }
            }
        }
    }

    fn first(self) -> i32 {
        match self {
            Self::Fixed(level) => level,
            Self::Auto { lowest, highest } => 6.clamp(lowest, highest),
        }
    }
}

/// The default range of `auto`: higher levels need many times the CPU time and save almost nothing.
const AUTO: CompressionLevel = CompressionLevel::Auto { lowest: 1, highest: 9 };

/// The syntax of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a level from 1 (fast) to 12 (small), or \"auto\", or \"auto:3-9\" for a range of levels")]
pub struct BadCompressionLevel;

impl FromStr for CompressionLevel {
    type Err = BadCompressionLevel;

    fn from_str(text: &str) -> Result<Self, BadCompressionLevel> {
        let level = |text: &str| -> Result<i32, BadCompressionLevel> {
            text.parse().ok().filter(|level| (1..=12).contains(level)).ok_or(BadCompressionLevel)
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(AUTO),
            None => Ok(Self::Fixed(level(text)?)),
            Some(("auto", range)) => {
                let (lowest, highest) = range.split_once('-').ok_or(BadCompressionLevel)?;
                let (lowest, highest) = (level(lowest)?, level(highest)?);
                if lowest <= highest { Ok(Self::Auto { lowest, highest }) } else { Err(BadCompressionLevel) }
            }
            Some(_) => Err(BadCompressionLevel),
        }
    }
}

impl fmt::Display for CompressionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(level) => write!(f, "{level}"),
            Self::Auto { lowest, highest } => write!(f, "auto:{lowest}-{highest}"),
        }
    }
}

/// The current level and the time spent compressing, shared by all threads.
pub(super) struct LevelNow {
    level: AtomicI32,
    busy_nanos: AtomicU64,
}

impl LevelNow {
    pub(super) fn new(level: CompressionLevel) -> Arc<Self> {
        Arc::new(Self { level: AtomicI32::new(level.first()), busy_nanos: AtomicU64::new(0) })
    }

    pub(super) fn get(&self) -> i32 {
        self.level.load(Ordering::Relaxed)
    }

    /// Adds the time that a thread took for a member.
    pub(super) fn note_busy(&self, time: Duration) {
        self.busy_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Adapts the level. Called for each compressed member, in the order of the archive.
pub(super) struct LevelControl {
    wanted: CompressionLevel,
    now: Arc<LevelNow>,
    threads: f64,
    members: u32,
    window_began: Instant,
    window_time: Duration,
    busy_nanos_then: u64,
    /// The time that one of the threads spent writing in this window.
    writing: Duration,
}

impl LevelControl {
    pub(super) fn new(wanted: CompressionLevel, now: Arc<LevelNow>, threads: usize) -> Self {
        // Exact: the number of threads is far below 2^53.
        let threads = f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        Self {
            wanted,
            now,
            threads,
            members: 0,
            window_began: Instant::now(),
            window_time: WINDOW_TIME,
            busy_nanos_then: 0,
            writing: Duration::ZERO,
        }
    }

    /// Adds the time that one of the threads spent writing, mostly waiting for the destination.
    pub(super) fn note_writing(&mut self, time: Duration) {
        self.writing += time;
    }

    /// Adds the time that one of the threads spent on members apart from compressing.
    pub(super) fn note_busy(&self, time: Duration) {
        self.now.note_busy(time);
    }

    pub(super) fn member_written(&mut self) {
        let CompressionLevel::Auto { lowest, highest } = self.wanted else { return };
        self.members += 1;
        let elapsed = self.window_began.elapsed();
        if self.members < WINDOW_MEMBERS || elapsed < self.window_time {
            return;
        }
        let busy_nanos = self.now.busy_nanos.load(Ordering::Relaxed);
        let busy = Duration::from_nanos(busy_nanos.saturating_sub(self.busy_nanos_then));
        let share = busy_share(busy, elapsed.mul_f64(self.threads), self.writing);
        self.now.level.store(next_level(self.now.get(), share).clamp(lowest, highest), Ordering::Relaxed);
        (self.members, self.window_began, self.busy_nanos_then) = (0, Instant::now(), busy_nanos);
        self.writing = Duration::ZERO;
    }
}

/// The share of all threads' time in which they worked, not counting the time of the thread that wrote.
fn busy_share(busy: Duration, all: Duration, writing: Duration) -> f64 {
    busy.as_secs_f64() / all.saturating_sub(writing).as_secs_f64().max(f64::EPSILON)
}

/// The level after a window with this share of busy time.
fn next_level(level: i32, busy_share: f64) -> i32 {
    if busy_share > BUSY {
        level - 1
    } else if busy_share < IDLE {
        level + 1
    } else {
        level
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CompressionLevel, LevelControl, LevelNow, WINDOW_MEMBERS, busy_share, next_level};

    #[test]
    fn busy_threads_go_lower_and_idle_ones_higher() {
        assert_eq!([0.99, 0.7, 0.2].map(|share| next_level(6, share)), [5, 6, 7]);
    }

    #[test]
    fn who_waits_for_the_destination_is_not_idle() {
        let [one, two] = [1, 2].map(Duration::from_secs);
        assert!(busy_share(one, two, Duration::ZERO) < 0.6 && busy_share(one, two, one) > 0.9);
        assert!(busy_share(Duration::ZERO, two, two) < 0.6 && busy_share(one, two, two).is_finite());
    }

    /// The level after this many members, each of which kept a thread busy for the time given.
    fn level_after(wanted: CompressionLevel, members: u32, busy: Duration) -> i32 {
        let now = LevelNow::new(wanted);
        let mut control = LevelControl { window_time: Duration::ZERO, ..LevelControl::new(wanted, now.clone(), 2) };
        for _ in 0..members {
            now.note_busy(busy);
            control.member_written();
        }
        now.get()
    }

    #[test]
    fn the_level_stays_in_its_range_and_a_fixed_one_stays() {
        let auto = CompressionLevel::Auto { lowest: 2, highest: 9 };
        assert_eq!(level_after(auto, WINDOW_MEMBERS - 1, Duration::from_secs(1)), 6);
        assert_eq!(level_after(auto, WINDOW_MEMBERS, Duration::from_secs(1)), 5);
        assert_eq!(level_after(auto, 20 * WINDOW_MEMBERS, Duration::from_secs(1)), 2);
        assert_eq!(level_after(auto, 20 * WINDOW_MEMBERS, Duration::ZERO), 9);
        assert_eq!(level_after(CompressionLevel::Fixed(4), 20 * WINDOW_MEMBERS, Duration::ZERO), 4);
        assert_eq!(level_after(CompressionLevel::Auto { lowest: 1, highest: 3 }, 0, Duration::ZERO), 3);
    }

    #[test]
    fn levels_that_do_not_exist_are_refused() {
        assert!(
            CompressionLevel::Fixed(12).check().is_ok()
                && CompressionLevel::Auto { lowest: 3, highest: 3 }.check().is_ok()
        );
        for wrong in [
            CompressionLevel::Fixed(0),
            CompressionLevel::Auto { lowest: 0, highest: 9 },
            CompressionLevel::Auto { lowest: 5, highest: 4 },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn levels_and_ranges_are_read_as_they_are_shown() {
        for (text, shown) in [("1", "1"), ("12", "12"), ("auto", "auto:1-9"), ("auto:3-3", "auto:3-3")] {
            assert_eq!(text.parse::<CompressionLevel>().unwrap().to_string(), shown);
            assert_eq!(shown.parse::<CompressionLevel>().unwrap().to_string(), shown);
        }
        for wrong in ["", "0", "13", "fast", "auto:", "auto:3", "auto:9-3", "auto:0-9", "auto:1-13", "6:1-9", "Auto"] {
            assert!(wrong.parse::<CompressionLevel>().is_err(), "{wrong}");
        }
    }
}
