//! A backup that is walked at a terminal: directories with the arrow keys, a preview of files, a restore of what is marked.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use console::Key;
use volbak::error::{ExitClass, with_causes};
use volbak::events::Silent;
use volbak::outside::Cancel;
use volbak::run::browse::{self, BrowseError, ListedEntry};
use volbak::shown;
use volbak::store::Backup;
use volbak::units::ByteLen;

use super::preview;
use super::screen::Screen;
use crate::cli::place::from_home;
use crate::cli::proof::restore_paths;

/// The entries of a directory that are kept in memory.
const MAX_ENTRIES: usize = 200_000;
/// Lines that are not entries: the path above, and the keys and a message below.
const OTHER_LINES: usize = 3;
const KEYS: &str = "↑↓ move  → open  ← back  space mark  r restore  q quit";
const KEYS_OF_A_FILE: &str = "↑↓ scroll  ← back  q quit";

/// Walks the backup from `start` until the user ends it, and restores what he chose.
pub(super) fn walk(files: &Backup, start: &str) -> anyhow::Result<ExitClass> {
    let cancel = Cancel::default();
    let mut walk = Walk { files, at: Directory::default(), marked: BTreeSet::new(), note: String::new(), cancel };
    // An error here is told as by a list.
    walk.begin_at(start)?;
    let screen = Screen::enter(&walk.cancel)?;
    let ended = walk.until_ended(&screen)?;
    drop(screen);
    match ended {
        None => Ok(ExitClass::Well),
        Some((to, paths)) => restore_paths(files, &to, paths.iter().map(|path| pattern_of(path)).collect()),
    }
}

struct Walk<'a> {
    files: &'a Backup,
    at: Directory,
    /// The paths of the marked entries.
    marked: BTreeSet<String>,
    note: String,
    cancel: Cancel,
}

/// A directory of the backup.
#[derive(Default)]
struct Directory {
    /// Its path; empty for the root.
    path: String,
    entries: Vec<ListedEntry>,
    selected: usize,
    has_more: bool,
}

impl Directory {
    fn entry(&self) -> Option<&ListedEntry> {
        self.entries.get(self.selected)
    }

    /// Selects the entry with this path; without it, the first one.
    fn select(&mut self, path: Option<&str>) {
        let found = self.entries.iter().position(|entry| Some(entry.path.as_str()) == path);
        self.selected = found.unwrap_or_default();
    }

    /// Selects the entry `count` lines below or above, or the last or first one.
    fn step(&mut self, count: isize) {
        self.selected = self.selected.saturating_add_signed(count).min(self.entries.len().saturating_sub(1));
    }
}

/// The directory to restore into, and the paths in the backup.
type Chosen = (PathBuf, Vec<String>);

/// Whether the walk goes on, or ends with what is to be restored.
type Next = ControlFlow<Option<Chosen>>;

