//! A layout as text: one line per region, a map of the disk, then the problems.

use std::fmt::Write as _;

use crate::events::Severity;
use crate::layout::{Handling, HoldsKind, Layout, Region, TableKind, UsedCopy};
use crate::shown;
use crate::units::ByteLen;

/// The maximum width of a line, except for problems.
const WIDTH: usize = 118;
/// The width of the map inside its brackets.
const MAP_WIDTH: usize = 76;
/// The maximum width of a column with a tenant's text; the JSON has the full text.
const LABEL_WIDTH: usize = 20;
const NAME_WIDTH: usize = 34;

/// The layout as text, with a newline after each line. Control characters in a tenant's text are escaped.
pub fn render_table(layout: &Layout) -> String {
    let mut text = String::new();
    header(&mut text, layout);
    if layout.regions.is_empty() {
        text.push_str("no partitions\n");
    } else {
        table(&mut text, &layout.regions);
        map(&mut text, layout);
    }
    if !layout.outside.is_empty() {
        let bytes: u64 = layout.outside.iter().fold(0, |sum, kept| sum.saturating_add(kept.size_bytes));
        line(&mut text, &format!("outside the regions: {} kept in the manifest in {}", ByteLen(bytes), pieces(layout)));
    }
    for problem in &layout.problems {
        let severity = match problem.severity {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        line(&mut text, &format!("{severity}: {}: {}", shown::text(&problem.location), shown::text(&problem.what)));
    }
    text
}

fn pieces(layout: &Layout) -> String {
    match layout.outside.len() {
        1 => "1 piece".to_owned(),
        count => format!("{count} pieces"),
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content.trim_end());
    text.push('\n');
}

fn header(text: &mut String, layout: &Layout) {
    let source = &layout.source;
    let kind = match (layout.table.kind, layout.table.used_copy) {
        (TableKind::Gpt, Some(UsedCopy::Backup)) => "gpt (backup copy)",
        (TableKind::Gpt, _) => "gpt",
        (TableKind::Mbr, _) => "mbr",
        (TableKind::None, _) => "none",
    };
    let uuid = layout.table.uuid.as_deref().map(|uuid| format!(" {uuid}")).unwrap_or_default();
    let size = ByteLen(source.size_bytes);
    line(text, &format!("{}: {size}, sectors of {} bytes", shown::text(&source.path), source.sector_size));
    line(text, &format!("partition table: {kind}{uuid}"));
    text.push('\n');
}

fn table(text: &mut String, regions: &[Region]) {
    let heads = ["NAME", "START", "SIZE", "TYPE", "HOLDS", "LABEL", "UUID", "BACKUP"];
    let rows: Vec<[String; 8]> = regions.iter().map(row).collect();
    let mut widths = heads.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(shown::columns(cell));
        }
    }
    // Narrow the columns in order of least importance: the UUID's end, the type, then the label.
    for (column, least) in [(6, 12), (3, 10), (5, 8), (0, 16)] {
        let total: usize = widths.iter().sum::<usize>() + widths.len() - 1;
        let over = total.saturating_sub(WIDTH);
        widths[column] = widths[column].saturating_sub(over).max(least.min(widths[column]));
    }
    for cells in std::iter::once(heads.map(str::to_owned)).chain(rows) {
        let mut content = String::new();
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let cell = shown::cut(cell, width);
            let padding = " ".repeat(width.saturating_sub(shown::columns(&cell)));
            // Numbers are right-aligned.
            let number = index == 1 || index == 2;
            // Writing to a String cannot fail.
            let _ = if number { write!(content, "{padding}{cell} ") } else { write!(content, "{cell}{padding} ") };
        }
        line(text, &content);
    }
}

fn row(region: &Region) -> [String; 8] {
    let is_logical = region.parent.is_some() && !region.name.contains('.');
    let depth = region.name.matches('.').count().min(4) + usize::from(is_logical);
    let name = format!("{}{}", "  ".repeat(depth), shown::text(&region.name));
    let type_text = match (region.type_name.as_str(), region.type_id.as_str()) {
        ("", "") if region.lv.is_some() => "LVM2 volume".to_owned(),
        ("", id) => id.to_owned(),
        (name, id) if id.starts_with("0x") => format!("{id} {name}"),
        (name, _) => name.to_owned(),
    };
    let holds = match (&region.holds.kind, region.holds.fs.as_deref()) {
        (HoldsKind::Empty, _) => "empty".to_owned(),
        (_, Some(fs)) => shown::text(fs),
        (_, None) if region.handling == Handling::Container => "-".to_owned(),
        (_, None) => "unknown".to_owned(),
    };
    let own = [region.holds.label.as_deref(), Some(region.partition_name.as_str())];
    let label = own.into_iter().flatten().find(|label| !label.is_empty()).unwrap_or("-");
    let handling = match region.handling {
        Handling::Files => "files",
        Handling::RawImage => "raw image",
        Handling::MetadataOnly => "facts only",
        Handling::Container => "container",
    };
    [
        shown::cut(&name, NAME_WIDTH),
        region.start_bytes.to_string(),
        ByteLen(region.size_bytes).to_string(),
        shown::cut(&type_text, 24),
        holds,
        shown::cut(&shown::text(label), LABEL_WIDTH),
        shown::text(region.holds.uuid.as_deref().unwrap_or("-")),
        handling.to_owned(),
    ]
}

