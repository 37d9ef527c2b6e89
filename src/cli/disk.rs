//! `volbak restore --to-device` and `--to-image`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use volbak::error::ExitClass;
use volbak::outside::{Cancel, SystemCommands};
use volbak::run::rebuild::target::TargetSpec;
use volbak::run::rebuild::{self, DeviceOptions, is_group_name, plan_as_text};
use volbak::run::restore::RestoreOptions;
use volbak::run::restore::dry_run::{DryRun, dry_run};
use volbak::run::restore::names::IdWish;
use volbak::run::restore_image;
use volbak::shown;
use volbak::store::Backup;
use volbak::units::ByteLen;

use super::of_volume::OfVolume;
use super::output::{after_printing, lacking_in_backup, print, print_json};
use super::owners::owners_as_text;
use super::progress::{Progress, Verbosity};
use volbak::shown::counted;

#[derive(Debug, Args)]
#[group(id = "disk", multiple = true, conflicts_with = "to")]
pub(crate) struct DiskArgs {
    /// Rebuild the whole disk on this block device: /dev/…, or VG/LV
    #[arg(long, value_name = "DEV", conflicts_with_all = ["to_image", "size"])]
    to_device: Option<PathBuf>,
    /// Rebuild the whole disk as this image file
    #[arg(long, value_name = "FILE")]
    to_image: Option<PathBuf>,
    /// Size of the image, in bytes or as 20G [default: size of the source]
    #[arg(long, value_name = "SIZE", value_parser = image_size, requires = "to_image")]
    size: Option<u64>,
    /// Erase the contents of the target; NAME is the last component of its path
    #[arg(long, value_name = "NAME", require_equals = true)]
    yes_erase: Option<String>,
    /// Erase the target even if the backup is known to be bad, and restore its good parts
    #[arg(long)]
    even_if_bad: bool,
    /// Rename a volume group inside the disk; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = group_name)]
    vg_name: Vec<(String, String)>,
    /// Restore the contents of a RAID1 without the array: the partition of its member becomes a plain filesystem
    #[arg(long)]
    plain_md: bool,
}

/// Settings from the other arguments.
pub(crate) struct Work {
    pub(crate) threads: usize,
    pub(crate) cancel: Cancel,
    pub(crate) verbosity: Verbosity,
    pub(crate) json: bool,
    pub(crate) dry_run: bool,
    pub(crate) region: Option<String>,
    pub(crate) ids: IdWish,
    pub(crate) volume: Option<OfVolume>,
    /// Set by the restore when all of the disk is written.
    pub(crate) is_complete: bool,
}

fn image_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].trim_end_matches("iB") {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        unit => return Err(format!("{unit} is not a unit; write K, M, G or T")),
    };
    let number: u64 =
        digits.parse().map_err(|_| "write a number of bytes, or a number with K, M, G or T, such as 20G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "that is too large".to_owned())
}

fn group_name(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("write OLD=NEW")?;
    if !is_group_name(new) {
        return Err(format!("{} is not a valid name for a volume group", shown::text(new)));
    }
    Ok((old.to_owned(), new.to_owned()))
}

pub(crate) fn restore_disk(args: &DiskArgs, files: &Backup, work: &mut Work) -> anyhow::Result<ExitClass> {
    let target = match (&args.to_device, &args.to_image) {
        _ if work.volume.is_some() => work.volume.as_ref().and_then(OfVolume::target).context("there is no volume")?,
        (Some(device), _) => TargetSpec::Device(device.clone()),
        (None, Some(image)) => TargetSpec::Image(image.clone(), args.size),
        (None, None) => anyhow::bail!("name a target: --to, --to-device or --to-image"),
    };
    let group_names: BTreeMap<_, _> = args.vg_name.iter().cloned().collect();
    anyhow::ensure!(group_names.len() == args.vg_name.len(), "--vg-name gives one volume group two names");
    let mut options = DeviceOptions::new(target);
    options.region.clone_from(&work.region);
    options.group_names = group_names;
    options.plain_md = args.plain_md;
    options.yes_erase.clone_from(&args.yes_erase);
    if let Some(ours) = work.volume.as_ref().and_then(OfVolume::erasable) {
        options.yes_erase = Some(ours);
    }
    options.even_if_bad = args.even_if_bad;
    options.ids.clone_from(&work.ids);
    options.threads = work.threads;
    options.cancel = work.cancel.clone();
    if files.kind().is_image() {
        return restore_image(files, &options, work);
    }
    let progress = Progress::new(work.verbosity);
    let prepared =
        rebuild::prepare(files, &options, &SystemCommands, &progress).with_context(|| files.stem().to_owned())?;
    let plan = prepared.plan.clone();
    let text = plan_as_text(&plan, prepared.target_name(), prepared.on_target());
    let lost = prepared.on_target().to_vec();
    if work.dry_run {
        let owners = (!options.ids.is_empty()).then(|| owners_of(files, &options, &progress)).transpose()?;
        if work.json {
            let mut json =
                serde_json::json!({ "plan": plan, "lost": lost, "needs": prepared.needs(&options), "report": null });
            if let Some(DryRun { entries, uids, gids, uncounted_owners, merged, .. }) = owners {
                json["owners"] = serde_json::json!({
                    "entries": entries, "uids": uids, "gids": gids, "uncounted_owners": uncounted_owners, "merged": merged,
                });
            }
            print_json(&with_volume(json, work))?;
        } else {
            let text = text + &owners.as_ref().map(owners_as_text).unwrap_or_default();
            let needs = prepared.needs(&options).map_or_else(String::new, |needs| {
                format!("  needs:  {needs}, which erases the target; without it nothing is written\n")
            });
            print(&(text + &needs))?;
        }
        return Ok(ExitClass::Well);
    }
    if !work.json && work.verbosity > Verbosity::Quiet {
        print(&text)?;
    }
    let name = prepared.target_name().to_owned();
    if let Some(volume) = work.volume.as_mut().filter(|_| prepared.needs(&options).is_none()) {
        volume.begin()?;
    }
    let report = rebuild::restore_disk(files, prepared, &options, Arc::new(SystemCommands), &progress);
    progress.done();
    let report = report.with_context(|| files.stem().to_owned())?;
    work.is_complete = report.is_complete();
    let printed = if work.json {
        print_json(&with_volume(serde_json::json!({ "plan": plan, "lost": lost, "report": report }), work))
    } else {
        let sum =
            |count: fn(&volbak::run::restore::RestoreReport) -> u64| report.files.values().map(count).sum::<u64>();
        let opinion = report.second_opinion.lines();
        let opinion: String = opinion.iter().flat_map(|line| [name.as_str(), ": ", line, "\n"]).collect();
        let lacking = lacking_in_backup(sum(|report| report.damaged_in_backup), report.backup_errors);
        print(&format!(
            "{opinion}{name}: {} restored, {} failed; {} checked and clean; {}{lacking}\n",
            counted(sum(|report| report.restored + report.present), "entry", "entries"),
            sum(|report| report.failed),
            counted(report.clean.len() as u64, "filesystem", "filesystems"),
            counted(report.failures.len() as u64, "other problem", "other problems"),
        ))
    };
    let is_well = report.is_complete() && report.is_as_the_source_was() && !report.has_merged_ids();
    let class = if is_well { ExitClass::Well } else { ExitClass::WithProblems };
    Ok(after_printing(printed, &format!("the restore to {name} is done"), class))
}

