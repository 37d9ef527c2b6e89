//! Temporary files without a name, which end with the process that has them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

/// An unnamed file in `$TMPDIR`, or in /var/tmp: /tmp may be in memory.
pub(crate) fn unnamed_file() -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let directory = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(&directory, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(file.into());
    }
    // The filesystem does not support O_TMPFILE.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".volbak-tmp.map-{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
