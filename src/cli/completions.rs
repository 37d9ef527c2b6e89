//! `volbak completions`: verbs and options from the arguments, and a function that asks the program for names.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::args::Cli;
use super::complete;

/// Where clap's script for zsh begins to be called.
const CALL_IN_ZSH: &str = "\nif [ \"$funcstack[1]\" = \"_volbak\" ]; then\n";

/// The script for this shell.
pub(crate) fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut Cli::command(), "volbak", &mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    match shell {
        Shell::Bash => text.push_str(include_str!("complete/volbak.bash")),
        Shell::Fish => {
            text.push_str(include_str!("complete/volbak.fish"));
            // The value of an option is completed by what is said of the option alone.
            for (verb, option) in complete::options_with_names() {
                text.push_str(&format!(
                    "complete -c volbak -n \"__fish_volbak_using_subcommand {verb}\" -l {option} -r -f -k -a '(__volbak_values)'\n"
                ));
            }
        }
        Shell::Zsh => {
            let call = text.rfind(CALL_IN_ZSH).unwrap_or(text.len());
            text.insert_str(call, include_str!("complete/volbak.zsh"));
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::{CALL_IN_ZSH, script};

    #[test]
    fn zsh_defines_the_function_before_it_is_called() {
        let text = script(Shell::Zsh);
        assert!(text.find("_volbak_of_arguments").unwrap() < text.rfind(CALL_IN_ZSH).unwrap());
    }
}
