//! The seams to the world outside: bytes of a disk, other programs, the clock, and the wish to stop. Each is one
//! small trait or type with its real implementation; tests bring their own in-memory ones.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

mod cursor;
pub mod host;
pub mod inode_flags;
pub mod memory;
pub mod programs;
pub mod trust;

pub use cursor::BlockCursor;

/// Something that is read at byte offsets and has a fixed length: a disk, an image file, a region, a byte vector.
pub trait BlockRead: Send + Sync {
    /// How many bytes there are.
    fn len_bytes(&self) -> u64;

    /// Fills `buf` from byte `offset` on. Reading past the end is an error of kind `UnexpectedEof`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The first byte at or after `offset` that may be other than zero, or `None` when all that follows is zero. What
    /// does not know its holes answers `offset` itself.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok((offset < self.len_bytes()).then_some(offset))
    }

    /// Says that `len` bytes at `offset` will be read soon, so that they can be fetched meanwhile. Never waits.
    fn will_read(&self, _offset: u64, _len: u64) {}

    /// Reads at least one byte from byte `offset` on, and at most `buf.len()`; gives how many. 0 is the end, or past it.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len_bytes().saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        if len > 0 {
            self.read_at(offset, &mut buf[..len])?;
        }
        Ok(len)
    }

    /// The file that it is, where it is one of this host: other files can share its blocks. `None` where it is not.
    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

/// An open file or block device, read with `pread`.
#[derive(Debug)]
pub struct FileBlocks {
    file: Arc<File>,
    len_bytes: u64,
}

impl FileBlocks {
    /// Takes an open file whose length is already known: a block device's is not in its `stat`.
    pub fn new(file: File, len_bytes: u64) -> Self {
        Self { file: Arc::new(file), len_bytes }
    }

    /// Takes an open regular file, as long as it is now.
    pub fn of_file(file: File) -> io::Result<Self> {
        let len_bytes = file.metadata()?.len();
        Ok(Self::new(file, len_bytes))
    }
}

impl BlockRead for FileBlocks {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// A sparse file's holes are skipped with SEEK_DATA; a device, or a filesystem without it, has none.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        if offset >= self.len_bytes {
            return Ok(None);
        }
        // The descriptor's own position moves, which nothing here depends on: every read is a `pread`.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(found) => Ok((found < self.len_bytes).then_some(found.max(offset))),
            // No data up to the file's end; but a file that became shorter must fail when it is read, not be a hole.
            Err(rustix::io::Errno::NXIO) if self.file.metadata()?.len() >= self.len_bytes => Ok(None),
            Err(_) => Ok(Some(offset)),
        }
    }

    fn will_read(&self, offset: u64, len: u64) {
        // Advice alone: that it is not taken costs time and nothing else.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZero::new(len), rustix::fs::Advice::WillNeed);
    }

    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

/// Has the kernel forget what it holds of a file in memory from `offset` on: `len` bytes, or all of it. What is not read
/// again tonight must not push out what the host has there otherwise. Advice alone.
pub(crate) fn let_go_of_pages(file: &File, offset: u64, len: Option<NonZero<u64>>) {
    let _ = rustix::fs::fadvise(file, offset, len, rustix::fs::Advice::DontNeed);
}

impl BlockRead for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// What a program that ran to its end left behind.
#[derive(Debug)]
pub struct CommandOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error, shown when it fails.
    pub stderr: Vec<u8>,
}

/// Runs other programs: LVM's tools, device-mapper's.
pub trait RunCommand: Send + Sync {
    /// Runs `program` with `args`, no shell, nothing on standard input, as a [`programs::Child::Tool`], and waits for its
    /// end. An error means that it could not be started; its own failure is in [`CommandOutput::status`].
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput>;
}

/// The real [`RunCommand`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemCommands;

impl RunCommand for SystemCommands {
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
        let output = programs::command(OsStr::new(program), programs::Child::Tool)?
            .args(args)
            // Ctrl-C at a terminal reaches every process of the foreground group; LVM's tools must not be cut off by it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()?;
        Ok(CommandOutput { status: output.status, stdout: output.stdout, stderr: output.stderr })
    }
}

/// The command as a person would type it, for error messages.
pub fn shown_command(program: &str, args: &[OsString]) -> String {
    std::iter::once(OsStr::new(program))
        .chain(args.iter().map(OsString::as_os_str))
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Tells the time. What it says decides file names and retention, so tests set it.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
}

/// The real [`Clock`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A wish that the work stop, looked at between two pieces of work: set once by a signal, or come when a time is over.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
    /// When it was first seen.
    seen: Arc<OnceLock<Instant>>,
}

impl Cancel {
    /// The flag itself, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// The same wish, which comes at `deadline` at the latest.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |before| before.min(deadline));
        Self { flag: Arc::clone(&self.flag), deadline: Some(deadline), seen: Arc::default() }
    }

    /// Whether the work is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.is_over()
    }

    /// Whether the work is to stop because its time is over, and for no other reason.
    pub fn is_out_of_time(&self) -> bool {
        !self.flag.load(Ordering::Relaxed) && self.is_over()
    }

    /// How long ago the work was to stop, as far as it was looked at; `None` when it may go on.
    pub fn since(&self) -> Option<Duration> {
        self.is_cancelled().then(|| self.seen.get_or_init(Instant::now).elapsed())
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
