//! The flags, made from the table. They are taken as text, so that the errors of all sources come together.
use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use super::error::Problem;
use super::sources::{CONFIG_ENV, CONFIG_KEY, Resolver, Source};
use super::table::{Spec, TABLE};

/// The flags of all settings and `--config FILE`, to be flattened into a command: `#[command(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsArgs {
    pub(super) config: Vec<OsString>,
    flags: Vec<(&'static str, Vec<OsString>)>,
}

impl SettingsArgs {
    pub(super) fn give_to(&self, resolver: &mut Resolver) {
        for (key, values) in &self.flags {
            if let Some(value) = values.first() {
                resolver.give_os(key, value.clone(), Source::Flag);
            }
            if values.len() > 1 {
                resolver.wrong(key, &Source::Flag, given_twice());
            }
        }
        if self.config.len() > 1 {
            resolver.wrong(CONFIG_KEY, &Source::Flag, given_twice());
        }
    }
}

fn given_twice() -> Problem {
    Problem::new("is given more than once", "keep one of them")
}

impl clap::Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG_KEY)
            .long(CONFIG_KEY)
            .value_name("FILE")
            .help(format!("YAML file of settings [env: {CONFIG_ENV}]"))
            .help_heading(TABLE.first().map(|spec| spec.group))
            .value_parser(clap::value_parser!(OsString))
            .action(ArgAction::Append);
        command.arg(config).args(TABLE.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(spec: &'static Spec) -> Arg {
    let default = spec
        .default
        .map_or_else(String::new, |text| format!(" [default: {text}]"));
    let arg = Arg::new(spec.key)
        .long(spec.key)
        .value_name(spec.value)
        .help(format!("{} [env: {}]{default}", spec.help(), spec.env()))
        .help_heading(spec.group)
        .value_parser(clap::value_parser!(OsString))
        .action(ArgAction::Append);
    match spec.alone {
        None => arg,
        Some(text) => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(text),
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = |key: &str| -> Vec<OsString> {
            matches
                .get_many::<OsString>(key)
                .map(|values| values.cloned().collect())
                .unwrap_or_default()
        };
        Ok(Self {
            config: values(CONFIG_KEY),
            flags: TABLE
                .iter()
                .map(|spec| (spec.key, values(spec.key)))
                .filter(|(_, values)| !values.is_empty())
                .collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
