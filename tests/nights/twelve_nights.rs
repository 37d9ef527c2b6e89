//! The promise: from one config, night after night, each volume's old backups go when and only when its new one is
//! there, the report says exactly that, and the mail carries the report. In `twelve_nights` everything but volumes and
//! archives is real: config, retention, report, mail. The other nights run the program over a stand-in for LVM's tools.

use std::ffi::OsString;
use std::fs;

use chrono::{DateTime, Duration, FixedOffset, NaiveDate, Utc};
use volbak::config::Config;
use volbak::mail::send;
use volbak::outside::host;
use volbak::report::{Outcome, RunReport, Usage, VolumeReport};
use volbak::store::retention::{BackupFacts, Now, Occasion, Plan, brake, plan};

const CONFIG: &str = "
backup_destination = '/BACKUPS/EBS-VOL'
backups_retention_days = 7
enable_mail_notification = true
email_recipient = ['admin@example.com']
[retention]
gone_days = 10
[mail]
transport = 'file'
file_directory = '/tmp/replaced-below'
[volume.'volume-10']
backups_retention_days = 2
";

fn start(night: i64) -> DateTime<FixedOffset> {
    DateTime::parse_from_rfc3339("2026-11-01T01:00:01+01:00").unwrap() + Duration::days(night)
}

fn now(night: i64) -> Now {
    Now { utc: start(night).with_timezone(&Utc), local_date: start(night).date_naive() }
}

struct Volume {
    name: &'static str,
    /// The nights on which its backup fails.
    fails: std::ops::Range<i64>,
    backups: Vec<BackupFacts>,
}

impl Volume {
    fn id(&self, date: NaiveDate) -> String {
        format!("{}_{}", self.name, date.format("%d_%m_%Y"))
    }

    fn plan(&self, config: &Config, night: i64, occasion: Occasion<'_>) -> Plan {
        let options = config.for_volume("cinder-volumes", self.name);
        plan(self.name, &self.backups, &options.retention, now(night), occasion)
    }

    /// One night: the outcome, and the paths that retention removed.
    fn night(&mut self, config: &Config, night: i64) -> VolumeReport {
        let directory = format!("{}/{}", config.backup_destination.display(), self.name);
        let failed = self.fails.contains(&night);
        let id = self.id(start(night).date_naive());
        if !failed {
            let (taken_at, local_date) = (start(night).with_timezone(&Utc), start(night).date_naive());
            let facts = BackupFacts::new(id.clone(), taken_at, local_date);
            self.backups.push(BackupFacts { size_bytes: 1 << 20, ..facts });
        }
        let occasion = if failed { Occasion::NothingNew } else { Occasion::Published(&id) };
        let plan = self.plan(config, night, occasion);
        let gone: Vec<String> = plan.removals().map(str::to_owned).collect();
        self.backups.retain(|backup| !gone.contains(&backup.id));
        let outcome = if failed { Outcome::Failed("snapshot overflowed".to_owned()) } else { Outcome::BackedUp };
        VolumeReport {
            removed: gone.iter().map(|id| format!("{directory}/{id}.tar.gz")).collect(),
            outcome,
            duration_seconds: 60,
            directory_bytes: (self.backups.len() as u64) << 20,
            archive_bytes: (!failed).then_some(1 << 20),
            ..VolumeReport::not_started(self.name.to_owned(), directory)
        }
    }
}

fn report(config: &Config, night: i64, volumes: Vec<VolumeReport>) -> RunReport {
    let backups_bytes = volumes.iter().map(|volume| volume.directory_bytes).sum();
    RunReport {
        duration_seconds: 120,
        retention_days: config.retention.retention_days,
        destination: config.backup_destination.display().to_string(),
        usage: Some(Usage { backups_bytes, used_bytes: backups_bytes, available_bytes: 100 << 20, full_in_days: None }),
        volumes,
        ..RunReport::begun("stor1".to_owned(), start(night))
    }
}

#[test]
fn twelve_nights() {
    let directory = tempfile::tempdir().unwrap();
    let mails = directory.path().join("mails");
    let variable = |name: &str, value: std::path::PathBuf| {
        (OsString::from(format!("VOLBAK_MAIL__{name}")), value.into_os_string())
    };
    let variables = [variable("FILE_DIRECTORY", mails.clone()), variable("SPOOL_DIR", directory.path().join("spool"))];
    let config = Config::parse(CONFIG, variables).unwrap();
    let (settings, style) = (config.mail_settings(&host::name()), config.report.style);

    let mut volumes = [
        Volume { name: "volume-1", fails: 3..11, backups: Vec::new() },
        Volume { name: "volume-10", fails: 0..0, backups: Vec::new() },
    ];
    let mut removed: Vec<(i64, String)> = Vec::new();
    let mut last = String::new();
    for night in 0..12 {
        let forecasts: Vec<Plan> =
            volumes.iter().map(|volume| volume.plan(&config, night, Occasion::Forecast)).collect();
        assert_eq!(brake(&forecasts), None, "night {night}");
        let done: Vec<VolumeReport> = volumes.iter_mut().map(|volume| volume.night(&config, night)).collect();
        for path in done.iter().flat_map(|volume| &volume.removed) {
            removed.push((night, path.rsplit('/').next().unwrap().to_owned()));
        }
        let rendered = report(&config, night, done).render(style);
        assert!(send(&settings, &rendered, now(night).utc).sent);
        last = rendered.text;
    }

    // volume-10 keeps two days: from the fourth night on, one goes each night. volume-1 fails for eight nights and
    // loses nothing meanwhile; then the new one lets two go, and the newest of before stays.
    let expected: Vec<(i64, String)> = (3..11)
        .map(|night| (night, format!("volume-10_{:02}_11_2026.tar.gz", night - 2)))
        .chain([
            (11, "volume-1_01_11_2026.tar.gz".to_owned()),
            (11, "volume-1_02_11_2026.tar.gz".to_owned()),
            (11, "volume-10_09_11_2026.tar.gz".to_owned()),
        ])
        .collect();
    assert_eq!(removed, expected);
    assert_eq!(
        last,
        "\
Backup Start Time - 12/11 at 01:00:01
Current retention - 7 days

The backup volume is mounted. Proceed...
Removing old backups...  : /BACKUPS/EBS-VOL/volume-1/volume-1_01_11_2026.tar.gz
     /BACKUPS/EBS-VOL/volume-1/volume-1_02_11_2026.tar.gz
     /BACKUPS/EBS-VOL/volume-1 - 0 h 1 m and 0 seconds. Size - 2,0M

The backup volume is mounted. Proceed...
Removing old backups...  : /BACKUPS/EBS-VOL/volume-10/volume-10_09_11_2026.tar.gz
     /BACKUPS/EBS-VOL/volume-10 - 0 h 1 m and 0 seconds. Size - 3,0M
---------------------------------------
Total backups size - 5,0M - Used space : 5%
Total execution time - 0 h 2 m and 0 seconds
"
    );
    assert_eq!(fs::read_dir(&mails).unwrap().count(), 12);

    // volume-10 is deleted in cinder. Its three backups stay until the newest is older than ten days, the last for good.
    let gone = &volumes[1];
    assert_eq!(gone.plan(&config, 21, Occasion::Gone).removals().count(), 0);
    let late = gone.plan(&config, 22, Occasion::Gone);
    assert_eq!(late.removals().collect::<Vec<_>>(), ["volume-10_10_11_2026", "volume-10_11_11_2026"]);
}
