//! volbak backs up the block volumes of an OpenStack cinder-volume host and proves that each backup restores.
//!
//! A [`Repository`] is a directory of backups. It backs up a disk image, a block device or an LVM volume; each [`Backup`] in it
//! can be verified, listed, read and restored. Plain `tar` restores an archive, too.
//!
//! ```
//! # use std::{fs, process::Command, sync::Arc};
//! # use volbak::{BackupOptions, Repository, RestoreOptions, Silent, Verdict, VerifyOptions};
//! # let work = tempfile::tempdir()?;
//! # let (image, backups, target) = (work.path().join("disk.img"), work.path().join("backups"), work.path().join("restored"));
//! # fs::create_dir(&backups)?;
//! # fs::create_dir(work.path().join("tree"))?;
//! # fs::write(work.path().join("tree/hello.txt"), "hello\n")?;
//! # let made = Command::new("/sbin/mke2fs").args(["-q", "-d"]).arg(work.path().join("tree")).arg(&image).arg("2M").status()?;
//! # assert!(made.success());
//! let repository = Repository::open(&backups)?;
//! let backup = repository.back_up(&image, &BackupOptions::default(), Arc::new(Silent))?;
//! assert!(backup.is_whole());
//!
//! let report = backup.verify(&VerifyOptions::default(), &Silent)?;
//! assert_eq!(report.verdict, Verdict::Good);
//!
//! let mut content = Vec::new();
//! backup.read("hello.txt", &mut content)?;
//! assert_eq!(content, b"hello\n");
//!
//! let restored = repository.find("disk")?.restore(&RestoreOptions::into_directory(&target), &Silent)?;
//! assert!(restored.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How data flows
//!
//! ```text
//! source   a logical volume's snapshot, a block device, an image: bytes that do not change while they are read
//! layout   partition table, logical volumes inside the volume, what each region holds
//! reader   entries of one filesystem: our own ext4 reader, the kernel's mount, or the region's raw bytes
//! archive  entries → tar stream → gzip members, compressed and hashed in parallel, with an index of them
//! store    files of one backup under one name, published when the last one is on the disk
//! run      the verbs: back up, verify, restore, rebuild a disk, a night over all volumes
//! ```
//!
//! Everything read from a volume is a tenant's, and nothing of it is trusted: damage and contradictions become [`Problem`]s that
//! an [`Observer`] gets, and the rest is still backed up.
//!
//! # Features
//!
//! All are on by default: `cli` is what the program `volbak` needs (clap, indicatif), `encryption` writes and reads age
//! files, `mail` sends reports by SMTP, `mount` serves backups through FUSE, `notify` calls webhooks, `openstack` asks the
//! cloud, `s3` and `swift` reach object stores. A program that embeds the library takes `default-features = false`.
//!
//! Modules that this page does not show are the program's own; they change without notice.

#[doc(hidden)]
pub mod archive;
#[doc(hidden)]
pub mod cloud;
#[doc(hidden)]
pub mod config;
pub(crate) mod digits;
#[cfg(feature = "encryption")]
#[doc(hidden)]
pub mod encryption;
#[cfg(not(feature = "encryption"))]
#[doc(hidden)]
#[path = "encryption/without.rs"]
pub mod encryption;
#[doc(hidden)]
pub mod entry;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod events;
pub(crate) mod field;
#[cfg(any(feature = "notify", feature = "openstack", feature = "s3"))]
mod http;
#[doc(hidden)]
pub mod image;
#[doc(hidden)]
pub mod layout;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod mail;
#[doc(hidden)]
pub mod manifest;
#[doc(hidden)]
pub mod notify;
#[cfg(feature = "s3")]
#[doc(hidden)]
pub mod objects;
#[cfg(feature = "openstack")]
#[doc(hidden)]
pub mod openstack;
#[doc(hidden)]
pub mod outside;
#[doc(hidden)]
pub mod owner;
#[doc(hidden)]
pub mod reader;
#[doc(hidden)]
pub mod report;
mod repository;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod shown;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod units;
#[doc(hidden)]
pub mod used;
mod writer;