/// The owners of the files, and what would become of them.
fn owners_of(files: &Backup, options: &DeviceOptions, progress: &Progress) -> anyhow::Result<DryRun> {
    let mut all = RestoreOptions::into_directory(".");
    all.region.clone_from(&options.region);
    all.ids.clone_from(&options.ids);
    (all.threads, all.cancel) = (options.threads, options.cancel.clone());
    let found = dry_run(files, &all, progress).with_context(|| files.stem().to_owned())?;
    progress.done();
    Ok(found)
}

/// The JSON of a restore, with the volume of the cloud that it goes to.
fn with_volume(mut json: serde_json::Value, work: &Work) -> serde_json::Value {
    if let Some(volume) = &work.volume {
        json["volume"] = volume.facts();
    }
    json
}

/// Restores an image backup.
fn restore_image(files: &Backup, options: &DeviceOptions, work: &mut Work) -> anyhow::Result<ExitClass> {
    let (verbosity, json, dry_run) = (work.verbosity, work.json, work.dry_run);
    let stem = || files.stem().to_owned();
    let prepared = restore_image::prepare(files, options, &SystemCommands).with_context(stem)?;
    let text = prepared.import().plan_as_text();
    let lost = prepared.import().on_target().to_vec();
    if dry_run {
        let needs = prepared.needs();
        if json {
            print_json(&with_volume(
                serde_json::json!({ "plan": text, "lost": lost, "needs": needs, "report": null }),
                work,
            ))?;
        } else {
            let needs = needs.map_or_else(String::new, |needs| {
                format!("  needs:  {needs}, which erases the target; without it nothing is written\n")
            });
            print(&(text + &needs))?;
        }
        return Ok(ExitClass::Well);
    }
    if !json && verbosity > Verbosity::Quiet {
        print(&text)?;
    }
    let progress = Progress::new(verbosity);
    let name = prepared.import().target_name().to_owned();
    if let Some(volume) = work.volume.as_mut().filter(|_| prepared.needs().is_none()) {
        volume.begin()?;
    }
    let done = prepared.carry_out(&SystemCommands, &progress);
    progress.done();
    let done = done.with_context(stem)?;
    work.is_complete = true;
    let class = if done.has_problems() { ExitClass::WithProblems } else { ExitClass::Well };
    let printed = if json {
        print_json(&with_volume(serde_json::json!({ "plan": text, "lost": lost, "report": done }), work))
    } else {
        let data = ByteLen(done.data_bytes);
        print(&format!("{name}: {data} of data written, read back and equal, in {} s\n", done.seconds))
    };
    Ok(after_printing(printed, &format!("the restore to {name} is done"), class))
}

#[cfg(test)]
mod tests {
    use super::{group_name, image_size};

    #[test]
    fn sizes_are_numbers_with_units() {
        assert_eq!(image_size("512"), Ok(512));
        assert_eq!(image_size("20G"), Ok(20 << 30));
        assert_eq!(image_size("1MiB"), Ok(1 << 20));
        for bad in ["", "G", "-1", "1X", "99999999T", "1.5G"] {
            assert!(image_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_groups_new_name_must_be_one() {
        assert_eq!(group_name("vg0=new"), Ok(("vg0".to_owned(), "new".to_owned())));
        for bad in ["vg0", "vg0=", "vg0=a/b", "vg0=-x", "vg0=a\nb"] {
            assert!(group_name(bad).is_err(), "{bad}");
        }
    }
}
