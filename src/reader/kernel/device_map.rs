//! Joins several extents of a disk into one device: a device-mapper table of linear targets, for a logical volume
//! that lies in more than one extent of the source.
//!
//! A map belongs to this process, has a private name, and is removed by its guard. Its UUID names the process, so
//! that [`remove_stale_maps`] can find and remove the maps of a crashed run. Maps without volbak's UUID are never
//! touched.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::{CommandOutput, RunCommand, shown_command};
use crate::owner::{Owner, OwnerState};
use crate::units::Extent;

/// The unit of device-mapper tables, for devices of any sector size.
const SECTOR_BYTES: u64 = 512;

/// Prefix of the UUID of every map that volbak makes.
const UUID_PREFIX: &str = "volbak-map-";

/// dm-ioctl.h: `DM_UUID_LEN` and `DM_NAME_LEN`, less the final NUL.
const LONGEST_ID_BYTES: usize = 127;

/// How long the removal of an open map is retried.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(15);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Why a map could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceMapError {
    /// This kernel has no device-mapper.
    #[error(
        "this kernel has no device-mapper, which puts the pieces of a volume together; load it with `modprobe dm-mod`"
    )]
    NoDeviceMapper,
    /// The extents cannot be mapped.
    #[error("the pieces cannot be mapped: {what}")]
    Unsupported {
        /// Which extent, and why.
        what: String,
    },
    /// The base is no block device, or stat failed.
    #[error("{}: cannot be mapped", path.display())]
    Base {
        /// The path of the base.
        path: PathBuf,
        /// The error from the system.
        source: io::Error,
    },
    /// The table could not be passed to dmsetup.
    #[error("the table of the pieces cannot be handed to dmsetup")]
    Table(#[source] io::Error),
    /// dmsetup could not be started.
    #[error("dmsetup could not be run; on Debian it comes with the package dmsetup")]
    NotRun(#[source] io::Error),
    /// dmsetup failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command as typed in a shell.
        command: String,
        /// Its exit status.
        status: String,
        /// Its standard error.
        stderr: String,
    },
    /// The process could not be identified.
    #[error("/proc/self cannot be read")]
    Myself(#[source] io::Error),
    /// The device node did not appear.
    #[error("{}: it was made and did not appear within {waited_seconds} s", path.display())]
    NoNode {
        /// The device node.
        path: PathBuf,
        /// The time waited.
        waited_seconds: u64,
    },
    /// The map could not be removed.
    #[error(
        "the device-mapper device {name} could not be removed; the next run tries again, or remove it with `dmsetup \
         remove {name}`: {reason}"
    )]
    NotRemoved {
        /// The map's name.
        name: String,
        /// The last error of dmsetup.
        reason: String,
    },
}

/// A map that this process made. End it with [`finish`](Self::finish); dropping it also removes the map.
pub struct DeviceMap {
    name: String,
    uuid: String,
    path: PathBuf,
    removed: bool,
    commands: Arc<dyn RunCommand>,
}

impl std::fmt::Debug for DeviceMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceMap").field("name", &self.name).field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl DeviceMap {
    /// Makes a device from these extents of `base`, in order. Offsets and lengths are in bytes and must be
    /// multiples of 512. `label` becomes part of the device's name.
    ///
    /// `base` is the block device that the offsets refer to: a snapshot, or a loop device over an image or device
    /// (a device claimed by [`freeze`](crate::source::freeze) cannot be mapped itself). The map keeps `base` open,
    /// so finish the map first. With `read_only` the device refuses writes; without it, writes go to `base`.
    pub fn create(
        base: &Path,
        pieces: &[Extent],
        read_only: bool,
        label: &str,
        commands: Arc<dyn RunCommand>,
    ) -> Result<Self, DeviceMapError> {
        let (open, number) =
            open_device(base).map_err(|source| DeviceMapError::Base { path: base.to_owned(), source })?;
        let table = linear_table(pieces, number)?;
        let owner = Owner::this_process().map_err(DeviceMapError::Myself)?;
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let (name, uuid) = (map_name(&owner, count, label), map_uuid(&owner, count));
        // `--noudevrules`: udev would otherwise scan the device, and the host would activate a tenant's volume
        // groups. The table is passed as a file: a striped volume has thousands of extents, and an argument is
        // limited to 128 KiB (`MAX_ARG_STRLEN`).
        let (_table_file, table_path) = memory_file(&table).map_err(DeviceMapError::Table)?;
        let mut args: Vec<OsString> =
            ["create", &name, "--uuid", &uuid, "--noudevrules", &table_path].map(OsString::from).to_vec();
        if read_only {
            args.push("--readonly".into());
        }
        done(commands.run_on(&open, "dmsetup", &args), &args)?;
        let mut map = Self { path: PathBuf::new(), name, uuid, removed: false, commands };
        // From here on a failure drops the guard, which removes the map.
        map.path = map.kernel_node()?;
        wait_for(&map.path)?;
        Ok(map)
    }

    /// The device node that the kernel makes (devtmpfs), `/dev/dm-N`. The link in `/dev/mapper` would depend on
    /// udev.
    fn kernel_node(&self) -> Result<PathBuf, DeviceMapError> {
        let args = ["info", "-c", "--noheadings", "-o", "minor", "--uuid", &self.uuid].map(OsString::from);
        let stdout = dmsetup(&*self.commands, &args)?;
        let text = String::from_utf8_lossy(&stdout);
        let minor: u32 = text.trim().parse().map_err(|_| DeviceMapError::Command {
            command: shown_command("dmsetup", &args),
            status: "its output is not a number".to_owned(),
            stderr: text.trim().to_owned(),
        })?;
        Ok(PathBuf::from(format!("/dev/dm-{minor}")))
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device-mapper name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the map, with retries while it is open. Unmount and close it first.
    pub fn finish(mut self) -> Result<(), DeviceMapError> {
        self.remove(REMOVAL_PATIENCE)
    }

    fn remove(&mut self, patience: Duration) -> Result<(), DeviceMapError> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        remove(&*self.commands, &self.name, &self.uuid, patience)
    }
}

