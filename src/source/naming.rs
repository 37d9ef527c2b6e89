//! Names and tags of snapshots. Only a snapshot with both is recognised as volbak's.

use chrono::NaiveTime;

use crate::owner::Owner;

/// The tag of every snapshot that volbak took and will remove. A snapshot without it is never removed.
pub const SNAPSHOT_TAG: &str = "volbak";

/// The tag of a snapshot that volbak took and keeps (`--keep-snapshot`).
pub const KEPT_TAG: &str = "volbak.kept";

/// Prefix of the tag that names the owning process.
pub const OWNER_TAG_PREFIX: &str = "volbak.owner=";

/// A free snapshot name: `NAME-volbak-HHMMSS`, with a number appended if `taken`. `NAME` is truncated if the result
/// would be too long for LVM or device-mapper.
pub(crate) fn snapshot_name(vg: &str, lv: &str, now: NaiveTime, taken: impl Fn(&str) -> bool) -> String {
    // dm-ioctl.h DM_NAME_LEN: 128 bytes with the final NUL. LVM doubles each hyphen, joins group and volume with
    // one, and appends `-cow` for an exception store.
    const LONGEST: usize = 127;
    let escaped_len = |text: &str| text.len() + text.bytes().filter(|byte| *byte == b'-').count();
    let time = now.format("%H%M%S");
    let name_with = |number: u32| {
        let suffix = if number < 2 { format!("-volbak-{time}") } else { format!("-volbak-{time}-{number}") };
        let mut base = lv.to_owned();
        while escaped_len(vg) + 1 + escaped_len(&base) + escaped_len(&suffix) + 4 > LONGEST && base.len() > 1 {
            base.pop();
        }
        base + &suffix
    };
    // More names than a host can have volumes; if all are taken, lvcreate fails for the last one.
    (1..10_000).map(name_with).find(|name| !taken(name)).unwrap_or_else(|| name_with(10_000))
}

/// Whether [`snapshot_name`] could have returned this name.
pub(crate) fn is_snapshot_name(name: &str) -> bool {
    let Some((base, rest)) = name.rsplit_once("-volbak-") else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (time, number) = rest.split_once('-').map_or((rest, None), |(time, number)| (time, Some(number)));
    !base.is_empty() && time.len() == 6 && digits(time) && number.is_none_or(digits)
}

/// The tags of a snapshot that this process takes.
pub(crate) fn tags_of(owner: &Owner) -> [String; 2] {
    [SNAPSHOT_TAG.to_owned(), format!("{OWNER_TAG_PREFIX}{owner}")]
}

#[cfg(test)]
mod tests {
    use super::{is_snapshot_name, snapshot_name};
    use chrono::NaiveTime;

    fn time() -> NaiveTime {
        NaiveTime::from_hms_opt(1, 2, 3).unwrap()
    }

    #[test]
    fn snapshot_names_are_free_and_recognised() {
        let name = |taken: &[&str]| snapshot_name("vg0", "vol-1", time(), |name| taken.contains(&name));
        assert_eq!(name(&[]), "vol-1-volbak-010203");
        assert_eq!(name(&["vol-1-volbak-010203"]), "vol-1-volbak-010203-2");
        assert_eq!(name(&["vol-1-volbak-010203", "vol-1-volbak-010203-2"]), "vol-1-volbak-010203-3");
        for ours in ["vol-1-volbak-010203", "vol-1-volbak-010203-12", "a-volbak-b-volbak-235959"] {
            assert!(is_snapshot_name(ours), "{ours}");
        }
        for other in
            ["vol-1", "-volbak-010203", "a-volbak-0102", "a-volbak-010203-", "a-volbak-010203-x", "a-volbak-0102034"]
        {
            assert!(!is_snapshot_name(other), "{other}");
        }
    }

    #[test]
    fn names_stay_within_what_device_mapper_takes() {
        let lv = "volume-0f8fad5b-d9cb-469f-a165-70867728950e";
        let name = snapshot_name("cinder-volumes", lv, time(), |_| false);
        assert_eq!(name, format!("{lv}-volbak-010203"), "nothing of a usual name is cut");
        for (vg, lv) in
            [("g".repeat(60), "-".repeat(60)), ("v".repeat(90), "x".repeat(30)), ("g".to_owned(), "y".repeat(120))]
        {
            let name = snapshot_name(&vg, &lv, time(), |_| false);
            let dm = format!("{}-{}-cow", vg.replace('-', "--"), name.replace('-', "--"));
            assert!(dm.len() <= 127 && is_snapshot_name(&name), "{} {name}", dm.len());
        }
    }
}