/// The disk from left to right, to scale: the names of top-level regions where their bytes are, dots elsewhere.
fn map(text: &mut String, layout: &Layout) {
    let size = layout.source.size_bytes;
    if size == 0 {
        return;
    }
    let mut cells = vec!['.'; MAP_WIDTH];
    // The product fits in 128 bits, the quotient is at most the width.
    let cell = |byte: u64| {
        usize::try_from(u128::from(byte) * MAP_WIDTH as u128 / u128::from(size)).unwrap_or(MAP_WIDTH).min(MAP_WIDTH)
    };
    let shown = layout.regions.iter().filter(|region| !region.name.contains('.'));
    for region in shown.filter(|region| region.number != 0 || layout.table.kind == TableKind::None) {
        if region.handling == Handling::Container && region.holds.fs.is_none() {
            continue;
        }
        for extent in &region.extents {
            let from = cell(extent.source_offset);
            let to = cell(extent.source_offset.saturating_add(extent.length)).max(from + 1).min(MAP_WIDTH);
            let Some(place) = cells.get_mut(from..to) else { continue };
            place.fill('=');
            let name: Vec<char> = region.name.chars().collect();
            if name.len() + 2 <= place.len() {
                let at = (place.len() - name.len()) / 2;
                place[at..at + name.len()].copy_from_slice(&name);
            }
            if let [first, .., last] = place {
                (*first, *last) = ('[', ']');
            } else if let [only] = place {
                *only = '|';
            }
        }
    }
    text.push('\n');
    line(text, &format!("0 {} {}", cells.into_iter().collect::<String>(), ByteLen(size)));
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, render_table};
    use crate::events::{Problem, Severity};
    use crate::layout::{Handling, Holds, HoldsKind, Layout, Region, SourceFacts, Table, TableKind};
    use crate::units::Extent;

    fn region(name: &str, number: u32, start: u64, size: u64) -> Region {
        Region {
            name: name.to_owned(),
            number,
            start_bytes: start,
            size_bytes: size,
            extents: vec![Extent { source_offset: start, length: size }],
            ..Region::default()
        }
    }

    fn layout(regions: Vec<Region>) -> Layout {
        Layout {
            source: SourceFacts { path: "vg0/vol-1".to_owned(), size_bytes: 10 << 30, sector_size: 512 },
            table: Table { kind: TableKind::Gpt, uuid: Some("u".to_owned()), used_copy: None },
            regions,
            outside: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_table_reads_as_people_expect() {
        let mut boot = region("p1", 1, 1 << 20, 1 << 30);
        boot.type_name = "EFI System".to_owned();
        boot.holds = Holds { kind: HoldsKind::Filesystem, fs: Some("vfat".to_owned()), ..Holds::default() };
        boot.handling = Handling::Files;
        let mut layout = layout(vec![boot, region("p2", 2, 2 << 30, 8 << 30)]);
        layout.problems.push(Problem::new(Severity::Warning, "p2", "odd"));
        let expected = "\
vg0/vol-1: 10 GiB, sectors of 512 bytes
partition table: gpt u

NAME      START  SIZE TYPE       HOLDS   LABEL UUID BACKUP
p1      1048576 1 GiB EFI System vfat    -     -    files
p2   2147483648 8 GiB            unknown -     -    raw image

0 [=p1==]........[============================p2=============================] 10 GiB
warning: p2: odd
";
        assert_eq!(render_table(&layout), expected);
    }

    #[test]
    fn hostile_labels_do_nothing_and_lines_stay_short() {
        let mut long = region(&format!("p2.{}", "x".repeat(190)), 2, 0, 1 << 40);
        long.holds.label = Some("\u{1b}]0;title\u{7}".repeat(20));
        long.holds.uuid = Some("0fc63daf-8483-4772-8e79-3d69d8477de4".to_owned());
        long.partition_name = "\n".to_owned();
        long.type_name = "Windows recovery environment".to_owned();
        let text = render_table(&layout(vec![long, region("p1", 1, u64::MAX, u64::MAX)]));
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let mut nothing = layout(Vec::new());
        nothing.source.size_bytes = 0;
        assert!(render_table(&nothing).contains("no partitions"));
    }
}
