//! Drey's own metrics as documentation.

use std::fmt::Write as _;

use super::own::{SCRAPE, TABLE};

/// The table of all families for the README, in Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| Name | Kind | Labels | Meaning |\n|---|---|---|---|\n");
    for family in TABLE.iter().chain(SCRAPE) {
        let labels = family.labels.iter().map(|(name, values)| match *name {
            name if values.is_empty() || name == "version" => format!("`{name}`"),
            name => format!("`{name}`: {}", values.join(", ")),
        });
        let labels: Vec<String> = labels.collect();
        let (name, kind, help) = (family.name, family.kind, family.help());
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join("; ")
        )
        .expect("a String takes everything");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_table_of_metrics() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let text = std::fs::read_to_string(path).expect("a README");
        let between = text
            .split_once("<!-- metrics -->\n")
            .and_then(|(_, rest)| rest.split_once("<!-- /metrics -->"));
        let (table, _) = between.expect("markers around the table");
        assert!(
            table.trim() == markdown_table().trim(),
            "put this between the markers in README.md:\n{}",
            markdown_table()
        );
    }
}
