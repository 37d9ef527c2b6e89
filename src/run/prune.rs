//! A destination's backups as retention sees them, and the loop that carries out a plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Local, NaiveDate, Utc};

use super::check::record::Record;
use super::check::{CheckLevel, Verdict, record};
use super::pinned;
use super::room::about_freed;
use crate::archive::kind::ArchiveKind;
use crate::config::Config;
use crate::error::with_causes;
use crate::events::{Problem, Severity};
use crate::manifest::Manifest;
use crate::report::{Past, Verification, VolumeWorth};
use crate::store::StoreError;
use crate::store::catalog::{self, BackupState, CatalogEntry, Volume};
use crate::store::pins::{Pin, Pins};
use crate::store::removal::Removals;
use crate::store::retention::{BackupFacts, Health, Now, Occasion, Plan, Policy, SetFacts, is_future, keep_sets, plan};
use crate::store::{Destination, Folder, is_in_object_store};

/// The backups of one volume, from its directory.
#[derive(Debug)]
pub struct Shelf {
    /// The volume: the name of its directory.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// All backups and damaged ones, by date.
    pub entries: Vec<CatalogEntry>,
    /// The complete ones, for retention; those that a verification found bad are marked.
    pub backups: Vec<BackupFacts>,
    /// Their verification records, by stem.
    pub records: BTreeMap<String, Record>,
    /// The last date on which one of them was read in full or restored as a test, and found good.
    pub last_verified: Option<NaiveDate>,
    /// Sudden changes not yet accepted.
    pub pending: Vec<Pin>,
    /// The changes that were accepted last, as problems of backups name them.
    pub accepted: Vec<String>,
}

/// Backups that retention must not remove, whatever the policy.
#[derive(Debug, Default)]
pub struct Kept {
    protected: Vec<String>,
    pins: Pins,
}

impl Kept {
    /// Reads the lists of a destination.
    pub fn of(destination: &Destination) -> Result<Self, StoreError> {
        Ok(Self { protected: destination.protected()?, pins: destination.pins()? })
    }

    /// Whether a person protects this backup.
    pub(super) fn protects(&self, volume: &str, stem: &str) -> bool {
        self.protected.binary_search(&format!("{volume}/{stem}")).is_ok()
    }
}

/// The relation of a volume to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An existing volume of this host.
    Exists,
    /// A volume of this host that no longer exists.
    Gone,
    /// No volume of this host: backups of an image, of another host, or of another program. Never pruned from here.
    Foreign,
}

impl Shelf {
    /// Reads the directory of the volume `name`; `None` if it does not exist.
    pub fn read(destination: &Destination, name: &str, kept: &Kept) -> Result<Option<Self>, StoreError> {
        let volumes = catalog::volumes(destination, &[name.to_owned()], with_record)?;
        Ok(volumes.into_iter().next().map(|volume| Self::of(volume, kept)))
    }

    fn of(volume: Volume<(CatalogEntry, Option<Record>)>, kept: &Kept) -> Self {
        let Volume { name, directory, backups } = volume;
        let mut pins = kept.pins.of(&name).cloned().unwrap_or_default();
        pins.add_unwritten(backups.iter().filter_map(|(entry, _)| entry.manifest()));
        let mut shelf = Self {
            accepted: pins.accepted_problems(),
            pending: pins.pending,
            name,
            directory,
            entries: Vec::with_capacity(backups.len()),
            backups: Vec::new(),
            records: BTreeMap::new(),
            last_verified: None,
        };
        for (entry, record) in backups {
            if let BackupState::Complete { manifest } = &entry.state {
                let backup = BackupFacts {
                    protected: kept.protects(&shelf.name, &entry.stem),
                    health: shelf.note_verifications(&entry, record),
                    ..as_backup(&entry, manifest)
                };
                shelf.backups.push(backup);
            }
            shelf.entries.push(entry);
        }
        pinned::mark(&mut shelf.backups, &shelf.pending);
        shelf
    }

