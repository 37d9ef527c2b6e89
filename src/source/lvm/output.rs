//! Parses the JSON of lvs and vgs.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::facts::{LvFacts, VgFacts};
use crate::outside::shown_command;
use crate::source::error::SourceError;

/// Invalid output, before the command is added to the error.
#[derive(Debug)]
pub(super) enum BadOutput {
    Json(serde_json::Error),
    Field(String),
}

impl BadOutput {
    pub(super) fn of(self, program: &str, args: &[OsString]) -> SourceError {
        match self {
            Self::Json(source) => SourceError::Output {
                command: shown_command(program, args),
                what: "it is not the requested JSON".to_owned(),
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
    /// The rows of all sections; `None` if no section has the key, not even with an empty list.
    fn rows(self, part: impl Fn(Section<Row>) -> Option<Vec<Row>>) -> Option<Vec<Row>> {
        let sections: Vec<Vec<Row>> = self.report.into_iter().filter_map(part).collect();
        if sections.is_empty() { None } else { Some(sections.into_iter().flatten().collect()) }
    }
}

/// The report in a tool's output. Other text may precede and follow it: lvm.conf, a wrapper or a preloaded library
/// may print some. The error is that of the first text that looked like JSON.
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

/// The items of a list field.
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
    #[serde(default)]
    thin_id: String,
}

#[expect(clippy::struct_field_names, reason = "the names are LVM's")]
#[derive(Deserialize)]
struct VgRow {
    vg_name: String,
    vg_extent_size: String,
    vg_free_count: String,
}

/// Parses the JSON of lvs.
pub(super) fn parse_lvs(stdout: &[u8]) -> Result<Vec<LvFacts>, BadOutput> {
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
        // "-1": inactive.
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
        thin_id: row.thin_id.parse().ok(),
        path: if row.lv_path.is_empty() { PathBuf::from(&row.lv_dm_path) } else { row.lv_path.into() },
        dm_path: row.lv_dm_path.into(),
        vg: row.vg_name,
        lv,
        uuid: row.lv_uuid,
        vg_uuid: row.vg_uuid,
        attr: row.lv_attr,
    })
}

/// Parses the JSON of vgs.
pub(super) fn parse_vgs(stdout: &[u8]) -> Result<Vec<VgFacts>, BadOutput> {
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

/// The tags of the volume with this UUID; `None` if the output is invalid.
pub(super) fn tags_in(stdout: &[u8], uuid: &str) -> Option<Vec<String>> {
    let report: Report<TagRow> = report_in(stdout).ok()?;
    let row = report.rows(|section| section.lv)?.into_iter().find(|row| row.lv_uuid == uuid)?;
    Some(list(&row.lv_tags))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{BadOutput, parse_lvs, parse_vgs};
    use crate::source::lvm::facts::LvFacts;

    /// A volume of vg0 as lvs prints it; other fields as for an active volume of 100 MiB.
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

    /// Output of lvs 2.03.16 in the lab for an overflowed thick snapshot, a pool and a hidden volume.
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
}
