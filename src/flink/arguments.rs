//! The job's arguments, as they stand in a file beside Flink's configuration.
//!
//! One argument in each line, as it is, without white space around it. Empty lines and lines that begin with `#` are left out.
//! A line in quotes, `"…"` or `'…'`, is what is between them: an empty argument, one that begins with `#`, or one with white
//! space around it.

/// Options of Flink's own command: as arguments of the job they would have no effect, or overrule the pointer.
const FLINKS: [&str; 7] = [
    "--fromSavepoint",
    "-fromSavepoint",
    "--allowNonRestoredState",
    "--restoreMode",
    "--claimMode",
    "--job-classname",
    "--job-id",
];

/// The arguments that the text of a file names.
///
/// # Errors
/// What is wrong in which line, without what stands there: it may be a secret.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let argument = match quoted(line) {
            Some(inner) => inner,
            None => as_it_is(line).map_err(|why| format!("line {}: {why}", index + 1))?,
        };
        if argument.contains('\0') {
            return Err(format!(
                "line {}: no argument can hold a zero byte",
                index + 1
            ));
        }
        arguments.push(argument.to_owned());
    }
    Ok(arguments)
}

fn quoted(line: &str) -> Option<&str> {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| line.strip_prefix(quote)?.strip_suffix(quote))
}

fn as_it_is(line: &str) -> Result<&str, String> {
    let name = line.split(['=', ' ', '\t']).next().unwrap_or_default();
    if let Some(own) = FLINKS.iter().find(|own| **own == name) {
        return Err(format!(
            "{own} is for Flink, not for the job: take it out; `drey pointer set PATH` chooses a restore point"
        ));
    }
    // `--name some value` is more likely a mistake than one argument.
    if line.starts_with('-') && name.len() < line.len() && !line[name.len()..].starts_with('=') {
        return Err(
            "an option and its value are two arguments: write them in two lines, or the line in quotes if it is one"
                .to_owned(),
        );
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_argument_as_it_stands() {
        let text = "\u{feff}# the source\r\n--input\r\n  s3://a/b c \n\n--query=select 1\n'# no comment'\n\"\"\n\"it's\"\n\"";
        let expected = [
            "--input",
            "s3://a/b c",
            "--query=select 1",
            "# no comment",
            "",
            "it's",
            "\"",
        ];
        assert_eq!(parse(text).expect("good"), expected);
        assert!(parse("# nothing\n\n").expect("good").is_empty());
    }

    #[test]
    fn what_is_not_meant_so_is_refused_with_its_line_and_without_its_text() {
        for (text, what) in [
            ("a\n--fromSavepoint\nhidden", "line 2: --fromSavepoint"),
            ("--fromSavepoint=hidden", "line 1: --fromSavepoint"),
            ("--job-id hidden", "line 1: --job-id"),
            ("# c\n--password hidden", "line 2: an option and its value"),
            ("-p\thidden", "two arguments"),
            ("a\0hidden", "zero byte"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(what) && !error.contains("hidden"), "{error}");
        }
        assert_eq!(parse("'--rate 5'").expect("one"), ["--rate 5"]);
    }
}
