//! `drey completion`: scripts with which a shell completes Drey's commands and flags.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::{Shell as Known, generate};

use super::Cli;

/// What `drey completion --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  source <(drey completion bash)
  drey completion zsh > \"${fpath[1]}/_drey\"
  drey completion fish > ~/.config/fish/completions/drey.fish";

/// The script for a shell.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &CompletionArgs) -> anyhow::Result<ExitCode> {
    io::stdout()
        .write_all(&script(args.shell))
        .context("could not write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Vec<u8> {
    let known = match shell {
        Shell::Bash => Known::Bash,
        Shell::Zsh => Known::Zsh,
        Shell::Fish => Known::Fish,
    };
    let mut script = Vec::new();
    generate(known, &mut Cli::command(), "drey", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output, Stdio};

    fn text(shell: Shell) -> String {
        String::from_utf8(script(shell)).expect("text")
    }

    /// What the shell says with these flags to this script; `None` where it is not installed.
    fn fed(shell: &str, flags: &[&str], script: &str) -> Option<Output> {
        let mut child = Command::new(shell)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut input = child.stdin.take()?;
        input.write_all(script.as_bytes()).expect("it reads");
        drop(input);
        Some(child.wait_with_output().expect("it ends"))
    }

    fn parses(shell: &str, script: &str) -> Option<bool> {
        fed(shell, &["-n"], script).map(|output| output.status.success())
    }

    #[test]
    fn every_script_has_every_command_and_is_one_for_its_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = text(shell);
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell:?} lacks {name}");
            }
            for flag in ["parallelism", "watch", "cluster-id"] {
                assert!(script.contains(flag), "{shell:?} lacks --{flag}");
            }
        }
        assert_eq!(parses("bash", &text(Shell::Bash)), Some(true));
        for (shell, name) in [(Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            assert_ne!(parses(name, &text(shell)), Some(false), "{name}");
        }
    }

    #[test]
    fn bash_completes_a_command() {
        let words =
            "COMP_WORDS=(drey resc); COMP_CWORD=1; _drey drey resc drey; echo \"${COMPREPLY[@]}\"";
        let script = format!("{}\n{words}\n", text(Shell::Bash));
        let output = fed("bash", &[], &script).expect("bash is there");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "rescale");
    }
}
