//! Lists as values of Flink's options (`ConfigurationUtils.convertToList`): a YAML list in a `config.yaml`, elements between
//! semicolons in a `flink-conf.yaml`.

use super::ConfigFormat;
use super::scalar::{self, Scalar};
use super::yaml::{self, Kind, target};

/// The elements of the list that is the value of an option.
#[must_use]
pub fn elements(format: ConfigFormat, value: &str) -> Vec<String> {
    match format {
        // Flink itself falls back to the other form.
        ConfigFormat::ConfigYaml => in_yaml(value).unwrap_or_else(|| between_semicolons(value)),
        ConfigFormat::FlinkConfYaml => between_semicolons(value),
    }
}

/// The value of an option that is this list.
#[must_use]
pub fn list(format: ConfigFormat, elements: &[String]) -> String {
    let elements = elements.iter();
    match format {
        ConfigFormat::ConfigYaml => {
            let quoted: Vec<String> = elements.map(|text| scalar::quote(text)).collect();
            format!("[{}]", quoted.join(", "))
        }
        ConfigFormat::FlinkConfYaml => {
            let quoted = elements.map(|text| format!("'{}'", text.replace('\'', "''")));
            quoted.collect::<Vec<_>>().join(";")
        }
    }
}

fn in_yaml(value: &str) -> Option<Vec<String>> {
    let text = format!("list: {value}\n");
    let document = yaml::parse(&text).ok()?;
    let Kind::Mapping { entries, .. } = &document.root.as_ref()?.kind else {
        return None;
    };
    let Kind::Sequence { items, .. } = &target(&entries.first()?.value).kind else {
        return None;
    };
    let texts = items.iter().map(|item| match &target(item).kind {
        Kind::Scalar {
            value: Scalar::Typed(text) | Scalar::Text(text),
            ..
        } => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

/// `StructuredOptionsSplitter.splitEscaped`: an element may be in quotes, in which a quote is written twice.
fn between_semicolons(value: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let (element, behind) = match quote {
            Some(quote) => in_quotes(&rest[1..], quote),
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        elements.push(element);
        rest = behind.strip_prefix(';').unwrap_or(behind);
    }
    elements
}

fn in_quotes(text: &str, quote: char) -> (String, &str) {
    let mut element = String::new();
    let mut rest = text;
    loop {
        let Some(end) = rest.find(quote) else {
            element.push_str(rest);
            return (element, "");
        };
        element.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(quote) {
            Some(behind) => rest = behind,
            None => return (element, rest),
        }
        element.push(quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [ConfigFormat; 2] = [ConfigFormat::ConfigYaml, ConfigFormat::FlinkConfYaml];

    #[test]
    fn a_list_comes_back_as_it_was() {
        let odd = [
            "--input",
            "s3://a/b;c",
            "it's",
            "\"",
            "",
            "5",
            "1e5",
            "a: b, c",
            "# no",
            "[x]",
            "ä\t",
            " ",
        ];
        let odd: Vec<String> = odd.map(str::to_owned).to_vec();
        for format in BOTH {
            assert_eq!(elements(format, &list(format, &odd)), odd, "{format:?}");
            assert!(elements(format, &list(format, &[])).is_empty());
        }
    }

    #[test]
    fn lists_are_read_as_flink_writes_them() {
        for (value, expected) in [
            (
                "[--a, '5', \"x\\ty\", true]",
                vec!["--a", "5", "x\ty", "true"],
            ),
            ("--a;'x;y';\"z\"\"\"", vec!["--a", "x;y", "z\""]),
            ("[]", vec![]),
            ("--a", vec!["--a"]),
        ] {
            assert_eq!(
                elements(ConfigFormat::ConfigYaml, value),
                expected,
                "{value}"
            );
        }
        let plain = elements(ConfigFormat::FlinkConfYaml, "[--a, b];c");
        assert_eq!(plain, ["[--a, b]", "c"]);
    }
}