    fn note_verifications(&mut self, entry: &CatalogEntry, record: Option<Record>) -> Health {
        let Some(record) = record else { return Health::Unverified };
        let health = record.health();
        self.records.insert(entry.stem.clone(), record);
        match health {
            record::Health::Bad { .. } => Health::Bad,
            record::Health::Unknown => Health::Unknown,
            // A quick check is no proof.
            record::Health::Unverified | record::Health::Good { level: CheckLevel::Quick, .. } => Health::Unverified,
            record::Health::Good { last_verified, .. } => {
                self.last_verified = self.last_verified.max(Some(last_verified.with_timezone(&Local).date_naive()));
                Health::Good
            }
        }
    }

    /// All volumes of a destination.
    pub fn all(destination: &Destination) -> Result<Vec<Self>, StoreError> {
        let kept = Kept::of(destination)?;
        let volumes = catalog::volumes(destination, &destination.volume_names()?, with_record)?;
        Ok(volumes.into_iter().map(|volume| Self::of(volume, &kept)).collect())
    }

    /// The complete backups with their manifests, oldest first.
    pub(super) fn complete(&self) -> impl DoubleEndedIterator<Item = (&CatalogEntry, &Manifest)> {
        self.entries.iter().filter_map(|entry| Some((entry, entry.manifest()?)))
    }

    /// The complete backups' manifests, oldest first.
    pub fn manifests(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        self.complete().map(|(_, manifest)| manifest)
    }

    /// The newest complete backup's manifest.
    pub fn newest(&self) -> Option<&Manifest> {
        self.manifests().next_back()
    }

    /// The newest backup that is usable at `now`: complete, not known to be bad, not dated in the future.
    pub fn newest_usable(&self, now: DateTime<Utc>) -> Option<&Manifest> {
        self.usable(now).next()
    }

