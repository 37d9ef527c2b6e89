//! `[openstack] select` and `retention_limits`: what the cloud's words about a volume decide.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};

use crate::shown;

/// Metadata with which a tenant leaves a volume out, whatever the other terms say.
const OPT_OUT: (&str, &str) = ("volbak", "no");
/// Metadata with which a tenant asks for a retention.
const RETENTION_KEY: &str = "volbak:retention";
/// The days of a hundred years, as for `backups_retention_days`.
const MAX_DAYS: u32 = 36_525;

const RIGHT: &str = "write terms like \"project=shop\", \"type!=scratch\", \"metadata.tier=gold\", \"attached=yes\" or \
                     \"bootable=no\"";

/// What the cloud says of a volume, as far as it decides anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByCloud<'a> {
    /// The project's id and name.
    pub(crate) project: [Option<&'a str>; 2],
    /// The volume type.
    pub(crate) volume_type: Option<&'a str>,
    /// The volume's metadata.
    pub(crate) metadata: &'a BTreeMap<String, String>,
    /// Whether Cinder or Nova has it attached to an instance.
    pub(crate) is_attached: bool,
    /// Whether an instance can boot from it.
    pub(crate) is_bootable: bool,
}

/// The terms of `select`. Those with `=` on one property are alternatives; those with `!=` each exclude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice(pub(super) Vec<Term>);

/// What a term is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Property {
    Project,
    Type,
    Metadata(String),
    Attached,
    Bootable,
}

/// `PROPERTY=PATTERN` or `PROPERTY!=PATTERN`.
#[derive(Clone, Debug)]
pub(super) struct Term {
    text: String,
    property: Property,
    is_negated: bool,
    pattern: GlobMatcher,
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Term {}

impl Term {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let (left, value) = text.split_once('=').ok_or(RIGHT)?;
        let (property, is_negated) = left.strip_suffix('!').map_or((left, false), |property| (property, true));
        let (property, mut value) = (property.trim(), value.trim());
        let property = match property {
            "project" => Property::Project,
            "type" => Property::Type,
            "attached" => Property::Attached,
            "bootable" => Property::Bootable,
            other => match other.strip_prefix("metadata.") {
                Some(key) if !key.is_empty() => Property::Metadata(key.to_owned()),
                _ => return Err(format!("{} is no property of a volume; {RIGHT}", shown::text(other))),
            },
        };
        if matches!(property, Property::Attached | Property::Bootable) {
            value = match value {
                "yes" | "true" => "yes",
                "no" | "false" => "no",
                _ => return Err("write yes or no after it, like \"attached=yes\"".to_owned()),
            };
        }
        let glob = GlobBuilder::new(value).backslash_escape(true).build();
        let pattern = glob.map_err(|error| format!("as a pattern it is wrong: {}", error.kind()))?.compile_matcher();
        Ok(Self { text: text.to_owned(), property, is_negated, pattern })
    }

    /// Whether the pattern matches, regardless of the negation. A property that the volume lacks is the empty text.
    fn matches(&self, volume: &ByCloud<'_>) -> bool {
        let yes_or_no = |is: bool| if is { "yes" } else { "no" };
        match &self.property {
            Property::Project => volume.project.iter().flatten().any(|name| self.pattern.is_match(name)),
            Property::Type => self.pattern.is_match(volume.volume_type.unwrap_or_default()),
            Property::Metadata(key) => self.pattern.is_match(volume.metadata.get(key).map_or("", String::as_str)),
            Property::Attached => self.pattern.is_match(yes_or_no(volume.is_attached)),
            Property::Bootable => self.pattern.is_match(yes_or_no(volume.is_bootable)),
        }
    }
}

impl Choice {
    /// Why the volume is left out; `None` if it is backed up.
    pub(crate) fn leaves_out(&self, volume: &ByCloud<'_>) -> Option<String> {
        let (key, value) = OPT_OUT;
        if volume.metadata.get(key).is_some_and(|found| found.eq_ignore_ascii_case(value)) {
            return Some(format!("its metadata say {key}={value}"));
        }
        if let Some(term) = self.0.iter().find(|term| term.is_negated && term.matches(volume)) {
            return Some(format!("`select` says {:?}", term.text));
        }
        let asked: BTreeSet<&Property> =
            self.0.iter().filter(|term| !term.is_negated).map(|term| &term.property).collect();
        asked.into_iter().find_map(|property| {
            let alternatives = || self.0.iter().filter(|term| !term.is_negated && term.property == *property);
            let texts: Vec<String> = alternatives().map(|term| format!("{:?}", term.text)).collect();
            // Keystone may not say the names of projects. What is not known leaves nothing out.
            let is_unknown = *property == Property::Project && volume.project[1].is_none();
            let fits = is_unknown || alternatives().any(|term| term.matches(volume));
            (!fits).then(|| format!("`select` asks for {}", texts.join(" or ")))
        })
    }
}

/// `retention_limits`: the fewest and the most days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    fewest: u32,
    most: u32,
}

