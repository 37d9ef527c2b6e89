//! A backup that is walked at a terminal: directories with the arrow keys, a preview of files, a restore of what is marked.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

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
use crate::cli::proof::restore_paths;

/// The entries of a directory that are kept in memory.
const MAX_ENTRIES: usize = 200_000;
/// Lines that are not entries: the path above, and the keys and a message below.
const OTHER_LINES: usize = 3;
const KEYS: &str = "↑↓ move  → open  ← back  space mark  r restore  q quit";
const KEYS_OF_A_FILE: &str = "↑↓ scroll  ← back  q quit";

/// Walks the backup from the directory `start` until the user ends it, and restores what he chose.
pub(super) fn walk(files: &Backup, start: &str) -> anyhow::Result<ExitClass> {
    let mut walk = Walk {
        files,
        cancel: Cancel::default(),
        at: Directory::default(),
        marked: BTreeSet::new(),
        note: String::new(),
    };
    // An error here is told as by a list.
    walk.at = walk.read(start.trim_matches('/'))?;
    let screen = Screen::enter()?;
    let ended = walk.until_ended(&screen)?;
    drop(screen);
    match ended {
        None => Ok(ExitClass::Well),
        Some((to, paths)) => restore_paths(files, &to, paths),
    }
}

struct Walk<'a> {
    files: &'a Backup,
    cancel: Cancel,
    at: Directory,
    /// The paths of the marked entries.
    marked: BTreeSet<String>,
    note: String,
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
            Key::ArrowLeft | Key::Backspace | Key::Char('h') => self.go_up(),
            Key::Char(' ') => self.mark(),
            Key::Char('r') => return self.ask_where_to(screen),
            Key::Char('q') | Key::Escape => return Ok(ControlFlow::Break(None)),
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads a directory; fails if there is none.
    fn read(&self, path: &str) -> Result<Directory, BrowseError> {
        let mut directory = Directory { path: path.to_owned(), ..Directory::default() };
        let depth = if path.is_empty() { 1 } else { path.split('/').count() + 1 };
        browse::list(self.files, path, false, &self.cancel, &Silent, |entry| {
            // A name with `*`, `?` or `[` is a pattern, too.
            let is_inside =
                parent_of(&entry.path) == path || (path.is_empty() && entry.path.split('/').count() == depth);
            if is_inside && !entry.path.is_empty() {
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
            'd' => self.go_to(&path, None),
            'f' | 'h' => match preview::lines_of(self.files, &path, size, &self.cancel) {
                Ok(lines) => return show_lines(screen, &path, &lines),
                Err(what) => self.note = what,
            },
            _ => "neither a directory nor a file".clone_into(&mut self.note),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn go_up(&mut self) {
        if !self.at.path.is_empty() {
            let from = self.at.path.clone();
            self.go_to(parent_of(&from), Some(&from));
        }
    }

    fn go_to(&mut self, path: &str, select: Option<&str>) {
        match self.read(path) {
            Ok(directory) => {
                self.at = directory;
                let found = self.at.entries.iter().position(|entry| Some(entry.path.as_str()) == select);
                self.at.selected = found.unwrap_or_default();
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
        let what = match paths.as_slice() {
            [only] => shown::text(only),
            several => shown::counted(several.len() as u64, "entry", "entries"),
        };
        let mut to = String::from("restored");
        loop {
            self.note = format!("restore {what} into the directory: {to}_");
            self.draw(screen)?;
            match screen.key()? {
                Key::Char(character) if !character.is_control() => to.push(character),
                Key::Backspace => {
                    to.pop();
                }
                Key::Enter if !to.is_empty() => return Ok(ControlFlow::Break(Some((PathBuf::from(to), paths)))),
                Key::Escape => {
                    self.note.clear();
                    return Ok(ControlFlow::Continue(()));
                }
                _ => {}
            }
        }
    }

    fn draw(&self, screen: &Screen) -> io::Result<()> {
        let (rows, _) = screen.size();
        let visible = rows - OTHER_LINES;
        let first = self.at.selected.saturating_sub(visible - 1);
        let more = if self.at.has_more { " and more, which `volbak browse --list` prints" } else { "" };
        let count = shown::counted(self.at.entries.len() as u64, "entry", "entries");
        let mut lines = vec![format!("{}: /{}  {count}{more}", self.files.stem(), shown::text(&self.at.path))];
        lines.extend(self.at.entries.iter().skip(first).take(visible).map(|entry| self.line(entry)));
        let selected = (!self.at.entries.is_empty()).then_some(1 + self.at.selected - first);
        lines.resize(1 + visible, String::new());
        let marked = match self.marked.len() {
            0 => String::new(),
            count => format!("  ({count} marked)"),
        };
        lines.push(format!("{KEYS}{marked}"));
        lines.push(self.note.clone());
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

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Shows a file.
fn show_lines(screen: &Screen, path: &str, lines: &[String]) -> io::Result<Next> {
    let mut top: usize = 0;
    loop {
        let (rows, _) = screen.size();
        let visible = rows - OTHER_LINES;
        let last = lines.len().saturating_sub(visible);
        top = top.min(last);
        let mut page = vec![format!("/{}  line {} of {}", shown::text(path), (top + 1).min(lines.len()), lines.len())];
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
            Key::ArrowLeft | Key::Backspace | Key::Char('h') | Key::Escape => return Ok(ControlFlow::Continue(())),
            Key::Char('q') => return Ok(ControlFlow::Break(None)),
            _ => {}
        }
    }
}