pub use crate::events::{Event, Observer, Problem, Severity, Silent};
pub use crate::manifest::Manifest;
pub use crate::repository::{Backup, Error, Repository};
pub use crate::run::backup::BackupOptions;
pub use crate::run::browse::{Entries, ListedEntry};
pub use crate::run::check::{CheckLevel, Finding, Verdict};
pub use crate::run::restore::{RestoreOptions, RestoreReport};
pub use crate::run::verify::{VerifyOptions, VerifyReport};

/// Types of fields of [`BackupOptions`] and [`RestoreOptions`].
pub mod options {
    pub use crate::archive::kind::{ArchiveKind, BackupMode, Compression};
    pub use crate::archive::level::CompressionLevel;
    pub use crate::config::{ArchiveOptions, ChangeLimits, Expectation};
    pub use crate::encryption::{EncryptionOptions, PublicSigner, Recipients, Signer};
    pub use crate::outside::Cancel;
    pub use crate::run::backup::{AroundError, AroundFreeze, TimeLimit};
    pub use crate::run::parent::ParentChoice;
    pub use crate::run::restore::Existing;
    pub use crate::run::restore::ids::Mapping;
    pub use crate::run::restore::names::{IdWish, NameFiles};
    pub use crate::source::{FreezeOptions, SnapshotSize};
    pub use crate::store::shared::ArchiveLayout;
}

/// Types of [`Manifest`]'s fields: facts about the backup and the volume.
pub mod facts {
    pub use crate::archive::counts::{CarryCounts, Counts};
    pub use crate::cloud::{Attached, CinderSide, CloudVolume, Difference, NovaSide, VolumeInCloud};
    pub use crate::events::{RunFigures, SourceName};
    pub use crate::layout::{
        Handling, Holds, HoldsKind, Layout, NestedLv, PreservedBytes, Region, SourceFacts, Table, TableKind, UsedCopy,
    };
    pub use crate::manifest::{
        CarriedRecord, ChangesRecord, Completeness, CopiedFrom, DigestsRecord, EncryptionRecord, ImageRecord, LockMode,
        LockedRecord, ObjectRecord, ObjectsRecord, OnServerRecord, OptionsRecord, Pin, ProblemCounts, RegionRecord,
        SetRecord, SizesRecord, SnapshotRecord, SourceRecord,
    };
    pub use crate::run::boot::{BootOutcome, BootSign};
    pub use crate::run::check::BackupFile;
    pub use crate::run::check::second_opinion::SecondOpinion;
    pub use crate::units::{ByteRange, Extent};
}

/// Readers of filesystems. A program can implement [`Filesystem`](reading::Filesystem), and archive it with
/// [`ArchiveWriter`](reading::ArchiveWriter).
pub mod reading {
    pub use crate::archive::error::StopCheck;
    pub use crate::archive::members::{ArchiveFile, Outputs};
    pub use crate::archive::write::{ArchiveWriter, WriteOptions, WrittenArchive};
    pub use crate::entry::{DeviceNumber, Entry, EntryKind, FileContent, Metadata, Timestamp, Xattr};
    pub use crate::reader::exclude::Excludes;
    pub use crate::reader::filesystem::{Filesystem, NotReleased};
    pub use crate::reader::{Found, FsReader};
}

/// The causes inside [`Error`].
pub mod errors {
    pub use crate::archive::codec::EncoderError;
    pub use crate::archive::error::ArchiveError;
    pub use crate::archive::level::BadLevel;
    pub use crate::archive::read::index_file::IndexError;
    pub use crate::encryption::{KeyError, LockedError, SignatureError};
    pub use crate::layout::LayoutError;
    pub use crate::manifest::{ManifestError, UnsealError};
    pub use crate::reader::exclude::BadPattern as BadExclude;
    pub use crate::reader::kernel::device_map::DeviceMapError;
    pub use crate::run::backup::BackupError;
    pub use crate::run::browse::BrowseError;
    pub use crate::run::check::CheckError;
    pub use crate::run::locate::LocateError;
    pub use crate::run::restore::RestoreError;
    pub use crate::run::restore::ids::BadMapping;
    pub use crate::run::restore::names::IdError;
    pub use crate::run::restore::select::BadPattern;
    pub use crate::source::{Refusal, SourceError};
    pub use crate::store::open::OpenError;
    pub use crate::store::{IsImage, ReadError, StoreError};
}
