//! Tests: the example, the defaults, and one config with every kind of mistake.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use super::reading::Reading;
use super::{Config, ConfigError, IoNice, Location, Mistake, Selected};
use crate::archive::level::CompressionLevel;
use crate::mail::{PasswordSource, Tls, Transport};
use crate::source::SnapshotSize;

const MINIMAL: &str = "backup_destination = '/BACKUPS/EBS-VOL'\n";

fn parsed(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<Mistake>> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::parse(text, environment).map_err(|error| match error {
        ConfigError::Wrong { mistakes, .. } => mistakes,
        ConfigError::Unreadable { .. } | ConfigError::Changeable { .. } => unreachable!("nothing is read"),
    })
}

fn right(text: &str) -> Config {
    parsed(text, &[]).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

fn wrong(text: &str) -> Vec<String> {
    parsed(text, &[]).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = right(MINIMAL);
    assert_eq!(config.retention.retention_days, 7);
    assert_eq!(config.volume_groups, ["cinder-volumes", "nova-volumes"]);
    assert_eq!(config.include[0].as_str(), "volume-*");
    assert!(config.require_mount && config.enable_checksum && config.enable_lvmsnapshots);
    assert!(!config.enable_mail_notification && !config.enable_mysql_dump && !config.lvm_test_mode);
    assert_eq!(config.snapshot.snapshot_size, SnapshotSize::FullOrigin);
    assert_eq!(config.report.style.decimal_separator, ',');
    assert_eq!(config.retention.gone_days, 90);
    assert_eq!(config.archive.level, CompressionLevel::Fixed(6));
    assert!(!config.archive.by_kernel);
}

#[test]
fn the_kernel_can_be_made_to_read() {
    let reader = |name: &str| format!("{MINIMAL}[archive]\nreader = '{name}'\n");
    assert!(right(&reader("kernel")).archive.by_kernel);
    assert!(!right(&reader("auto")).archive.by_kernel);
    let mistakes = wrong(&reader("fast"));
    assert!(mistakes.len() == 1 && mistakes[0].contains("reader"), "{mistakes:?}");
}

#[test]
fn a_second_opinion_needs_that_the_archive_is_read() {
    let verify = |keys: &str| format!("{MINIMAL}[verify]\nenabled = true\n{keys}");
    assert!(!right(&verify("")).verify.second_opinion);
    assert!(right(&verify("second_opinion = true\n")).verify.second_opinion);
    let mistakes = wrong(&verify("second_opinion = true\nlevel = 'quick'\n"));
    assert!(mistakes.len() == 1 && mistakes[0].contains("write level = \"full\""), "{mistakes:?}");
    assert!(mistakes[0].starts_with("line 4"), "{mistakes:?}");
}

#[test]
fn the_example_is_right_and_so_are_its_commented_lines() {
    let as_it_stands = right(Config::example());
    assert_eq!(as_it_stands, right(MINIMAL), "what it comments out are the defaults, or absent by default");

    let switched_on: String = Config::example()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || is_assignment(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = right(&switched_on);
    assert_eq!(config.max_run, Some(Duration::from_secs(19_800)));
    assert_eq!(config.dumps.instances[0].name, "shop-db");
    assert_eq!(config.volumes[0].keep_weekly, Some(8));
    assert_eq!(config.ionice, Some(IoNice::Idle));

    let reading = Reading::new([]);
    let _ = super::sections::all(&reading, &switched_on);
    for (section, key) in reading.known() {
        let is_table = section == "dumps" && key == "instance" || switched_on.contains(&format!("\n[[{key}]]"));
        let in_section = is_table || switched_on.contains(&format!("\n{key} = "));
        assert!(in_section, "the example says nothing about {key} in [{section}]");
    }
}

/// Each commented-out line states the default, or that it is an example.
#[test]
fn the_example_shows_the_real_defaults() {
    let example = Config::example();
    let defaults = right(example);
    let lines: Vec<&str> = example.lines().collect();
    let mut compared = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("# ").filter(|rest| is_assignment(rest)) else { continue };
        if rest.ends_with("# an example") {
            continue;
        }
        let with_it: Vec<&str> = lines.iter().enumerate().map(|(i, line)| if i == at { rest } else { line }).collect();
        let mut config = right(&with_it.join("\n"));
        // Not a setting: records whether the key was present.
        config.volume_groups_by_default = defaults.volume_groups_by_default;
        assert_eq!(config, defaults, "{rest}");
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn the_old_scripts_capital_names_are_known() {
    for (old, meant) in [
        ("BACKUP_RETENTION_DAYS", "backups_retention_days"),
        ("BACKUPS_RETENTION_DAYS", "backups_retention_days"),
        ("BACKUP_DESTINATION", "backup_destination"),
        ("EMAIL_RECIPIENT", "email_recipient"),
        ("ENABLE_CHECKSUM", "enable_checksum"),
        ("ENABLE_MYSQL_DUMP", "enable_mysql_dump"),
        ("ENABLE_LVMSNAPSHOTS", "enable_lvmsnapshots"),
        ("ENABLE_MAIL_NOTIFICATION", "enable_mail_notification"),
        ("SNAPSHOT_MAX_SIZE", "snapshot_max_size"),
        ("LVM_TEST_MODE", "lvm_test_mode"),
        ("Volume_Group", "volume_groups"),
    ] {
        let told = wrong(&format!("{MINIMAL}{old} = 7\n"));
        assert!(told.len() == 1 && told[0].ends_with(&format!("did you mean `{meant}`?")), "{told:?}");
    }
    let told = wrong(&format!("{MINIMAL}SMTP_HOST = 'm'\n"));
    assert!(told[0].ends_with("it is `smtp_host`, and belongs in [mail]"), "{told:?}");
}

#[test]
fn a_rate_names_its_unit() {
    for bad in ["'100'", "100", "'100 '", "'0M'"] {
        let told = wrong(&format!("{MINIMAL}read_rate_limit = {bad}\n"));
        assert!(told.len() == 1 && told[0].contains("with its unit") && told[0].contains("100M"), "{told:?}");
    }
    assert_eq!(right(&format!("{MINIMAL}read_rate_limit = '100M'\n")).read_rate_limit, Some(100 << 20));
    assert_eq!(right(&format!("{MINIMAL}read_rate_limit = '100b'\n")).read_rate_limit, Some(100));
}

fn is_assignment(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

#[test]
fn all_mistakes_are_reported_with_their_places() {
    let text = "\
backup_destination = 'BACKUPS'
backup_retention_days = 7
backups_retention_days = '7'
snapshot_max_size = 50
smtp_host = 'mail'
include = ['volume-[', 3]
[archive]
level = 60
[mail]
tls = 'startls'
password = 'geheim'
password_file = 'geheim'
[volume]
skip = true
[volume.'vol-1']
levl = 3
[retnetion]
keep_last = -1
";
    assert_eq!(
        wrong(text),
        [
            "line 1, column 22: `backup_destination` cannot be \"BACKUPS\"; write an absolute path, like \
             backup_destination = \"/BACKUPS/EBS-VOL\", s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX",
            "line 2, column 1: unknown key `backup_retention_days` in the top level; did you mean \
             `backups_retention_days`?",
            "line 3, column 26: `backups_retention_days` cannot be \"7\"; write a whole number from 1 to 36525, \
             without quotes",
            "line 4, column 21: `snapshot_max_size` cannot be 50; write a size with its unit, like \"50G\", or a \
             share of the volume, like \"20%ORIGIN\"",
            "line 5, column 1: unknown key `smtp_host` in the top level; it belongs in [mail]",
            "line 6, column 12: `include` cannot be \"volume-[\"; as a pattern it is wrong: unclosed character class; \
             missing ']'; try one like \"volume-*\"",
            "line 6, column 24: `include` cannot be 3; each of its items is text in quotes",
            "line 8, column 9: `level` cannot be 60; write a level from 1 (fast) to 12 (small), or \"auto\", or \"auto:3-9\" for \
             a range of levels",
            "line 10, column 7: `tls` cannot be \"startls\"; did you mean \"starttls\"? it is one of \"tls\", \
             \"starttls\", \"none\"",
            "line 11, column 1: a password is never written into the config; put it into a file that only root can \
             read and name that with `password_file`, or set it in the environment as VOLBAK_MAIL__PASSWORD",
            "line 12, column 17: `password_file` cannot be what is written; write an absolute path, like \
             password_file = \"/etc/volbak/mail.password\"",
            "line 14, column 1: [volume] has a key `skip` outside a volume's table; write it under a line like \
             [volume.\"volume-1\"]",
            "line 16, column 1: unknown key `levl` in [volume.NAME]; did you mean `level`?",
            "line 17, column 2: unknown key `retnetion` in the top level; did you mean `retention`?",
        ]
    );
}

#[test]
fn invalid_toml_is_reported_with_its_place() {
    let mistakes = parsed("backup_destination = '/B'\nnice = \ninclude = ['é', x]\n", &[]).unwrap_err();
    assert!(mistakes.iter().all(|mistake| mistake.what.starts_with("not TOML: ")), "{mistakes:?}");
    assert_eq!(mistakes[0].place, Location::File { line: 2, column: 8 });
    assert_eq!(mistakes.last().unwrap().place, Location::File { line: 3, column: 17 }, "columns count characters");
}

#[test]
fn a_mistake_stays_on_its_line() {
    let told = wrong(&format!("{MINIMAL}\"a\\nb\" = 1\nnice = \"1\\n\\u001b[2J{}\"\n", "x".repeat(100)));
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|line| !line.contains('\n') && !line.contains('\u{1b}')), "{told:?}");
    assert!(told[1].contains("x…\""), "{told:?}");
}

#[test]
fn a_key_that_is_given_twice_is_a_mistake() {
    let told = wrong("backup_destination = '/B'\nnice = 1\nnice = 2\n");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("line 3, column 1: not TOML: duplicate key"), "{told:?}");
}

#[test]
fn a_config_without_a_destination_says_so() {
    assert_eq!(
        wrong(""),
        ["missing: `backup_destination` is not set; name the directory for the backups, like backup_destination = \
          \"/BACKUPS/EBS-VOL\""]
    );
}

#[test]
fn mail_that_is_switched_on_must_be_whole() {
    let told = wrong(&format!("{MINIMAL}enable_mail_notification = true\n"));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|line| line.contains("email_recipient")));
    assert!(told.iter().any(|line| line.contains("smtp_host")));
    let on = format!("{MINIMAL}enable_mail_notification = true\nemail_recipient = 'a@b.example'\n[mail]\n");
    let told = wrong(&format!("{on}smtp_host = 'm.example'\nuser = 'u'\n"));
    assert!(told[0].contains("no password"), "{told:?}");
    let told = wrong(&format!("{on}smtp_host = 'm.example'\nuser = 'u'\npassword_file = '/p'\ntls = 'none'\n"));
    assert!(told[0].contains("unprotected"), "{told:?}");
    let config = right(&format!("{on}smtp_host = 'm.example'\nuser = 'u'\npassword_file = '/p'\n"));
    let Transport::Smtp(server) = config.mail.transport else { panic!() };
    assert_eq!(server.tls, Tls::StartTls);
    assert_eq!(server.login, Some(("u".to_owned(), PasswordSource::File("/p".into()))));
    right(&format!("{on}transport = 'sendmail'\n"));
    assert!(wrong(&format!("{on}transport = 'file'\n"))[0].contains("file_directory"));
}

