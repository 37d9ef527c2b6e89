//! An image, and its backup with both readers.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tempfile::TempDir;

use crate::testkit::guest::backups::{archives, manifest, problems, volbak};
use crate::testkit::guest::{Mounted, both_outputs, quoted, sh, sh_output};

/// Who reads a filesystem, as the manifest says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// volbak itself.
    Own,
    /// The kernel: what the reader of our own leaves to it.
    Kernel,
    /// Nobody, on a kernel without a driver for it; otherwise the kernel.
    KernelIfItCan,
}

/// An image with a filesystem on it, in a directory of its own.
pub(crate) struct Case {
    pub(crate) scratch: TempDir,
    pub(crate) image: PathBuf,
    /// Where the filesystem begins.
    start: u64,
}

impl Case {
    /// A sparse image of that size, all of it one filesystem made by `mke2fs` with these arguments.
    pub(crate) fn new(name: &str, size: &str, mke2fs: &str) -> Self {
        let case = Self::empty(name, size, 0);
        case.at_image(&format!("mke2fs -q -F {mke2fs} $IMG"));
        case
    }

    /// The same with the filesystem in a partition.
    pub(crate) fn partitioned(name: &str, size_mib: u64, mke2fs: &str) -> Self {
        let case = Self::empty(name, &format!("{size_mib}M"), 1 << 20);
        case.at_image(&format!(
            "printf 'label: dos\\nstart=2048\\n' | sfdisk -q --no-reread --no-tell-kernel $IMG
             mke2fs -q -F -E offset=1048576 {mke2fs} $IMG {}K",
            (size_mib - 1) * 1024
        ));
        case
    }

    fn empty(name: &str, size: &str, start: u64) -> Self {
        let scratch = scratch();
        let image = scratch.path().join(format!("{name}.img"));
        sh(&format!("truncate -s {size} {}", quoted(&image)));
        Self { scratch, image, start }
    }

    /// Runs a script with the image in `$IMG`, its directory in `$DIR`.
    pub(crate) fn at_image(&self, script: &str) -> String {
        at(&self.image, script)
    }

    /// What debugfs answers to a request.
    pub(crate) fn debugfs(&self, request: &str) -> String {
        debugfs(&self.image, request)
    }

    pub(crate) fn mount(&self) -> Mounted {
        self.mount_with("defaults")
    }

    pub(crate) fn mount_with(&self, options: &str) -> Mounted {
        let options = format!("loop,offset={},{options}", self.start);
        Mounted::with_options(&self.image, &self.scratch.path().join("mounted"), &options)
    }

    /// Mounts it, lets `fill` make something there, and unmounts it.
    pub(crate) fn filled(self, fill: impl FnOnce(&Path)) -> Self {
        let mounted = self.mount();
        fill(&mounted.point);
        mounted.unmount();
        self
    }

    /// A copy of the image as it is at this moment, beside it.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let copy = self.scratch.path().join(format!("{name}.img"));
        sh(&format!("cp --sparse=always {} {}", quoted(&self.image), quoted(&copy)));
        copy
    }

    /// Fails unless both readers give the same archive of it; see [`assert_alike`].
    pub(crate) fn assert_alike(&self, reader: Reader) -> Backup {
        assert_alike(&self.image, reader)
    }
}

/// A directory in memory where there is enough of it: the filesystems under test have all that is done written at once.
pub(crate) fn scratch() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(in_memory).is_ok_and(|facts| facts.f_bavail * facts.f_frsize > 4 << 30);
    if has_room { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() }.unwrap()
}

/// Runs a script with the image in `$IMG`, its directory in `$DIR`.
pub(crate) fn at(image: &Path, script: &str) -> String {
    sh(&format!("IMG={}; DIR={}; {script}", quoted(image), quoted(image.parent().unwrap())))
}

/// What debugfs answers to a request.
pub(crate) fn debugfs(image: &Path, request: &str) -> String {
    at(image, &format!("debugfs -R '{request}' $IMG 2>&1 | tr -cd '\\11\\12\\40-\\176'"))
}

