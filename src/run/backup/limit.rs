//! The time limit of a backup.

use std::time::Duration;

/// The time limit of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLimit {
    /// Counted from its start.
    pub duration: Duration,
    /// The setting that it comes from: `max_volume_hours`.
    pub name: String,
}

impl std::fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.duration.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds} s")?,
            (0, minutes) => write!(f, "{minutes} min")?,
            (hours, minutes) => write!(f, "{hours} h {minutes} min")?,
        }
        write!(f, " ({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::TimeLimit;

    #[test]
    fn a_limit_is_shown_as_people_say_it() {
        let shown = |seconds| TimeLimit { duration: Duration::from_secs(seconds), name: "x".to_owned() }.to_string();
        assert_eq!([shown(18), shown(90), shown(19_800)], ["18 s (x)", "1 min (x)", "5 h 30 min (x)"]);
    }
}
