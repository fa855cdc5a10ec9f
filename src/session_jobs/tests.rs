use super::*;

fn flaws(text: &str) -> Vec<String> {
    let flaws = read(text).expect_err("flaws");
    let words = |flaw: Flaw| format!("{}: {}; {}", flaw.line, flaw.what, flaw.remedy);
    flaws.into_iter().map(words).collect()
}

#[test]
fn values_are_kept_as_they_are_written() {
    let text = "\
# The jobs of the night
- name: orders
  jar: /opt/jobs/orders.jar
  entry-class: org.example.Orders
  args: [--rate, 1000, --version, 1.20, '', \"a b\"]
  parallelism: 2
  allow-non-restored-state: true
- name: bills 2
  jar: s3://jars/bills.jar
- {name: web, jar: 'https://example.org/web.jar', entry-class: ~}
";
    let jobs = read(text).expect("a good list");
    assert_eq!(jobs.len(), 3);
    assert_eq!(
        jobs[0].args,
        ["--rate", "1000", "--version", "1.20", "", "a b"]
    );
    assert_eq!(jobs[0].entry_class.as_deref(), Some("org.example.Orders"));
    assert_eq!(jobs[0].parallelism, Some(2));
    assert!(jobs[0].allow_non_restored_state);
    assert_eq!(jobs[0].jar.as_str(), "/opt/jobs/orders.jar");
    assert_eq!(jobs[1].name, "bills 2");
    assert_eq!(jobs[1].parallelism, None);
    assert!(!jobs[1].allow_non_restored_state);
    assert!(matches!(jobs[1].jar, JarSource::Stored(_)));
    assert!(matches!(jobs[2].jar, JarSource::Web(_)));
    assert_eq!(jobs[2].entry_class, None);
}

#[test]
fn nothing_is_an_empty_list() {
    for text in ["", "# later\n", "[]", "---\n~\n"] {
        assert_eq!(read(text), Ok(Vec::new()), "{text:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_reported_with_its_line() {
    let text = "\
- name: orders
  jar: orders.jar
  entryClass: org.example.Orders
  args: --rate 1000
- jar: hdfs:///jobs/bills.jar
  parallelism: 0
  allow-non-restored-state: yes
- name: orders
  jar: /opt/jobs/orders.jar
  jar: /opt/jobs/other.jar
- name: application
  jar: /opt/jobs/a.jar
  args: [[--rate]]
  colour: green
- orders
";
    let found = flaws(text);
    let expected = [
        "2: `jar`: the path orders.jar is relative",
        "3: `entryClass`: is not known; did you mean `entry-class`?",
        "4: `args`: is not a list; ",
        "5: `jar`: there is no client for hdfs:; ",
        "5: the job has no `name`; ",
        "6: `parallelism`: \"0\" is no number above 0; ",
        "7: `allow-non-restored-state`: \"yes\" is neither true nor false; ",
        "8: job \"orders\" is listed a second time, after line 1; ",
        "10: `jar`: is given twice; ",
        "11: `name`: is a name that Drey uses itself; ",
        "13: `args`: is not a list of single values; ",
        "14: `colour`: is not known; take it out; there is name, jar,",
        "15: this is not a job; ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for expected in expected {
        assert!(
            found.iter().any(|flaw| flaw.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
    let lines = |flaw: &String| {
        flaw.split(':')
            .next()
            .and_then(|line| line.parse::<u32>().ok())
    };
    assert!(found.is_sorted_by_key(lines));
}

#[test]
fn what_is_no_list_is_refused_at_its_line() {
    for (text, says) in [
        ("\njobs: []\n", "2: this is not a list; "),
        ("- name: [\n", "is not YAML: "),
        ("- &a {name: x}\n- *a\n", "2: an alias stands here; "),
        (
            "- name: x\n---\n- name: y\n",
            "2: a second document begins; ",
        ),
        ("- [1]: x\n", "1: the key is not a name; "),
    ] {
        let found = flaws(text);
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }
}