impl Drop for DeviceMap {
    fn drop(&mut self) {
        // Best effort: `finish` reports errors, and the next run removes stale maps.
        let _ = self.remove(Duration::from_secs(5));
    }
}

/// Removes stale maps: those with volbak's UUID whose process has ended and that are not open. Reports each to the
/// observer. Returns their names; an empty list on a kernel without device-mapper.
pub fn remove_stale_maps(commands: &dyn RunCommand, observer: &dyn Observer) -> Result<Vec<String>, DeviceMapError> {
    if !kernel_has_device_mapper() {
        return Ok(Vec::new());
    }
    let me = Owner::this_process().map_err(DeviceMapError::Myself)?;
    let args = ["info", "-c", "--noheadings", "--separator", "|", "-o", "uuid,name,open"].map(OsString::from);
    let stdout = dmsetup(commands, &args)?;
    let mut removed = Vec::new();
    for map in parse_maps(&String::from_utf8_lossy(&stdout)) {
        let tell = |severity, what: &str| {
            observer.on_event(&Event::Problem(Problem::new(severity, map.name.clone(), what)));
        };
        match owner_of(&map.uuid, &me).map(|owner| owner.state(&me)) {
            Some(OwnerState::Gone) if map.is_open => {
                tell(Severity::Warning, "an earlier run left this device-mapper device, and it is open");
            }
            Some(OwnerState::Gone) => match remove(commands, &map.name, &map.uuid, Duration::from_secs(5)) {
                Ok(()) => {
                    tell(Severity::Notice, "removed the device-mapper device that an earlier run left");
                    removed.push(map.name);
                }
                Err(error) => tell(Severity::Warning, &error.to_string()),
            },
            _ => {}
        }
    }
    Ok(removed)
}

/// The table, one line per extent: start and length on the map, `linear`, base and offset, all in sectors
/// (Documentation/admin-guide/device-mapper/linear.rst). Adjacent extents are merged.
fn linear_table(pieces: &[Extent], (major, minor): (u32, u32)) -> Result<String, DeviceMapError> {
    let unsupported = |what: String| DeviceMapError::Unsupported { what };
    let mut joined: Vec<Extent> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let end = piece.source_offset.checked_add(piece.length);
        if piece.length == 0 || end.is_none() {
            return Err(unsupported(format!("piece {index} has a length of {} bytes", piece.length)));
        }
        if !piece.source_offset.is_multiple_of(SECTOR_BYTES) || !piece.length.is_multiple_of(SECTOR_BYTES) {
            return Err(unsupported(format!(
                "piece {index} ({} bytes from {}) does not lie on sectors of {SECTOR_BYTES} bytes",
                piece.length, piece.source_offset
            )));
        }
        match joined.last_mut() {
            Some(last) if last.source_offset.checked_add(last.length) == Some(piece.source_offset) => {
                last.length = last.length.saturating_add(piece.length);
            }
            _ => joined.push(*piece),
        }
    }
    if joined.is_empty() {
        return Err(unsupported("there are none".to_owned()));
    }
    let mut lines = Vec::with_capacity(joined.len());
    let mut start = 0_u64;
    for piece in &joined {
        let (length, offset) = (piece.length / SECTOR_BYTES, piece.source_offset / SECTOR_BYTES);
        lines.push(format!("{start} {length} linear {major}:{minor} {offset}"));
        start = start.checked_add(length).ok_or_else(|| unsupported("they are longer than 2^64 sectors".to_owned()))?;
    }
    let table = lines.join("\n");
    Ok(table)
}