#[test]
fn the_environment_wins_and_is_checked_too() {
    let config = parsed(
        "backup_destination = '/B'\nbackups_retention_days = 7\n[mail]\nsmtp_host = 'one'",
        &[
            ("VOLBAK_BACKUPS_RETENTION_DAYS", "30"),
            ("VOLBAK_BACKUP_DESTINATION", "/C"),
            ("VOLBAK_INCLUDE", "volume-*, db-*"),
            ("VOLBAK_EXCLUDE", "['volume-1,2']"),
            ("VOLBAK_REQUIRE_MOUNT", "false"),
            ("VOLBAK_MAIL__SMTP_HOST", "two"),
            ("VOLBAK_MAIL__USER", "u"),
            ("VOLBAK_MAIL__PASSWORD", "geheim"),
            ("VOLBAK_MAX_RUN_HOURS", "0.5"),
            ("VOLBAK_HOOKS__BEFORE_SNAPSHOT", "[['/bin/a', 'b'], ['/bin/c']]"),
            ("VOLBAK_DUMPS__INSTANCE", "[{host = '10.0.0.5'}]"),
            ("VOLBAK_VOLUMES", "{'volume-1' = {level = 1}}"),
            ("VOLBAK_VOLUME", "volume-1"),
            ("VOLBAK_LAB_MEM", "1G"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    assert_eq!(config.retention.retention_days, 30);
    assert_eq!(config.backup_destination.to_str(), Some("/C"));
    assert_eq!(config.include.len(), 2);
    assert_eq!(config.exclude[0].as_str(), "volume-1,2");
    assert_eq!(config.hooks.before_snapshot.len(), 2);
    assert_eq!(config.dumps.instances[0].host, "10.0.0.5");
    assert_eq!(config.for_volume("g", "volume-1").archive.level, CompressionLevel::Fixed(1));
    let Transport::Smtp(server) = &config.mail.transport else { panic!() };
    assert_eq!(server.host, "two");
    let password = PasswordSource::Environment("VOLBAK_MAIL__PASSWORD".to_owned());
    assert_eq!(server.login, Some(("u".to_owned(), password)));
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let told: Vec<String> = parsed(
        MINIMAL,
        &[
            ("VOLBAK_ARCHIVE__LEVEL", "60"),
            ("VOLBAK_BACKUP_RETENTION_DAYS", "3"),
            ("VOLBAK_MAIL__SMTP_HOTS", "x"),
            ("VOLBAK_VOLUMES", "level = 1"),
        ],
    )
    .unwrap_err()
    .iter()
    .map(ToString::to_string)
    .collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[0].starts_with("environment, VOLBAK_ARCHIVE__LEVEL: `level` cannot be \"60\""));
    assert!(told[1].ends_with("did you mean `VOLBAK_BACKUPS_RETENTION_DAYS`?"));
    assert!(told[2].ends_with("did you mean `VOLBAK_MAIL__SMTP_HOST`?"));
    assert!(told[3].starts_with("environment, VOLBAK_VOLUMES: not a TOML value"), "{}", told[3]);
}

#[test]
fn a_variable_that_is_not_utf8_is_a_mistake() {
    let environment = [
        (OsString::from("VOLBAK_BACKUP_DESTINATION"), OsString::from_vec(b"/B\xff".to_vec())),
        (OsString::from("OTHER"), OsString::from_vec(b"\xff".to_vec())),
    ];
    let error = Config::parse(MINIMAL, environment).unwrap_err();
    let told = "the config has 1 mistake:\n  environment, VOLBAK_BACKUP_DESTINATION: not UTF-8; use UTF-8";
    assert_eq!(error.to_string(), told);
}

#[test]
fn a_file_is_named_in_its_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volbak.toml");
    let load = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        Config::load(&path, []).map_err(|error| error.to_string().replace(directory.path().to_str().unwrap(), "D"))
    };
    assert_eq!(load(MINIMAL.as_bytes()), Ok(right(MINIMAL)));
    assert_eq!(
        load(b"nice = 1\n# \xff"),
        Err("D/volbak.toml has 1 mistake:\n  line 2, column 3: not UTF-8; save the file as UTF-8".to_owned())
    );
    let missing = Config::load(&directory.path().join("no"), []).unwrap_err();
    assert!(matches!(missing, ConfigError::Unreadable { .. }));
}

