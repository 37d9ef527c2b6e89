//! Restores an image backup, or one region of it, onto a device or into an image file.

use std::sync::Arc;

use super::image_backup::{OpenImage, OpenImageError};
use super::import::{self, ImportError, Imported, PreparedImport, SourceDisk, WriteOptions};
use super::locate;
use super::rebuild::DeviceOptions;
use super::rebuild::target::TargetSpec;
use crate::events::Observer;
use crate::layout::TableKind;
use crate::outside::RunCommand;
use crate::store::Backup;

/// Why an image was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreImageError {
    /// The backup cannot be read.
    #[error(transparent)]
    Backup(#[from] OpenImageError),
    /// It was not written.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The options change what is in a disk, and an image is written as it is.
    #[error("an image is restored byte for byte: {option} cannot be used with it; {afterwards}")]
    AsItIs {
        /// The option.
        option: &'static str,
        /// What to do on the target.
        afterwards: &'static str,
    },
    /// The backup is known to be bad, and data would be erased for it.
    #[error(
        "nothing was erased, since the backup is bad or may be; choose another, or use --even-if-bad, which stops at the first member \
         that is damaged: {0}"
    )]
    KnownBad(String),
}

/// A restore that can be carried out.
pub struct PreparedRestore {
    import: PreparedImport,
    how: WriteOptions,
    known_bad: Option<String>,
}

/// Looks at the backup and at the target. Nothing is written.
pub fn prepare(
    files: &Backup,
    options: &DeviceOptions,
    commands: &dyn RunCommand,
) -> Result<PreparedRestore, RestoreImageError> {
    use RestoreImageError::AsItIs;
    if !options.group_names.is_empty() {
        return Err(AsItIs { option: "--vg-name", afterwards: "rename the group on the target afterwards" });
    }
    if options.plain_md {
        return Err(AsItIs { option: "--plain-md", afterwards: "use the array on the target as it is" });
    }
    if !options.ids.is_empty() {
        let afterwards = "mount the target afterwards, and use `volbak remap`";
        return Err(AsItIs { option: "a mapping of owners", afterwards });
    }
    let open = OpenImage::open(files, &options.cancel)?;
    let blocks = open.region(options.region.as_deref())?;
    let manifest = &open.manifest;
    let known_bad = locate::bad_note_with(files, manifest);
    let mut remarks: Vec<String> = known_bad.iter().cloned().collect();
    remarks.extend(open.why_partial());
    let name = match &options.region {
        Some(region) => format!("{} of {}", crate::shown::text(region), files.stem()),
        None => files.stem().to_owned(),
    };
    let layout = &manifest.layout;
    let has_table = options.region.is_none() && layout.table.kind != TableKind::None;
    let disk = SourceDisk {
        name,
        form: "image backup".to_owned(),
        blocks: Arc::clone(&blocks),
        table_sector_bytes: has_table.then(|| layout.source.sector_size.into()),
        remarks,
        file: None,
    };
    let how = WriteOptions {
        target: options.target.clone(),
        yes_erase: options.yes_erase.clone(),
        cancel: options.cancel.clone(),
    };
    let import = import::prepare_disk(disk, &how, files.directory(), commands)?;
    let erases = matches!(options.target, TargetSpec::Device(_)) || !import.on_target().is_empty();
    let known_bad = known_bad.filter(|_| erases && !options.even_if_bad);
    Ok(PreparedRestore { import, how, known_bad })
}

impl PreparedRestore {
    /// The plan, the target, and what has to be said before it is erased.
    pub fn import(&self) -> &PreparedImport {
        &self.import
    }

    /// See [`PreparedImport::needs`].
    pub fn needs(&self) -> Option<String> {
        self.import.needs_for(self.how.yes_erase.as_deref())
    }

    /// Writes it. Each member is checked before its data are written, and all is read back at the end.
    pub fn carry_out(self, commands: &dyn RunCommand, observer: &dyn Observer) -> Result<Imported, RestoreImageError> {
        if let Some(what) = self.known_bad {
            return Err(RestoreImageError::KnownBad(what));
        }
        Ok(import::write_disk(self.import, &self.how, commands, observer)?)
    }
}