    fn usable(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Manifest> {
        let is_bad = |stem: &str| self.backups.iter().any(|b| b.id == stem && b.health == Health::Bad);
        let usable = move |manifest: &&Manifest| !is_future(manifest.started_at, now) && !is_bad(&manifest.stem);
        self.manifests().rev().filter(usable)
    }

    /// The newest backup that is usable at `now` and contains everything selected.
    pub fn newest_whole(&self, now: DateTime<Utc>) -> Option<&Manifest> {
        self.usable(now).find(|manifest| manifest.is_whole())
    }

    /// The last verification of a backup that is still good; a quick check only if there is no other.
    pub fn last_verification(&self) -> Option<Verification> {
        self.verifications().max_by_key(|one| (one.level != CheckLevel::Quick, one.at, one.level))
    }

    /// The last restore test or boot of a backup that is still good.
    pub fn last_proof(&self) -> Option<Verification> {
        let proofs = self.verifications().filter(|one| one.level >= CheckLevel::RestoreTest);
        proofs.max_by_key(|one| (one.at, one.level))
    }

    /// The verifications that found nothing wrong, of backups that are still good.
    fn verifications(&self) -> impl Iterator<Item = Verification> {
        let good = |record: &record::Record| !matches!(record.health(), record::Health::Bad { .. });
        let is_sealed = move |stem: &str| {
            let kind = self.entries.iter().find(|entry| entry.stem == stem).map(|entry| entry.files().kind());
            kind.is_some_and(ArchiveKind::is_sealed)
        };
        self.records.iter().filter(move |(_, record)| good(record)).flat_map(move |(stem, record)| {
            let is_sealed = is_sealed(stem);
            record.results.iter().filter(|result| result.verdict != Verdict::Bad).map(move |result| {
                // Without a key only the ciphertext was compared with its digests: that proves no contents.
                let is_partly = is_sealed && result.verdict == Verdict::GoodAsFarAsChecked;
                let level = if is_partly { CheckLevel::Quick } else { result.reached() };
                Verification { at: result.verified_at, level }
            })
        })
    }

    /// The number of encrypted ones among the complete backups.
    pub fn encrypted(&self) -> usize {
        self.manifests().filter(|manifest| manifest.kind().is_sealed()).count()
    }

    /// The number of bad backups: found by a verification or by inconsistent files.
    pub fn bad(&self) -> usize {
        let damaged = self.entries.iter().filter(|entry| matches!(entry.state, BackupState::Damaged { .. })).count();
        damaged + self.backups.iter().filter(|backup| backup.health == Health::Bad).count()
    }

    /// The worth of all these backups at `now`.
    pub fn worth(&self, now: DateTime<Utc>) -> VolumeWorth {
        let last_whole = self.newest_whole(now).map(|manifest| manifest.started_at);
        VolumeWorth {
            newest_whole: self.newest_usable(now).map(Manifest::is_whole),
            newest_encrypted: self.newest_usable(now).map(|newest| newest.kind().is_sealed()),
            last_whole,
            last_whole_age_seconds: last_whole.map(|at| (now - at).num_seconds()),
            last_verification: self.last_verification(),
            last_proof: self.last_proof(),
            bad: self.bad() as u64,
            pinned: self.backups.iter().filter(|backup| backup.pinned).count() as u64,
        }
    }

    /// The last backups, for the report's charts and medians, except for `except`, the one just made.
    pub fn history(&self, except: Option<&str>) -> Vec<Past> {
        const KEPT: usize = 30;
        // The length of an image says nothing about that of an archive of files.
        let new = self.manifests().find(|manifest| Some(manifest.stem.as_str()) == except);
        let kind = new.or_else(|| self.manifests().last()).map(Manifest::kind);
        let all: Vec<Past> = self
            .manifests()
            .filter(|manifest| Some(manifest.stem.as_str()) != except && Some(manifest.kind()) == kind)
            .map(past)
            .collect();
        all[all.len().saturating_sub(KEPT)..].to_vec()
    }

    /// The damaged backups, each as a problem.
    pub fn damage(&self) -> Vec<Problem> {
        let damaged = self.entries.iter().filter_map(|entry| match &entry.state {
            BackupState::Damaged { what } => {
                Some(Problem::new(Severity::Warning, entry.stem.clone(), format!("a damaged backup: {what}")))
            }
            _ => None,
        });
        let bad = self.backups.iter().filter(|backup| backup.health == Health::Bad).map(|backup| {
            let what = "a verification found it bad; `volbak verify` says what is wrong";
            Problem::new(Severity::Warning, backup.id.clone(), what)
        });
        damaged.chain(bad).chain(self.pending_changes()).collect()
    }

    /// The sudden changes not yet accepted, each as a problem.
    pub fn pending_changes(&self) -> impl Iterator<Item = Problem> {
        self.pending.iter().map(|pin| {
            let kept = match pinned::in_place_of(&self.backups, pin).as_slice() {
                [] => format!("{} is kept", pin.kept),
                others => {
                    let kept = format!("{} {}", others.join(" and "), if others.len() == 1 { "is" } else { "are" });
                    format!("{kept} kept in place of {}, which is bad, damaged or missing,", pin.kept)
                }
            };
            let what = format!(
                "sudden change in {}: {}; {kept} until `volbak accept {}` confirms the change",
                pin.changed, pin.what, self.name
            );
            Problem::new(Severity::Warning, self.name.clone(), what)
        })
    }

    /// The relation of this volume to the host; `existing` are the names of all the host's volumes in all groups.
    pub fn standing(&self, host: &str, existing: &[String]) -> Standing {
        match self.newest() {
            Some(newest) if newest.source.kind == "lv" && newest.host == host => {
                if existing.contains(&self.name) {
                    Standing::Exists
                } else {
                    Standing::Gone
                }
            }
            _ => Standing::Foreign,
        }
    }

    /// The policy for these backups: for the volume in the group of the newest one.
    pub fn policy(&self, config: &Config) -> Policy {
        let group = self.newest().and_then(|newest| newest.source.vg.clone()).unwrap_or_default();
        config.for_volume(&group, &self.name).retention
    }

    /// The plan of retention on this occasion.
    pub fn plan(&self, config: &Config, now: Now, occasion: Occasion<'_>) -> Plan {
        plan(&self.name, &self.backups, &self.policy(config), now, occasion)
    }
}

/// The plans of several volumes together: sets are kept and retired as one.
pub(super) fn plans_of<'a>(
    shelves: &[&Shelf],
    config: &Config,
    now: Now,
    occasion: impl Fn(&Shelf) -> Occasion<'a>,
) -> Vec<Plan> {
    let mut plans: Vec<Plan> = shelves.iter().map(|shelf| shelf.plan(config, now, occasion(shelf))).collect();
    let backups: Vec<&[BackupFacts]> = shelves.iter().map(|shelf| shelf.backups.as_slice()).collect();
    keep_sets(&mut plans, &backups, now);
    plans
}