/// A memory file with this content, and a path by which a child process can read it.
fn memory_file(content: &str) -> io::Result<(fs::File, String)> {
    let mut file = fs::File::from(rustix::fs::memfd_create("volbak-table", MemfdFlags::CLOEXEC)?);
    file.write_all(content.as_bytes())?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok((file, path))
}

fn map_name(owner: &Owner, count: u32, label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let start = format!("volbak-{}-{count}-", owner.pid());
    let label = label.chars().map(plain).take(LONGEST_ID_BYTES.saturating_sub(start.len()));
    start.chars().chain(label).collect()
}

/// The owner without its host name: a map does not survive a reboot, and a UUID is limited to 127 bytes.
fn map_uuid(owner: &Owner, count: u32) -> String {
    let text = owner.to_string();
    let without_host = text.split_once(':').map_or("", |(_, rest)| rest);
    format!("{UUID_PREFIX}{without_host}:{count}")
}

fn owner_of(uuid: &str, me: &Owner) -> Option<Owner> {
    let (without_host, count) = uuid.strip_prefix(UUID_PREFIX)?.rsplit_once(':')?;
    count.parse::<u32>().ok()?;
    format!("{}:{without_host}", me.host()).parse().ok()
}

/// A map found in the kernel.
#[derive(Debug, PartialEq, Eq)]
struct FoundMap {
    uuid: String,
    name: String,
    is_open: bool,
}

/// Parses `dmsetup info -c -o uuid,name,open` with `|` between columns. Returns volbak's maps only. The name of
/// another map may contain a `|`, but cannot pass for volbak's.
fn parse_maps(stdout: &str) -> Vec<FoundMap> {
    let line = |line: &str| {
        let (uuid, rest) = line.trim().split_once('|')?;
        let (name, open) = rest.rsplit_once('|')?;
        let is_ours = uuid.starts_with(UUID_PREFIX) && name.starts_with("volbak-") && !name.contains('|');
        is_ours.then(|| FoundMap { uuid: uuid.to_owned(), name: name.to_owned(), is_open: open.trim() != "0" })
    };
    stdout.lines().filter_map(line).collect()
}

fn remove(commands: &dyn RunCommand, name: &str, uuid: &str, patience: Duration) -> Result<(), DeviceMapError> {
    let deadline = Instant::now() + patience;
    let args = ["remove", "--uuid", uuid].map(OsString::from);
    let mut pause = Duration::from_millis(50);
    loop {
        let Err(error) = dmsetup(commands, &args) else { return Ok(()) };
        if Instant::now() >= deadline {
            let reason = match error {
                DeviceMapError::Command { stderr, .. } => stderr,
                other => other.to_string(),
            };
            return Err(DeviceMapError::NotRemoved { name: name.to_owned(), reason });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn dmsetup(commands: &dyn RunCommand, args: &[OsString]) -> Result<Vec<u8>, DeviceMapError> {
    done(commands.run("dmsetup", args), args)
}

/// What dmsetup printed.
fn done(ran: io::Result<CommandOutput>, args: &[OsString]) -> Result<Vec<u8>, DeviceMapError> {
    let output = ran.map_err(DeviceMapError::NotRun)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    if !kernel_has_device_mapper() {
        return Err(DeviceMapError::NoDeviceMapper);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(5).collect();
    // The table can be long; the name says what the map is for.
    let shown: String = shown_command("dmsetup", args).chars().take(300).collect();
    Err(DeviceMapError::Command { command: shown, status: output.status.to_string(), stderr: lines.join("; ") })
}

/// proc(5): `/proc/devices` lists the drivers. dmsetup loads the module when it first runs, so call this
/// afterwards.
fn kernel_has_device_mapper() -> bool {
    fs::read_to_string("/proc/devices").is_ok_and(|drivers| drivers.contains("device-mapper"))
}

/// The device and its number.
fn open_device(path: &Path) -> io::Result<(fs::File, (u32, u32))> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a block device"));
    }
    Ok((file, (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))))
}

fn wait_for(path: &Path) -> Result<(), DeviceMapError> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() >= deadline {
            return Err(DeviceMapError::NoNode { path: path.to_owned(), waited_seconds: PATIENCE.as_secs() });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
