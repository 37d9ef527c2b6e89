//! Files that other programs read while they are replaced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces the file atomically: a program that reads it finds the old or the new one. It has this mode, whatever the umask.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // Not *.prom: the node exporter reads every such file.
    let temporary = path.with_file_name(format!(".volbak-tmp.{name}.part"));
    let _ = fs::remove_file(&temporary); // what a crash left; that it stands in the way shows in the next line
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|file| file.set_permissions(fs::Permissions::from_mode(mode)).map(|()| file))
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // the error says why there is no file
    }
    written
}
