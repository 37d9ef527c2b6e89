//! Files that a user names for a result: a page, metrics, a plan.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use volbak::outside::replaced;

/// Streams of this process: they are written to as they are.
const STREAMS: [&str; 5] = ["/dev/stdout", "/dev/stderr", "/dev/null", "/dev/fd", "/proc/self/fd"];

/// Writes the file in one step. Others may be able to write to its directory: no symbolic link is followed, and only an own file
/// keeps its mode.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if STREAMS.iter().any(|stream| path.starts_with(stream)) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    if path.file_name().is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "name a file"));
    }
    let user = rustix::process::geteuid().as_raw();
    let own = fs::symlink_metadata(path).ok().filter(|old| old.is_file() && old.uid() == user);
    let mode = own.map_or(mode, |old| old.permissions().mode() & 0o777);
    replaced::replace(path, bytes, mode)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::write;

    #[test]
    fn no_link_that_lies_in_the_way_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("victim"), "kept").unwrap();
        // As others can make them in /tmp: in place of the file, and by the names that it has while it is written.
        for name in ["page", "page.new", ".volbak-tmp.page.part"] {
            symlink("victim", at(name)).unwrap();
        }
        write(&at("page"), b"page", 0o600).unwrap();
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept");
        let page = fs::symlink_metadata(at("page")).unwrap();
        assert!(page.is_file() && page.permissions().mode() & 0o777 == 0o600);
        assert_eq!(fs::read_to_string(at("page")).unwrap(), "page");
        assert!(write(directory.path().parent().unwrap().join("..").as_path(), b"", 0o600).is_err());
    }

    #[test]
    fn an_own_file_keeps_its_mode_and_that_of_another_user_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"page", 0o600).unwrap();
        assert_eq!(mode(), 0o644);
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(1000), None).unwrap();
            write(&path, b"page", 0o600).unwrap();
            assert_eq!(mode(), 0o600);
        }
    }

    #[test]
    fn a_stream_of_this_process_is_written_to() {
        let mut stream = tempfile::tempfile().unwrap();
        write(format!("/dev/fd/{}", stream.as_raw_fd()).as_ref(), b"page", 0o600).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "page");
    }
}
