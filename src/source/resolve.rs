//! Resolves the user's `spec` to a source.
//!
//! | written | means |
//! | --- | --- |
//! | `/dev/…`, `./…`, `../…`, `/…` | that path: a volume if it is a volume's device (`/dev/VG/LV`, `/dev/mapper/VG-LV`, `/dev/dm-N`), otherwise a block device or an image file |
//! | `VG/LV` | that volume, if it exists; otherwise the image file at that relative path |
//! | `NAME` | the only volume with that name, if there is one; otherwise the image file in the working directory |
//!
//! A name of both a volume and an image file, or of volumes in several groups, is refused as ambiguous.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::image::format::Format;
use crate::outside::{BlockRead, RunCommand};
use crate::source::device::{
    DeviceNumber, Node, NodeKind, check_kernel_is_seen, dm_uuid, length_bytes, open_unused, sector_size_bytes,
};
use crate::source::error::SourceError;
use crate::source::image;
use crate::source::lvm::{LvFacts, Which, lvs};
use crate::source::nova_disk::NovaDisk;
use crate::source::origin::{Source, SourceKind, USUAL_SECTOR_BYTES, backup_name};
use crate::source::refusal::Refusal;

/// Finds the source that `spec` means, as in the table of this module's documentation, and checks that it may be
/// backed up. Changes nothing, and cannot hang on any path.
///
/// Fails with `NotFound`, `Ambiguous`, `Refused`, `NotRaw` or `BadName` if there is no usable source, and with
/// `Io`, `KernelUnseen`, `NotRun`, `Command` or `Output` if it could not be examined.
pub fn resolve(spec: &OsStr, commands: &dyn RunCommand) -> Result<Source, SourceError> {
    resolve_as(spec, None, commands)
}

/// Like [`resolve`], with the format of an image file. Without one, its first bytes decide, which the guest of a raw image can
/// choose: a name that others can point at a raw image should come with a format. Volumes and devices are always raw: qcow2 is
/// refused for them.
pub fn resolve_as(spec: &OsStr, format: Option<Format>, commands: &dyn RunCommand) -> Result<Source, SourceError> {
    let source = resolve_any(spec, format, commands)?;
    if format.is_some_and(|format| format != source.format()) {
        return Err(SourceError::Refused { name: source.display_name().to_owned(), reason: Refusal::NoFile });
    }
    Ok(source)
}

fn resolve_any(spec: &OsStr, format: Option<Format>, commands: &dyn RunCommand) -> Result<Source, SourceError> {
    check_kernel_is_seen()?;
    let path = Path::new(spec);
    let shown = shown(spec);
    let file = match Node::look(path) {
        Ok(node) => Some(node),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(error) => return Err(SourceError::io("looking at it", path, error)),
    };
    let Some(name) = volume_name(spec) else {
        return match file {
            Some(node) => of_node(&node, shown, format, commands),
            None => of_missing_path(path, shown, commands),
        };
    };
    // Only a file can be confused with a volume: a directory of that name is usually the one with its backups.
    let image = file.filter(|node| node.kind() == NodeKind::File);
    let volumes = match lvs(commands, Which::All) {
        Ok(volumes) => volumes,
        // A host without LVM, or a user without access to it, can still use image files.
        Err(_) if image.is_some() => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut found: Vec<LvFacts> = volumes.into_iter().filter(|volume| name.is_of(volume)).collect();
    match (found.len(), image) {
        (0, Some(node)) => of_node(&node, shown, format, commands),
        (0, None) => Err(SourceError::NotFound {
            spec: shown,
            what: "there is no such logical volume and no such file; `lvs` lists the volumes".to_owned(),
        }),
        (1, None) => Source::of_volume(found.remove(0)),
        (_, image) => {
            let mut candidates: Vec<String> = found.iter().map(LvFacts::full_name).collect();
            candidates.sort();
            // Suggest an unambiguous spelling for both the volume and the file.
            if image.is_some() {
                candidates = found.iter().map(|volume| volume.path.display().to_string()).collect();
                candidates.push(format!("./{shown}"));
            }
            Err(SourceError::Ambiguous { spec: shown, candidates })
        }
    }
}

/// A possible volume name: `LV` or `VG/LV`.
struct VolumeName<'a> {
    vg: Option<&'a str>,
    lv: &'a str,
}