#[test]
fn volumes_are_selected_by_whole_names() {
    let config = right(&format!(
        "{MINIMAL}include = ['volume-*', 'db']\nexclude = ['volume-1', 'nova-volumes/volume-7']\n\
         [volume.'volume-2']\nskip = true\n[volume.'volume-*']\nlevel = 1\n[volume.'volume-20']\nskip = false\nlevel = 12\n"
    ));
    let by = |volume: &str| config.selects("cinder-volumes", volume);
    assert_eq!(by("volume-10"), Selected::Included { by: "volume-*".to_owned() });
    assert_eq!(by("volume-1"), Selected::Excluded { by: "volume-1".to_owned() });
    assert_eq!(by("volume-7"), Selected::Included { by: "volume-*".to_owned() });
    assert_eq!(
        config.selects("nova-volumes", "volume-7"),
        Selected::Excluded { by: "nova-volumes/volume-7".to_owned() }
    );
    assert_eq!(by("volume-2"), Selected::Skipped { by: "volume-2".to_owned() });
    assert_eq!(by("volume-20"), Selected::Included { by: "volume-*".to_owned() });
    assert_eq!(by("db2"), Selected::NotIncluded);
    assert_eq!(
        config.for_volume("g", "volume-20").archive.level,
        CompressionLevel::Fixed(12),
        "an exact name wins over an earlier pattern"
    );
    assert_eq!(config.for_volume("g", "volume-3").archive.level, CompressionLevel::Fixed(1));
    assert_eq!(config.for_volume("g", "db").archive.level, CompressionLevel::Fixed(6));
}

