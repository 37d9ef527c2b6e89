//! A volume group, parsed from its text metadata (vgcfgbackup(8); written by LVM2's `lib/format_text/export.c`).

use std::fmt;

use super::config::{self, Node, Section};
use super::label::uuid_text;

/// The maximum number of physical volumes, logical volumes, segments and stripes of a group together. The parser's
/// bound is far higher; this one limits the work done with them.
const PARTS_MAX: usize = 100_000;
/// The maximum length of a name: LVM's `NAME_LEN` is 128 with the final NUL.
const NAME_BYTES_MAX: usize = 127;

/// A volume group. Sectors have 512 bytes, whatever the disk's sector size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// Its UUID in LVM's form.
    pub id: String,
    /// Incremented with each change of the metadata.
    pub seqno: u64,
    /// The extent size in sectors.
    pub extent_size_sectors: u64,
    /// Its physical volumes.
    pub physical_volumes: Vec<PvEntry>,
    /// Its logical volumes, including hidden ones.
    pub logical_volumes: Vec<LogicalVolume>,
}

/// A physical volume as listed in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PvEntry {
    /// The name by which segments refer to it (`pv0`).
    pub name: String,
    /// Its UUID in LVM's form.
    pub id: String,
    /// The start of its first extent.
    pub pe_start_sectors: u64,
    /// The number of its extents.
    pub pe_count: u64,
}

/// A logical volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// Whether users see it; parts of pools and mirrors are hidden.
    pub is_visible: bool,
    /// Its segments, in the order of the text.
    pub segments: Vec<Segment>,
}

/// A run of a logical volume's extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first extent, counted in the logical volume.
    pub start_extent: u64,
    /// The number of extents.
    pub extent_count: u64,
    /// Its type and data.
    pub kind: SegmentKind,
}

/// The type and data of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Extents of physical volumes in turn, `stripe_size_sectors` of each. With one stripe it is linear.
    Striped {
        /// Sectors per stripe before the next one follows; 0 for a linear segment.
        stripe_size_sectors: u64,
        /// The physical volume's name in the group, and the first extent on it.
        stripes: Vec<(String, u64)>,
    },
    /// Any other type (`thin`, `raid1`, `snapshot`), with the logical volumes it names and the physical volumes it
    /// uses directly.
    Other {
        /// The type as written in the metadata.
        segment_type: String,
        /// `cow_store` or `merging_store` of a snapshot: the volume with its exceptions.
        cow_store: Option<String>,
        /// `origin` of a snapshot, also of one that is merged, or `external_origin` of a thin volume: it is read where the snapshot
        /// has nothing of its own, also where the origin's filesystem has freed it.
        origin: Option<String>,
        /// All names in arrays of the segment.
        names: Vec<String>,
    },
}

/// Why a text does not describe a volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// The text is not in the language of LVM's metadata.
    Syntax {
        /// The offset at which parsing stopped.
        at_byte: usize,
        /// What was wrong there.
        what: &'static str,
    },
    /// A field that every group has is missing or impossible.
    Missing(&'static str),
    /// It has too many parts.
    TooLarge,
    /// A name is longer than LVM allows.
    NameTooLong,
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { at_byte, what } => write!(f, "its text is damaged at byte {at_byte}: {what}"),
            Self::Missing(what) => write!(f, "its text has no {what} that can be used"),
            Self::TooLarge => write!(f, "its text has more than {PARTS_MAX} parts"),
            Self::NameTooLong => write!(f, "its text has a name of more than {NAME_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for MetadataError {}

impl VolumeGroup {
    /// Parses text metadata. Time and memory are linear in the text's length.
    pub fn parse(text: &[u8]) -> Result<Self, MetadataError> {
        let top =
            config::parse(text).map_err(|error| MetadataError::Syntax { at_byte: error.at_byte, what: error.what })?;
        let (name, section) = top.sections().next().ok_or(MetadataError::Missing("volume group"))?;
        let mut parts = 0_usize;
        let mut count = |more: usize| {
            parts = parts.saturating_add(more);
            if parts > PARTS_MAX { Err(MetadataError::TooLarge) } else { Ok(()) }
        };
        let mut physical_volumes = Vec::new();
        for (name, entry) in section.section("physical_volumes").into_iter().flat_map(Section::sections) {
            count(1)?;
            physical_volumes.push(pv_entry(name, entry)?);
        }
        let mut logical_volumes = Vec::new();
        for (name, entry) in section.section("logical_volumes").into_iter().flat_map(Section::sections) {
            let volume = logical_volume(name, entry)?;
            count(volume.parts())?;
            logical_volumes.push(volume);
        }
        Ok(Self {
            name: name_of(name)?,
            id: name_of(section.text("id").ok_or(MetadataError::Missing("id"))?)?,
            seqno: section.number("seqno").ok_or(MetadataError::Missing("seqno"))?,
            extent_size_sectors: section
                .number("extent_size")
                .filter(|sectors| *sectors > 0)
                .ok_or(MetadataError::Missing("extent_size"))?,
            physical_volumes,
            logical_volumes,
        })
    }

    /// The number of physical volumes, logical volumes, segments and stripes.
    pub(in crate::layout) fn parts(&self) -> usize {
        let volumes = self.logical_volumes.iter().map(LogicalVolume::parts).sum::<usize>();
        self.physical_volumes.len().saturating_add(volumes)
    }

    /// The names of volumes with a snapshot's exceptions; they hold no filesystem.
    pub fn cow_stores(&self) -> impl Iterator<Item = &str> {
        self.logical_volumes.iter().flat_map(|volume| &volume.segments).filter_map(|segment| match &segment.kind {
            SegmentKind::Other { cow_store, .. } => cow_store.as_deref(),
            SegmentKind::Striped { .. } => None,
        })
    }

    /// The names of volumes that snapshots read.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.logical_volumes.iter().flat_map(|volume| &volume.segments).filter_map(|segment| match &segment.kind {
            SegmentKind::Other { origin, .. } => origin.as_deref(),
            SegmentKind::Striped { .. } => None,
        })
    }
}

