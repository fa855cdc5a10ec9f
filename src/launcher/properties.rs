//! `FLINK_PROPERTIES` of Flink's official image: lines of `key: value`, with variables of the environment in the values.
//!
//! Read as the entrypoint means it, not as it does it: from 1.19 on it drops all white space, so that a value of several
//! words becomes another one.

use std::collections::BTreeMap;

/// The keys and values of `FLINK_PROPERTIES`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Reads `text`. Of a key that comes twice the last value counts; comments and what is no `key: value` are left out.
    pub(super) fn read(text: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        let entry = |line: &str| {
            let line = line.trim();
            let content = line.split(" #").next().unwrap_or_default();
            let (key, value) = content.split_once(':').filter(|_| !line.starts_with('#'))?;
            let (key, value) = (key.trim(), substitute(value.trim(), &variable));
            let value = value.trim();
            let complete = !key.is_empty() && !value.is_empty();
            complete.then(|| (key.to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    pub(super) fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// What `envsubst` makes of `text`: `$NAME` and `${NAME}` become the variable's value, nothing when there is none. Only
/// `$internal…`, with which keys of Flink begin that users never write, stays.
pub(super) fn substitute(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{') {
            Some(braced) => (name(braced), name(braced).len() + 2),
            None => (name(after), name(after).len()),
        };
        let closed = !after.starts_with('{') || after[1 + name.len()..].starts_with('}');
        if name.is_empty() || !closed || name == "internal" {
            done.push('$');
            rest = after;
        } else {
            done.push_str(&variable(name).unwrap_or_default());
            rest = &after[length..];
        }
    }
    done.push_str(rest);
    done
}

/// The variable's name at the start of `text`.
fn name(text: &str) -> &str {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !inner(c)).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "POD_IP").then(|| "10.0.0.7".to_owned())
    }

    #[test]
    fn each_line_is_a_key_with_all_of_its_value() {
        let read = Properties::read(
            "jobmanager.rpc.address: jm\n\n  # a comment\n\tenv.java.opts.all: -Xmx1g -Da=b:c  # why\nkey:value\nno value:\n\
             nothing\r\nrest.address: ${POD_IP}\na: $GONE\nkey: last\r\n",
            variable,
        );
        let entries: Vec<(&str, &str)> = read
            .entries()
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            entries,
            [
                ("env.java.opts.all", "-Xmx1g -Da=b:c"),
                ("jobmanager.rpc.address", "jm"),
                ("key", "last"),
                ("rest.address", "10.0.0.7"),
            ]
        );
    }

    #[test]
    fn variables_are_replaced_as_envsubst_does() {
        for (text, expected) in [
            ("a $POD_IP b", "a 10.0.0.7 b"),
            ("${POD_IP}:$POD_IP.", "10.0.0.7:10.0.0.7."),
            ("$GONE|${GONE}|", "||"),
            ("5$ $1 ${} ${POD_IP $", "5$ $1 ${} ${POD_IP $"),
            (
                "$internal.pipeline.job-id: x",
                "$internal.pipeline.job-id: x",
            ),
        ] {
            assert_eq!(substitute(text, variable), expected, "{text}");
        }
    }
}
