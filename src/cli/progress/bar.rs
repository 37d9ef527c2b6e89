//! The progress line at a terminal: pure functions from figures to text.

use std::time::Duration;

use volbak::shown;
use volbak::units::ByteLen;

/// Below this number of columns, the line is abbreviated.
const WIDE: usize = 76;
/// Before this time, the time left is not estimated.
const SETTLED: Duration = Duration::from_secs(3);
const BAR: usize = 16;

/// Progress on one source, or on all sources of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) read_bytes: u64,
    /// An estimate, which may be too low; 0 if unknown.
    pub(super) expected_bytes: u64,
}

/// Position of a source in its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// From 1.
    pub(super) number: u64,
    pub(super) sources: u64,
}

impl Done {
    /// Bytes to read in all; at least those already read.
    fn total(self) -> u64 {
        self.expected_bytes.max(self.read_bytes)
    }

    /// 0 to 100; `None` if the estimate is unknown or was too low.
    fn percent(self) -> Option<u64> {
        let is_known = self.expected_bytes > 0 && self.read_bytes <= self.expected_bytes;
        is_known.then(|| u64::try_from(u128::from(self.read_bytes) * 100 / u128::from(self.total())).unwrap_or(100))
    }

    /// Time left at the speed so far; `None` if it cannot be estimated.
    pub(super) fn left(self, elapsed: Duration) -> Option<Duration> {
        self.percent()?;
        let rest = self.total() - self.read_bytes;
        if self.read_bytes == 0 || rest == 0 || elapsed < SETTLED {
            return None;
        }
        let seconds = u128::from(elapsed.as_secs()) * u128::from(rest) / u128::from(self.read_bytes);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }

    /// `1.2 GiB of 3.4 GiB`, or only the bytes read; `None` at the beginning.
    fn amounts(self) -> Option<String> {
        match (self.read_bytes, self.percent()) {
            (0, _) => None,
            (read, Some(_)) => Some(format!("{} of {}", ByteLen(read), ByteLen(self.total()))),
            (read, None) => Some(ByteLen(read).to_string()),
        }
    }
}

/// The whole line, at most `columns` long.
pub(super) fn bar_line(
    place: Turn,
    source: &str,
    step: &str,
    done: Done,
    left: Option<Duration>,
    columns: usize,
) -> String {
    let has_place = place.sources > 1 && place.number > 0;
    let percent = done.percent().map(|percent| format!("{percent}%"));
    let left = left.map(|left| format!("{} left", shown_time(left)));
    let (front, back): (Option<String>, Vec<String>) = if columns >= WIDE {
        let drawn = done.percent().map(|percent| {
            let full = usize::try_from(percent).unwrap_or(100) * BAR / 100;
            format!("[{}{}]", "=".repeat(full), " ".repeat(BAR - full))
        });
        let place = has_place.then(|| format!("volume {} of {}", place.number, place.sources));
        (place, [drawn, percent, done.amounts(), left].into_iter().flatten().collect())
    } else {
        let place = has_place.then(|| format!("{}/{}", place.number, place.sources));
        let amount = if percent.is_none() { done.amounts() } else { None };
        (place, [percent, amount, left].into_iter().flatten().collect())
    };
    let fixed = front.iter().chain(&back).map(|part| shown::columns(part) + 1).sum::<usize>();
    let room = columns.saturating_sub(fixed);
    let named = match (source.is_empty(), step.is_empty()) {
        (true, _) => step.to_owned(),
        (false, false) if columns >= WIDE => format!("{source}: {step}"),
        (false, _) => source.to_owned(),
    };
    let parts = front.into_iter().chain([shortened(&named, room)]).chain(back);
    let line = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    // On a very narrow terminal the line is cut, so that it stays one line.
    shown::begin(&line, columns).to_owned()
}

/// Shortens a text by leaving out its middle: names of volumes differ at their ends.
fn shortened(text: &str, room: usize) -> String {
    if shown::columns(text) <= room {
        return text.to_owned();
    }
    if room < 4 {
        return String::new();
    }
    format!("{}\u{2026}{}", shown::begin(text, (room - 1) / 2), shown::end(text, room / 2))
}

/// `45s`, `12m`, `3h 05m`, `4d`.
fn shown_time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{}s", seconds.max(1)),
        seconds @ ..3600 => format!("{}m", seconds.div_ceil(60)),
        seconds @ ..172_800 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Done, Turn, bar_line, shown_time};

    const NAME: &str = "cinder-volumes/volume-6b3c7a0e-1f2e-4d5c-9a8b-0c1d2e3f4a5b";

    fn done(read_bytes: u64, expected_bytes: u64) -> Done {
        Done { read_bytes, expected_bytes }
    }

    #[test]
    fn it_fits_and_says_place_and_time_left() {
        let place = Turn { number: 3, sources: 30 };
        let left = Some(Duration::from_secs(754));
        let line = |columns| bar_line(place, NAME, "reading p1", done(1 << 30, 4 << 30), left, columns);
        assert_eq!(line(40), "3/30 cinder-vol\u{2026}c1d2e3f4a5b 25% 13m left");
        assert!(line(120).starts_with("volume 3 of 30 cinder-volumes/"), "{}", line(120));
        assert!(line(120).ends_with("[====            ] 25% 1 GiB of 4 GiB 13m left"), "{}", line(120));
        for columns in 0..200 {
            assert!(line(columns).chars().count() <= columns, "{columns}: {}", line(columns));
            let wide = bar_line(place, "/images/データベース.img", "", done(1 << 30, 4 << 30), left, columns);
            assert!(volbak::shown::columns(&wide) <= columns, "{columns}: {wide}");
        }
    }

    #[test]
    fn it_is_never_over_the_whole_and_never_nothing_of_nothing() {
        let shown = |read, expected, columns| {
            let done = done(read, expected);
            bar_line(Turn::default(), "vol-1", "", done, done.left(Duration::from_secs(10)), columns)
        };
        for columns in [40, 100] {
            assert_eq!(shown(0, 0, columns), "vol-1");
            assert_eq!(shown(3 << 30, 0, columns), "vol-1 3 GiB");
            assert_eq!(shown(3 << 30, 2 << 30, columns), "vol-1 3 GiB", "the estimate was too low");
            assert!(shown(2 << 30, 2 << 30, columns).contains("100%"));
            assert!(!shown(2 << 30, 2 << 30, columns).contains("left"));
            assert!(shown(1 << 30, 2 << 30, columns).ends_with("10s left"));
        }
        assert_eq!(done(1, u64::MAX).left(Duration::from_secs(10_000)).map(shown_time).unwrap().pop(), Some('d'));
    }
}