/// What the super block says: `dumpe2fs -h`.
pub(crate) fn features(image: &Path) -> String {
    let said = at(image, "dumpe2fs -h $IMG 2>/dev/null");
    said.lines().find_map(|line| line.strip_prefix("Filesystem features:")).unwrap().to_owned()
}

/// Whether its journal is to be replayed.
pub(crate) fn is_dirty(image: &Path) -> bool {
    features(image).contains("needs_recovery")
}

/// A backup made by one of the readers.
pub(crate) struct Backup {
    pub(crate) archive: PathBuf,
    pub(crate) status: i32,
    pub(crate) reader: String,
    /// `files` or `raw_image`.
    pub(crate) handling: String,
    pub(crate) problems: Vec<String>,
}

impl Backup {
    /// The names in it, as GNU tar lists them.
    pub(crate) fn listed(&self) -> Vec<String> {
        sh(&format!("tar tzf {}", quoted(&self.archive))).lines().map(str::to_owned).collect()
    }
}

/// Backs the image up with this value of `--reader`.
pub(crate) fn back_up(image: &Path, reader: &str, scratch: &Path) -> Backup {
    let dest = tempfile::Builder::new().prefix(reader).tempdir_in(image.parent().unwrap()).unwrap().keep();
    let mut arguments = vec!["snapshot".into(), image.as_os_str().to_owned(), "--to".into(), dest.clone().into()];
    arguments.extend(["--level", "1", "--full", "--scratch"].map(Into::into));
    arguments.push(scratch.as_os_str().to_owned());
    arguments.extend(["--reader", reader].map(Into::into));
    let output = volbak(&arguments).output().unwrap();
    let said = both_outputs(&output);
    let status = output.status.code().unwrap_or_else(|| panic!("{}: {}\n{said}", image.display(), output.status));
    assert!(matches!(status, 0 | 3), "{}: {status}\n{said}", image.display());
    let archive = archives(&dest).pop().unwrap();
    let region = manifest(&archive)["regions"][0].clone();
    let field = |name: &str| region[name].as_str().unwrap_or("none").to_owned();
    let problems = problems(&archive);
    Backup { archive, status, reader: field("reader"), handling: field("handling"), problems }
}

/// Backs the image up with the reader of our own, and with the kernel's. Fails unless the streams of tar and the
/// problems are the same, the right one of them read it, and the image is as it was. Our own gets no place for a copy.
pub(crate) fn assert_alike(image: &Path, reader: Reader) -> Backup {
    let (own, kernel) = back_up_twice(image, reader);
    assert_equal(image, &own, &kernel, reader);
    own
}

/// The same, but for an image on which the kernel finds something wrong. What it says of such a one depends on the order
/// in which it came to it, so that it is enough when our own comes to an end.
pub(crate) fn assert_alike_if_sound(image: &Path, reader: Reader) {
    let (own, kernel) = back_up_twice(image, reader);
    if kernel.status == 0 && (own.status == 0 || is_sound(image)) {
        assert_equal(image, &own, &kernel, reader);
    }
}

/// Whether e2fsck has nothing to say about it once its journal is replayed.
fn is_sound(image: &Path) -> bool {
    let replayed = image.with_extension("replayed");
    at(
        image,
        &format!(
            "cp --sparse=always $IMG {0}; e2fsck -y -E journal_only {0} >/dev/null 2>&1 || true",
            quoted(&replayed)
        ),
    );
    sh_output(&format!("e2fsck -fn {}", quoted(&replayed))).status.success()
}

fn back_up_twice(image: &Path, reader: Reader) -> (Backup, Backup) {
    let before = sha1(image);
    let scratch = image.with_extension("scratch");
    fs::create_dir_all(&scratch).unwrap();
    let no_scratch = if reader == Reader::Own { Path::new("/nonexistent/scratch") } else { &scratch };
    let own = back_up(image, "auto", no_scratch);
    let kernel = back_up(image, "kernel", &scratch);
    assert_eq!(sha1(image), before, "{}: the image was changed", image.display());
    (own, kernel)
}

