//! The settings as documentation.
use std::fmt::Write;

use super::table::TABLE;

/// The table of all settings for the README, in Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n");
    for spec in TABLE {
        let value = spec.value.replace('|', "\\|");
        let flag = match spec.alone {
            None => format!("--{} {value}", spec.key),
            Some(_) => format!("--{}[={value}]", spec.key),
        };
        let env = spec.fallback.map_or_else(
            || format!("`{}`", spec.env()),
            |fallback| format!("`{}`, then `{fallback}`", spec.env()),
        );
        let default = spec
            .default
            .map_or_else(String::new, |text| format!("`{text}`"));
        let help = spec.help();
        writeln!(table, "| `{flag}` | {env} | {default} | {help} |")
            .expect("a String takes everything");
    }
    table
}
