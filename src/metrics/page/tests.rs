use std::io::Read as _;

use super::*;

fn page(text: &[u8]) -> Page {
    let rules = Rules::default();
    let mut reader = Reader::new(&rules, 1_000_000);
    text.chunks(1000).for_each(|chunk| reader.feed(chunk));
    reader.finish()
}

fn plain(page: &Page, own: &str, format: Format) -> String {
    let bytes: Vec<u8> = page.with(own, format).plain().flatten().collect();
    let mut unzipped = String::new();
    flate2::read::GzDecoder::new(&page.with(own, format).gzip()[..])
        .read_to_string(&mut unzipped)
        .expect("one gzip file");
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert_eq!(text, unzipped);
    text
}

fn many(series: usize) -> String {
    let mut text = String::from("# TYPE a gauge\n");
    for n in 0..series {
        text.push_str(&format!(
            "a{{host=\"some-host\",task_attempt_id=\"{n:032x}\",n=\"{n}\"}} {n}.0\n"
        ));
    }
    text
}

#[test]
fn what_goes_in_comes_out_with_dreys_own_at_the_end() {
    for series in [0, 1, 10, 10_000] {
        let text = many(series);
        let text = if series == 0 { String::new() } else { text };
        assert_eq!(
            plain(&page(text.as_bytes()), "b 1\n", Format::Text),
            text.clone() + "b 1\n"
        );
        assert_eq!(
            plain(&page(text.as_bytes()), "b 1\n", Format::OpenMetrics),
            text + "b 1\n# EOF\n"
        );
    }
}

#[test]
fn families_that_come_in_pieces_are_put_together() {
    let text = "# TYPE a gauge\na{x=\"1\"} 1\n# TYPE s summary\ns_count 1\nb 1\na{x=\"2\"} 2\na{x=\"1\"} 3\n\
                # TYPE a counter\na{x=\"3\"} 4\n# HELP s late\ns_sum 5\n";
    let page = page(text.as_bytes());
    assert_eq!(
        plain(&page, "", Format::Text),
        "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\na{x=\"3\"} 4\n# TYPE s summary\ns_count 1\ns_sum 5\nb 1\n"
    );
    let counts = page.counts();
    assert_eq!(
        (counts.series, counts.duplicates, counts.conflicts),
        (6, 1, 1)
    );
}

#[test]
fn names_of_dreys_own_are_not_for_others() {
    let text = "# TYPE drey_x gauge\ndrey_x 1\na 1\ndrey_x{y=\"1\"} 1\n# HELP drey_x x\n# TYPE dreyx gauge\ndreyx 1\n";
    let page = page(text.as_bytes());
    let own = "# TYPE drey_x gauge\ndrey_x 2\n";
    let rest = "a 1\n# TYPE dreyx gauge\ndreyx 1\n";
    assert_eq!(plain(&page, own, Format::Text), format!("{rest}{own}"));
    assert_eq!((page.counts().series, page.counts().reserved), (2, 2));
}

#[test]
fn openmetrics_keeps_the_names_of_series() {
    let text = "# HELP a_total say \"a\" \\\\ \\n\n# TYPE a_total counter\na_total 1\n# HELP b b\n# TYPE b counter\nb 1\n\
                # TYPE c untyped\nc 1\n# HELP d \"d\"\nd NaN\n# TYPE e gauge\ne{x=\"1\",} +inf\n";
    assert_eq!(
        plain(
            &page(text.as_bytes()),
            "# TYPE own_total counter\nown_total 2\n",
            Format::OpenMetrics
        ),
        "# HELP a say \\\"a\\\" \\\\ \\n\n# TYPE a counter\na_total 1\n# HELP b b\n# TYPE b unknown\nb 1\n\
         # TYPE c unknown\nc 1\n# HELP d \\\"d\\\"\nd NaN\n# TYPE e gauge\ne{x=\"1\"} +Inf\n\
         # TYPE own counter\nown_total 2\n# EOF\n"
    );
}

#[test]
fn half_a_line_at_the_end_is_no_number() {
    let page = page(b"a 1\nb 12");
    assert_eq!(plain(&page, "", Format::Text), "a 1\n");
    assert_eq!(page.counts().invalid, 1);
}

#[test]
fn a_page_takes_few_bytes_for_each_series() {
    let page = page(many(20_000).as_bytes());
    assert_eq!(page.counts().series, 20_000);
    assert!(page.size() < 20_000 * 24, "{} bytes", page.size());
}

#[test]
fn a_hundred_megabytes_of_nonsense_are_no_page() {
    let rules = Rules::default();
    let mut reader = Reader::new(&rules, 1000);
    let nonsense = vec![0xff_u8; 1 << 20];
    for _ in 0..100 {
        reader.feed(&nonsense);
    }
    let page = reader.finish();
    assert_eq!(page.counts().series, 0);
    assert!(page.size() < 1000);
}
