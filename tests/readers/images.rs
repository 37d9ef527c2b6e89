//! One tree in images of several kinds.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use volbak::outside::{BlockRead, Cancel, FileBlocks, RunCommand, SystemCommands};
use volbak::reader::filesystem::{Backing, Filesystem, FsRegion, Means, NotOpened, Reader};
use volbak::reader::kernel::mounted::kernel_knows;
use volbak::reader::open::open;
use volbak::units::Extent;

use crate::all_readers;
use crate::testkit::guest::{quoted, sh};

/// The tree: files of several sizes, holes, hard links, links, names of any bytes, and directories deep and wide.
const TREE: &str = r#"
    mkdir -p d/e/f 'two words' wide && cd d
    printf 'some words' >small; : >empty
    head -c 300000 /dev/urandom >large
    ln small e/hard; ln small e/f/harder; ln large e/hard-large
    ln -s ../nowhere link; ln -s "$(head -c 200 /dev/zero | tr '\0' x)" long-link
    truncate -s 3M holes; printf edge | dd of=holes bs=1 seek=1048574 conv=notrunc status=none
    printf end | dd of=holes bs=1 seek=3145725 conv=notrunc status=none
    truncate -s 2M only-a-hole
    mkfifo pipe; chmod 4751 small; chmod 0700 e; touch -d '2001-02-03 04:05:06 UTC' large
    head -c 5000 /dev/urandom >e/f/deep
    cd ../wide; for i in $(seq 300); do echo $i >file-$i; done
    printf x >$'name-\xc3\xb6-\xff'
"#;

/// What reads an image, and how the image is made of the tree in `$TREE`.
pub(crate) struct Implementation {
    /// As [`Filesystem::reader`] says it.
    pub(crate) reader: &'static str,
    fs: &'static str,
    by_kernel: bool,
    make: &'static str,
    /// Damages the entry `d/e/f`.
    damage: &'static str,
}

const MAKE_EXT4: &str = "truncate -s 48M $IMG; mke2fs -q -F -t ext4 -d $TREE $IMG";
const DAMAGE_EXT4: &str = "debugfs -w -R 'clri /d/e/f' $IMG 2>/dev/null";

pub(crate) const IMPLEMENTATIONS: [Implementation; 5] = [
    Implementation { reader: "ext4", fs: "ext4", by_kernel: false, make: MAKE_EXT4, damage: DAMAGE_EXT4 },
    Implementation {
        reader: "ext4",
        fs: "ext2",
        by_kernel: false,
        make: "truncate -s 48M $IMG; mke2fs -q -F -t ext2 -b 1024 -d $TREE $IMG",
        damage: DAMAGE_EXT4,
    },
    Implementation { reader: "kernel", fs: "ext4", by_kernel: true, make: MAKE_EXT4, damage: DAMAGE_EXT4 },
    Implementation {
        reader: "kernel",
        fs: "xfs",
        by_kernel: false,
        make: "truncate -s 320M $IMG; mkfs.xfs -q $IMG; mkdir $IMG.d; mount -o loop,nouuid $IMG $IMG.d
               cp -a $TREE/. $IMG.d; umount $IMG.d",
        damage: "ino=$(xfs_db -r -c 'path /d/e/f' -c 'print v3.inumber' $IMG 2>/dev/null | grep -o '[0-9]*$')
                 xfs_db -x -c \"inode $ino\" -c 'write -d core.magic 0' $IMG >/dev/null",
    },
    Implementation {
        reader: "tar",
        fs: "tar",
        by_kernel: false,
        make: "tar -C $TREE --numeric-owner -cf $IMG .",
        damage: "at=$(grep -abo './d/e/f/deep' $IMG | head -1 | cut -d: -f1); printf X | dd of=$IMG bs=1 seek=$at conv=notrunc status=none",
    },
];

/// An image with the tree in it, in a directory of its own.
pub(crate) struct Image {
    pub(crate) scratch: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) of: &'static Implementation,
}

impl Implementation {
    /// Whether this host can read it.
    pub(crate) fn is_here(&self) -> bool {
        self.reader != "kernel" || kernel_knows(self.fs)
    }

    pub(crate) fn image(&'static self) -> Image {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("image");
        let image = Image { path, of: self, scratch };
        sh(&format!("mkdir {0} && cd {0}\n{TREE}", quoted(&image.tree())));
        image.run(self.make);
        image
    }
}

impl Image {
    /// The tree that it was made of.
    pub(crate) fn tree(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    fn run(&self, script: &str) {
        sh(&format!("IMG={} TREE={}\n{script}", quoted(&self.path), quoted(&self.tree())));
    }

    pub(crate) fn damage(&self) {
        self.run(self.of.damage);
    }

    pub(crate) fn try_open(&self) -> Result<Box<dyn Filesystem>, NotOpened> {
        self.open_by(&all_readers(self.of.by_kernel))
    }

    pub(crate) fn open_by(&self, readers: &[&dyn Reader]) -> Result<Box<dyn Filesystem>, NotOpened> {
        let file = File::open(&self.path).unwrap();
        let len = file.metadata().unwrap().len();
        let blocks: Arc<dyn BlockRead> = Arc::new(FileBlocks::new(file, len));
        let commands: Arc<dyn RunCommand> = Arc::new(SystemCommands);
        let pieces = [Extent { source_offset: 0, length: len }];
        let region = FsRegion { name: "p1", fs: self.of.fs, blocks, pieces: &pieces };
        let means = Means {
            backing: &ReadOnly(&self.path),
            scratch: self.scratch.path(),
            with_snapshots: false,
            commands: &commands,
            cancel: &Cancel::default(),
        };
        open(readers, &region, &means, &mut |_| {})
    }

    pub(crate) fn open(&self) -> Box<dyn Filesystem> {
        let filesystem = self.try_open().unwrap_or_else(|why| panic!("{} by {}: {why}", self.of.fs, self.of.reader));
        assert_eq!(filesystem.reader(), self.of.reader, "{}", self.of.fs);
        filesystem
    }
}

struct ReadOnly<'a>(&'a Path);

impl Backing for ReadOnly<'_> {
    fn open(&self) -> io::Result<File> {
        File::open(self.0)
    }

    fn path(&self) -> &Path {
        self.0
    }

    fn is_writable(&self) -> bool {
        false
    }
}
