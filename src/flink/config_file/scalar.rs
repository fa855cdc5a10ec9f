//! YAML scalars as Flink's `config.yaml` knows them: what a plain scalar means in the core schema of YAML 1.2, what Flink
//! makes of it as a string, and how a string is written so that it comes back as the same string.

use super::Fault;

/// A scalar after YAML's implicit typing. Flink keeps the typed value and turns it into text when an option is read, so
/// that `1.20` becomes `1.2` and `010` becomes `10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    /// `~`, `null` or nothing at all.
    Null,
    /// A boolean or a number, already in the text form that Flink gives it.
    Typed(String),
    /// A string.
    Text(String),
}

const QUOTE_IT: &str = "put the value in quotes";

/// What the plain scalar `text` means.
pub(super) fn resolve_plain(text: &str) -> Result<Scalar, (&'static str, &'static str)> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Typed("true".to_owned()),
        "false" | "False" | "FALSE" => Scalar::Typed("false".to_owned()),
        ".inf" | ".Inf" | ".INF" => Scalar::Typed(".inf".to_owned()),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Typed("-.inf".to_owned()),
        ".nan" | ".NaN" | ".NAN" => Scalar::Typed(".nan".to_owned()),
        // Measured: snakeyaml-engine recognises it, then fails with a NumberFormatException.
        "+.inf" | "+.Inf" | "+.INF" => return Err(("Flink cannot read +.inf", QUOTE_IT)),
        _ if is_integer(text) => Scalar::Typed(decimal(text)?),
        _ if is_float(text) => Scalar::Typed(java_double(text)),
        _ => Scalar::Text(text.to_owned()),
    })
}

fn all(text: &str, digit: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(digit)
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn is_integer(text: &str) -> bool {
    let based = |prefix, digit: fn(u8) -> bool| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| all(digits, digit))
    };
    all(unsigned(text), |byte| byte.is_ascii_digit())
        || based("0o", |byte| (b'0'..=b'7').contains(&byte))
        || based("0x", |byte| byte.is_ascii_hexdigit())
}

fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match unsigned(text).split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned(text), None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|digits| all(unsigned(digits), |byte| byte.is_ascii_digit()))
}

