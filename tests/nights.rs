//! The promise: from one config, night after night, each volume's old backups go when and only when its new one is
//! there, the report says exactly that, and the mail carries the report. In `twelve_nights` everything but volumes and
//! archives is real: config, retention, report, mail. The other nights run the program over a stand-in for LVM's tools.

#![allow(clippy::unwrap_used, reason = "a test's own failure")]

use std::ffi::OsString;
use std::fs;

use chrono::{DateTime, Duration, FixedOffset, NaiveDate, Utc};
use volbak::config::Config;
use volbak::mail::send;
use volbak::outside::host;
use volbak::report::{Dump, FORMAT_VERSION, Outcome, RunReport, Usage, VolumeReport};
use volbak::store::retention::{Backup, Health, Now, Occasion, Plan, brake, plan};

mod stand_in;

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
    backups: Vec<Backup>,
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
            self.backups.push(Backup {
                id: id.clone(),
                taken_at: start(night).with_timezone(&Utc),
                local_date: start(night).date_naive(),
                health: Health::Unverified,
                whole: true,
                protected: false,
                pinned: false,
                size_bytes: 1 << 20,
            });
        }
        let occasion = if failed { Occasion::NothingNew } else { Occasion::Published(&id) };
        let plan = self.plan(config, night, occasion);
        let gone: Vec<String> = plan.removals().map(str::to_owned).collect();
        self.backups.retain(|backup| !gone.contains(&backup.id));
        let outcome = if failed { Outcome::Failed("snapshot overflowed".to_owned()) } else { Outcome::BackedUp };
        VolumeReport {
            name: self.name.to_owned(),
            group: None,
            taken_at: None,
            dump: Dump::NotConfigured,
            removed: gone.iter().map(|id| format!("{directory}/{id}.tar.gz")).collect(),
            outcome,
            duration_seconds: 60,
            directory_bytes: (self.backups.len() as u64) << 20,
            archive_bytes: (!failed).then_some(1 << 20),
            entries: None,
            whole: None,
            manifest: None,
            problems: Vec::new(),
            snapshot_peak_percent: None,
            last_verified: None,
            history: Vec::new(),
            directory,
        }
    }
}

