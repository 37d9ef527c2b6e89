//! Restores a whole disk: partition table, boot code, filesystems, swap and volume groups, and then the files.
//!
//! `planner` decides the steps from the manifest and the target's size alone; [`target`] checks that the target may
//! be written to; [`carry_out`] executes the steps. The first sector, without which the disk is empty, is written
//! last. `docs/decisions/0018-disks-made-anew.md` gives the reasons.

pub mod carry_out;
mod claims;
mod compare;
mod error;
mod ext_settings;
mod fat_format;
mod features;
mod host;
pub(in crate::run) mod kept;
mod makefs;
mod md;
mod on_target;
mod one_region;
mod options;
pub mod plan;
mod planner;
pub(super) mod put_bytes;
mod raw_around;
mod read_back;
mod report;
mod settle;
mod shift;
mod shown;
pub mod stored;
mod subvolumes;
mod table;
pub mod target;
mod try_mount;
mod twins;
mod volumes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use self::carry_out::Carried;
use self::host::{active_groups, can_make_loop_devices, has_partitions_in_kernel};
use self::plan::{DiskPlan, Step, Wish};
use self::stored::{Stored, stored_by_region};
use self::target::{Target, TargetSpec};
use crate::archive::read::index_file::{IndexError, IndexReader};
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::layout::HoldsKind;
use crate::manifest::Manifest;
use crate::outside::programs::is_installed;
use crate::outside::{BlockRead, RunCommand};
use crate::reader::kernel::device_map::{DeviceMapError, remove_stale_maps};
use crate::reader::kernel::mounted::kernel_knows;
use crate::run::check::{BackupFile, CheckError, CheckLevel, Findings, side_files};
use crate::run::in_use;
use crate::run::locate;
use crate::shown::counted;
use crate::store::Backup;

pub use self::error::DeviceError;
pub use self::one_region::OneRegionError;
pub use self::options::DeviceOptions;
pub use self::planner::make_plan;
pub use self::read_back::TableOpinion;
pub use self::report::{DeviceReport, PutBy};
pub use self::shown::plan_as_text;
pub use self::volumes::is_group_name;

/// A restore that is ready to be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: DiskPlan,
    target: Target,
    manifest: Box<Manifest>,
    /// The index, if it matches the manifest.
    index: Option<Arc<dyn BlockRead>>,
    /// Set if a verification found the backup bad. A problem of the index alone does not prevent a restore.
    known_bad: Option<String>,
}

impl Prepared {
    /// The target as given by the user.
    pub fn target_name(&self) -> &str {
        &self.target.name
    }

    /// The option required before the target is erased: `--yes-erase=NAME`; `None` if the target is empty or the
    /// option was given.
    pub fn needs(&self, options: &DeviceOptions) -> Option<String> {
        self.target.needs(options.yes_erase.as_deref())
    }

    /// The content of the target that will be lost.
    pub fn on_target(&self) -> &[String] {
        &self.target.on_it
    }
}

/// Examines backup and target, and makes the plan. Writes nothing.
pub fn prepare(
    files: &Backup,
    options: &DeviceOptions,
    commands: &dyn RunCommand,
    observer: &dyn Observer,
) -> Result<Prepared, DeviceError> {
    files.require_files()?;
    options.ids.check_for_disk()?;
    // A restore that was killed may have left device maps that keep its target busy.
    match remove_stale_maps(commands, observer) {
        Err(DeviceMapError::NotRun(_)) | Ok(_) => {}
        Err(error) => {
            let problem = Problem::new(Severity::Warning, "device-mapper", with_causes(&error));
            observer.on_event(&Event::Problem(problem));
        }
    }
    let mut findings = Findings::default();
    // Full, so that the index is opened.
    let sides =
        side_files::check(files, CheckLevel::Full, &options.cancel, &mut findings).map_err(|error| match error {
            CheckError::Stopped => DeviceError::Stopped,
            _ => DeviceError::Refused(vec![with_causes(&error)]),
        })?;
    // Without its layout, the disk would come back empty.
    if let Some(why) = sides.locked {
        return Err(DeviceError::Manifest(why));
    }
    let Some(manifest) = sides.manifest else {
        let first = findings.first.first().map_or_else(|| "it is not there".to_owned(), |finding| finding.what.clone());
        return Err(DeviceError::Manifest(first));
    };
    let of_archive = findings.first.iter().filter(|finding| finding.file == BackupFile::Archive);
    let broken: Vec<String> = of_archive.map(|finding| format!("the archive: {}", finding.what)).collect();
    if !broken.is_empty() {
        return Err(DeviceError::Refused(broken));
    }
    let index = sides.index.filter(|_| !sides.index_changed);
    let stored = index.as_ref().and_then(|index| stored(&manifest, index).ok());
    let manifest = match &options.region {
        Some(name) => Box::new(one_region::one_region(&manifest, name)?),
        None => manifest,
    };
    let target = Target::look(&options.target, manifest.layout.source.size_bytes, files.directory(), commands)?;
    let none_stored = BTreeMap::new();
    let wish = Wish {
        target_bytes: target.size_bytes,
        target_sector_bytes: target.sector_bytes,
        group_names: &options.group_names,
        plain_md: options.plain_md,
        active_groups: &active_groups(),
        stored: stored.as_ref().unwrap_or(&none_stored),
        has_program: &is_installed,
        can_mount: &kernel_knows,
    };
    let mut plan = make_plan(&manifest, &wish).map_err(DeviceError::Refused)?;
    settle::settle(&mut plan, commands).map_err(DeviceError::Refused)?;
    let unmountable = try_mount::refusals(&plan, commands);
    if !unmountable.is_empty() {
        return Err(DeviceError::Refused(unmountable));
    }
    let twins = || Some(twins::refusals(&plan, &target)).filter(|twins| !twins.is_empty());
    if let Some(twins) = in_use::lasting(twins) {
        return Err(DeviceError::Refused(twins));
    }
    let known_bad = locate::bad_note_with(files, &manifest);
    let found =
        findings.first.iter().map(|finding| format!("{}: {}", finding.place(files.stem(), files.kind()), finding.what));
    let wrong: Vec<String> = known_bad.iter().cloned().chain(found).collect();
    if !manifest.is_whole() {
        let errors = counted(manifest.problem_counts.errors, "file or region is", "files or regions are");
        plan.remarks.push(format!("the backup is partial: {errors} missing in it or damaged"));
    }
    if !options.ids.is_empty() {
        let images = plan.steps.iter().filter_map(|step| match step {
            Step::RawImage { region, .. } => {
                Some(format!("{region}: it is an image, whose owners and groups are not mapped"))
            }
            _ => None,
        });
        let images: Vec<String> = images.collect();
        plan.remarks.extend(images);
    }
    let has_volumes = has_volumes(&manifest);
    if has_volumes && target.sector_bytes.is_some() {
        let what = "the kernel does not get its new partition table, \
                    so that this host does not activate the volume groups or arrays inside";
        plan.remarks.push(what.to_owned());
    }
    let lacking = target.lacks_room_for(needed_bytes(&manifest));
    plan.remarks.splice(0..0, wrong.into_iter().chain(lacking).chain(target.remarks.iter().cloned()));
    if stored.is_none() {
        plan.remarks.push("there is no good index, so how much room the files need is not known beforehand".to_owned());
    }
    Ok(Prepared { plan, target, manifest, index, known_bad })
}

