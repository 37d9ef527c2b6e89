//! Tables for people: at a terminal they fit its width, and what needs attention is coloured. Anywhere else they have all columns
//! and no colours.

use crate::shown;

const GAP: usize = 2;

/// Where text is shown. The default is a pipe or a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Columns; `None` if lines may have any length.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub has_colours: bool,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tint {
    /// Nothing.
    #[default]
    Plain,
    /// All is well: green.
    Good,
    /// It wants a look: yellow.
    Doubtful,
    /// It is wrong: red.
    Bad,
}

impl Screen {
    /// Text of one line, escaped, in the colour of this tint.
    pub fn tinted(self, text: &str, tint: Tint) -> String {
        let text = shown::text(text);
        let code = match tint {
            Tint::Good => "32",
            Tint::Doubtful => "33",
            Tint::Bad => "31",
            Tint::Plain => return text,
        };
        if self.has_colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The columns with the highest number are left out first where there is no room; those with 0 never.
    pub dispensable: u8,
    /// The width to which its cells may be cut; `None` if they are shown whole or not at all.
    pub least: Option<usize>,
}

/// A table with these columns.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Tint)>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub fn push(&mut self, cells: impl IntoIterator<Item = (String, Tint)>) {
        self.rows.push(cells.into_iter().map(|(text, tint)| (shown::text(&text), tint)).collect());
    }

    /// A line for the names, and one for each row.
    pub fn text(&self, screen: Screen) -> String {
        let (shown, widths) = self.fit(screen.width);
        let mut text = String::new();
        let names = self.columns.iter().map(|column| (column.name.to_owned(), Tint::Plain)).collect();
        for row in std::iter::once(&names).chain(&self.rows) {
            let cells: &Vec<(String, Tint)> = row;
            // Spaces before a cell, so that there are none at the end of a line.
            let (mut line, mut before) = (String::new(), 0);
            for (column, width) in shown.iter().zip(&widths) {
                let Some((cell, tint)) = cells.get(*column).filter(|(cell, _)| !cell.is_empty()) else {
                    before += width + GAP;
                    continue;
                };
                let cell = shown::cut(cell, *width);
                line.push_str(&" ".repeat(before));
                line.push_str(&screen.tinted(&cell, *tint));
                before = width.saturating_sub(shown::columns(&cell)) + GAP;
            }
            text.push_str(&line);
            text.push('\n');
        }
        let left_out = self.columns.len() - shown.len();
        if left_out > 0 {
            let columns = if left_out == 1 { "column" } else { "columns" };
            text.push_str(&format!("… {left_out} more {columns} in a wide terminal\n"));
        }
        text
    }

    /// The columns that are shown, and their widths.
    fn fit(&self, room: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let natural = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(cell, _)| shown::columns(cell));
            cells.max().unwrap_or(0).max(self.columns[column].name.len())
        };
        let natural: Vec<usize> = (0..self.columns.len()).map(natural).collect();
        let least = |column: usize| natural[column].min(self.columns[column].least.unwrap_or(usize::MAX).max(1));
        let gaps = |count: usize| GAP * count.saturating_sub(1);
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let Some(room) = room else { return (shown, natural) };
        while shown.iter().map(|column| least(*column)).sum::<usize>() + gaps(shown.len()) > room {
            let dispensable = |at: &usize| self.columns[shown[*at]].dispensable;
            match (0..shown.len()).filter(|at| dispensable(at) > 0).max_by_key(dispensable) {
                Some(at) => drop(shown.remove(at)),
                None => break,
            }
        }
        let mut widths: Vec<usize> = shown.iter().map(|column| natural[*column]).collect();
        let mut over = (widths.iter().sum::<usize>() + gaps(shown.len())).saturating_sub(room);
        // The widest loses first.
        while over > 0 {
            let spare = |at: &usize| widths[*at] - least(shown[*at]);
            let Some(widest) = (0..shown.len()).filter(|at| spare(at) > 0).max_by_key(|at| widths[*at]) else { break };
            widths[widest] -= 1;
            over -= 1;
        }
        (shown, widths)
    }
}

/// Rows with aligned columns as they are, a line each behind `indent`; rows may be of several lengths.
pub fn aligned(rows: &[Vec<String>], indent: &str) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| shown::columns(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| shown::padded(cell, *width)).collect();
        format!("{indent}{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Column, Screen, Table, Tint};

    fn table() -> Table {
        let mut table = Table::new(&[
            Column { name: "VOLUME", dispensable: 0, least: Some(8) },
            Column { name: "SIZE", dispensable: 1, least: None },
            Column { name: "NOTE", dispensable: 2, least: None },
            Column { name: "STATE", dispensable: 0, least: Some(6) },
        ]);
        let row = |cells: [&str; 4], tint| cells.map(|cell| (cell.to_owned(), tint));
        table.push(row(["volume-0000001a", "3.5 GiB", "", "whole"], Tint::Good));
        table.push(row(["vol\u{1b}[31m", "1 KiB", "a note", "DAMAGED: no archive"], Tint::Bad));
        table
    }

    #[test]
    fn a_pipe_gets_all_columns_whole_and_without_colours() {
        let right = "\
VOLUME           SIZE     NOTE    STATE
volume-0000001a  3.5 GiB          whole
vol\\u{1b}[31m    1 KiB    a note  DAMAGED: no archive
";
        assert_eq!(table().text(Screen::default()), right);
        assert_eq!(table().text(Screen { width: Some(200), has_colours: false }), right);
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        for width in [18, 24, 30, 40, 50, 58] {
            let text = table().text(Screen { width: Some(width), has_colours: false });
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines.iter().take(3).all(|line| line.chars().count() <= width), "{width}: {text}");
            assert!(text.contains("VOLUME") && text.contains("STATE") && text.contains("DAMAG"), "{width}: {text}");
        }
        let text = table().text(Screen { width: Some(30), has_colours: false });
        assert_eq!(text.lines().next(), Some("VOLUME      SIZE     STATE"), "{text}");
        assert!(text.ends_with("\n… 1 more column in a wide terminal\n"), "{text}");
    }

    #[test]
    fn a_wide_name_fits_and_leaves_the_columns_behind_it_in_their_place() {
        let mut table = Table::new(&[
            Column { name: "NAME", dispensable: 0, least: Some(5) },
            Column { name: "STATE", dispensable: 0, least: None },
        ]);
        for name in ["データベース", "cafe\u{301}", "web"] {
            table.push([name, "whole"].map(|cell| (cell.to_owned(), Tint::Plain)));
        }
        let right = "NAME          STATE\nデータベース  whole\ncafe\u{301}          whole\nweb           whole\n";
        assert_eq!(table.text(Screen::default()), right);
        let right = "NAME         STATE\nデータベー…  whole\ncafe\u{301}         whole\nweb          whole\n";
        assert_eq!(table.text(Screen { width: Some(18), has_colours: false }), right);
    }

    #[test]
    fn colours_are_those_of_volbak_alone() {
        let text = table().text(Screen { width: None, has_colours: true });
        assert!(text.contains("\u{1b}[32mwhole\u{1b}[0m\n"), "{text:?}");
        assert!(text.contains("\u{1b}[31mvol\\u{1b}[31m\u{1b}[0m"), "{text:?}");
        assert_eq!(text.matches('\u{1b}').count(), 2 * 7);
    }
}