impl VolumeName<'_> {
    fn is_of(&self, volume: &LvFacts) -> bool {
        volume.lv == self.lv && self.vg.is_none_or(|vg| vg == volume.vg)
    }
}

/// lvm(8), "Valid names": letters, digits and `+_.-`, no leading hyphen. A name with a leading dot is taken for a
/// path.
fn volume_name(spec: &OsStr) -> Option<VolumeName<'_>> {
    let text = spec.to_str()?;
    let valid = |name: &str| {
        !name.is_empty()
            && !name.starts_with(['-', '.'])
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte))
    };
    let (vg, lv) = text.split_once('/').map_or((None, text), |(vg, lv)| (Some(vg), lv));
    (valid(lv) && vg.is_none_or(valid)).then_some(VolumeName { vg, lv })
}

/// Resolves an existing path.
fn of_node(
    node: &Node,
    shown: String,
    format: Option<Format>,
    commands: &dyn RunCommand,
) -> Result<Source, SourceError> {
    match node.kind() {
        NodeKind::Other(what) => Err(SourceError::Refused { name: shown, reason: Refusal::WrongKind(what) }),
        NodeKind::File => {
            let disk = image::check(node, &shown, format)?;
            let file_name = node.path.file_name().unwrap_or_default();
            // Nova calls the disk of each instance `disk`, in a directory of the instance's UUID.
            let of_instance = node.path.parent().and_then(|folder| folder.file_name()?.to_str()).and_then(|folder| {
                let name = format!("{folder}_{}", file_name.to_str()?);
                NovaDisk::of_lv(&name).is_some().then_some(name)
            });
            let stem = of_instance.as_deref().or_else(|| file_name.to_str()).map(|name| {
                let suffixes: &[&str] = if disk.is_some() { &[".qcow2", ".img"] } else { &[".img", ".raw"] };
                suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
            });
            Ok(Source {
                kind: SourceKind::Image,
                backup_name: backup_name_of(stem, file_name)?,
                is_named: false,
                display_name: shown,
                path: node.path.clone(),
                size_bytes: disk.as_ref().map_or(node.metadata.len(), |disk| disk.len_bytes()),
                format: if disk.is_some() { Format::Qcow2 } else { Format::Raw },
                sector_size_bytes: USUAL_SECTOR_BYTES,
            })
        }
        NodeKind::BlockDevice(number) => match dm_uuid(number) {
            Some(uuid) if uuid.starts_with("LVM-") => of_volume_device(number, shown, commands),
            _ => of_device(node, number, shown),
        },
    }
}

/// Resolves a missing path: it can be the device of an inactive volume.
fn of_missing_path(path: &Path, shown: String, commands: &dyn RunCommand) -> Result<Source, SourceError> {
    let not_found = |spec| SourceError::NotFound { spec, what: "there is no such file or device".to_owned() };
    if !path.starts_with("/dev") {
        return Err(not_found(shown));
    }
    let Ok(volumes) = lvs(commands, Which::All) else { return Err(not_found(shown)) };
    match volumes.into_iter().find(|volume| volume.path == path || volume.dm_path == path) {
        Some(volume) => Source::of_volume(volume),
        None => Err(not_found(shown)),
    }
}

fn of_volume_device(number: DeviceNumber, shown: String, commands: &dyn RunCommand) -> Result<Source, SourceError> {
    let volumes = lvs(commands, Which::All)?;
    let found = volumes.into_iter().find(|volume| volume.device == Some((number.major, number.minor)));
    let Some(volume) = found else {
        return Err(SourceError::Refused { name: shown, reason: Refusal::InternalDevice });
    };
    Source::of_volume(volume)
}

