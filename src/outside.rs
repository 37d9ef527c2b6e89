//! The seams to the outside: bytes of a disk, other programs, the clock, cancellation. Each is one small trait or
//! type with its real implementation; tests bring in-memory ones.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

mod cursor;
pub(crate) mod digest;
pub(crate) mod file_lock;
#[cfg(test)]
pub(crate) mod for_tests;
pub mod host;
pub mod inode_flags;
pub mod memory;
mod parts;
pub mod programs;
pub(crate) mod rate;
pub(crate) mod remembered;
pub mod replaced;
pub(crate) mod secret_file;
mod spans;
pub(crate) mod spool;
mod stored;
mod traffic;
pub mod trust;
pub(crate) mod unnamed;
pub(crate) mod zeros;

pub use cursor::BlockCursor;
pub use parts::{Composed, OpenSegment, PartPlace, Parts};
pub use stored::StoredObject;
pub use traffic::Traffic;

/// Random-access bytes of a fixed length: a disk, an image file, a region, a byte vector.
pub trait BlockRead: Send + Sync {
    /// The length in bytes.
    fn len_bytes(&self) -> u64;

    /// Fills `buf` from byte `offset`. Reading past the end is an error of kind `UnexpectedEof`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// The same, without keeping more than that in memory.
    fn read_once(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, buf)
    }

    /// The first byte at or after `offset` that may be non-zero, or `None` if only zeros follow. An implementation
    /// that does not know its holes returns `offset`.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok((offset < self.len_bytes()).then_some(offset))
    }

    /// The first byte at or after `offset` from which on zeros are known to follow, or the length. What does not know its
    /// holes answers the length.
    fn next_hole(&self, _offset: u64) -> io::Result<u64> {
        Ok(self.len_bytes())
    }

    /// Hints that `len` bytes at `offset` will be read soon. Does not block.
    fn will_read(&self, _offset: u64, _len: u64) {}

    /// Reads between one and `buf.len()` bytes from byte `offset`, and returns the number; 0 at or past the end.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len_bytes().saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        if len > 0 {
            self.read_at(offset, &mut buf[..len])?;
        }
        Ok(len)
    }

    /// The file of this host behind it, with which other files can share blocks; `None` if there is none.
    fn file(&self) -> Option<&Arc<File>> {
        None
    }

    /// The object behind it, of which its store can copy ranges; `None` if there is none.
    fn object(&self) -> Option<&Arc<StoredObject>> {
        None
    }

    /// Where its bytes lie, if it is composed of parts of other files; otherwise `None`.
    fn parts(&self) -> Option<&Arc<Parts>> {
        None
    }

    /// Hints that `len` bytes at `offset` will not be read again soon.
    fn let_go(&self, offset: u64, len: u64) {
        if let (Some(file), Some(len)) = (self.file(), NonZero::new(len)) {
            let_go_of_pages(file, offset, Some(len));
        }
    }
}

/// An open file or block device, read with `pread`.
#[derive(Debug)]
pub struct FileBlocks {
    file: Arc<File>,
    len_bytes: u64,
}

impl FileBlocks {
    /// Wraps an open file of known length: the length of a block device is not in its `stat`.
    pub fn new(file: File, len_bytes: u64) -> Self {
        Self { file: Arc::new(file), len_bytes }
    }

    /// Wraps an open file that others read as well.
    pub(crate) fn of_shared(file: Arc<File>, len_bytes: u64) -> Self {
        Self { file, len_bytes }
    }

    /// Wraps an open regular file with its present length.
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

    /// Holes of a sparse file are skipped with SEEK_DATA; devices, and filesystems without it, have none.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        if offset >= self.len_bytes {
            return Ok(None);
        }
        // This moves the descriptor's position, which is not used: every read is a `pread`.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(found) => Ok((found < self.len_bytes).then_some(found.max(offset))),
            // No data up to the end. A file that was truncated, however, must fail when it is read instead of
            // looking like a hole.
            Err(rustix::io::Errno::NXIO) if self.file.metadata()?.len() >= self.len_bytes => Ok(None),
            Err(_) => Ok(Some(offset)),
        }
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        if offset >= self.len_bytes {
            return Ok(self.len_bytes);
        }
        let found = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(offset)).unwrap_or(self.len_bytes);
        // A file that became shorter ends with a hole of its own, and must fail when it is read.
        let is_end = found < self.len_bytes && self.file.metadata()?.len() < self.len_bytes;
        Ok(if is_end { self.len_bytes } else { found.clamp(offset, self.len_bytes) })
    }

    fn will_read(&self, offset: u64, len: u64) {
        // A hint; failure costs time only.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZero::new(len), rustix::fs::Advice::WillNeed);
    }

    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

