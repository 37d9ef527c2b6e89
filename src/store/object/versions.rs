//! Small files that are written again: each version has a key of its own, `NAME~TIME_RANDOM`, and the newest counts. So no
//! object is ever rewritten, and the key of a host needs no right to replace or to delete.

use chrono::Utc;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::objects::{ListedObject, ObjectClient, ObjectError};
use crate::shown;

const MARK: char = '~';
const TIME_DIGITS: usize = 16;
const RANDOM_DIGITS: usize = 2 * RANDOM_BYTES;
const RANDOM_BYTES: usize = 6;
const LATEST: u64 = 9_999_999_999_999_999;

/// The name that a key is a version of.
pub(super) fn name_of(key: &str) -> Option<&str> {
    let (name, version) = key.rsplit_once(MARK)?;
    time_of(version).map(|_| name)
}

/// The time in the end of a key, in milliseconds.
fn time_of(version: &str) -> Option<u64> {
    let (time, random) = version.split_once('_')?;
    let is = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = is(time, TIME_DIGITS) && time.bytes().all(|byte| byte.is_ascii_digit());
    (is_time && is(random, RANDOM_DIGITS)).then(|| time.parse().ok()).flatten()
}

/// The versions of a file among these objects, the newest last.
pub(super) fn of<'a>(key: &str, objects: impl Iterator<Item = &'a ListedObject>) -> Vec<ListedObject> {
    let mut versions: Vec<ListedObject> = objects.filter(|object| name_of(&object.key) == Some(key)).cloned().collect();
    versions.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    versions
}

/// The versions of a file, the newest last.
pub(super) fn list(client: &ObjectClient, key: &str) -> Result<Vec<ListedObject>, ObjectError> {
    let found = client.list(&format!("{key}{MARK}"), false)?;
    Ok(of(key, found.objects.iter()))
}

/// Writes a version, which is the newest also if the clock was set back, and removes the older ones if the key may do that.
pub(super) fn write(client: &ObjectClient, key: &str, bytes: &[u8]) -> Result<(), ObjectError> {
    let older = list(client, key)?;
    let now = Utc::now().timestamp_millis().saturating_add(client.skew_seconds().saturating_mul(1000));
    let last = older.last().and_then(|last| time_of(last.key.rsplit_once(MARK)?.1));
    let time = last.map_or(0, |last| last.saturating_add(1)).max(u64::try_from(now).unwrap_or(0)).min(LATEST);
    client.put(&format!("{key}{MARK}{time:016}_{}", random()), bytes, false)?;
    // An older one that stays is not read.
    let _ = older.iter().try_for_each(|old| client.delete(&old.key, None));
    Ok(())
}

/// What makes a key unique.
pub(super) fn random() -> String {
    let mut bytes = [0_u8; RANDOM_BYTES];
    // Without random bytes two keys of one millisecond may be one.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    shown::hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn only_a_whole_version_is_one() {
        assert_eq!(name_of("v/s.verified.json~0001795946000000_0123456789ab"), Some("v/s.verified.json"));
        for key in ["v/a", "v/a~", "v/a~1_2", "v/a~0001795946000000_0123456789a", "v/a~x001795946000000_0123456789ab"] {
            assert_eq!(name_of(key), None, "{key}");
        }
    }
}
