//! Reserves and releases the metadata snapshot of a pool. One of another program is never released; one that an
//! interrupted run left is, by the next run.

use std::fs;
use std::path::Path;

use super::error::ThinError;
use super::kernel::{held_root_of, message};
use super::mark::{Mark, Marked};
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::{Cancel, RunCommand};
use crate::source::device::{DeviceNumber, dm_uuid};

const RESERVE: &str = "reserve_metadata_snap";
const RELEASE: &str = "release_metadata_snap";

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing was reserved.
    WasFree,
    /// One of an interrupted run, which was released.
    ReleasedOurs,
}

/// The reserved metadata snapshot. Dropping it releases it.
pub(super) struct Reserved<'a> {
    commands: &'a dyn RunCommand,
    pool: DeviceNumber,
    /// `None` after it was released.
    mark: Option<Mark>,
}

impl<'a> Reserved<'a> {
    /// Reserves it. Fails if another program has.
    pub(super) fn take(
        commands: &'a dyn RunCommand,
        pool: DeviceNumber,
        pool_uuid: &str,
        marks: &Path,
        cancel: &Cancel,
    ) -> Result<(Self, Settled), ThinError> {
        let mut mark = Mark::lock(marks, pool_uuid, cancel)?;
        let settled = settle(commands, pool, &mut mark)?;
        mark.begin()?;
        if let Err(error) = message(commands, pool, RESERVE) {
            // EBUSY: another program was faster.
            mark.clear()?;
            let is_held = held_root_of(commands, pool).is_ok_and(|held| held.is_some());
            return Err(if is_held { by_another(pool) } else { error });
        }
        let mut reserved = Self { commands, pool, mark: Some(mark) };
        // From here on a failure drops it, which releases the metadata snapshot.
        let root = held_root_of(commands, pool)?;
        let root =
            root.ok_or_else(|| ThinError::Unexpected("the pool does not show its metadata snapshot".to_owned()))?;
        if let Some(mark) = &mut reserved.mark {
            mark.set(root)?;
        }
        Ok((reserved, settled))
    }

    /// Releases it. After a failure, the next run tries again.
    pub(super) fn release(mut self) -> Result<(), ThinError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ThinError> {
        let Some(mut mark) = self.mark.take() else { return Ok(()) };
        message(self.commands, self.pool, RELEASE)?;
        mark.clear()
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        // The mark stays after a failure: the next run tries again.
        let _ = self.end();
    }
}

fn by_another(pool: DeviceNumber) -> ThinError {
    ThinError::Reserved { major: pool.major, minor: pool.minor }
}

/// Releases what an interrupted run reserved. Fails if one is reserved that is not known to be volbak's.
fn settle(commands: &dyn RunCommand, pool: DeviceNumber, mark: &mut Mark) -> Result<Settled, ThinError> {
    let marked = mark.read()?;
    match (marked, held_root_of(commands, pool)?) {
        (Marked::Nothing, None) => Ok(Settled::WasFree),
        (_, None) => mark.clear().map(|()| Settled::WasFree),
        (Marked::At(root), Some(held)) if root == held => {
            message(commands, pool, RELEASE)?;
            mark.clear()?;
            Ok(Settled::ReleasedOurs)
        }
        // Where the run was interrupted between its reservation and its mark, nothing tells whose this is.
        (_, Some(_)) => Err(by_another(pool)),
    }
}

/// Releases the metadata snapshots that interrupted runs of this host left, and reports each to the observer. One that is
/// not known to be volbak's, or whose pool is not active, stays.
pub(crate) fn release_left(marks: &Path, commands: &dyn RunCommand, observer: &dyn Observer) {
    let Ok(entries) = fs::read_dir(marks) else { return };
    for entry in entries.flatten() {
        let is_left = entry.metadata().is_ok_and(|facts| facts.is_file() && facts.len() > 0);
        let pool_uuid = entry.file_name().to_string_lossy().into_owned();
        let Some(pool) = is_left.then(|| pool_with(&pool_uuid)).flatten() else { continue };
        let tell = |severity, what: String| {
            let place = "thin pool".to_owned();
            observer.on_event(&Event::Problem(Problem::new(severity, place, what)));
        };
        let settled = match Mark::try_lock(&entry.path(), false) {
            // In use by a run under way.
            Ok(None) => continue,
            Ok(Some(mut mark)) => settle(commands, pool, &mut mark),
            Err(error) => Err(error),
        };
        match settled {
            Ok(Settled::WasFree) => {}
            Ok(Settled::ReleasedOurs) => {
                tell(Severity::Notice, "released the metadata snapshot that an interrupted run left".to_owned());
            }
            Err(error) => tell(Severity::Notice, with_causes(&error)),
        }
    }
}