fn assert_equal(image: &Path, own: &Backup, kernel: &Backup, reader: Reader) {
    let mut wrong = Vec::new();
    let expected: &[&str] = match reader {
        Reader::Own => &["ext4"],
        Reader::Kernel => &["kernel"],
        Reader::KernelIfItCan => &["kernel", "none", "raw"],
    };
    if !expected.contains(&own.reader.as_str()) {
        wrong.push(format!("read by {:?}, not by one of {expected:?}", own.reader));
    }
    if own.problems != kernel.problems || own.status != kernel.status {
        let shown = |backup: &Backup| format!("status {}, {:#?}", backup.status, backup.problems);
        wrong.push(format!("the problems differ: own: {}\nkernel: {}", shown(own), shown(kernel)));
    }
    if own.handling != kernel.handling {
        wrong.push(format!("handled as {:?} and {:?}", own.handling, kernel.handling));
    }
    // The time of a raw image is that of the backup.
    if own.handling == "files" {
        wrong.extend(difference(&own.archive, &kernel.archive));
    }
    if !wrong.is_empty() {
        keep(image);
        panic!("{}: {}", image.display(), wrong.join("\n"));
    }
}

/// Where a case that failed can be looked at.
pub(crate) fn keep(image: &Path) {
    if let Some(directory) = std::env::var_os("VOLBAK_KEEP") {
        fs::create_dir_all(&directory).unwrap();
        sh(&format!("cp --sparse=always {} {}", quoted(image), quoted(Path::new(&directory))));
    }
}

fn sha1(image: &Path) -> String {
    sh(&format!("sha1sum <{}", quoted(image)))
}

/// In what two archives' streams of tar differ.
pub(crate) fn difference(one: &Path, other: &Path) -> Option<String> {
    let mut streams = [one, other].map(|path| BufReader::new(MultiGzDecoder::new(File::open(path).unwrap())));
    let mut blocks = [vec![0; 64 << 10], vec![0; 64 << 10]];
    let mut offset = 0;
    loop {
        let mut lengths = [0; 2];
        for ((stream, block), length) in streams.iter_mut().zip(&mut blocks).zip(&mut lengths) {
            *length = filled(stream, block);
        }
        let [first, second] = [&blocks[0][..lengths[0]], &blocks[1][..lengths[1]]];
        if first != second {
            let at = first.iter().zip(second).take_while(|(first, second)| first == second).count();
            let shown = |bytes: &[u8]| {
                String::from_utf8_lossy(&bytes[at.min(bytes.len())..(at + 80).min(bytes.len())]).into_owned()
            };
            return Some(format!(
                "the streams differ at byte {}: {:?} and {:?}, in {}\nand {}",
                offset + at,
                shown(first),
                shown(second),
                entry_at(one, offset + at),
                entry_at(other, offset + at)
            ));
        }
        if first.is_empty() {
            return None;
        }
        offset += first.len();
    }
}

/// Reads until the buffer is full or there is no more.
fn filled(stream: &mut impl Read, buf: &mut [u8]) -> usize {
    let mut done = 0;
    while done < buf.len() {
        let read = stream.read(&mut buf[done..]).unwrap();
        if read == 0 {
            break;
        }
        done += read;
    }
    done
}

/// The entry that this byte of the stream belongs to, as GNU tar lists it.
fn entry_at(archive: &Path, offset: usize) -> String {
    let listed = sh_output(&format!("tar --list --verbose --block-number --full-time -zf {}", quoted(archive)));
    let listed = both_outputs(&listed);
    let mut found = "nothing";
    for line in listed.lines() {
        let block = line.strip_prefix("block ").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        if block.is_some_and(|block| block * 512 <= offset) {
            found = line;
        }
    }
    found.to_owned()
}
