//! The README's examples are real: each ```console block with a `<!-- tested -->` line before it is run here, all of
//! them in order in one empty directory, and what they print is compared with what the README says they print.

use std::path::Path;

use crate::testkit::examples::{Example, matches, run, tested_examples};

const MARK: &str = "<!-- tested -->";

#[test]
fn the_readme_shows_what_happens() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&readme).expect("there is a README.md");
    let examples = tested_examples(&readme, MARK);
    assert!(!examples.is_empty(), "the README has no block with `{MARK}` before it");
    let dir = tempfile::tempdir().unwrap();
    run(&examples, dir.path());
}

#[test]
fn examples_are_found_and_compared() {
    let readme = "# Title\n```console\n$ rm -rf /\n```\ntext\n<!-- tested -->\n```console\n$ one \\\n  two\nout 1\n\n$ three\n```\n";
    let expected = [("one \\\n  two", vec!["out 1".to_owned(), String::new()]), ("three", vec![])]
        .map(|(command, output)| Example { command: command.to_owned(), output });
    assert_eq!(tested_examples(readme, MARK), expected);

    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&lines("a_20_11_2026.tar.gz   1.2 MiB"), &lines("a_01_02_2027.tar.gz 950 KiB")));
    assert!(matches(
        &lines("p1 0fc63daf-8483-4772-8e79-3d69d8477de4"),
        &lines("p1 21686148-6449-6e6f-744e-656564454649")
    ));
    assert!(!matches(&lines("1 partition"), &lines("1 region")));
    assert!(!matches(&lines("a\nb"), &lines("a")));
    assert!(matches(&lines("a\n…\nd"), &lines("a\nb\nc\nd")));
    assert!(matches(&lines("a\n…"), &lines("a")));
    assert!(!matches(&lines("…\nd"), &lines("a\nb")));
}