/// The backups of the volume `name`.
pub(super) fn shelf_of<'a>(shelves: &'a [Shelf], name: &str) -> Option<&'a Shelf> {
    shelves.iter().find(|shelf| shelf.name == name)
}

/// A backup with its verification record.
fn with_record(mut entry: CatalogEntry) -> (CatalogEntry, Option<Record>) {
    let BackupState::Complete { manifest } = &mut entry.state else { return (entry, None) };
    // Only a restore needs these bytes, and there may be thousands of backups.
    manifest.layout.outside = Vec::new();
    let record = record::of_entry(&entry);
    (entry, record)
}

/// The moment `utc`, for retention.
pub fn now(utc: DateTime<Utc>) -> Now {
    Now { utc, local_date: utc.with_timezone(&Local).date_naive() }
}

/// The result of carrying out a plan.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The removed archives, oldest first.
    pub removed: Vec<PathBuf>,
    /// The problems.
    pub problems: Vec<Problem>,
}

/// Carries out the plan's removals, and stops at the first failure. Requires the lock.
pub fn carry_out(volume: &Folder, plan: &Plan) -> Pruned {
    let mut pruned = Pruned::default();
    let mut removals = Removals::of(&**volume);
    for id in plan.removals() {
        let archive = crate::store::Backup::in_directory(volume.path(), id).archive_path();
        match removals.remove(id) {
            Ok(()) => pruned.removed.push(archive),
            // A state of the store, and no error.
            Err(error @ (StoreError::Held { .. } | StoreError::MayNotDelete(_))) => {
                pruned.problems.push(Problem::new(Severity::Notice, id, format!("it is due for removal: {error}")));
                if matches!(error, StoreError::MayNotDelete(_)) {
                    break;
                }
            }
            Err(error) => {
                let what = format!("it could not be removed: {}", with_causes(&error));
                pruned.problems.push(Problem::new(Severity::Warning, id, what));
                break;
            }
        }
    }
    let freed = removals.finish().and_then(|removal| removal.freed);
    pruned.problems.extend(about_freed(volume.path(), freed));
    pruned
}

/// The findings of a plan that need attention, each as a problem.
pub fn problems_of(plan: &Plan) -> Vec<Problem> {
    let refusals = plan.refusals.iter().filter(|refusal| !refusal.is_ordinary());
    refusals.map(|refusal| Problem::new(Severity::Warning, "retention", refusal.to_string())).collect()
}

fn as_backup(entry: &CatalogEntry, manifest: &Manifest) -> BackupFacts {
    let local_date = NaiveDate::parse_from_str(&manifest.local_date, "%Y-%m-%d")
        .unwrap_or_else(|_| manifest.started_at.with_timezone(&Local).date_naive());
    BackupFacts {
        whole: manifest.is_whole(),
        volume: manifest.source.lv_uuid.clone(),
        locked_until: manifest.locked.map(|lock| lock.until).filter(|_| is_in_object_store(&entry.archive)),
        size_bytes: manifest.sizes.archive_bytes.saturating_add(manifest.sizes.index_bytes),
        set: manifest.set.as_ref().map(|set| SetFacts {
            group: set.group.clone(),
            id: set.id.clone(),
            members: set.members.clone(),
        }),
        ..BackupFacts::new(entry.stem.clone(), manifest.started_at, local_date)
    }
}

fn past(manifest: &Manifest) -> Past {
    let seconds = (manifest.finished_at - manifest.started_at).num_seconds();
    Past {
        taken_at: manifest.started_at,
        archive_bytes: manifest.sizes.archive_bytes,
        duration_seconds: u64::try_from(seconds).unwrap_or(0),
    }
}
