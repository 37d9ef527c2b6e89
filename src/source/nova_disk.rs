//! Disks that Nova makes on a compute host: `UUID_disk`, `UUID_disk.local`, `UUID_disk.swap`.

/// A disk of an instance, by the name of its logical volume (`images_type = lvm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NovaDisk<'a> {
    /// The UUID of the instance.
    pub(crate) instance: &'a str,
    /// `disk`, `disk.local`, `disk.eph0`, `disk.swap`, `disk.config`.
    pub(crate) disk: &'a str,
}

impl<'a> NovaDisk<'a> {
    /// `None` for any other name.
    pub(crate) fn of_lv(lv: &'a str) -> Option<Self> {
        let (instance, disk) = lv.split_once('_')?;
        (is_uuid(instance) && is_disk(disk)).then_some(Self { instance, disk })
    }

    /// Whether the instance swaps to it: nothing on it outlives a reboot.
    pub(crate) fn is_swap(self) -> bool {
        self.disk == "disk.swap"
    }
}

/// `disk`, or `disk.` and something.
fn is_disk(name: &str) -> bool {
    name.strip_prefix("disk").is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && rest.len() > 1))
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::NovaDisk;

    #[test]
    fn only_novas_own_names_are_disks_of_an_instance() {
        const ID: &str = "58f83399-bf84-4ced-bad2-2736d9a75d2f";
        let of =
            |disk: &str| NovaDisk::of_lv(&format!("{ID}_{disk}")).map(|found| (found.instance == ID, found.is_swap()));
        assert_eq!(of("disk"), Some((true, false)));
        assert_eq!(of("disk.local"), Some((true, false)));
        assert_eq!(of("disk.swap"), Some((true, true)));
        for other in ["disk.", "disks", "Disk", "root", "disk_swap", ""] {
            assert_eq!(of(other), None, "{other}");
        }
        for other in [&format!("volume-{ID}"), "web_disk", "58f83399bf844cedbad22736d9a75d2f_disk", "_disk"] {
            assert_eq!(NovaDisk::of_lv(other), None, "{other}");
        }
    }
}