fn report(config: &Config, night: i64, volumes: Vec<VolumeReport>) -> RunReport {
    let backups_bytes = volumes.iter().map(|volume| volume.directory_bytes).sum();
    RunReport {
        format_version: FORMAT_VERSION,
        host: "stor1".to_owned(),
        run_id: None,
        started: start(night),
        duration_seconds: 120,
        retention_days: config.retention.retention_days,
        destination: config.backup_destination.display().to_string(),
        usage: Some(Usage { backups_bytes, used_bytes: backups_bytes, available_bytes: 100 << 20 }),
        aborted: None,
        volumes,
        gone: Vec::new(),
        problems: Vec::new(),
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

mod heard {
    use std::fs;
    use std::path::Path;

    use crate::stand_in::Host;

    const MAIL: &str = "enable_mail_notification = true\nemail_recipient = ['admin@example.com']\n[mail]\n\
                        transport = 'sendmail'\n";

    fn with_mail(host: &Host, sendmail: &str) {
        script(&host.at("sendmail"), sendmail);
        let more = format!(
            "{MAIL}sendmail_program = '{}'\nspool_dir = '{}'\n[report]\nmetrics_file = '{}'\n",
            host.at("sendmail").display(),
            host.at("spool").display(),
            host.at("volbak.prom").display()
        );
        host.write_config("volbak.toml", &more);
    }

    fn script(path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_good_night_says_one_line_and_a_quiet_one_nothing() {
        let host = Host::new("");
        with_mail(&host, "cat >/dev/null");
        host.add_ext4("volume-1");
        let did = host.verb(&["--quiet", "run"]);
        assert_eq!((did.status, did.stdout.as_str(), did.stderr.as_str()), (0, "", ""));
        let did = host.verb(&["run"]);
        let last = did.stderr.lines().last().unwrap();
        assert!(did.status == 0 && last.starts_with("volbak ") && last.contains("1 of 1 volumes backed up"), "{did:?}");
    }

    #[test]
    fn a_run_that_is_cut_off_is_critical_until_the_next_one() {
        let host = Host::new("");
        host.add_ext4("volume-1");
        assert_eq!(host.verb(&["run"]).status, 0);
        assert_eq!(host.verb(&["status"]).status, 0);
        // As a loss of power would: the process has no chance to do anything.
        script(&host.at("power-cut"), "kill -9 $PPID");
        host.write_config(
            "volbak.toml",
            &format!("[hooks]\nbefore_snapshot = ['{}']\n", host.at("power-cut").display()),
        );
        assert_eq!(host.verb(&["run"]).status, -1);
        let did = host.verb(&["status"]);
        assert!(did.status == 2 && did.stdout.contains(" was cut off: its process ended without a report"), "{did:?}");
        host.write_config("volbak.toml", "");
        // An error of usage ends a run, and cuts none off.
        assert_eq!(host.verb(&["run", "--only", "volume-9"]).status, 2);
        assert_eq!(host.verb(&["run"]).status, 0);
        let did = host.verb(&["status"]);
        assert!(did.status == 0 && !did.stdout.contains("cut off"), "{did:?}");
    }

    #[test]
    fn a_volume_that_failed_is_told_on_standard_error_although_the_mail_was_sent() {
        let host = Host::new("");
        with_mail(&host, &format!("cat >{}", host.at("mailed").display()));
        host.add_ext4("volume-1");
        host.add_ext4("volume-2");
        host.set_broken("volume-2", true);
        let did = host.verb(&["--quiet", "run"]);
        assert_eq!((did.status, did.stdout.as_str()), (1, ""), "{did:?}");
        assert!(fs::read_to_string(host.at("mailed")).unwrap().contains("FAILED 1 of 2 volumes"));
        let lines: Vec<&str> = did.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{did:?}");
        assert!(
            lines[0].starts_with("vg0/volume-2: FAILED: ") && lines[0].contains("insufficient free space"),
            "{did:?}"
        );
        assert!(lines[1].ends_with(": FAILED 1 of 2 volumes"), "{did:?}");
        assert!(fs::read_to_string(host.at("volbak.prom")).unwrap().contains("volbak_run_verdict 2\n"));
        assert_eq!(host.verb(&["status"]).status, 2);
    }

    #[test]
    fn a_lost_destination_is_told_while_the_mail_is_down_too() {
        let host = Host::new("");
        with_mail(&host, "echo the relay is away >&2; exit 75");
        host.add_ext4("volume-1");
        fs::remove_dir(host.at("backups")).unwrap();
        let did = host.verb(&["--quiet", "run"]);
        assert_eq!(did.status, 1, "{did:?}");
        assert!(did.stderr.contains("the relay is away"), "{did:?}");
        assert!(did.stderr.lines().last().unwrap().ends_with(": FAILED, the backup volume is not mounted"), "{did:?}");
        assert!(fs::read_to_string(host.at("volbak.prom")).unwrap().contains("volbak_run_verdict 2\n"));
        assert_eq!(host.verb(&["status"]).status, 3, "a monitoring system's UNKNOWN");
        let asked = host.verb(&["status", "--json"]);
        assert_eq!(asked.status, 3, "{asked:?}");
        let json: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
        assert_eq!((&json["level"], &json["reasons"][0]["level"]), (&"UNKNOWN".into(), &"UNKNOWN".into()), "{json}");
    }

    #[test]
    fn lvm_that_lists_nothing_fails_the_run_and_says_why() {
        let host = Host::new("");
        with_mail(&host, "cat >/dev/null");
        fs::write(host.at("state/no-lvs"), "").unwrap();
        let did = host.verb(&["-q", "run"]);
        assert_eq!(did.status, 1);
        assert!(did.stderr.lines().last().unwrap().contains("the metadata cannot be read"), "{did:?}");
        let status = host.verb(&["status"]);
        assert!(status.status == 2 && status.stdout.contains("the metadata cannot be read"), "{status:?}");
    }

    #[test]
    fn what_cannot_be_kept_or_measured_is_told_each_by_itself() {
        let host = Host::new("");
        with_mail(&host, &format!("cat >{}", host.at("mailed").display()));
        host.add_ext4("volume-1");
        // A file in the directories' places: neither the report nor the figures can be written.
        fs::create_dir(host.at("backups/.volbak")).unwrap();
        fs::write(host.at("backups/.volbak/reports"), "").unwrap();
        fs::create_dir(host.at("volbak.prom")).unwrap();
        let did = host.verb(&["-q", "run"]);
        assert_eq!(did.status, 3, "{did:?}");
        assert!(did.stderr.contains("report: it is not kept") && did.stderr.contains("volbak.prom"), "{did:?}");
        assert!(did.stderr.lines().last().unwrap().contains("PROBLEMS, 1 of 1"), "{did:?}");
        assert!(fs::read_to_string(host.at("mailed")).unwrap().contains("it is not kept"));
    }

    #[test]
    fn a_closed_standard_output_takes_nothing_from_the_rest() {
        let host = Host::new("");
        host.add_ext4("volume-1");
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let config = host.at("volbak.toml");
        let output = host.program(&["run", "--config", config.to_str().unwrap()]).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("not shown") && said.contains("1 of 1 volumes backed up"), "{said}");
        assert!(host.verb(&["report"]).stdout.contains("volume-1 - "));
    }
}

mod standing {
    use std::fs;

    use crate::stand_in::Host;

    fn metrics(host: &Host) -> String {
        fs::read_to_string(host.at("volbak.prom")).unwrap()
    }

    fn with_metrics() -> Host {
        let host = Host::new("");
        host.write_config("volbak.toml", &format!("[report]\nmetrics_file = '{}'\n", host.at("volbak.prom").display()));
        host
    }

    fn value(metrics: &str, series: &str) -> i64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
    }

    const SUCCESS_1: &str = "volbak_volume_last_success_timestamp_seconds{volume=\"volume-1\"}";

    /// Its snapshot was made and watched: that it was full, or not, is what says why a backup failed.
    #[test]
    fn a_volume_that_failed_has_the_fill_of_its_snapshot() {
        const PEAK: &str = "volbak_volume_snapshot_peak_percent{volume=\"volume-1\"}";
        let host = with_metrics();
        host.add_ext4("volume-1");
        let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
        fs::write(host.at("volbak.toml"), format!("{config}[volume.volume-1]\nmax_volume_size = '1K'\n")).unwrap();
        let did = host.verb(&["run"]);
        assert_eq!(did.status, 1, "{}", did.stderr);
        assert_eq!(value(&metrics(&host), PEAK), 1, "as the stand-in for lvs has it");
        // Without a snapshot there is none.
        host.set_broken("volume-1", true);
        assert_eq!(host.verb(&["run"]).status, 1);
        assert!(!metrics(&host).contains(PEAK), "{}", metrics(&host));
    }

    #[test]
    fn a_run_for_one_volume_forgets_nothing_of_the_others() {
        let host = with_metrics();
        host.add_ext4("volume-1");
        host.add_ext4("volume-2");
        assert_eq!(host.verb(&["run"]).status, 0);
        assert_eq!(host.verb(&["status"]).status, 0);
        let first = value(&metrics(&host), SUCCESS_1);
        host.set_broken("volume-1", true);
        assert_eq!(host.verb(&["run"]).status, 1);
        assert_eq!(host.verb(&["run", "--only", "volume-2"]).status, 0);
        let status = host.verb(&["status"]);
        assert!(status.status == 2 && status.stdout.contains("volume-1 failed in its last run"), "{status:?}");
        let after = metrics(&host);
        assert_eq!(value(&after, "volbak_volume_verdict{volume=\"volume-1\"}"), 2);
        assert_eq!(value(&after, "volbak_volume_verdict{volume=\"volume-2\"}"), 0);
        assert_eq!(value(&after, "volbak_run_verdict"), 0, "the last run");
        assert_eq!(value(&after, "volbak_whole_run_verdict"), 2);
        assert_eq!(value(&after, SUCCESS_1), first, "its own last success");
        // The reports may go: what is known of the volumes stays.
        fs::remove_dir_all(host.at("backups/.volbak/reports")).unwrap();
        assert_eq!(host.verb(&["status"]).status, 2);
        host.set_broken("volume-1", false);
        assert_eq!(host.verb(&["run", "--only", "volume-1"]).status, 0);
        let status = host.verb(&["status"]);
        assert_eq!(status.status, 0, "{status:?}");
        assert!(value(&metrics(&host), SUCCESS_1) >= first);
    }

    #[test]
    fn what_the_backups_are_worth_is_in_metrics_and_status() {
        let host = with_metrics();
        host.add_ext4("volume-1");
        assert_eq!(host.verb(&["run"]).status, 0);
        let of = |name: &str| format!("volbak_volume_{name}{{volume=\"volume-1\"}}");
        let figures = metrics(&host);
        assert_eq!(value(&figures, &of("newest_backup_whole")), 1);
        assert_eq!(value(&figures, &of("last_verification_level")), 0);
        assert!(!figures.contains(&of("last_verification_timestamp_seconds")), "{figures}");
        assert_eq!(host.verb(&["verify", "volume-1"]).status, 0);
        assert_eq!(host.verb(&["verify", "volume-1", "--quick"]).status, 0);
        // A newer backup that is bad: the older one is the last whole one.
        let whole = value(&figures, &of("last_whole_backup_timestamp_seconds"));
        assert_eq!(host.verb(&["run", "--only", "volume-1"]).status, 0);
        let newest = fs::read_dir(host.at("backups/volume-1")).unwrap().map(|entry| entry.unwrap().path());
        let newest = newest.filter(|path| path.extension().is_some_and(|it| it == "gz")).max().unwrap();
        let mut bytes = fs::read(&newest).unwrap();
        bytes[40] ^= 1;
        fs::write(&newest, bytes).unwrap();
        assert_eq!(host.verb(&["verify", newest.to_str().unwrap()]).status, 1);
        let status = host.verb(&["status"]);
        for word in ["WORTH", "whole", "1 bad", " full"] {
            assert!(status.stdout.contains(word), "{word}: {status:?}");
        }
        let json: serde_json::Value = serde_json::from_str(&host.verb(&["status", "--json"]).stdout).unwrap();
        let volume = &json["volumes"][0];
        assert_eq!((&volume["bad"], &volume["pinned"], &volume["whole"]), (&1.into(), &0.into(), &true.into()));
        assert_eq!(volume["last_verification"]["level"], "full");
        host.add_ext4("volume-2");
        assert_eq!(host.verb(&["run", "--only", "volume-2"]).status, 0);
        let figures = metrics(&host);
        assert_eq!(value(&figures, &of("bad_backups")), 1);
        assert_eq!(value(&figures, &of("last_verification_level")), 2);
        assert_eq!(value(&figures, &of("last_whole_backup_timestamp_seconds")), whole);
    }

    #[test]
    fn a_run_by_another_config_changes_nothing_for_this_one() {
        let host = Host::new("include = ['gold-*']\n");
        host.write_config("silver.toml", "include = ['silver-*']\n");
        host.add_ext4("gold-1");
        host.add_ext4("silver-1");
        host.set_broken("gold-1", true);
        assert_eq!(host.verb(&["run"]).status, 1);
        let silver = host.at("silver.toml");
        let other = |verb: &str| host.volbak(&[verb, "--config", silver.to_str().unwrap()]);
        assert_eq!(other("run").status, 0);
        assert_eq!(other("status").status, 0, "{:?}", other("status"));
        let status = host.verb(&["status"]);
        assert!(status.status == 2 && status.stdout.contains("gold-1"), "{status:?}");
    }

    #[test]
    fn a_volume_that_is_gone_is_no_alarm() {
        let host = with_metrics();
        host.add_ext4("volume-1");
        host.add_ext4("volume-2");
        assert_eq!(host.verb(&["run"]).status, 0);
        host.set_broken("volume-2", true);
        assert_eq!(host.verb(&["run"]).status, 1);
        host.remove("volume-2");
        assert_eq!(host.verb(&["run"]).status, 0);
        let status = host.verb(&["status"]);
        assert!(status.status == 0 && status.stdout.contains("volume-2 (gone)"), "{status:?}");
        assert!(!metrics(&host).contains("volume-2"), "{}", metrics(&host));
        // One that never had a backup is not remembered either.
        host.add_ext4("volume-3");
        host.set_broken("volume-3", true);
        assert_eq!(host.verb(&["run"]).status, 1);
        host.remove("volume-3");
        assert_eq!(host.verb(&["run"]).status, 0);
        assert_eq!(host.verb(&["status"]).status, 0);
    }

    #[test]
    fn while_the_destination_is_away_no_series_ends() {
        let host = with_metrics();
        host.add_ext4("volume-1");
        assert_eq!(host.verb(&["run"]).status, 0);
        let before = value(&metrics(&host), SUCCESS_1);
        fs::rename(host.at("backups"), host.at("away")).unwrap();
        assert_eq!(host.verb(&["run"]).status, 1);
        assert_eq!(value(&metrics(&host), SUCCESS_1), before);
        assert_eq!(value(&metrics(&host), "volbak_run_verdict"), 2);
        assert_eq!(metrics(&host).matches("# TYPE volbak_volume_verdict").count(), 1);
        fs::rename(host.at("away"), host.at("backups")).unwrap();
        assert_eq!(host.verb(&["run"]).status, 0);
    }

    #[test]
    fn a_damaged_record_is_told_and_begins_anew() {
        let host = with_metrics();
        host.add_ext4("volume-1");
        assert_eq!(host.verb(&["run"]).status, 0);
        let record = host.at("backups/.volbak/standing.json");
        let good = fs::read(&record).unwrap();
        for bad in [&good[..good.len() / 2], b"", b"{\"format_version\": 99}"] {
            fs::write(&record, bad).unwrap();
            let status = host.verb(&["status"]);
            assert!(status.status == 1 && status.stdout.contains("damaged"), "{status:?}");
            assert_eq!(host.verb(&["-q", "run"]).status, 3);
            assert_eq!(host.verb(&["run"]).status, 0);
            assert_eq!(host.verb(&["status"]).status, 0);
        }
        // A destination of a volbak that kept no record has what its last report says.
        host.set_broken("volume-1", true);
        assert_eq!(host.verb(&["run"]).status, 1);
        fs::remove_file(&record).unwrap();
        assert_eq!(host.verb(&["status"]).status, 2);
    }
}

mod expected {
    use std::fs;
    use std::io::{Seek, Write};
    use std::process::Command;

    use crate::stand_in::{Host, run};

    /// A LUKS1 header's first fields (LUKS On-Disk Format Specification 1.2.3, 2.3.2.1), at this byte of the image.
    fn luks_at(host: &Host, name: &str, offset: u64) {
        let mut header = vec![0; 592];
        header[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x01");
        header[8..11].copy_from_slice(b"aes");
        header[40..51].copy_from_slice(b"xts-plain64");
        header[72..78].copy_from_slice(b"sha256");
        header[104..108].copy_from_slice(&4096_u32.to_be_bytes());
        header[168..204].copy_from_slice(b"11111111-2222-3333-4444-555555555555");
        let mut image = fs::OpenOptions::new().write(true).open(host.at(&format!("{name}.img"))).unwrap();
        image.seek(std::io::SeekFrom::Start(offset)).unwrap();
        image.write_all(&header).unwrap();
        image.seek(std::io::SeekFrom::Start(offset + (1 << 20))).unwrap();
        image.write_all(&vec![0x5a; 65536]).unwrap();
    }

    fn zero(host: &Host, name: &str, offset: u64, len: usize) {
        let mut image = fs::OpenOptions::new().write(true).open(host.at(&format!("{name}.img"))).unwrap();
        image.seek(std::io::SeekFrom::Start(offset)).unwrap();
        image.write_all(&vec![0; len]).unwrap();
    }

    fn swap(host: &Host, name: &str) {
        host.zeros(name);
        run(Command::new("mkswap").arg("-q").arg(host.at(&format!("{name}.img"))));
    }

    /// Two partitions: 1 to 4 MiB and 4 to 8 MiB.
    fn partitioned(host: &Host, name: &str) {
        host.zeros(name);
        let table = "label: dos\n2048,6144,83\n8192,8192,83\n";
        let script = format!("printf '{table}' | sfdisk -q {}", host.at(&format!("{name}.img")).display());
        run(Command::new("sh").args(["-c", &script]));
    }

    /// What `config expect` prints for these volumes, put into the config.
    fn expect_what_was_seen(host: &Host, names: &[&str]) -> String {
        let lines: String = names.iter().map(|name| host.verb(&["config", "expect", name]).stdout).collect();
        host.write_config("volbak.toml", &lines);
        lines
    }

    #[test]
    fn a_night_with_expected_things_alone_is_a_good_one() {
        let host = Host::new("");
        host.zeros("volume-luks");
        luks_at(&host, "volume-luks", 0);
        host.zeros("volume-odd");
        fs::write(host.at("volume-odd.img"), vec![7; 1 << 20]).unwrap();
        host.zeros("volume-zero");
        swap(&host, "volume-swap");
        for name in ["volume-luks", "volume-odd", "volume-zero", "volume-swap"] {
            host.add(name);
        }
        host.add_ext4("volume-ext4");
        assert_eq!(host.verb(&["-q", "run"]).status, 3);
        let names = ["volume-luks", "volume-odd", "volume-zero", "vg0/volume-swap", "volume-ext4"];
        let lines = expect_what_was_seen(&host, &names);
        for line in
            ["expect = [\"luks\"]", "expect = [\"unknown\"]", "expect = [\"empty\"]", "expect = [\"swap-only\"]"]
        {
            assert!(lines.contains(line), "{lines}");
        }
        assert!(lines.contains("there is nothing to expect") && !lines.contains("[volume.\"volume-ext4\"]"), "{lines}");
        assert_eq!(host.verb(&["config", "check"]).status, 0);
        let night = host.verb(&["-q", "run"]);
        assert_eq!((night.status, night.stderr.as_str()), (0, ""), "{night:?}");
        let status = host.verb(&["status"]);
        assert_eq!(status.status, 0, "{status:?}");

        // Each becomes something else, and is a problem again.
        zero(&host, "volume-luks", 0, 8 << 20);
        luks_at(&host, "volume-zero", 0);
        host.ext4("volume-swap");
        let night = host.verb(&["-q", "run"]);
        assert_eq!(night.status, 3);
        for said in [
            "expects luks here, and it is not there any more: disk holds nothing but zeros",
            "expects empty here, and it is not there any more: disk holds luks",
            "expects swap-only here, and it is not there any more: disk holds ext4",
        ] {
            assert!(night.stderr.contains(said), "{said}: {night:?}");
        }
        assert_eq!(host.verb(&["status"]).status, 1);
    }

    #[test]
    fn it_is_by_region_where_there_are_several_and_patterns_work() {
        let host = Host::new("");
        partitioned(&host, "volume-1");
        luks_at(&host, "volume-1", 1 << 20);
        luks_at(&host, "volume-1", 4 << 20);
        host.add("volume-1");
        assert_eq!(host.verb(&["-q", "run"]).status, 3);
        let lines = expect_what_was_seen(&host, &["volume-1"]);
        assert!(lines.contains("expect = [\"p1=luks\", \"p2=luks\"]"), "{lines}");
        let night = host.verb(&["-q", "run"]);
        assert_eq!(night.status, 0, "{night:?}");
        // By a pattern, and with alternatives.
        host.write_config("volbak.toml", "[volume.'vol*']\nexpect = ['p1 = ntfs|luks', 'p2=raw']\n");
        assert_eq!(host.verb(&["-q", "run"]).status, 0);
        // Only one of two is expected: the other is told.
        host.write_config("volbak.toml", "[volume.'vol*']\nexpect = ['p1=luks']\n");
        let night = host.verb(&["-q", "run"]);
        assert!(
            night.status == 3 && night.stderr.contains("p2: holds") && !night.stderr.contains("p1: holds"),
            "{night:?}"
        );
        // One of two became zeros, which alone is no problem.
        zero(&host, "volume-1", 4 << 20, 4 << 20);
        host.write_config("volbak.toml", &lines);
        let night = host.verb(&["-q", "run"]);
        assert!(night.status == 3 && night.stderr.contains("p2: the config expects luks"), "{night:?}");
        // The partition is no longer there.
        host.write_config("volbak.toml", "[volume.'vol*']\nexpect = ['p1=luks', 'p3=luks']\n");
        assert!(host.verb(&["-q", "run"]).stderr.contains("there is no region p3"));
    }

    #[test]
    fn a_filesystem_that_cannot_be_read_is_not_the_one_that_is_expected() {
        let host = Host::new("[volume.'*']\nexpect = ['ext4']\n");
        host.add_ext4("volume-1");
        assert_eq!(host.verb(&["-q", "run"]).status, 0);
        // The root directory's inode table is gone: neither reader can open it.
        zero(&host, "volume-1", 4096, 1 << 20);
        assert_ne!(host.verb(&["-q", "run"]).status, 0);
    }

    #[test]
    fn words_are_checked() {
        let host = Host::new("[volume.'*']\nexpect = ['luk', 'p1=swap-only', 7]\n");
        let check = host.verb(&["config", "check"]);
        assert!(
            check.status == 2 && check.stderr.contains("3 mistakes") && check.stderr.contains("\"luks\""),
            "{check:?}"
        );
        host.write_config("volbak.toml", "");
        assert_eq!(host.verb(&["config", "expect", "volume-1"]).status, 2);
        assert_eq!(host.verb(&["config", "expect", "../x"]).status, 2);
    }

    #[test]
    fn a_volume_without_files_is_verified_good() {
        let host = Host::new("");
        host.zeros("volume-zero");
        swap(&host, "volume-swap");
        host.add("volume-zero");
        host.add("volume-swap");
        assert_eq!(host.verb(&["-q", "run"]).status, 3);
        for entry in ["volume-zero", "volume-swap"].map(|name| host.at("backups").join(name)) {
            let mut files = fs::read_dir(entry).unwrap().map(|entry| entry.unwrap().path());
            let archive = files.find(|path| path.to_string_lossy().ends_with(".tar.gz")).unwrap();
            for level in ["quick", "full", "restore-test"] {
                let verified = host.volbak(&["verify", "--level", level, archive.to_str().unwrap()]);
                assert_eq!(verified.status, 0, "{level}: {verified:?}");
                assert!(!verified.stdout.contains("BAD"), "{verified:?}");
            }
        }
    }
}

mod rechecks {
    use std::fs;

    use serde_json::Value;

    use crate::stand_in::Host;

    #[test]
    fn a_night_verifies_older_backups_with_a_second_opinion_when_asked_to() {
        let host = Host::new("[verify]\nenabled = true\nshare_percent = 100\nsecond_opinion = true\n");
        host.add_ext4("volume-1");
        host.zeros("volume-zero");
        host.add("volume-zero");
        let did = host.verb(&["-q", "run"]);
        assert!(!did.stderr.contains("BAD"), "{did:?}");
        for (name, asked) in [("volume-1", true), ("volume-zero", false)] {
            let mut files = fs::read_dir(host.at("backups").join(name)).unwrap().map(|entry| entry.unwrap().path());
            let record = files.find(|path| path.to_string_lossy().ends_with(".verified.json")).unwrap();
            let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
            let result = &record["results"][0];
            assert_eq!((&result["level"], &result["verdict"]), (&"full".into(), &"good".into()), "{record}");
            assert_eq!(result["second_opinion"]["asked"].as_u64().unwrap() > 0, asked, "{record}");
        }
    }
}

/// A night that has not the time for all begins with those that waited longest.
mod turns {
    use std::fs;

    use crate::stand_in::Host;

    /// The volumes that the last night came to, and those that it did not.
    fn outcomes(host: &Host) -> Vec<(String, bool)> {
        let newest = |directory: &str| {
            let entries = fs::read_dir(host.at(directory)).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")).max().unwrap()
        };
        let report: serde_json::Value =
            serde_json::from_slice(&fs::read(newest("backups/.volbak/reports")).unwrap()).unwrap();
        let volumes = report["volumes"].as_array().unwrap().iter();
        volumes
            .map(|volume| {
                let name = volume["name"].as_str().unwrap().to_owned();
                (name, volume["outcome"].to_string().contains("not_started"))
            })
            .collect()
    }

    #[test]
    fn a_volume_that_is_cut_off_each_night_is_not_the_first_each_night() {
        let slow = "max_run_hours = 0.001\n[volume.volume-1]\nmax_volume_hours = 0.001\nbefore_snapshot = ['/bin/sleep', '600']\n";
        let host = Host::new(slow);
        for name in ["volume-1", "volume-2", "volume-3"] {
            host.add_ext4(name);
        }
        let did = host.verb(&["run"]);
        assert_eq!(did.status, 1, "{did:?}");
        let first = [("volume-1", false), ("volume-2", true), ("volume-3", true)];
        assert_eq!(outcomes(&host), first.map(|(name, is_left)| (name.to_owned(), is_left)));
        // By its last backup it would be the first again: it has none.
        host.verb(&["run"]);
        let names: Vec<String> = outcomes(&host).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["volume-2", "volume-3", "volume-1"]);
    }
}