/// The active pool with these UUIDs.
fn pool_with(pool_uuid: &str) -> Option<DeviceNumber> {
    let wanted = format!("LVM-{pool_uuid}-tpool");
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    let mut numbers = devices
        .filter(|device| device.file_name().to_string_lossy().starts_with("dm-"))
        .filter_map(|device| DeviceNumber::parse(&fs::read_to_string(device.path().join("dev")).ok()?));
    numbers.find(|number| dm_uuid(*number).as_ref() == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::ExitStatus;
    use std::sync::Mutex;

    use super::{Reserved, Settled};
    use crate::outside::{Cancel, CommandOutput, RunCommand};
    use crate::source::device::DeviceNumber;
    use crate::source::thin::error::ThinError;

    const POOL: DeviceNumber = DeviceNumber { major: 254, minor: 2 };

    /// A pool's device, whose reserved metadata snapshot is this one.
    #[derive(Default)]
    struct Kernel {
        held: Mutex<Option<u64>>,
        next: Mutex<u64>,
        /// Another program reserves it just before this message.
        is_faster: bool,
    }

    impl RunCommand for Kernel {
        fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
            assert_eq!(program, "dmsetup");
            let mut held = self.held.lock().unwrap();
            let words: Vec<&str> = args.iter().map(|word| word.to_str().unwrap()).collect();
            let (is_done, stdout) = match (words[0], *words.last().unwrap()) {
                ("status", _) => {
                    let root = held.map_or_else(|| "-".to_owned(), |root| root.to_string());
                    (true, format!("0 2097152 thin-pool 2 1/1024 3/16384 {root} rw discard queue - 256\n"))
                }
                ("message", "reserve_metadata_snap") => {
                    let mut next = self.next.lock().unwrap();
                    *next += 1;
                    if self.is_faster {
                        *held = Some(99);
                    }
                    let is_free = held.is_none();
                    *held = held.or(Some(*next));
                    (is_free, String::new())
                }
                ("message", "release_metadata_snap") => (held.take().is_some(), String::new()),
                _ => panic!("{words:?}"),
            };
            let status = ExitStatus::from_raw(if is_done { 0 } else { 256 });
            Ok(CommandOutput { status, stdout: stdout.into(), stderr: Vec::new() })
        }
    }

    fn take<'a>(kernel: &'a Kernel, marks: &Path) -> Result<(Reserved<'a>, Settled), ThinError> {
        Reserved::take(kernel, POOL, "pool", marks, &Cancel::default())
    }

    #[test]
    fn it_is_released_on_every_path() {
        let (kernel, marks) = (Kernel::default(), tempfile::tempdir().unwrap());
        let (reserved, settled) = take(&kernel, marks.path()).unwrap();
        assert_eq!((settled, *kernel.held.lock().unwrap()), (Settled::WasFree, Some(1)));
        assert_eq!(fs::read(marks.path().join("pool")).unwrap(), b"reserved 1\n");
        reserved.release().unwrap();
        assert_eq!(*kernel.held.lock().unwrap(), None);
        drop(take(&kernel, marks.path()).unwrap());
        assert_eq!(*kernel.held.lock().unwrap(), None);
        assert_eq!(fs::read(marks.path().join("pool")).unwrap(), b"");
    }

    #[test]
    fn one_of_another_program_stays() {
        let (kernel, marks) = (Kernel::default(), tempfile::tempdir().unwrap());
        *kernel.held.lock().unwrap() = Some(7);
        // The marks that a run can have left: none is of this metadata snapshot.
        for mark in ["", "reserving\n", "reserved 6\n", "odd"] {
            fs::write(marks.path().join("pool"), mark).unwrap();
            assert!(matches!(take(&kernel, marks.path()), Err(ThinError::Reserved { .. })), "{mark:?}");
            assert_eq!(*kernel.held.lock().unwrap(), Some(7), "{mark:?}");
        }
        let (kernel, marks) = (Kernel { is_faster: true, ..Kernel::default() }, tempfile::tempdir().unwrap());
        assert!(matches!(take(&kernel, marks.path()), Err(ThinError::Reserved { .. })));
        assert_eq!(*kernel.held.lock().unwrap(), Some(99));
        assert_eq!(fs::read(marks.path().join("pool")).unwrap(), b"");
    }

    #[test]
    fn one_of_an_interrupted_run_is_released() {
        let (kernel, marks) = (Kernel::default(), tempfile::tempdir().unwrap());
        *kernel.held.lock().unwrap() = Some(7);
        fs::write(marks.path().join("pool"), "reserved 7\n").unwrap();
        let (reserved, settled) = take(&kernel, marks.path()).unwrap();
        assert_eq!(settled, Settled::ReleasedOurs);
        drop(reserved);
        // The interruption came before the reservation, or after the release.
        for mark in ["reserving\n", "reserved 7\n"] {
            fs::write(marks.path().join("pool"), mark).unwrap();
            assert_eq!(take(&kernel, marks.path()).unwrap().1, Settled::WasFree);
        }
    }
}
