//! `volbak help`: the help of a verb, and topics. A topic is a part of docs/, so that it is written once.

use clap::CommandFactory;
use volbak::error::ExitClass;

use super::args::{Cli, EXIT_STATUS};
use super::night_args::STATUS_EXIT;
use super::output::print_as_it_is;
use super::place::UsageError;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The names of topics, and what each is about.
const TOPICS: [(&str, &str); 3] = [
    ("retention", "which backups are removed, and which are kept"),
    ("restore", "restoring files, whole disks, and without volbak"),
    ("exit-status", "the exit statuses, and what a run does about each event"),
];

/// Prints the help of a verb, a topic, or both if they have the same name.
pub(crate) fn help(words: &[String]) -> anyhow::Result<ExitClass> {
    let mut command = Cli::command();
    command.build();
    let mut text = String::new();
    let mut found = Some(&mut command);
    for word in words {
        found = found.and_then(|command| command.find_subcommand_mut(word));
    }
    if let Some(command) = found {
        text.push_str(&command.render_long_help().to_string());
    }
    if let [name] = words
        && let Some(topic) = topic(name)
    {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&topic);
    }
    if text.is_empty() {
        let topics: Vec<String> = TOPICS.iter().map(|(name, about)| format!("\n  {name:<12} {about}")).collect();
        let what = format!("no verb and no topic is named {:?}; the topics:{}", words.join(" "), topics.concat());
        return Err(UsageError(what).into());
    }
    print_as_it_is(&text)?;
    Ok(ExitClass::Well)
}

fn topic(name: &str) -> Option<String> {
    match name {
        "retention" => Some(section("## Retention")),
        "restore" => Some([section("## Restoring files"), section("## Rebuilding a whole disk")].join("\n")),
        "exit-status" => {
            let each = EXIT_STATUS.replace(": ", ":\n  ").replace("; ", "\n  ");
            let of_status = format!("volbak status: {STATUS_EXIT}");
            Some([each.as_str(), &of_status, &section("### What happens if …")].join("\n\n"))
        }
        _ => None,
    }
}

/// The part of the document below this heading, up to the next one of its level or above, without the marks of links.
fn section(heading: &str) -> String {
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let mut is_code = false;
    let mut lines = OPERATIONS.lines().skip_while(|line| *line != heading);
    let mut text: String =
        lines.next().map(|line| line.trim_start_matches(['#', ' ']).to_owned() + "\n").unwrap_or_default();
    let ends = |line: &str| (1..=level(heading)).contains(&level(line));
    for line in lines {
        is_code ^= line.starts_with("```");
        if !is_code && ends(line) {
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::{TOPICS, section, topic};

    #[test]
    fn each_topic_is_there() {
        for (name, _) in TOPICS {
            assert!(topic(name).unwrap().lines().count() > 10, "{name}");
        }
        assert!(topic("nonsense").is_none());
        let retention = section("## Retention");
        assert!(retention.starts_with("Retention\n\n") && !retention.contains("## "), "{retention}");
    }
}
