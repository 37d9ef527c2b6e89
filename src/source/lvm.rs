//! Running LVM's tools, and reading what they print. The two are separate: [`run_tool`] runs one and keeps its
//! standard error for the message, `parse_…` read its JSON and know nothing of processes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::events::SourceName;
use crate::outside::{RunCommand, shown_command};
use crate::source::error::SourceError;

/// The fields that lvs is asked for. None of them is a field of segments, which would make lvs print a volume as
/// often as it has segments.
const LV_FIELDS: &str = "lv_name,vg_name,lv_uuid,vg_uuid,lv_size,lv_attr,lv_layout,lv_role,lv_tags,lv_permissions,\
    pool_lv,origin,lv_merging,lv_health_status,lv_snapshot_invalid,data_percent,metadata_percent,\
    lv_device_open,lv_kernel_major,lv_kernel_minor,lv_path,lv_dm_path";

const VG_FIELDS: &str = "vg_name,vg_uuid,vg_extent_size,vg_free_count";

/// A logical volume, as lvs reports it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as LVM has them")]
#[derive(Clone, Debug, PartialEq)]
pub struct LvFacts {
    /// Its volume group.
    pub vg: String,
    /// Its name, without the brackets of a hidden one.
    pub lv: String,
    /// Its UUID, which stays when it is renamed.
    pub uuid: String,
    /// Its group's UUID.
    pub vg_uuid: String,
    /// Its size; a thick snapshot's is that of its exception store (COW area), not that of what one reads from it.
    pub size_bytes: u64,
    /// The attributes, as in lvs(8) (`owi-a-s---`).
    pub attr: String,
    /// How it is laid out (`linear`, or `thin` and `sparse`).
    pub layout: Vec<String>,
    /// What it is for (`public` and `origin`, or `private`, `thin`, `pool` and `data`).
    pub roles: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `writeable`, `read-only`, `read-only-override`; `unknown` while it is not active.
    pub permissions: String,
    /// The thin pool that it is in.
    pub pool: Option<String>,
    /// The volume that it is a snapshot of.
    pub origin: Option<String>,
    /// Whether it is hidden: a part of other volumes.
    pub hidden: bool,
    /// Whether it, or a snapshot of it, is being merged.
    pub merging: bool,
    /// Whether it is active on this host.
    pub is_active: bool,
    /// Whether its device is open.
    pub is_open: bool,
    /// What ails it (`partial`, `out_of_data`, `failed`); empty when nothing does.
    pub health: String,
    /// Whether it is a thick snapshot that overflowed.
    pub snapshot_invalid: bool,
    /// How full it is: a thick snapshot's exception store, a pool's data space. Percent.
    pub data_percent: Option<f64>,
    /// How full a pool's metadata space is. Percent.
    pub metadata_percent: Option<f64>,
    /// Its device number, while it is active.
    pub device: Option<(u32, u32)>,
    /// `/dev/VG/LV`.
    pub path: PathBuf,
    /// Its node under `/dev/mapper`.
    pub dm_path: PathBuf,
}

impl LvFacts {
    /// `VG/LV`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.vg, self.lv)
    }

    /// How events and log lines name it.
    pub fn name(&self) -> SourceName {
        SourceName::of_volume(&self.vg, &self.lv)
    }

    /// Whether it lives in a thin pool.
    pub fn is_thin(&self) -> bool {
        self.pool.is_some() && self.layout.iter().any(|layout| layout == "thin")
    }

    /// The node to open it by: `/dev/VG/LV`, or the one under `/dev/mapper` when only that exists (no udev).
    pub fn node(&self) -> &Path {
        if !self.path.exists() && self.dm_path.exists() { &self.dm_path } else { &self.path }
    }
}

/// A volume group, as vgs reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VgFacts {
    pub(crate) name: String,
    pub(crate) extent_size_bytes: u64,
    pub(crate) free_extents: u64,
}