/// What a volume's metadata say of its retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// These days.
    Days(u32),
    /// These days in place of those that were asked for, which the limits do not permit.
    Limited {
        /// The days.
        days: u32,
        /// As the metadata have it.
        asked: String,
    },
    /// No number of days: it counts for nothing.
    Nonsense(String),
}

impl RetentionLimits {
    pub(super) const RIGHT: &str = "write the fewest and the most days, like retention_limits = \"7-90\"";

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (fewest, most) = text.split_once('-')?;
        let (fewest, most) = (fewest.trim().parse().ok()?, most.trim().parse().ok()?);
        (1 <= fewest && fewest <= most && most <= MAX_DAYS).then_some(Self { fewest, most })
    }

    /// The retention that these metadata ask for; `None` if they ask for none.
    pub(crate) fn of(self, metadata: &BTreeMap<String, String>) -> Option<Retention> {
        let asked = metadata.get(RETENTION_KEY)?;
        let number = asked.trim();
        let number =
            ["days", "day", "d"].iter().find_map(|unit| number.strip_suffix(unit)).unwrap_or(number).trim_end();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Retention::Nonsense(asked.clone()));
        }
        // A number that is too long for the type is above each limit.
        let wanted: u32 = number.parse().unwrap_or(u32::MAX);
        let days = wanted.clamp(self.fewest, self.most);
        Some(if days == wanted { Retention::Days(days) } else { Retention::Limited { days, asked: asked.clone() } })
    }
}

impl std::fmt::Display for RetentionLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.fewest, self.most)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ByCloud, Choice, Retention, RetentionLimits, Term};

    fn choice(terms: &[&str]) -> Choice {
        Choice(terms.iter().map(|text| Term::new(text).unwrap()).collect())
    }

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn alternatives_of_one_property_and_all_properties_together() {
        let with = metadata(&[("tier", "gold")]);
        let volume = ByCloud {
            project: [Some("p1"), Some("shop")],
            volume_type: Some("ssd"),
            metadata: &with,
            is_attached: true,
            is_bootable: false,
        };
        let takes = |terms: &[&str]| choice(terms).leaves_out(&volume).is_none();
        assert!(takes(&[]) && takes(&["project=shop"]) && takes(&["project=p1"]) && takes(&["project=sh*"]));
        assert!(takes(&["project=other", "project=shop", "type=ssd", "metadata.tier=gold"]));
        assert!(takes(&["attached=yes", "bootable=no", "bootable!=true", "type!=hdd"]));
        assert!(!takes(&["project=shop", "type=hdd"]) && !takes(&["project=*", "project!=shop"]));
        assert!(!takes(&["attached=no"]) && !takes(&["metadata.tier=silver"]) && !takes(&["metadata.other=?*"]));
        let why = choice(&["type=hdd", "type=nvme"]).leaves_out(&volume).unwrap();
        assert_eq!(why, "`select` asks for \"type=hdd\" or \"type=nvme\"");
        let none = metadata(&[("volbak", "No")]);
        let out = ByCloud { metadata: &none, ..volume };
        assert!(choice(&[]).leaves_out(&out).unwrap().contains("volbak=no"));
        // Keystone does not say the names of projects.
        let nameless = ByCloud { project: [Some("p1"), None], ..volume };
        assert_eq!(choice(&["project=shop"]).leaves_out(&nameless), None);
        assert!(choice(&["project!=p1"]).leaves_out(&nameless).is_some());
        // A volume without a type.
        let bare = ByCloud { volume_type: None, ..volume };
        assert!(choice(&["type=*"]).leaves_out(&bare).is_none() && choice(&["type=?*"]).leaves_out(&bare).is_some());
    }

    #[test]
    fn terms_that_mean_nothing_are_mistakes() {
        for wrong in ["", "project", "colour=red", "metadata.=x", "attached=maybe", "type=[", "=x", "!=x"] {
            assert!(Term::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_retention_is_taken_at_its_word_within_the_limits() {
        let limits = RetentionLimits::parse("7 - 90").unwrap();
        let of = |text: &str| limits.of(&metadata(&[("volbak:retention", text)])).unwrap();
        for text in ["30", " 30 ", "30d", "30 days"] {
            assert_eq!(of(text), Retention::Days(30), "{text:?}");
        }
        let limited = |days, text: &str| Retention::Limited { days, asked: text.to_owned() };
        assert_eq!(of("3"), limited(7, "3"));
        assert_eq!(of("0"), limited(7, "0"));
        assert_eq!(of("400d"), limited(90, "400d"));
        assert_eq!(of("99999999999999999999"), limited(90, "99999999999999999999"));
        for text in ["", "-3", "forever", "3.5", "d", "7 weeks", "\u{661}"] {
            assert_eq!(of(text), Retention::Nonsense(text.to_owned()), "{text:?}");
        }
        assert_eq!(limits.of(&metadata(&[])), None);
        for wrong in ["", "7", "0-3", "9-3", "1-99999", "a-b", "-7-9"] {
            assert_eq!(RetentionLimits::parse(wrong), None, "{wrong}");
        }
    }
}
