use proptest::prelude::*;

use super::*;

/// Name, labels, value, and whether it is plain.
type Read = (String, Vec<(String, String)>, String, bool);

fn sample_of(line: &str) -> Option<Read> {
    let mut labels = Labels::default();
    match read(line, &mut labels) {
        Ok(Line::Sample(sample)) => Some((
            sample.name.to_owned(),
            labels
                .of(line)
                .map(|(name, value)| (name.to_owned(), unescaped(value).into_owned()))
                .collect(),
            sample.value.text().to_owned(),
            sample.plain,
        )),
        _ => None,
    }
}

#[test]
fn flinks_own_lines_are_read() {
    let line =
        r#"flink_jobmanager_Status_JVM_CPU_Load{host="localhost",job="a \"b\"\\\n",} 2.0E-4"#;
    let (name, labels, value, plain) = sample_of(line).expect("a sample");
    assert_eq!(name, "flink_jobmanager_Status_JVM_CPU_Load");
    assert_eq!(
        labels,
        [("host", "localhost"), ("job", "a \"b\"\\\n")].map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    assert_eq!((value.as_str(), plain), ("2.0E-4", true));
}

#[test]
fn what_is_written_with_room_is_the_same_but_not_plain() {
    let line = "\ta:b  { x = \"1\" , y=\"2\" , }\t+inf  1700000000000 ";
    let (name, labels, value, plain) = sample_of(line).expect("a sample");
    assert_eq!((name.as_str(), labels.len()), ("a:b", 2));
    assert_eq!((value.as_str(), plain), ("+Inf", false));
    for line in [
        "a 1",
        "a{} 1",
        "a{}1",
        "a{x=\"\"} 1",
        "a{x=\"1\",} 1",
        "_ NaN",
        "a -Inf",
    ] {
        assert!(sample_of(line).expect(line).3, "{line}");
    }
}

#[test]
fn what_prometheus_refuses_is_refused() {
    for line in [
        "a",
        "a ",
        "a x",
        "a 1 2 3",
        "a 1 1.5",
        "a{ 1",
        "a{x} 1",
        "a{x=1} 1",
        "a{x=\"1} 1",
        "a{x=\"\\x\"} 1",
        "a{x=\"1\" y=\"2\"} 1",
        "a{x=\"1\",,y=\"2\"} 1",
        "a{,} 1",
        "a{x=\"1\",x=\"2\"} 1",
        "a{1x=\"1\"} 1",
        "a{x:y=\"1\"} 1",
        "a{x=\"1\"}",
        "1a 1",
        "a-b 1",
        "{x=\"1\"} 1",
        "ä 1",
        "a 0x1p3",
        "a 1e999",
        "a -1e999",
        "a{__name__=\"b\"} 1",
        "a 1_000",
        "# TYPE a",
        "# TYPE a info",
        "# TYPE 1 gauge",
        "# HELP",
        "# HELP a \\x",
    ] {
        assert_eq!(read(line, &mut Labels::default()), Err(Flaw), "{line}");
    }
}

#[test]
fn a_line_has_only_so_many_labels() {
    let line = |labels: usize| {
        let labels: Vec<String> = (0..labels).map(|n| format!("l{n}=\"\"")).collect();
        format!("a{{{}}} 1", labels.join(","))
    };
    assert!(sample_of(&line(MOST_LABELS)).is_some());
    let mut labels = Labels::default();
    assert_eq!(read(&line(150_000), &mut labels), Err(Flaw));
    assert!(labels.spans.len() <= MOST_LABELS);
}

#[test]
fn remarks_are_told_from_help_and_type() {
    let mut labels = Labels::default();
    for (line, expected) in [
        ("", Line::Nothing),
        (" \t", Line::Nothing),
        ("# EOF", Line::Nothing),
        ("#HELPER x", Line::Nothing),
        (
            "# HELP a",
            Line::Help {
                family: "a",
                text: "",
            },
        ),
        (
            "#\tHELP a  b\\n c",
            Line::Help {
                family: "a",
                text: "b\\n c",
            },
        ),
        (
            "# TYPE a  summary",
            Line::Type {
                family: "a",
                kind: Kind::Summary,
            },
        ),
    ] {
        assert_eq!(read(line, &mut labels), Ok(expected), "{line}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_harm(line in "[ -~]{0,60}|[a{}=\"\\\\, 1]{0,40}|\\PC{0,30}") {
        let _ = read(&line, &mut Labels::default());
    }

    #[test]
    fn what_is_written_is_read(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,9}",
        labels in prop::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,5}", "\\PC{0,9}|[\"\\\\\n]{0,4}", 0..5),
        value in any::<f64>(),
    ) {
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let line = format!("{name}{{{}}} {value}", pairs.join(","));
        let (read_name, read_labels, text, plain) = sample_of(&line).expect("a sample");
        prop_assert_eq!(read_name, name);
        prop_assert_eq!(read_labels, labels.into_iter().collect::<Vec<_>>());
        let read: f64 = text.parse().expect("a number");
        prop_assert!(read == value || (read.is_nan() && value.is_nan()));
        prop_assert!(plain);
    }
}