/// The files' data, of which compressed filesystems need less, and a share for the filesystems' metadata.
fn needed_bytes(manifest: &Manifest) -> u64 {
    let used = manifest.regions.iter().map(|region| region.used_bytes.unwrap_or(u64::MAX));
    let data = manifest.counts.data_bytes.min(used.fold(0, u64::saturating_add));
    data.saturating_add(data / 32)
}

/// Carries out a plan. Problems with single files are reported to `observer` and do not stop it.
pub fn restore_disk(
    files: &Backup,
    prepared: Prepared,
    options: &DeviceOptions,
    commands: std::sync::Arc<dyn RunCommand>,
    observer: &dyn Observer,
) -> Result<DeviceReport, DeviceError> {
    let Prepared { plan, target, manifest, index, known_bad } = prepared;
    let erases = matches!(options.target, TargetSpec::Device(_)) || !target.on_it.is_empty();
    if let Some(what) = known_bad.filter(|_| erases && !options.even_if_bad) {
        return Err(DeviceError::KnownBad(what));
    }
    target.may_be_erased(options.yes_erase.as_deref())?;
    if plan.steps.iter().any(|step| matches!(step, Step::Make(_))) {
        can_make_loop_devices()
            .map_err(|error| DeviceError::Refused(vec![format!("no loop device can be made: {error}")]))?;
    }
    let has_volumes = has_volumes(&manifest);
    let replaces = !target.on_it.is_empty();
    let name = target.name.clone();
    let source = SourceName { shown: target.name.clone(), volume: files.volume(), group: None };
    observer.on_event(&Event::SourceStarted { source });
    let open = target.open(needed_bytes(&manifest))?;
    let again = std::sync::Arc::clone(&commands);
    let carried = Carried { files, plan: &plan, index: index.as_ref(), target: &open, options, commands, observer };
    let mut report = carried.carry_out(manifest.layout.source.sector_size).map_err(DeviceError::Unfinished)?;
    report.backup_errors = if options.region.is_none() { manifest.problem_counts.errors } else { 0 };
    if replaces && !report.is_complete() && open.is_new {
        // The existing file may be the better one.
        if let Some(kept) = open.keep_temporary()? {
            let kept = crate::shown::path(kept.as_os_str().as_encoded_bytes());
            let what = format!("the restore is not complete, so the existing image is kept; the new one is {kept}");
            observer.on_event(&Event::Problem(Problem::new(Severity::Error, name.clone(), what.clone())));
            report.failures.push(format!("{name}: {what}"));
        }
        return Ok(report);
    }
    let device = open.finish(replaces)?;
    // With its partitions visible, the host's udev would activate the guest's volume groups.
    if let Some(device) = device.filter(|device| !has_volumes && has_partitions_in_kernel(device)) {
        let args = [OsString::from("--rereadpt"), device.into_os_string()];
        let failed = match again.run("blockdev", &args) {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                // EINVAL: the kernel does not support partitions on this device, like on most loop devices.
                let said = String::from_utf8_lossy(output.stderr.trim_ascii()).into_owned();
                (!said.contains("Invalid argument")).then_some(said)
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = failed {
            let what = format!("the kernel did not read its new partition table ({why}); blockdev --rereadpt does it");
            observer.on_event(&Event::Problem(Problem::new(Severity::Warning, name, what)));
        }
    }
    Ok(report)
}

/// Whether it contains volume groups or arrays, which this host might activate.
fn has_volumes(manifest: &Manifest) -> bool {
    let is_one = |kind| matches!(kind, HoldsKind::Lvm2Pv | HoldsKind::Mdraid);
    manifest.layout.regions.iter().any(|region| is_one(region.holds.kind))
}

fn stored(manifest: &Manifest, index: &Arc<dyn BlockRead>) -> Result<BTreeMap<String, Stored>, IndexError> {
    stored_by_region(manifest, IndexReader::new(Arc::clone(index))?)
}
