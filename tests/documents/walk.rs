//! Promise: at a terminal `volbak browse` is walked with the arrow keys, shows files, restores what is marked, and leaves the
//! terminal as it was, however it ends. Tested in tmux.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::testkit::guest::{quoted, sh};
use crate::testkit::wait::wait_until;

/// A terminal in tmux, with a shell.
struct Terminal {
    dir: tempfile::TempDir,
    /// The commands so far.
    commands: Cell<u32>,
}

impl Terminal {
    /// With a backup of some files, and the variables of the environment that volbak needs.
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap(), commands: Cell::new(0) };
        let root = this.path("root");
        fs::create_dir_all(root.join("etc/sub")).unwrap();
        fs::create_dir_all(root.join("we[i]rd*")).unwrap();
        fs::create_dir_all(root.join("weirdo")).unwrap();
        let deep = root.join("deep").join("d".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("x"), vec![b'x'; 64 << 10]).unwrap();
        fs::write(root.join("etc/evil"), "red \x1b[31m\n").unwrap();
        fs::write(root.join("etc/hostname"), "web-01\n").unwrap();
        let numbers: Vec<String> = (1..=300).map(|number| format!("number-{number}")).collect();
        fs::write(root.join("etc/numbers"), numbers.join("\n")).unwrap();
        fs::write(root.join("etc/sub/deep"), "deep\n").unwrap();
        fs::write(root.join("we[i]rd*/binary"), [0, 1, 2, b'A', 0xff]).unwrap();
        fs::create_dir(this.path("b")).unwrap();
        let image = this.path("vol.img");
        sh(&format!("truncate -s 16M {0}; mke2fs -q -t ext4 -d {1} {0}", quoted(&image), quoted(&root)));
        let mut snapshot = Command::new(env!("CARGO_BIN_EXE_volbak"));
        let made =
            snapshot.arg("-q").arg("snapshot").arg(&image).arg("--destination").arg(this.path("b")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let shell = format!(
            "cd {}; PS1='$ ' TERM=screen VOLBAK_BACKUP_DESTINATION={} exec bash --norc",
            quoted(this.dir.path()),
            quoted(&this.path("b"))
        );
        this.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "12", &shell]);
        this
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("tmux").arg("-S").arg(self.path("socket")).args(arguments).output().expect("tmux runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Presses these keys, and waits until this is on the screen.
    fn press(&self, keys: &[&str], until: &str) -> String {
        if !keys.is_empty() {
            self.tmux(&[&["send-keys"], keys].concat());
        }
        let mut screen = String::new();
        wait_until(&format!("{until:?} after {keys:?}"), || {
            screen = self.screen();
            screen.contains(until)
        });
        screen
    }

    /// Types a command.
    fn begin(&self, command: &str) {
        let number = self.commands.get() + 1;
        self.commands.set(number);
        let program = env!("CARGO_BIN_EXE_volbak");
        self.tmux(&["send-keys", "-l", &format!("clear; {program} {command}; echo command {number} status $?")]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Presses these keys, and waits until the command has ended with this status.
    fn ends(&self, keys: &[&str], status: i32) {
        self.press(keys, &format!("command {} status {status}", self.commands.get()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(self.path("socket")).arg("kill-server").status();
    }
}

fn names_below(path: &Path) -> String {
    sh(&format!("cd {} && find . -mindepth 1 | sort", quoted(path)))
}

#[test]
fn directories_are_walked_and_marked_entries_restored() {
    let terminal = Terminal::new();
    terminal.begin("browse vol");
    let root = terminal.press(&[], "space mark");
    let rows: Vec<&str> = root.lines().skip(1).take(4).map(str::trim_end).collect();
    assert_eq!(
        rows,
        [" d             deep/", " d             etc/", " d             we[i]rd*/", " d             weirdo/"]
    );

    terminal.press(&["Down", "Right"], "/etc  4 entries");
    let evil = terminal.press(&["Enter"], "line 1 of 1");
    assert!(evil.contains(r"red \u{1b}[31m"), "{evil}");
    terminal.press(&["Left"], "/etc  4 entries");
    terminal.press(&["Down", "Down", "Enter"], "number-9");
    let last = terminal.press(&["End"], "number-300");
    assert!(!last.contains("number-290"), "{last}");
    terminal.press(&["Left"], "/etc  4 entries");
    terminal.press(&["Space"], "(1 marked)");
    terminal.press(&["Enter"], "/etc/sub  1 entry");
    // The directory that was left is selected, and the way up ends at the root.
    terminal.press(&["Left", "Left", "Left", "Left", "End", "Up", "Enter"], "/we[i]rd*  1 entry");
    let dump = terminal.press(&["Enter"], "00000000");
    assert!(dump.contains("00 01 02 41 ff") && dump.contains("...A."), "{dump}");
    terminal.press(&["Left", "Space"], "(2 marked)");
    terminal.press(&["r"], "restore 2 entries into: restored_");
    terminal.press(&["Escape"], "space mark");
    terminal.press(&["r", "BSpace", "BSpace", "/", "x"], "into: restor/x_");
    // What was marked is not lost by a mistake.
    terminal.press(&["Enter"], "restor/x_  (the directory above it is missing)");
    terminal.press(&["BSpace", "BSpace", "2"], "into: restor2_");
    terminal.ends(&["Enter"], 0);
    // A name is no pattern: `weirdo` is not restored.
    assert_eq!(names_below(&terminal.path("restor2")), "./etc\n./etc/numbers\n./we[i]rd*\n./we[i]rd*/binary\n");
}

#[test]
fn a_walk_begins_where_it_is_told_and_shows_what_it_does() {
    let terminal = Terminal::new();
    for (start, shown) in
        [("./etc/", "/etc  4 entries"), ("etc/hostname", "/etc  4 entries"), ("'we[i]rd*'", "/we[i]rd*  1 ")]
    {
        terminal.begin(&format!("browse vol {start}"));
        terminal.press(&[], shown);
        terminal.ends(&["q"], 0);
    }
    terminal.begin("browse vol etc/hostname");
    terminal.press(&[], "/etc  4 entries");
    terminal.press(&["Enter"], "web-01");
    terminal.ends(&["q"], 0);
    // A long path leaves room for the count, and for the directory to restore into.
    terminal.begin(&format!("browse vol deep/{}", "d".repeat(120)));
    terminal.press(&[], "ddd  1 entry");
    let whole = terminal.press(&["Enter"], "line 1 of 1");
    assert!(!whole.contains("the first 64 KiB"), "all of it is shown: {whole}");
    terminal.press(&["Left", "r"], "restore 1 entry into: restored_");
    let long = terminal.press(&[&"y".repeat(90), "z"], "yyyz_");
    assert!(long.contains("restore 1 entry into: …y"), "{long}");
    terminal.press(&["C-c"], "status 130");
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let terminal = Terminal::new();
    let settings = || {
        let file = terminal.path("settings");
        let _ = fs::remove_file(&file);
        terminal.tmux(&["send-keys", "-l", "clear; stty -a >settings.new; mv settings.new settings"]);
        terminal.tmux(&["send-keys", "Enter"]);
        wait_until("the settings of the terminal", || file.exists());
        fs::read_to_string(file).unwrap()
    };
    let before = settings();
    for (end, status) in [("q", 0), ("C-c", 130), ("TERM", 143), ("HUP", 129)] {
        terminal.begin("browse vol etc");
        terminal.press(&[], "/etc  4 entries");
        if ["TERM", "HUP"].contains(&end) {
            let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
            sh(&format!("pkill -{end} -P {} volbak", shell.trim()));
            terminal.ends(&[], status);
        } else {
            terminal.ends(&[end], status);
        }
        let screen = terminal.screen();
        assert!(!screen.contains("space mark"), "after {end} the screen of before is back: {screen}");
        assert_eq!(terminal.tmux(&["display-message", "-p", "#{cursor_flag} #{alternate_on}"]), "1 0\n", "after {end}");
        assert_eq!(settings(), before, "after {end}");
    }
    for (command, status) in [("browse vol nothing-of-that-name", 1), ("browse vol --list", 0), ("browse vol | cat", 0)]
    {
        terminal.begin(command);
        terminal.ends(&[], status);
    }
    terminal.tmux(&["send-keys", "-l", "export TERM=dumb"]);
    terminal.tmux(&["send-keys", "Enter"]);
    terminal.begin("browse vol");
    terminal.ends(&[], 0);
}
