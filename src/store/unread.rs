//! Notes what of a backup's files the system refused to open or to read. That says nothing about the backup, unless the
//! medium has lost a place of a file that can be read elsewhere.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::open::OpenError;
use super::passing::is_unread;
use crate::outside::{BlockRead, Parts, StoredObject};

/// The number of refusals that are kept.
const KEPT: usize = 4;
/// What is read at each end of a file.
const END_BYTES: u64 = 4096;

/// A file of a backup, or a place in it, that could not be read.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The file.
    pub(crate) path: PathBuf,
    /// The end of its name.
    pub(crate) suffix: String,
    /// The bytes, as offset and length; `None` if it could not be opened.
    place: Option<(u64, u64)>,
    /// What the system said.
    pub(crate) source: io::Error,
}

/// What was refused so far.
#[derive(Debug, Default)]
pub(crate) struct Unread(Mutex<Vec<Refused>>);

impl Unread {
    /// Notes what this refusal is, and later ones of the file.
    pub(super) fn watch(
        self: &Arc<Self>,
        path: PathBuf,
        suffix: &str,
        opened: Result<Arc<dyn BlockRead>, OpenError>,
    ) -> Result<Arc<dyn BlockRead>, OpenError> {
        let suffix = suffix.to_owned();
        match opened {
            Ok(file) => Ok(Arc::new(Watched { file, unread: Arc::clone(self), path, suffix })),
            Err(error) => {
                if let OpenError::Io { source, .. } = &error {
                    self.note(&path, &suffix, None, source);
                }
                Err(error)
            }
        }
    }

    fn note(&self, path: &Path, suffix: &str, place: Option<(u64, u64)>, error: &io::Error) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < KEPT && is_unread(error) {
            let source = io::Error::new(error.kind(), error.to_string());
            let is_of_medium = Errno::from_io_error(error) == Some(Errno::IO);
            let place = place.filter(|_| is_of_medium);
            refused.push(Refused { path: path.to_owned(), suffix: suffix.to_owned(), place, source });
        }
    }

    /// What was refused, if no place is certainly lost. `open` opens the file whose name has this end once more.
    pub(crate) fn uncertain(&self, open: impl Fn(&str) -> Result<Arc<dyn BlockRead>, OpenError>) -> Vec<Refused> {
        let mut refused = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let is_lost = |one: &Refused| {
            let place = one.place?;
            Some(has_lost(&*open(&one.suffix).ok()?, place))
        };
        if refused.iter().any(|one| is_lost(one).unwrap_or(false)) {
            refused.clear();
        }
        refused
    }
}

/// Whether the medium fails in this place of a file, and not at its ends. What the page cache has says nothing about the medium.
fn has_lost(file: &dyn BlockRead, (offset, len): (u64, u64)) -> bool {
    let read = |at: u64, len: u64| {
        file.let_go(at, len);
        file.read_at(at, &mut vec![0; usize::try_from(len).unwrap_or(0)])
    };
    let Some(last) = file.len_bytes().checked_sub(END_BYTES) else { return false };
    let is_readable = [0, last].into_iter().any(|at| read(at, END_BYTES).is_ok());
    let len = len.min(file.len_bytes().saturating_sub(offset));
    is_readable && read(offset, len).is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::IO))
}

/// An open file whose refusals are noted.
struct Watched {
    file: Arc<dyn BlockRead>,
    unread: Arc<Unread>,
    path: PathBuf,
    suffix: String,
}

impl Watched {
    fn noted<T>(&self, offset: u64, len: usize, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.unread.note(&self.path, &self.suffix, Some((offset, len as u64)), error))
    }
}

impl BlockRead for Watched {
    fn len_bytes(&self) -> u64 {
        self.file.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.noted(offset, buf.len(), self.file.read_at(offset, buf))
    }

    fn read_once(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.noted(offset, buf.len(), self.file.read_once(offset, buf))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        self.file.next_hole(offset)
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.file.will_read(offset, len);
    }

    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.noted(offset, buf.len(), self.file.read_some(offset, buf))
    }

    fn file(&self) -> Option<&Arc<File>> {
        self.file.file()
    }

    fn object(&self) -> Option<&Arc<StoredObject>> {
        self.file.object()
    }

    fn parts(&self) -> Option<&Arc<Parts>> {
        self.file.parts()
    }

    fn let_go(&self, offset: u64, len: u64) {
        self.file.let_go(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::Arc;

    use rustix::io::Errno;

    use super::{END_BYTES, Unread};
    use crate::outside::BlockRead;
    use crate::store::open::OpenError;

    /// A disk that fails from one byte on up to another.
    struct Disk {
        len: u64,
        bad: std::ops::Range<u64>,
        errno: Errno,
    }

    impl BlockRead for Disk {
        fn len_bytes(&self) -> u64 {
            self.len
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            let is_bad = offset < self.bad.end && offset + buf.len() as u64 > self.bad.start;
            if is_bad { Err(self.errno.into()) } else { Ok(()) }
        }
    }

    /// Whether it is uncertain what this disk holds.
    fn is_uncertain(disk: &(impl Fn() -> Disk + 'static), later: impl Fn() -> Result<Disk, Errno>) -> bool {
        let unread = Arc::new(Unread::default());
        let file = unread.watch(PathBuf::from("a"), ".x", Ok(Arc::new(disk()))).unwrap();
        let mut buf = vec![0; usize::try_from(file.len_bytes()).unwrap()];
        assert!(file.read_at(0, &mut buf).is_err());
        let failed = |errno: Errno| OpenError::Io { path: PathBuf::from("a"), source: errno.into() };
        let open = |_: &str| later().map(|disk| Arc::new(disk) as Arc<dyn BlockRead>).map_err(failed);
        !unread.uncertain(open).is_empty()
    }

    #[test]
    fn only_a_place_that_fails_again_where_others_do_not_is_lost() {
        let len = 2 * END_BYTES;
        let disk = move |bad, errno| Disk { len, bad, errno };
        let one = move || disk(len / 2..len / 2 + 1, Errno::IO);
        assert!(!is_uncertain(&one, || Ok(one())));
        let short = move || Disk { len: END_BYTES - 1, bad: 0..1, errno: Errno::IO };
        assert!(is_uncertain(&short, || Ok(short())), "no other place can be read");
        assert!(is_uncertain(&one, || Ok(disk(0..0, Errno::IO))), "it can be read now");
        assert!(is_uncertain(&one, || Err(Errno::STALE)));
        let all = move || disk(0..len, Errno::IO);
        assert!(is_uncertain(&all, || Ok(all())), "nothing can be read");
        let away = move || disk(0..1, Errno::TIMEDOUT);
        assert!(is_uncertain(&away, || Ok(away())));
        let short = move || disk(0..1, Errno::OVERFLOW);
        assert!(!is_uncertain(&short, || Ok(short())), "another failure is noted elsewhere");
    }
}