/// Settings that decide what LVM's tools print and whether they wait for one another, as lvm.conf(5) has them by default.
/// On the command line they win over the host's lvm.conf, lvmlocal.conf and profiles. A version of LVM that does not know
/// one of them passes it over, since `config/checks` is off.
const SETTINGS: &str = "config{checks=0 abort_on_errors=0} \
    log{report_command_log=0 command_names=0 prefix=\"  \" indent=0 verbose=0 silent=0 debug_output_fields=[] activation=0} \
    global{units=\"b\" suffix=0 si_unit_consistency=1 wait_for_locks=1} \
    report{output_format=\"json\" compact_output=0 compact_output_cols=\"\" aligned=0 buffered=1 headings=1 \
    separator=\" \" list_item_separator=\",\" prefixes=0 quoted=1 columns_as_rows=0 binary_values_as_numeric=0 \
    mark_hidden_devices=1 two_word_unknown_device=0}";

/// Runs one of LVM's tools with [`SETTINGS`] to its end and gives its standard output. Warnings on standard error are
/// ignored as long as it succeeds.
pub(crate) fn run_tool(commands: &dyn RunCommand, program: &str, args: &[OsString]) -> Result<Vec<u8>, SourceError> {
    let all: Vec<OsString> = words(&["--config", SETTINGS]).into_iter().chain(args.iter().cloned()).collect();
    let output = commands.run(program, &all).map_err(|source| SourceError::NotRun {
        program: program.to_owned(),
        package: "lvm2",
        source,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(SourceError::Command {
        command: shown_command(program, args),
        status: output.status.to_string(),
        stderr: shortened(&output.stderr),
    })
}

/// Which volumes lvs is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// All of them.
    All,
    /// Those of one group.
    Group(&'a str),
    /// One volume of a group, by its UUID, and the pool of the same group with this name. None of them need exist.
    Volume { vg: &'a str, uuid: &'a str, pool: Option<&'a str> },
}

/// Asks lvs, hidden volumes included.
pub(crate) fn lvs(commands: &dyn RunCommand, which: Which<'_>) -> Result<Vec<LvFacts>, SourceError> {
    let mut args = words(&REPORT);
    args.extend(words(&["-a", "-o", LV_FIELDS]));
    match which {
        Which::All => {}
        Which::Group(vg) => args.push(vg.into()),
        Which::Volume { vg, uuid, pool } => {
            let mut selection = format!("lv_uuid={uuid}");
            if let Some(pool) = pool {
                selection = format!("{selection} || lv_name={pool}");
            }
            args.extend(words(&["-S", &selection, vg]));
        }
    }
    let stdout = run_tool(commands, "lvs", &args)?;
    parse_lvs(&stdout).map_err(|error| error.of("lvs", &args))
}

/// The options of lvs and vgs, besides [`SETTINGS`]. `-qq` keeps off standard output what is meant for people, like the
/// advice to prune LVM's archive of metadata.
const REPORT: [&str; 6] = ["-qq", "--reportformat", "json", "--units", "b", "--nosuffix"];

/// What is left of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Gone,
    /// It is there, with these tags; `None` when that part of the output could not be understood.
    There {
        tags: Option<Vec<String>>,
    },
}

/// Asks lvs whether a volume is still there. That it is gone is known even when the output is not what it should be: then
/// the volume's UUID is not in it.
pub(crate) fn presence(commands: &dyn RunCommand, vg: &str, uuid: &str) -> Result<Presence, SourceError> {
    let mut args = words(&REPORT);
    args.extend(words(&["-a", "-o", "lv_uuid,lv_tags", "-S", &format!("lv_uuid={uuid}"), vg]));
    let stdout = run_tool(commands, "lvs", &args)?;
    if !String::from_utf8_lossy(&stdout).contains(uuid) {
        return Ok(Presence::Gone);
    }
    let rows = report_in(&stdout).ok().and_then(|report: Report<TagRow>| report.rows(|section| section.lv));
    let row = rows.into_iter().flatten().find(|row| row.lv_uuid == uuid);
    Ok(Presence::There { tags: row.map(|row| list(&row.lv_tags)) })
}

/// Asks vgs about one group.
pub(crate) fn vg(commands: &dyn RunCommand, name: &str) -> Result<VgFacts, SourceError> {
    let mut args = words(&REPORT);
    args.extend(words(&["-o", VG_FIELDS, name]));
    let stdout = run_tool(commands, "vgs", &args)?;
    let groups = parse_vgs(&stdout).map_err(|error| error.of("vgs", &args))?;
    let found = groups.into_iter().find(|group| group.name == name);
    found.ok_or_else(|| SourceError::output("vgs", &args, format!("it does not name the group {name}")))
}

/// Arguments of a command.
pub(crate) fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// What a tool said, in one line of bounded length, its warnings last so that the error itself is not cut off.
fn shortened(stderr: &[u8]) -> String {
    const MOST_CHARS: usize = 600;
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_warning = |line: &&str| line.starts_with("WARNING");
    let ordered: Vec<&str> = lines().filter(|line| !is_warning(line)).chain(lines().filter(is_warning)).collect();
    let joined: String = ordered.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if joined.is_empty() {
        return "it said nothing".to_owned();
    }
    match joined.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{} …", &joined[..end]),
        None => joined,
    }
}

/// Output that cannot be used, before it is known which command printed it.
#[derive(Debug)]
enum BadOutput {
    Json(serde_json::Error),
    Field(String),
}

impl BadOutput {
    fn of(self, program: &str, args: &[OsString]) -> SourceError {
        match self {
            Self::Json(source) => SourceError::Output {
                command: shown_command(program, args),
                what: "it is not the JSON that was asked for".to_owned(),
                source: Some(source),
            },
            Self::Field(what) => SourceError::output(program, args, what),
        }
    }
}

#[derive(Deserialize)]
struct Report<Row> {
    report: Vec<Section<Row>>,
}

#[derive(Deserialize)]
struct Section<Row> {
    lv: Option<Vec<Row>>,
    vg: Option<Vec<Row>>,
}

impl<Row> Report<Row> {
    /// The rows of all sections; `None` when no section has such rows, not even none of them.
    fn rows(self, part: impl Fn(Section<Row>) -> Option<Vec<Row>>) -> Option<Vec<Row>> {
        let sections: Vec<Vec<Row>> = self.report.into_iter().filter_map(part).collect();
        if sections.is_empty() { None } else { Some(sections.into_iter().flatten().collect()) }
    }
}

/// The report in what a tool printed. Other text may stand before and after it: what lvm.conf, a wrapper or a library that
/// is preloaded adds. The error is that of the first thing that looked like JSON.
fn report_in<Row: DeserializeOwned>(stdout: &[u8]) -> Result<Report<Row>, BadOutput> {
    let mut first_error = None;
    let mut line_start = 0;
    for line in stdout.split_inclusive(|byte| *byte == b'\n') {
        let indent = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if line.get(indent) == Some(&b'{') {
            let from = &stdout[line_start + indent..];
            match serde_json::Deserializer::from_slice(from).into_iter::<Report<Row>>().next() {
                Some(Ok(report)) => return Ok(report),
                Some(Err(error)) => drop(first_error.get_or_insert(error)),
                None => {}
            }
        }
        line_start += line.len();
    }
    Err(first_error.map_or_else(|| BadOutput::Field("there is no JSON in it".to_owned()), BadOutput::Json))
}

#[derive(Deserialize)]
struct TagRow {
    lv_uuid: String,
    lv_tags: String,
}

/// The items of a field with several.
fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[derive(Deserialize)]
struct LvRow {
    lv_name: String,
    vg_name: String,
    lv_uuid: String,
    vg_uuid: String,
    lv_size: String,
    lv_attr: String,
    lv_layout: String,
    lv_role: String,
    lv_tags: String,
    #[serde(default)]
    lv_permissions: String,
    pool_lv: String,
    origin: String,
    #[serde(default)]
    lv_merging: String,
    #[serde(default)]
    lv_health_status: String,
    #[serde(default)]
    lv_snapshot_invalid: String,
    data_percent: String,
    metadata_percent: String,
    #[serde(default)]
    lv_device_open: String,
    #[serde(default)]
    lv_kernel_major: String,
    #[serde(default)]
    lv_kernel_minor: String,
    lv_path: String,
    lv_dm_path: String,
}

#[expect(clippy::struct_field_names, reason = "the names are LVM's")]
#[derive(Deserialize)]
struct VgRow {
    vg_name: String,
    vg_extent_size: String,
    vg_free_count: String,
}

/// Reads the JSON of lvs.
fn parse_lvs(stdout: &[u8]) -> Result<Vec<LvFacts>, BadOutput> {
    let report: Report<LvRow> = report_in(stdout)?;
    let rows = report.rows(|section| section.lv).ok_or_else(|| no_rows("lv"))?;
    rows.into_iter().map(facts_of_row).collect()
}

fn facts_of_row(row: LvRow) -> Result<LvFacts, BadOutput> {
    let (lv, hidden) = match row.lv_name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inner) => (inner.to_owned(), true),
        None => (row.lv_name.clone(), false),
    };
    let some = |text: String| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() { None } else { Some(bare.to_owned()) }
    };
    let device = match (row.lv_kernel_major.parse(), row.lv_kernel_minor.parse()) {
        (Ok(major), Ok(minor)) => Some((major, minor)),
        // "-1": it is not active.
        _ => None,
    };
    // lvs(8), attribute 5: `a` active, `I` active and overflowed, `s` suspended, `-` not active, …
    let state = row.lv_attr.as_bytes().get(4).copied().unwrap_or(b'-');
    Ok(LvFacts {
        hidden,
        size_bytes: number("lv_size", &row.lv_size)?,
        layout: list(&row.lv_layout),
        roles: list(&row.lv_role),
        tags: list(&row.lv_tags),
        permissions: row.lv_permissions,
        pool: some(row.pool_lv),
        origin: some(row.origin),
        merging: !row.lv_merging.is_empty() && row.lv_merging != "unknown",
        is_active: !matches!(state, b'-' | b'X' | b'd' | b'i'),
        is_open: row.lv_device_open == "open" || row.lv_attr.as_bytes().get(5) == Some(&b'o'),
        health: row.lv_health_status,
        // lvs(8), attribute 5: `I` overflowed, `S` suspended and overflowed.
        snapshot_invalid: matches!(state, b'I' | b'S') || row.lv_snapshot_invalid == "snapshot invalid",
        data_percent: percent("data_percent", &row.data_percent)?,
        metadata_percent: percent("metadata_percent", &row.metadata_percent)?,
        device,
        path: if row.lv_path.is_empty() { PathBuf::from(&row.lv_dm_path) } else { row.lv_path.into() },
        dm_path: row.lv_dm_path.into(),
        vg: row.vg_name,
        lv,
        uuid: row.lv_uuid,
        vg_uuid: row.vg_uuid,
        attr: row.lv_attr,
    })
}

