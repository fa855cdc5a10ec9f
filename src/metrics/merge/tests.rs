use proptest::prelude::*;

use super::*;
use crate::metrics::page::{Format, Reader};

fn merged_by(rules: &Rules, limit: u64, text: &[u8]) -> (String, Counts) {
    let mut merger = Merger::new(rules, limit, Vec::new());
    text.split(|byte| *byte == b'\n')
        .for_each(|line| merger.line(line));
    let merged = merger.finish();
    let page = String::from_utf8(merged.sink).expect("UTF-8");
    (page, merged.counts)
}

fn merged(text: &str) -> (String, Counts) {
    merged_by(&Rules::default(), u64::MAX, text.as_bytes())
}

#[test]
fn flinks_page_stays_as_it_is_but_for_the_last_commas() {
    let page = "# HELP flink_a a (scope: jobmanager)\n# TYPE flink_a gauge\nflink_a{host=\"x\",} 1.0\n\
                # HELP flink_s s\n# TYPE flink_s summary\nflink_s_count{host=\"x\",} 2.0\n\
                flink_s{host=\"x\",quantile=\"0.5\",} NaN\n";
    let (text, counts) = merged(page);
    assert_eq!(text, page.replace(",}", "}"));
    assert_eq!(
        counts,
        Counts {
            series: 3,
            ..Counts::default()
        }
    );
}