impl LogicalVolume {
    fn parts(&self) -> usize {
        self.segments.iter().fold(1, |sum: usize, segment| sum.saturating_add(1 + segment.parts()))
    }
}

impl Segment {
    fn parts(&self) -> usize {
        match &self.kind {
            SegmentKind::Striped { stripes, .. } => stripes.len(),
            SegmentKind::Other { names, .. } => names.len(),
        }
    }
}

/// Copies a name if LVM allows its length.
fn name_of(name: &str) -> Result<String, MetadataError> {
    if name.len() > NAME_BYTES_MAX { Err(MetadataError::NameTooLong) } else { Ok(name.to_owned()) }
}

fn pv_entry(name: &str, entry: &Section) -> Result<PvEntry, MetadataError> {
    let missing = MetadataError::Missing;
    let id: String = entry.text("id").ok_or(missing("physical volume's id"))?.chars().filter(|c| *c != '-').collect();
    Ok(PvEntry {
        name: name_of(name)?,
        id: uuid_text(id.as_bytes()).ok_or(missing("physical volume's id"))?,
        pe_start_sectors: entry.number("pe_start").ok_or(missing("pe_start"))?,
        pe_count: entry.number("pe_count").ok_or(missing("pe_count"))?,
    })
}

fn logical_volume(name: &str, entry: &Section) -> Result<LogicalVolume, MetadataError> {
    let status = entry.list("status").unwrap_or_default();
    let segments = entry
        .sections()
        .filter(|(key, _)| key.starts_with("segment"))
        .map(|(_, section)| segment(section))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(LogicalVolume { name: name_of(name)?, is_visible: status.contains(&Node::Text("VISIBLE".to_owned())), segments })
}

fn segment(section: &Section) -> Result<Segment, MetadataError> {
    let missing = MetadataError::Missing;
    let segment_type = section.text("type").ok_or(missing("segment type"))?;
    let kind = match segment_type {
        "striped" | "linear" => SegmentKind::Striped {
            stripe_size_sectors: section.number("stripe_size").unwrap_or_default(),
            stripes: stripes(section.list("stripes").unwrap_or_default())?,
        },
        other => SegmentKind::Other {
            segment_type: name_of(other)?,
            cow_store: section.text("cow_store").or_else(|| section.text("merging_store")).map(name_of).transpose()?,
            origin: section.text("origin").or_else(|| section.text("external_origin")).map(name_of).transpose()?,
            names: section
                .entries
                .iter()
                .flat_map(|(_, node)| match node {
                    Node::List(list) => list.as_slice(),
                    _ => &[],
                })
                .filter_map(|node| match node {
                    // Strings longer than a name are tags or messages.
                    Node::Text(name) if name.len() <= NAME_BYTES_MAX => Some(name.clone()),
                    _ => None,
                })
                .collect(),
        },
    };
    Ok(Segment {
        start_extent: section.number("start_extent").ok_or(missing("start_extent"))?,
        extent_count: section.number("extent_count").ok_or(missing("extent_count"))?,
        kind,
    })
}

