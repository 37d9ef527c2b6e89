//! Why an existing object is not backed up. Pure functions of facts.

use crate::field::is_uuid;
use crate::source::lvm::LvFacts;

/// Why an existing object cannot be a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The volume is itself a snapshot.
    #[error("it is a snapshot of {origin}; back up {origin} itself")]
    Snapshot {
        /// Its origin.
        origin: String,
    },
    /// A snapshot that is being merged into its origin.
    #[error("a snapshot is being merged into it; wait until `lvs` no longer shows that")]
    Merging,
    /// The volume is a pool, which holds other volumes.
    #[error("it is a {0}, which holds other volumes; back up those")]
    Pool(&'static str),
    /// The volume is an internal part of another one.
    #[error("it is an internal part of other volumes ({0}); back up the volumes that use it")]
    Internal(String),
    /// The volume's data is not on disk.
    #[error("it is a volume of type {0}, which has no data of its own")]
    NoData(String),
    /// The thick volume is inactive.
    #[error("it is not active, and taking a snapshot would have to change that; activate it with `lvchange -ay`")]
    Inactive,
    /// The volume is suspended: reading it would hang.
    #[error("it is suspended (another program is working on it, or one crashed); see `dmsetup info`")]
    Suspended,
    /// Physical volumes are missing, or segments failed.
    #[error("it is damaged ({0}): parts of it cannot be read")]
    Damaged(String),
    /// A device-mapper device that belongs to LVM but is no volume.
    #[error("it is a device that LVM uses internally")]
    InternalDevice,
    /// The device is in use, so it would change while it is read.
    #[error("it is in use: {0}; a device without snapshots is read only while it is unused")]
    InUse(String),
    /// A type of file that holds no disk.
    #[error("it is {0}; a source is a logical volume, a block device or a raw disk image")]
    WrongKind(&'static str),
    /// A volume or a device, which the user calls a qcow2 image.
    #[error("it is no file, and only a file is read as qcow2: volumes and devices are raw, whatever they begin with")]
    NoFile,
    /// Its length is zero.
    #[error("it is empty")]
    Empty,
}

/// Why this volume cannot be a source; `None` if it can.
///
/// A thin snapshot named `volume-UUID` is not refused: Cinder makes a volume from a snapshot or another volume in a
/// thin pool this way, and an instance uses it as its disk.
pub(crate) fn refusal_of(lv: &LvFacts) -> Option<Refusal> {
    let has_role = |role: &str| lv.roles.iter().any(|each| each == role);
    let has_layout = |layout: &str| lv.layout.iter().any(|each| each == layout);
    let attr = |index: usize| lv.attr.as_bytes().get(index).copied().unwrap_or(b'-');

    if has_layout("pool") && !lv.hidden {
        let kind = if has_layout("thin") {
            "thin pool"
        } else if has_layout("cache") {
            "cache pool"
        } else if has_layout("vdo") {
            "VDO pool"
        } else {
            "pool"
        };
        return Some(Refusal::Pool(kind));
    }
    if lv.hidden || has_role("private") || attr(0) == b'p' {
        let role: Vec<&str> = lv.roles.iter().map(String::as_str).filter(|role| *role != "private").collect();
        return Some(Refusal::Internal(if role.is_empty() { "hidden".to_owned() } else { role.join(" ") }));
    }
    // lvs(8), attribute 1: a merging origin is `O`, a merging snapshot `S`.
    if attr(0) == b'O' || attr(0) == b'S' || lv.merging {
        return Some(Refusal::Merging);
    }
    let is_snapshot = has_role("snapshot") || attr(0) == b's';
    if is_snapshot && !(lv.is_thin() && is_cinder_volume_name(&lv.lv)) {
        let origin = lv.origin.as_ref().map_or_else(|| "another volume".to_owned(), |name| format!("{}/{name}", lv.vg));
        return Some(Refusal::Snapshot { origin });
    }
    for kind in ["error", "zero"] {
        if has_layout(kind) {
            return Some(Refusal::NoData(kind.to_owned()));
        }
    }
    if attr(8) == b'p' || !lv.health.is_empty() {
        let what = if lv.health.is_empty() { "partial" } else { &lv.health };
        return Some(Refusal::Damaged(what.to_owned()));
    }
    match attr(4) {
        b's' => Some(Refusal::Suspended),
        _ if lv.is_active || lv.is_thin() => None,
        _ => Some(Refusal::Inactive),
    }
}

/// `volume-UUID`: Cinder's default `volume_name_template`.
fn is_cinder_volume_name(name: &str) -> bool {
    name.strip_prefix("volume-").is_some_and(is_uuid)
}

#[cfg(test)]
mod tests {
    use super::{Refusal, is_cinder_volume_name, refusal_of};
    use crate::source::lvm::lv_row;

    #[test]
    fn only_volumes_with_data_of_their_own_are_sources() {
        // Name, attributes, roles, layout and origin as lvs printed them.
        let refused = |name, attr, role, layout, origin| refusal_of(&lv_row(name, attr, role, layout, origin));
        assert_eq!(refused("a", "owi-a-s---", "public,origin,thickorigin", "linear", ""), None);
        assert_eq!(refused("thin1", "Vwi-a-tz--", "public", "thin,sparse", ""), None);
        assert_eq!(
            refused("thin1", "Vwi---tz--", "public", "thin,sparse", ""),
            None,
            "its snapshot is activated alone"
        );
        assert_eq!(refused("r", "rwi-a-r---", "public", "raid,raid1", ""), None);
        assert_eq!(refused("a", "-wi-------", "public", "linear", ""), Some(Refusal::Inactive));
        assert_eq!(refused("a", "-wi-s-----", "public", "linear", ""), Some(Refusal::Suspended));
        let thick = refused("a-s", "swi-a-s---", "public,snapshot,thicksnapshot", "linear", "a");
        assert_eq!(thick, Some(Refusal::Snapshot { origin: "vg0/a".to_owned() }));
        let thin = refused("t-s", "Vwi---tz-k", "public,snapshot,thinsnapshot", "thin,sparse", "thin1");
        assert_eq!(thin, Some(Refusal::Snapshot { origin: "vg0/thin1".to_owned() }));
        assert_eq!(refused("p", "twi-aotz--", "private", "thin,pool", ""), Some(Refusal::Pool("thin pool")));
        let hidden = |name, role| matches!(refused(name, "ewi-ao----", role, "linear", ""), Some(Refusal::Internal(_)));
        assert!(hidden("[p_tmeta]", "private,thin,pool,metadata"));
        assert!(hidden("[lvol0_pmspare]", "private,pool,spare"));
        assert!(hidden("[m_mlog]", "private,mirror,log"));
        assert!(matches!(refused("[pvmove0]", "p-C-aom---", "private", "mirror", ""), Some(Refusal::Internal(_))));
        assert_eq!(refused("a", "Owi-a-s---", "public", "linear", ""), Some(Refusal::Merging));
        assert!(matches!(refused("a", "-wi-a---p-", "public", "linear", ""), Some(Refusal::Damaged(_))));
    }

    #[test]
    fn a_thin_volume_that_cinder_made_of_a_snapshot_is_a_volume() {
        let name = "volume-0f8fad5b-d9cb-469f-a165-70867728950e";
        let role = "public,snapshot,thinsnapshot";
        assert_eq!(refusal_of(&lv_row(name, "Vwi-aotz--", role, "thin,sparse", "_snapshot-1")), None);
        assert!(refusal_of(&lv_row(name, "swi-aos---", "public,snapshot", "linear", "x")).is_some());
        assert!(!is_cinder_volume_name("volume-0f8fad5b-d9cb-469f-a165-70867728950e-volbak-010203"));
        assert!(!is_cinder_volume_name("_snapshot-0f8fad5b-d9cb-469f-a165-70867728950e"));
        assert!(!is_cinder_volume_name("volume-1"));
    }
}