#[test]
fn hooks_are_commands_without_a_shell() {
    let config = right(&format!("{MINIMAL}[hooks]\nbefore_snapshot = ['/bin/sync', '-f']\n"));
    assert_eq!(config.hooks.before_snapshot, [["/bin/sync", "-f"]]);
    let told = wrong(&format!("{MINIMAL}[hooks]\nbefore_snapshot = 'sync && fsfreeze'\n"));
    assert!(told[0].contains("absolute path"), "{told:?}");
}

#[test]
fn exclude_patterns_are_checked() {
    let told = wrong(&format!("{MINIMAL}[archive]\nexclude = ['/var/cache/**', '[a', '# x', '']\n"));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("line 3, column 29: `exclude` cannot be \"[a\""), "{told:?}");
    right(&format!("{MINIMAL}[archive]\nexclude = ['/var/cache/**', '*.o', '!keep.o', 'tmp/']\n"));
}

#[test]
fn a_dump_needs_a_host_that_is_no_option() {
    let told =
        wrong(&format!("{MINIMAL}[[dumps.instance]]\nhost = '-oProxyCommand=x'\n[[dumps.instance]]\nname = 'n'\n"));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("line 3, column 8: `host` cannot be"), "{told:?}");
    assert!(told[1].starts_with("line 4, column 1: this instance has no `host`"), "{told:?}");
}

