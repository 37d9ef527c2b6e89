//! From the config's own types to those of the modules that heed them: no module but this one knows both.

use std::sync::Arc;

use crate::archive::level::Level;
use crate::config::{
    self, ChangeOptions, CompressionLevel, Config, MailTls, MailTransport, RetentionOptions, VolumeOptions,
};
use crate::events::Observer;
use crate::mail::{PasswordSource, Settings, SmtpServer, SpoolSettings, Tls, Transport};
use crate::outside::Cancel;
use crate::report::Style;
use crate::run::backup::{AroundFreeze, BackupOptions, ChangeLimits, TimeLimit};
use crate::run::hooks::Hooks;
use crate::run::parent::ParentChoice;
use crate::run::throttle::Throttle;
use crate::source::{FreezeOptions, SnapshotSize};
use crate::store::retention::Policy;

/// This host's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// How long a volume's backups are kept.
pub fn policy(options: &RetentionOptions) -> Policy {
    Policy {
        retention_days: options.days,
        keep_last: options.keep_last,
        keep_daily: options.keep_daily,
        keep_weekly: options.keep_weekly,
        keep_monthly: options.keep_monthly,
        keep_yearly: options.keep_yearly,
        gone_days: options.gone_days,
        remove_last_of_gone: options.remove_last_of_gone,
    }
}

/// How the report is printed.
pub fn style(config: &Config) -> Style {
    Style { decimal_separator: config.report.decimal_separator }
}

/// How hard archives are compressed.
pub fn level(level: CompressionLevel) -> Level {
    match level {
        CompressionLevel::Fixed(level) => Level::Fixed(level),
        CompressionLevel::Auto { lowest, highest } => Level::Auto { lowest, highest },
    }
}

/// As many threads as there are processors, where nothing else was asked for.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What counts as a sudden change of a volume.
pub fn change_limits(options: ChangeOptions) -> Option<ChangeLimits> {
    options.enabled.then_some(ChangeLimits {
        below_percent: options.below_percent,
        changed_percent: options.changed_percent,
        min_entries: options.min_entries.into(),
    })
}

/// What the config has run around the snapshot of a volume.
pub fn around(options: &VolumeOptions, group: &str, volume: &str, cancel: &Cancel) -> Option<Arc<dyn AroundFreeze>> {
    Hooks::new(&options.hooks, group, volume, cancel).map(|hooks| Arc::new(hooks) as Arc<dyn AroundFreeze>)
}

/// Where a backup's events go: slowed down to the config's rate of reading, where it has one.
pub fn observer(config: &Config, observer: Arc<dyn Observer>, cancel: &Cancel) -> Arc<dyn Observer> {
    match config.read_rate_limit {
        None => observer,
        Some(rate) => Arc::new(Throttle::new(observer, rate, cancel.clone())),
    }
}

/// How a volume's backup is made.
pub fn backup_options(options: &VolumeOptions) -> BackupOptions {
    let threads = options.archive.threads.and_then(|threads| usize::try_from(threads).ok());
    let snapshot_size = match options.snapshot.max_size {
        config::SnapshotSize::FullOrigin => SnapshotSize::FullOrigin,
        config::SnapshotSize::PercentOfOrigin(percent) => SnapshotSize::PercentOfOrigin(percent),
        config::SnapshotSize::Bytes(bytes) => SnapshotSize::Bytes(bytes),
    };
    BackupOptions {
        level: level(options.archive.level),
        threads: threads.unwrap_or_else(processors),
        exclude: options.archive.exclude.clone(),
        scratch: options.archive.scratch.clone(),
        by_kernel: options.archive.by_kernel,
        time_limit: options.max_time.map(|duration| TimeLimit { duration, name: "max_volume_hours".to_owned() }),
        max_bytes: options.max_bytes,
        with_snapshots: options.archive.read_only_snapshots,
        freeze: FreezeOptions { snapshot_size, extend: options.snapshot.extend, ..FreezeOptions::default() },
        keep_snapshot: false,
        parent: ParentChoice::Newest,
        full_read_every_days: options.archive.full_read_every_days,
        share_blocks: options.archive.share_blocks,
        checksum: true,
        change_limits: change_limits(options.change),
        around: None,
        expect: options.expect.clone(),
    }
}

/// How the report is mailed.
pub fn mail(config: &Config) -> Settings {
    let options = &config.mail;
    let host = host();
    let transport = match &options.transport {
        MailTransport::Smtp { host, port, tls, user, password, ca_file } => {
            let source = |password: &config::PasswordSource| match password {
                config::PasswordSource::File(path) => PasswordSource::File(path.clone()),
                config::PasswordSource::Environment(name) => PasswordSource::Environment(name.clone()),
            };
            Transport::Smtp(SmtpServer {
                host: host.clone(),
                port: *port,
                tls: match tls {
                    MailTls::Tls => Tls::Immediate,
                    MailTls::StartTls => Tls::StartTls,
                    MailTls::None => Tls::None,
                },
                login: user.clone().zip(password.as_ref().map(source)),
                ca_file: ca_file.clone(),
            })
        }
        MailTransport::Sendmail { program } => Transport::Sendmail { program: program.clone() },
        MailTransport::File { directory } => Transport::File { directory: directory.clone() },
    };
    Settings {
        transport,
        from: options.from.clone().unwrap_or_else(|| Settings::default_sender(&host)),
        to: config.email_recipient.clone(),
        host,
        deadline: options.deadline,
        spool: SpoolSettings {
            directory: options.spool_dir.clone(),
            max_mails: usize::try_from(options.spool_max_mails).unwrap_or(usize::MAX),
            max_days: options.spool_max_days,
        },
    }
}