#[test]
fn the_first_of_what_contradicts_itself_counts() {
    let (text, counts) = merged(
        "# TYPE a gauge\n# HELP a one\n# HELP a two\n# TYPE a counter\na{x=\"1\",y=\"2\"} 1\n\
         a{y=\"2\",x=\"1\"} 2\na{y=\"2\",x=\"1\",z=\"\"} 3\na{x=\"2\",y=\"1\"} 4 1700000000000\n# TYPE a summary\n",
    );
    assert_eq!(
        text,
        "# HELP a one\n# TYPE a gauge\na{x=\"1\",y=\"2\"} 1\na{x=\"2\",y=\"1\"} 4\n"
    );
    let expected = Counts {
        series: 2,
        duplicates: 2,
        conflicts: 2,
        timestamps: 1,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
}

#[test]
fn a_series_of_a_summary_is_not_there_again_as_a_family_of_its_own() {
    let (text, counts) = merged(
        "# TYPE s summary\ns_count 1\ns_sum 2\n# TYPE s_count gauge\ns_count 3\ns_count{x=\"1\"} 4\ns_sum 5\n",
    );
    assert_eq!(
        text,
        "# TYPE s summary\ns_count 1\ns_sum 2\n# TYPE s_count gauge\ns_count{x=\"1\"} 4\n"
    );
    assert_eq!((counts.series, counts.duplicates), (3, 2));
}

#[test]
fn bad_lines_are_left_out_and_counted() {
    let text = b"a 1\n\xff\xfe 2\nb{x=\"\xc3\"} 1\nc{ 1\nd 1\n# TYPE e nonsense\ne 1\n".as_slice();
    let (text, counts) = merged_by(&Rules::default(), u64::MAX, text);
    assert_eq!(text, "a 1\nd 1\ne 1\n");
    assert_eq!((counts.series, counts.invalid), (3, 4));
}

#[test]
fn labels_come_to_series_that_do_not_have_them() {
    let rules = Rules::adding(vec![("cluster_id".to_owned(), "a\"b".to_owned())]);
    let (text, _) = merged_by(
        &rules,
        u64::MAX,
        b"a 1\na{x=\"1\"} 2\na{ cluster_id = \"own\" } 3\n",
    );
    assert_eq!(
        text,
        "a{cluster_id=\"a\\\"b\"} 1\na{x=\"1\",cluster_id=\"a\\\"b\"} 2\na{cluster_id=\"own\"} 3\n"
    );
}

#[test]
fn labels_that_go_make_series_equal() {
    let rules = Rules::read("- {regex: id, action: labeldrop}", Vec::new()).expect("rules");
    let (text, counts) = merged_by(
        &rules,
        u64::MAX,
        b"a{id=\"1\",x=\"1\"} 1\na{id=\"2\",x=\"1\"} 2\na{id=\"2\"} 3\n",
    );
    assert_eq!(text, "a{x=\"1\"} 1\na 3\n");
    assert_eq!((counts.series, counts.duplicates), (2, 1));
}

#[test]
fn the_limit_is_counted_in_series_that_stay() {
    let (text, counts) = merged_by(
        &Rules::default(),
        2,
        b"# HELP a x\na{x=\"1\"} 1\na{x=\"1\"} 1\na 2\na{x=\"3\"} 3\nb 1\n",
    );
    assert_eq!(text, "# HELP a x\na{x=\"1\"} 1\na 2\n");
    assert_eq!(
        (counts.series, counts.over_limit, counts.duplicates),
        (2, 2, 1)
    );
}

#[test]
fn families_that_are_left_out_take_no_memory() {
    let drop = Rules::read(
        "- {source_labels: [__name__], regex: '.*', action: drop}",
        Vec::new(),
    );
    for (rules, limit) in [(Rules::default(), 10), (drop.expect("rules"), u64::MAX)] {
        let mut merger = Merger::new(&rules, limit, Vec::new());
        for n in 0..10_000 {
            merger.line(format!("# TYPE a{n} gauge").as_bytes());
            merger.line(format!("a{n} 1").as_bytes());
        }
        assert!(
            merger.families.len() <= 11,
            "{} families",
            merger.families.len()
        );
    }
}

#[test]
fn a_family_of_which_only_a_repeated_series_came_keeps_no_later_one_from_the_page() {
    let page = "c_sum{x=\"3\"} 0\n# TYPE c summary\nc_sum{x=\"3\"} 0\na 0\n# TYPE c gauge\nc_sum{x=\"0\"} 0\n";
    assert_eq!(served(page), "c_sum{x=\"3\"} 0\nc_sum{x=\"0\"} 0\na 0\n");
}

/// The whole page, with what comes late where it belongs.
fn served(page: &str) -> String {
    let mut reader = Reader::new(Box::leak(Box::default()), u64::MAX);
    reader.feed(page.as_bytes());
    let page = reader.finish().with("", Format::Text);
    let text: Vec<u8> = page.plain().flatten().collect();
    String::from_utf8(text).expect("UTF-8")
}

/// Lines of a few families, all of them good.
fn good_lines() -> impl Strategy<Value = Vec<String>> {
    let family = prop_oneof!["a", "b", "c_count", "c", "c_sum"];
    let sample = (family.clone(), 0..4_u8, 0..3_u8, any::<u8>())
        .prop_map(|(name, x, y, value)| format!("{name}{{x=\"{x}\",y=\"{y}\"}} {value}"));
    let kind = prop_oneof![
        Just("gauge"),
        Just("counter"),
        Just("summary"),
        Just("untyped")
    ];
    let kind = (family.clone(), kind).prop_map(|(name, kind)| format!("# TYPE {name} {kind}"));
    let help = (family, "[a-z]{1,3}").prop_map(|(name, text)| format!("# HELP {name} {text}"));
    prop::collection::vec(prop_oneof![6 => sample, 1 => kind, 1 => help], 0..60)
}

proptest! {
    #[test]
    fn no_page_has_a_family_or_a_series_twice_and_all_values_are_there(lines in good_lines()) {
        let text = served(&(lines.join("\n") + "\n"));
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        let samples = |line: &&str| !line.starts_with('#');
        for (series, value) in lines.iter().map(String::as_str).filter(samples).filter_map(|line| line.split_once(' ')) {
            first.entry(series).or_insert(value);
        }
        let there: Vec<(&str, &str)> = text.lines().filter(samples).filter_map(|line| line.split_once(' ')).collect();
        let unique: BTreeMap<&str, &str> = there.iter().copied().collect();
        prop_assert_eq!(unique.len(), there.len());
        prop_assert_eq!(unique.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).map(|line| line.split(' ').nth(2).expect("a name")).collect();
        prop_assert_eq!(heads.iter().collect::<HashSet<_>>().len(), heads.len());
        // Merging again changes nothing.
        prop_assert_eq!(&merged(&text).0, &text);
    }

    #[test]
    fn any_bytes_become_a_page_that_merging_leaves_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (text, _) = merged_by(&Rules::default(), u64::MAX, &bytes);
        prop_assert_eq!(merged(&text).0, text);
    }
}