fn of_device(node: &Node, number: DeviceNumber, shown: String) -> Result<Source, SourceError> {
    let file = open_unused(node, number, &shown)?;
    let io_error = |error| SourceError::io("asking for its size", &node.path, error);
    let size_bytes = length_bytes(&file).map_err(io_error)?;
    if size_bytes == 0 {
        return Err(SourceError::Refused { name: shown, reason: Refusal::Empty });
    }
    let file_name = node.path.file_name().unwrap_or_default();
    Ok(Source {
        kind: SourceKind::Device { number: (number.major, number.minor) },
        backup_name: backup_name_of(file_name.to_str(), file_name)?,
        is_named: false,
        display_name: shown,
        path: node.path.clone(),
        size_bytes,
        format: Format::Raw,
        sector_size_bytes: sector_size_bytes(&file).map_err(io_error)?,
    })
}

fn backup_name_of(name: Option<&str>, whole: &OsStr) -> Result<String, SourceError> {
    match name {
        Some(name) => backup_name(name),
        None => Err(SourceError::BadName { name: shown(whole), why: "it is not UTF-8" }),
    }
}

/// Escapes control characters and bytes that are not UTF-8.
pub(crate) fn shown(text: &OsStr) -> String {
    let mut shown = String::new();
    for chunk in text.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
        }
        for byte in chunk.invalid() {
            shown.extend(["\\x", &format!("{byte:02x}")]);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{resolve, shown, volume_name};
    use crate::outside::{CommandOutput, RunCommand};
    use crate::source::error::SourceError;
    use crate::source::refusal::Refusal;
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    /// A fake lvs that always prints the same.
    struct Prints(&'static str);

    impl RunCommand for Prints {
        fn run(&self, program: &str, _: &[OsString]) -> io::Result<CommandOutput> {
            assert_eq!(program, "lvs");
            Ok(CommandOutput { status: ExitStatus::from_raw(0), stdout: self.0.into(), stderr: Vec::new() })
        }
    }

    struct NotInstalled;

    impl RunCommand for NotInstalled {
        fn run(&self, _: &str, _: &[OsString]) -> io::Result<CommandOutput> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    const NONE: &str = r#"{"report": [{"lv": []}]}"#;

    #[test]
    fn paths_are_not_taken_for_volume_names() {
        let is_name = |text: &str| volume_name(OsStr::new(text)).is_some();
        assert!(is_name("vol-1") && is_name("vg0/vol-1") && is_name("disk.img") && is_name("a+b_c"));
        for path in ["/dev/vg0/a", "./a", "../a", "a/b/c", "a/", "/a", "-a", "a b", "", ".", "é"] {
            assert!(!is_name(path), "{path}");
        }
    }

    #[test]
    fn odd_names_are_shown_escaped() {
        assert_eq!(shown(OsStr::from_bytes(b"a\xff\nb\xc3\xa9")), "a\\xff\\nbé");
    }

    #[test]
    fn an_image_needs_no_lvm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.one.img");
        std::fs::write(&path, [0; 1536]).unwrap();
        for commands in [&NotInstalled as &dyn RunCommand, &Prints(NONE)] {
            let source = resolve(path.as_os_str(), commands).unwrap();
            assert_eq!((source.backup_name(), source.size_bytes()), ("disk.one", 1536));
            assert_eq!(source.sector_size_bytes(), 512);
        }
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let refused = |path: &str| resolve(OsStr::new(path), &NotInstalled).unwrap_err();
        assert!(matches!(refused("/dev/null"), SourceError::Refused { reason: Refusal::WrongKind(_), .. }));
        assert!(matches!(refused("/"), SourceError::Refused { reason: Refusal::WrongKind("a directory"), .. }));
        assert!(matches!(refused("/no/such/file"), SourceError::NotFound { .. }));
        assert!(matches!(refused("/dev/no-such-vg/lv"), SourceError::NotFound { .. }));
        assert!(matches!(refused("no-such-volume"), SourceError::NotRun { .. }));
        let error = resolve(OsStr::new("no-such-volume"), &Prints(NONE)).unwrap_err();
        assert!(matches!(error, SourceError::NotFound { .. }));
    }
}