/// Reads the JSON of vgs.
fn parse_vgs(stdout: &[u8]) -> Result<Vec<VgFacts>, BadOutput> {
    let report: Report<VgRow> = report_in(stdout)?;
    let rows = report.rows(|section| section.vg).ok_or_else(|| no_rows("vg"))?.into_iter();
    rows.map(|row| {
        Ok(VgFacts {
            extent_size_bytes: number("vg_extent_size", &row.vg_extent_size)?,
            free_extents: number("vg_free_count", &row.vg_free_count)?,
            name: row.vg_name,
        })
    })
    .collect()
}

fn no_rows(kind: &str) -> BadOutput {
    BadOutput::Field(format!("its report has no part {kind:?}"))
}

fn number(field: &str, text: &str) -> Result<u64, BadOutput> {
    text.parse().map_err(|_| BadOutput::Field(format!("{field} is {text:?}, not a whole number")))
}

fn percent(field: &str, text: &str) -> Result<Option<f64>, BadOutput> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(BadOutput::Field(format!("{field} is {text:?}, not a number"))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::process::ExitStatus;

    use super::{BadOutput, LvFacts, Presence, parse_lvs, parse_vgs, presence, shortened};
    use crate::outside::{CommandOutput, RunCommand};

    /// One volume of vg0 as lvs prints it, the rest of its fields as an active volume of 100 MiB has them.
    pub(crate) fn lv_row(name: &str, attr: &str, role: &str, layout: &str, origin: &str) -> LvFacts {
        let pool = if layout.starts_with("thin") && !layout.contains("pool") { "pool" } else { "" };
        let json = format!(
            r#"{{"report": [{{"lv": [{{"lv_name":"{name}", "vg_name":"vg0", "lv_uuid":"Yd7GO3-{name}", "vg_uuid":"1mfx6Q",
            "lv_size":"104857600", "lv_attr":"{attr}", "lv_layout":"{layout}", "lv_role":"{role}", "lv_tags":"",
            "pool_lv":"{pool}", "origin":"{origin}", "lv_merging":"", "data_percent":"", "metadata_percent":"",
            "lv_kernel_major":"254", "lv_kernel_minor":"0", "lv_path":"/dev/vg0/{name}",
            "lv_dm_path":"/dev/mapper/vg0-{name}"}}]}}]}}"#
        );
        parse_lvs(json.as_bytes()).unwrap().remove(0)
    }

    /// What lvs 2.03.16 printed in the lab for a thick snapshot that had overflowed, a pool and a hidden volume.
    const PRINTED: &str = r#"{ "report": [ { "lv": [
        {"lv_name":"a-s", "vg_name":"vg0", "lv_uuid":"blxk7C-D59C", "vg_uuid":"1mfx6Q-QAyC", "lv_size":"109051904",
         "lv_attr":"swi-I-s---", "segtype":"linear", "pool_lv":"", "origin":"a", "lv_tags":"volbak,volbak.owner=h:b:1:2:3",
         "lv_role":"public,snapshot,thicksnapshot", "lv_permissions":"writeable", "lv_layout":"linear",
         "lv_health_status":"", "lv_snapshot_invalid":"snapshot invalid", "data_percent":"100.00",
         "metadata_percent":"", "lv_kernel_major":"254", "lv_kernel_minor":"8", "lv_path":"/dev/vg0/a-s",
         "lv_dm_path":"/dev/mapper/vg0-a--s", "lv_device_open":"open", "lv_merging":"", "lv_new_field": {"x": 1}},
        {"lv_name":"pool", "vg_name":"vg0", "lv_uuid":"LR5eJi-grWR", "vg_uuid":"1mfx6Q-QAyC", "lv_size":"104857600",
         "lv_attr":"twi-aotz--", "pool_lv":"", "origin":"", "lv_tags":"", "lv_role":"private",
         "lv_permissions":"writeable", "lv_layout":"thin,pool", "lv_health_status":"", "lv_snapshot_invalid":"unknown",
         "data_percent":"0.00", "metadata_percent":"10.94", "lv_kernel_major":"254", "lv_kernel_minor":"3",
         "lv_path":"", "lv_dm_path":"/dev/mapper/vg0-pool"},
        {"lv_name":"[pool_tmeta]", "vg_name":"vg0", "lv_uuid":"w5knWP-usG1", "vg_uuid":"1mfx6Q-QAyC",
         "lv_size":"4194304", "lv_attr":"ewi-------", "pool_lv":"", "origin":"", "lv_tags":"",
         "lv_role":"private,thin,pool,metadata", "lv_permissions":"unknown", "lv_layout":"linear",
         "data_percent":"", "metadata_percent":"", "lv_kernel_major":"-1", "lv_kernel_minor":"-1",
         "lv_path":"", "lv_dm_path":"/dev/mapper/vg0-pool_tmeta"}
        ] } ], "log": [] }"#;

    #[test]
    fn what_lvs_prints_is_read() {
        let volumes = parse_lvs(PRINTED.as_bytes()).unwrap();
        let [snapshot, pool, hidden] = &volumes[..] else { panic!("three volumes, not {}", volumes.len()) };
        assert!(snapshot.snapshot_invalid && snapshot.is_open && snapshot.is_active && !snapshot.hidden);
        assert_eq!(snapshot.origin.as_deref(), Some("a"));
        assert_eq!(snapshot.tags, ["volbak", "volbak.owner=h:b:1:2:3"]);
        assert_eq!(snapshot.data_percent, Some(100.0));
        assert_eq!(snapshot.device, Some((254, 8)));
        assert!(!pool.snapshot_invalid && !pool.is_thin(), "a pool is not a thin volume");
        assert_eq!(pool.metadata_percent, Some(10.94));
        assert!(hidden.hidden && !hidden.is_active);
        assert_eq!((hidden.lv.as_str(), hidden.device), ("pool_tmeta", None));
    }

    #[test]
    fn what_vgs_prints_is_read() {
        let printed = r#"{"report": [{"vg": [{"vg_name":"vg0", "vg_uuid":"7bAdHA", "vg_free":"4177526784",
            "vg_extent_size":"4194304", "vg_free_count":"996", "vg_size":"4290772992"}]}]}"#;
        let groups = parse_vgs(printed.as_bytes()).unwrap();
        assert_eq!(
            (groups[0].name.as_str(), groups[0].extent_size_bytes, groups[0].free_extents),
            ("vg0", 4 << 20, 996)
        );
    }

    #[test]
    fn text_around_the_report_does_no_harm() {
        let nag = "  Consider pruning hostvg VG archive with more then 8 MiB in 8300 files (see archiving settings in lvm.conf).\n";
        for (before, after) in
            [(nag, ""), ("", nag), ("{ not this }\n  {\"log\": []}\n", "\n{\"more\": 1}"), ("\n\n", "\0")]
        {
            let printed = format!("{before}{PRINTED}{after}");
            assert_eq!(parse_lvs(printed.as_bytes()).unwrap(), parse_lvs(PRINTED.as_bytes()).unwrap(), "{before:?}");
        }
        assert!(matches!(parse_lvs(nag.as_bytes()), Err(BadOutput::Field(_))));
    }

    /// Answers as lvs would when it prints this.
    struct Prints(&'static str);

    impl RunCommand for Prints {
        fn run(&self, _: &str, args: &[OsString]) -> io::Result<CommandOutput> {
            assert_eq!(args[0], "--config");
            Ok(CommandOutput { status: ExitStatus::default(), stdout: self.0.into(), stderr: Vec::new() })
        }
    }

    #[test]
    fn that_a_volume_is_gone_is_known_from_any_output() {
        let asked = |printed| presence(&Prints(printed), "vg0", "Yd7GO3-x").unwrap();
        let there = |tags: &[&str]| Presence::There { tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()) };
        assert_eq!(asked(r#"{"report":[{"lv":[]}]}"#), Presence::Gone);
        assert_eq!(asked("Consider pruning"), Presence::Gone);
        assert_eq!(
            asked(r#"{"report":[{"lv":[{"lv_uuid":"Yd7GO3-x","lv_tags":"volbak,a"}]}]}"#),
            there(&["volbak", "a"])
        );
        assert_eq!(asked("LVM2_LV_UUID='Yd7GO3-x'"), Presence::There { tags: None });
    }

    #[test]
    fn output_that_makes_no_sense_is_an_error() {
        assert!(matches!(parse_lvs(b"  vg0 lv1"), Err(BadOutput::Field(_))));
        assert!(
            matches!(parse_lvs(br#"{"report": [{"vg": []}]}"#), Err(BadOutput::Field(_))),
            "not: there are no volumes"
        );
        assert!(matches!(parse_lvs(br#"{"report": []}"#), Err(BadOutput::Field(_))));
        assert!(matches!(parse_lvs(br#"{"report": [{"lv": [{"lv_name": "a"}]}]}"#), Err(BadOutput::Json(_))));
        let broken = PRINTED.replacen("109051904", "-1", 1);
        assert!(matches!(parse_lvs(broken.as_bytes()), Err(BadOutput::Field(_))));
        let broken = PRINTED.replacen("100.00", "NaN", 1);
        assert!(matches!(parse_lvs(broken.as_bytes()), Err(BadOutput::Field(_))));
    }

    #[test]
    fn the_error_comes_before_the_warnings() {
        let said = b"  WARNING: not backed up.\n  Volume group \"vg0\" has insufficient free space.\n\n";
        assert_eq!(shortened(said), "Volume group \"vg0\" has insufficient free space.; WARNING: not backed up.");
        assert_eq!(shortened(b""), "it said nothing");
        assert!(shortened(&vec![b'x'; 5000]).len() < 700);
    }
}