/// An integer as Java prints it: decimal, without leading zeros.
fn decimal(text: &str) -> Result<String, (&'static str, &'static str)> {
    let based = |digits, radix| {
        u128::from_str_radix(digits, radix)
            .map(|number| number.to_string())
            .map_err(|_| ("the number has more than 128 bits", QUOTE_IT))
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return based(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return based(digits, 16);
    }
    let digits = unsigned(text).trim_start_matches('0');
    Ok(match (text.starts_with('-'), digits) {
        (_, "") => "0".to_owned(),
        (true, digits) => format!("-{digits}"),
        (false, digits) => digits.to_owned(),
    })
}

/// A floating-point number as `Double.toString` prints it, and as Flink's dumper prints the infinite ones.
fn java_double(text: &str) -> String {
    let number: f64 = text.parse().unwrap_or(f64::NAN);
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let scientific = format!("{number:E}");
    let (mantissa, exponent) = scientific.split_once('E').unwrap_or((&scientific, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}

/// The form of `text` that every YAML 1.1 and 1.2 parser reads as exactly this string, also inside `{…}` and `[…]`. Plain
/// where that is safe (booleans and whole numbers too: Flink's text for them is the same), else quoted.
pub(super) fn quote(text: &str) -> String {
    if is_safely_plain(text) {
        text.to_owned()
    } else if text
        .chars()
        .all(|c| is_printable(c) && !is_break(c) && c != '\t')
    {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        double_quoted(text)
    }
}

fn is_safely_plain(text: &str) -> bool {
    if text.len() <= 18 && all(text, |byte| byte.is_ascii_digit()) {
        return text == "0" || !text.starts_with('0');
    }
    const TYPED_IN_YAML_1_1: [&str; 7] = ["yes", "no", "on", "off", "y", "n", "null"];
    let lower = text.to_ascii_lowercase();
    let typed = TYPED_IN_YAML_1_1.contains(&lower.as_str())
        || (matches!(lower.as_str(), "true" | "false") && text != lower);
    let first = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'_' | b'$');
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+=@%$^~;()".contains(&byte);
    let bytes = text.as_bytes();
    let plain = |(at, &byte): (usize, &u8)| {
        inner(byte) || (byte == b':' && bytes.get(at + 1).is_some_and(|&next| inner(next)))
    };
    !typed && bytes.first().copied().is_some_and(first) && bytes.iter().enumerate().all(plain)
}

/// A list element or key as Flink's dumper (snakeyaml-engine, flow style) writes it when a list becomes text.
pub(super) fn dump(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Null => "null".to_owned(),
        Scalar::Typed(text) => text.clone(),
        Scalar::Text(text)
            if text
                .chars()
                .any(|c| is_break(c) || !is_printable(c) || c == '\t') =>
        {
            double_quoted(text)
        }
        Scalar::Text(text) if dumps_plain(text) => text.clone(),
        Scalar::Text(text) => format!("'{}'", text.replace('\'', "''")),
    }
}

fn dumps_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    let spaced = text.starts_with(' ') || text.ends_with(' ') || text.contains(" #");
    let marker = text.starts_with("---") || text.starts_with("...");
    let dash = text == "-" || text.starts_with("- ");
    let indicator =
        "#,[]{}&*!|>'\"%@`?:".contains(first) || text.contains([',', '?', '[', ']', '{', '}', ':']);
    let typed = !matches!(resolve_plain(text), Ok(Scalar::Text(_)));
    !(spaced || marker || dash || indicator || typed)
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0' => quoted.push_str("\\0"),
            '\u{85}' => quoted.push_str("\\N"),
            '\u{2028}' => quoted.push_str("\\L"),
            '\u{2029}' => quoted.push_str("\\P"),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) <= 0xff => quoted.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(c: char) -> bool {
    // As snakeyaml-engine's StreamReader; a byte-order mark inside a value is legal but written escaped.
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{85}' | '\u{a0}'..='\u{d7ff}')
        || matches!(c, '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// Refuses the characters that snakeyaml-engine refuses anywhere in a file, comments included.
pub(super) fn check_characters(text: &str) -> Result<(), Fault> {
    match text
        .char_indices()
        .find(|&(_, c)| !is_printable(c) && c != '\u{feff}')
    {
        None => Ok(()),
        Some((at, c)) => Err(Fault::at(
            text,
            at,
            format!(
                "the character U+{:04X} is not allowed in YAML",
                u32::from(c)
            ),
            "delete it, or write it as an escape in double quotes",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_scalars_have_the_text_that_flink_gives_them() {
        for (yaml, flink) in [
            ("1.20", "1.2"),
            ("010", "10"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("-0", "0"),
            ("+5", "5"),
            ("-007", "-7"),
            ("1e10", "1.0E10"),
            ("0.0001", "1.0E-4"),
            ("0.001", "0.001"),
            ("123456789.5", "1.234567895E8"),
            ("10000000.0", "1.0E7"),
            ("9999999.0", "9999999.0"),
            (".5", "0.5"),
            ("1.", "1.0"),
            ("-0.0", "-0.0"),
            ("1e400", ".inf"),
            ("-.INF", "-.inf"),
            ("12345678901234567890", "12345678901234567890"),
            ("True", "true"),
        ] {
            assert_eq!(
                resolve_plain(yaml),
                Ok(Scalar::Typed(flink.to_owned())),
                "{yaml}"
            );
        }
    }

    #[test]
    fn what_yaml_1_2_leaves_a_string_stays_a_string() {
        for text in [
            "1_000",
            "yes",
            "on",
            "12:30:45",
            "2020-01-01",
            "0o8",
            "0x",
            "-0x1",
            ".e5",
            ".",
            "+",
            "e5",
        ] {
            assert_eq!(resolve_plain(text), Ok(Scalar::Text(text.to_owned())));
        }
    }

    #[test]
    fn only_what_no_parser_mistakes_is_written_plain() {
        for text in [
            "s3://bucket/a-b/savepoint-1",
            "true",
            "false",
            "42",
            "0",
            "RETAIN_ON_CANCELLATION",
            "$internal.x",
        ] {
            assert_eq!(quote(text), text);
        }
        for (text, quoted) in [
            ("", "''"),
            ("yes", "'yes'"),
            ("True", "'True'"),
            ("007", "'007'"),
            ("1.5", "'1.5'"),
            ("12:30", "'12:30'"),
            ("a: b", "'a: b'"),
            ("a:", "'a:'"),
            ("a #b", "'a #b'"),
            ("a#b", "'a#b'"),
            ("it's", "'it''s'"),
            ("[a]", "'[a]'"),
            ("*a", "'*a'"),
            ("~", "'~'"),
            (" a", "' a'"),
            ("a\nb", "\"a\\nb\""),
            ("\"\\\u{1}", "\"\\\"\\\\\\x01\""),
            ("\u{feff}", "\"\\uFEFF\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