/// Drops pages of a file from the page cache: `len` bytes at `offset`, or all that follow. Data that is not read
/// again must not evict the host's own pages. Only a hint.
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

/// The result of a program.
#[derive(Debug)]
pub struct CommandOutput {
    /// The exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, shown if it fails.
    pub stderr: Vec<u8>,
}

/// Runs other programs: tools of LVM and device-mapper.
pub trait RunCommand: Send + Sync {
    /// Runs `program` with `args` as a [`programs::Child::Tool`], without a shell and with empty standard input,
    /// and waits for its end. An error means that it could not be started; its own failure is in
    /// [`CommandOutput::status`].
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput>;

    /// Like [`run`](Self::run), for a program that is given the name of a device: it has `device` as its standard input, and so
    /// keeps it open itself. A loop device is freed, and its name is given to another, when nobody has it open; a program
    /// that runs on after volbak was killed would write to that other one.
    fn run_on(&self, device: &File, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
        let _ = (device, program, args);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Like [`run`](Self::run), but gives the standard output to `read` while the program runs, so that it takes no memory. The
    /// program is ended if `read` returns false. In the result, the standard output is empty.
    fn stream(
        &self,
        program: &str,
        args: &[OsString],
        read: &mut dyn FnMut(&mut dyn BufRead) -> bool,
    ) -> io::Result<CommandOutput> {
        let output = self.run(program, args)?;
        read(&mut output.stdout.as_slice());
        Ok(CommandOutput { stdout: Vec::new(), ..output })
    }
}

/// The real [`RunCommand`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemCommands;

impl RunCommand for SystemCommands {
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
        finished(&mut tool(program, args)?)
    }

    fn run_on(&self, device: &File, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
        finished(tool(program, args)?.stdin(device.try_clone()?))
    }

    fn stream(
        &self,
        program: &str,
        args: &[OsString],
        read: &mut dyn FnMut(&mut dyn BufRead) -> bool,
    ) -> io::Result<CommandOutput> {
        /// The rest of what a program says about its failure is dropped.
        const STDERR_BYTES: u64 = 16 << 10;
        let mut child = tool(program, args)?.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                // Read to the end, so that the program does not wait; what is lost on an error is a message.
                let _ = (&mut stderr).take(STDERR_BYTES).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            said
        });
        let is_read = stdout.is_some_and(|stdout| read(&mut BufReader::with_capacity(64 << 10, stdout)));
        if !is_read {
            // It may have ended by itself.
            let _ = child.kill();
        }
        let status = child.wait()?;
        Ok(CommandOutput { status, stdout: Vec::new(), stderr: said.join().unwrap_or_default() })
    }
}

fn finished(command: &mut Command) -> io::Result<CommandOutput> {
    let output = command.output()?;
    Ok(CommandOutput { status: output.status, stdout: output.stdout, stderr: output.stderr })
}

/// One of the system's tools, whose outputs are read.
fn tool(program: &str, args: &[OsString]) -> io::Result<Command> {
    let mut command = programs::command(OsStr::new(program), programs::Child::Tool)?;
    // Ctrl-C reaches every process of the foreground group and must not interrupt LVM's tools.
    command.args(args).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// The command as typed in a shell, for messages.
pub fn shown_command(program: &str, args: &[OsString]) -> String {
    std::iter::once(OsStr::new(program))
        .chain(args.iter().map(OsString::as_os_str))
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A source of the time. It decides file names and retention, so tests set it.
pub trait Clock: Send + Sync {
    /// The current time.
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

/// A request to cancel the operation, checked between steps: set by a signal, or by a deadline.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
    /// When the request was first noticed.
    seen: Arc<OnceLock<Instant>>,
}

impl Cancel {
    /// The flag, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// The same request with a deadline.
    #[must_use]
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |before| before.min(deadline));
        Self { flag: Arc::clone(&self.flag), deadline: Some(deadline), seen: Arc::default() }
    }

    /// Whether the operation is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.is_over()
    }

    /// Whether the operation is cancelled only because of its deadline.
    pub(crate) fn is_out_of_time(&self) -> bool {
        !self.flag.load(Ordering::Relaxed) && self.is_over()
    }

    /// The time since the cancellation was first noticed; `None` if not cancelled.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.is_cancelled().then(|| self.seen.get_or_init(Instant::now).elapsed())
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