#[test]
fn a_missing_bracket_is_reported() {
    let told = wrong(&format!("{MINIMAL}[dumps.instance]\nhost = '10.0.0.5'\n"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("two brackets"), "{told:?}");
}

#[test]
fn gone_volumes_are_kept_longer_not_shorter() {
    let told = wrong(&format!("{MINIMAL}backups_retention_days = 30\n[retention]\ngone_days = 20\n"));
    assert!(told[0].starts_with("line 4, column 13: `gone_days` is below"), "{told:?}");
    assert_eq!(right(&format!("{MINIMAL}backups_retention_days = 300\n")).retention.gone_days, 300);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z_=\\[\\]{}'\"#., \n0-9é-]{0,200}") {
        let _ = parsed(&text, &[("VOLBAK_VOLUMES", &text)]);
    }
}

#[test]
fn a_group_names_volumes_that_are_in_no_other() {
    let dest = "backup_destination = '/b'\n";
    let config = right(&format!("{dest}[group.db]\nvolumes = ['volume-1', 'g/volume-2']\n"));
    assert!(config.groups[0].has("g", "volume-2") && !config.groups[0].has("h", "volume-2"));
    assert!(config.groups[0].has("h", "volume-1") && !config.groups[0].has("h", "volume-10"));
    for (text, expected) in [
        ("[group.db]\nvolumes = ['volume-1']", "has fewer than two volumes"),
        ("[group.db]\nvolume = ['volume-1']", "unknown key `volume`"),
        ("[group.db]\nvolumes = ['volume-*', 'volume-2', 'volume-3']", "`volumes` cannot be \"volume-*\""),
        ("[group.db]\nvolumes = ['volume-1', 'volume-1']", "is in [group.\"db\"] already"),
        ("[group.a]\nvolumes = ['v1', 'v2']\n[group.b]\nvolumes = ['g/v2', 'v3']", "is in [group.\"a\"] already"),
        ("[group.v1]\nvolumes = ['v1', 'v2']", "has the name of one of its volumes"),
        ("[group.'a@b']\nvolumes = ['v1', 'v2']", "is no name for a group"),
        ("[group]\nvolumes = ['v1', 'v2']", "outside a group's table"),
        ("[group.db]\nvolumes = ['v1', 'v2']\nbefore_snapshot = ['thaw']", "does not begin with an absolute path"),
    ] {
        let said = wrong(&format!("{dest}{text}\n")).join("\n");
        assert!(said.contains(expected), "{text}: {said}");
    }
}