impl Walk<'_> {
    fn until_ended(&mut self, screen: &Screen) -> io::Result<Option<Chosen>> {
        loop {
            self.draw(screen)?;
            self.note.clear();
            if let ControlFlow::Break(chosen) = self.pressed(&screen.key()?, screen)? {
                return Ok(chosen);
            }
        }
    }

    fn pressed(&mut self, key: &Key, screen: &Screen) -> io::Result<Next> {
        let page = isize::try_from(screen.size().0 - OTHER_LINES).unwrap_or(1);
        match key {
            Key::ArrowUp | Key::Char('k') => self.at.step(-1),
            Key::ArrowDown | Key::Char('j') => self.at.step(1),
            Key::PageUp => self.at.step(-page),
            Key::PageDown => self.at.step(page),
            Key::Home => self.at.step(isize::MIN),
            Key::End => self.at.step(isize::MAX),
            Key::ArrowRight | Key::Enter | Key::Char('l') => return self.open(screen),
            Key::ArrowLeft | Key::Backspace | Key::Char('h') => self.go_up(screen),
            Key::Char(' ') => self.mark(),
            Key::Char('r') => return self.ask_where_to(screen),
            // Not Escape: with a slow line, an arrow key can begin with it.
            Key::Char('q') => return Ok(ControlFlow::Break(None)),
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Goes to the directory that the user named, or to the one of the file that he named.
    fn begin_at(&mut self, start: &str) -> Result<(), BrowseError> {
        let mut named: Option<ListedEntry> = None;
        if !start.is_empty() {
            browse::list(self.files, start, false, &self.cancel, &Silent, |entry| {
                let depth = |entry: &ListedEntry| entry.path.split('/').count();
                if named.as_ref().is_none_or(|named| depth(&entry) < depth(named)) {
                    named = Some(entry);
                }
                Ok(())
            })?;
        }
        let named = named.filter(|named| !named.path.is_empty());
        let (path, select) = match &named {
            None => ("", None),
            Some(ListedEntry { kind: 'd', path, .. }) => (path.as_str(), None),
            Some(file) => (parent_of(&file.path), Some(file.path.as_str())),
        };
        self.at = self.read(path)?;
        self.at.select(select);
        Ok(())
    }

    /// Reads a directory; fails if there is none.
    fn read(&self, path: &str) -> Result<Directory, BrowseError> {
        let mut directory = Directory { path: path.to_owned(), ..Directory::default() };
        browse::list(self.files, &pattern_of(path), false, &self.cancel, &Silent, |entry| {
            if parent_of(&entry.path) == path && !entry.path.is_empty() {
                if directory.entries.len() < MAX_ENTRIES {
                    directory.entries.push(entry);
                } else {
                    directory.has_more = true;
                }
            }
            Ok(())
        })?;
        directory.entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(directory)
    }

    /// Goes into the selected directory, or shows the selected file.
    fn open(&mut self, screen: &Screen) -> io::Result<Next> {
        let Some(ListedEntry { kind, path, size, .. }) = self.at.entry().cloned() else {
            return Ok(ControlFlow::Continue(()));
        };
        match kind {
            'd' => self.go_to(screen, &path, None),
            'f' | 'h' => {
                match screen.while_busy(|| preview::lines_of(self.files, &pattern_of(&path), size, &self.cancel)) {
                    Ok(lines) => return show_lines(screen, &path, &lines),
                    Err(what) => self.note = what,
                }
            }
            _ => "neither a directory nor a file".clone_into(&mut self.note),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn go_up(&mut self, screen: &Screen) {
        if !self.at.path.is_empty() {
            let from = self.at.path.clone();
            self.go_to(screen, parent_of(&from), Some(&from));
        }
    }

    fn go_to(&mut self, screen: &Screen, path: &str, select: Option<&str>) {
        match screen.while_busy(|| self.read(path)) {
            Ok(directory) => {
                self.at = directory;
                self.at.select(select);
            }
            Err(error) => self.note = with_causes(&error),
        }
    }

    fn mark(&mut self) {
        if let Some(path) = self.at.entry().map(|entry| entry.path.clone()) {
            if !self.marked.remove(&path) {
                self.marked.insert(path);
            }
            self.at.step(1);
        }
    }

    /// Asks for the directory to restore into.
    fn ask_where_to(&mut self, screen: &Screen) -> io::Result<Next> {
        let selected = self.at.entry().map(|entry| entry.path.clone());
        let paths: Vec<String> =
            if self.marked.is_empty() { selected.into_iter().collect() } else { self.marked.iter().cloned().collect() };
        if paths.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let what = format!("restore {} into: ", shown::counted(paths.len() as u64, "entry", "entries"));
        let mut to = String::from("restored");
        let mut wrong = String::new();
        loop {
            let room = screen.size().1.saturating_sub(what.len() + 1 + wrong.len());
            self.note = format!("{what}{}_{wrong}", shown::tail(&shown::text(&to), room));
            self.draw(screen)?;
            wrong.clear();
            match screen.key()? {
                Key::Char(character) if !character.is_control() => to.push(character),
                Key::Backspace => {
                    to.pop();
                }
                Key::Enter if !to.is_empty() => match target(&to) {
                    Some(target) => return Ok(ControlFlow::Break(Some((target, paths)))),
                    None => wrong.push_str("  (the directory above it is missing)"),
                },
                Key::Escape => {
                    self.note.clear();
                    return Ok(ControlFlow::Continue(()));
                }
                _ => {}
            }
        }
    }

    fn draw(&self, screen: &Screen) -> io::Result<()> {
        let (rows, columns) = screen.size();
        let visible = rows - OTHER_LINES;
        let first = self.at.selected.saturating_sub(visible - 1);
        let more = if self.at.has_more { " and more, which `volbak browse --list` prints" } else { "" };
        let count = shown::counted(self.at.entries.len() as u64, "entry", "entries");
        let path = format!("{}: /{}", shown::text(self.files.stem()), shown::text(&self.at.path));
        let mut lines = vec![with_tail(&path, &format!("  {count}{more}"), columns)];
        lines.extend(self.at.entries.iter().skip(first).take(visible).map(|entry| self.line(entry)));
        let selected = (!self.at.entries.is_empty()).then_some(1 + self.at.selected - first);
        lines.resize(1 + visible, String::new());
        let marked = match self.marked.len() {
            0 => String::new(),
            count => format!("  ({count} marked)"),
        };
        lines.push(format!("{KEYS}{marked}"));
        lines.push(shown::text(&self.note));
        screen.show(&lines, selected)
    }

    fn line(&self, entry: &ListedEntry) -> String {
        let mark = if self.marked.contains(&entry.path) { '*' } else { ' ' };
        let damaged = if entry.damaged { '!' } else { ' ' };
        let name = shown::text(entry.path.rsplit('/').next().unwrap_or_default());
        let (size, slash) = match entry.kind {
            'd' => (String::new(), "/"),
            _ => (ByteLen(entry.size).to_string(), ""),
        };
        format!("{mark}{}{damaged} {size:>10} {name}{slash}", entry.kind)
    }
}

/// The pattern that selects exactly this path, which is escaped as in the index.
fn pattern_of(path: &str) -> String {
    path.replace('*', "\\x2a").replace('?', "\\x3f").replace('[', "\\x5b")
}

/// The directory to restore into as typed, with `~` for the user's own; `None` if the one above it is missing.
fn target(typed: &str) -> Option<PathBuf> {
    let target = from_home(typed);
    let above = target.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    above.is_dir().then_some(target)
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// A path and what is told of it, with the begin of the path cut to the width.
fn with_tail(path: &str, after: &str, columns: usize) -> String {
    shown::tail(path, columns.saturating_sub(shown::columns(after))) + after
}

/// Shows a file.
fn show_lines(screen: &Screen, path: &str, lines: &[String]) -> io::Result<Next> {
    let mut top: usize = 0;
    loop {
        let (rows, columns) = screen.size();
        let visible = rows - OTHER_LINES;
        let last = lines.len().saturating_sub(visible);
        top = top.min(last);
        let of = format!("  line {} of {}", (top + 1).min(lines.len()), lines.len());
        let mut page = vec![with_tail(&format!("/{}", shown::text(path)), &of, columns)];
        page.extend(lines.iter().skip(top).take(visible).cloned());
        page.resize(1 + visible, String::new());
        page.push(KEYS_OF_A_FILE.to_owned());
        screen.show(&page, None)?;
        match screen.key()? {
            Key::ArrowUp | Key::Char('k') => top = top.saturating_sub(1),
            Key::ArrowDown | Key::Char('j') => top += 1,
            Key::PageUp => top = top.saturating_sub(visible),
            Key::PageDown | Key::Char(' ') => top += visible,
            Key::Home => top = 0,
            Key::End => top = last,
            Key::ArrowLeft | Key::Backspace | Key::Char('h') => return Ok(ControlFlow::Continue(())),
            Key::Char('q') => return Ok(ControlFlow::Break(None)),
            _ => {}
        }
    }
}