/// Alternating names and extents.
fn stripes(list: &[Node]) -> Result<Vec<(String, u64)>, MetadataError> {
    let missing = || MetadataError::Missing("stripes");
    if list.is_empty() || !list.len().is_multiple_of(2) {
        return Err(missing());
    }
    list.chunks_exact(2)
        .map(|pair| match pair {
            [Node::Text(name), Node::Number(extent)] => {
                Ok((name_of(name)?, u64::try_from(*extent).map_err(|_| missing())?))
            }
            _ => Err(missing()),
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{MetadataError, SegmentKind, VolumeGroup};

    pub(in crate::layout::lvm2) const TEXT: &str = r#"
vg_web_logs {
id = "BMFzPn-V7Nr-BzLJ-0aWb-31mP-abcd-efghij"
seqno = 5
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 8192
physical_volumes {
pv0 { id = "abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345" device = "/dev/vdb" status = ["ALLOCATABLE"] dev_size = 8388608
pe_start = 2048 pe_count = 1023 } }
logical_volumes {
lv01 { id = "x" status = ["READ", "WRITE", "VISIBLE"] segment_count = 2
segment1 { start_extent = 0 extent_count = 10 type = "striped" stripe_count = 1 stripes = [ "pv0", 0 ] }
segment2 { start_extent = 10 extent_count = 5 type = "striped" stripe_count = 1 stripes = [ "pv0", 30 ] } }
lv02 { id = "y" status = ["READ", "WRITE", "VISIBLE"] segment_count = 1
segment1 { start_extent = 0 extent_count = 20 type = "striped" stripe_count = 1 stripes = [ "pv0", 10 ] } }
snapshot0 { id = "z" status = ["READ", "WRITE"] segment_count = 1
segment1 { start_extent = 0 extent_count = 20 type = "snapshot" chunk_size = 8 origin = "lv02" cow_store = "snap" } }
} }
contents = "Text Format Volume Group"
version = 1
"#;

    #[test]
    fn a_group_is_read() {
        let group = VolumeGroup::parse(TEXT.as_bytes()).expect("sound");
        assert_eq!((group.name.as_str(), group.seqno, group.extent_size_sectors), ("vg_web_logs", 5, 8192));
        assert_eq!(group.physical_volumes[0].pe_start_sectors, 2048);
        let [lv01, lv02, snapshot0] = group.logical_volumes.as_slice() else { panic!("three volumes") };
        assert!(lv01.is_visible && lv02.is_visible && !snapshot0.is_visible);
        let SegmentKind::Striped { stripes, .. } = &lv01.segments[1].kind else { panic!("striped") };
        assert_eq!(stripes, &[("pv0".to_owned(), 30)]);
        assert_eq!(group.cow_stores().collect::<Vec<_>>(), ["snap"]);
        assert_eq!(group.origins().collect::<Vec<_>>(), ["lv02"]);
    }

    #[test]
    fn one_wrong_field_each() {
        let changes = [
            ("id = \"BMFzPn", "ix = \"BMFzPn", MetadataError::Missing("id")),
            ("seqno", "seqnx", MetadataError::Missing("seqno")),
            ("extent_size = 8192", "extent_size = 0", MetadataError::Missing("extent_size")),
            ("abcdef-GHIJ", "abcdef-GHI", MetadataError::Missing("physical volume's id")),
            ("pe_start = 2048", "pe_start = -1", MetadataError::Missing("pe_start")),
            ("pe_count", "pe_cxunt", MetadataError::Missing("pe_count")),
            ("[ \"pv0\", 30 ]", "[ \"pv0\" ]", MetadataError::Missing("stripes")),
            ("[ \"pv0\", 30 ]", "[ 30, \"pv0\" ]", MetadataError::Missing("stripes")),
            ("type = \"snapshot\"", "", MetadataError::Missing("segment type")),
        ];
        for (from, to, error) in changes {
            assert!(TEXT.contains(from));
            assert_eq!(VolumeGroup::parse(TEXT.replacen(from, to, 1).as_bytes()), Err(error), "{from}");
        }
        for name in ["vg_web_logs", "pv0 {", "lv01", "\"striped\"", "\"snap\"", "\"pv0\"", "BMFzPn"] {
            let long = TEXT.replacen(name, &name.replacen(|c: char| c.is_alphabetic(), &"n".repeat(128), 1), 1);
            let found = VolumeGroup::parse(long.as_bytes());
            // An unknown type counts as `Other`, and its name is checked too.
            assert_eq!(found, Err(MetadataError::NameTooLong), "{name}");
        }
        assert!(matches!(VolumeGroup::parse(b"a = 1"), Err(MetadataError::Missing("volume group"))));
        assert!(matches!(VolumeGroup::parse(b"vg {"), Err(MetadataError::Syntax { .. })));
    }
}
