use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::metrics::merge::Merger;
use crate::metrics::page::{Format, Page, Reader};
use crate::metrics::relabel::Rules;

/// The pages as one, gathered in a window of `room` bytes; and in how many runs.
fn merged(pages: &[String], room: usize, limit: u64) -> (String, Page, usize) {
    let rules = Rules::default();
    let spool = Mutex::new(Spool::with_window(room));
    let mut readers: Vec<Reader<'_, _>> = pages
        .iter()
        .map(|_| Reader::into(&rules, limit, Gathered::new(&spool)))
        .collect();
    // In turns, as they come.
    let most = pages.iter().map(String::len).max().unwrap_or_default();
    for at in (0..most).step_by(100) {
        for (page, reader) in pages.iter().zip(&mut readers) {
            let piece = page.as_bytes().get(at..).unwrap_or_default();
            reader.feed(&piece[..piece.len().min(100)]);
        }
    }
    for reader in readers {
        assert_eq!(reader.counts().invalid, 0);
    }
    let mut runs = spool.into_inner().expect("not poisoned").finish();
    let count = runs.0.len();
    let mut merger = Merger::new(&rules, limit, Deflater::default());
    while runs.next_family(|line| merger.line(line)) {}
    let page = Page::settled(merger.finish(), limit);
    let text: Vec<u8> = page.with("", Format::Text).plain().flatten().collect();
    let text = String::from_utf8(text).expect("UTF-8");
    (text, page, count)
}

/// The page of a TaskManager with `families` families of `tasks` series.
fn of_task_manager(id: usize, families: usize, tasks: usize) -> String {
    let mut text = String::new();
    // In an order of its own, as Flink's reporter has it.
    for family in 0..families {
        let family = (family * 7 + id) % families;
        text.push_str(&format!(
            "# HELP flink_{family} some words\n# TYPE flink_{family} gauge\n"
        ));
        for task in 0..tasks {
            text.push_str(&format!(
                "flink_{family}{{host=\"10.244.3.{id}\",tm_id=\"10_244_3_{id}:6122_1f2e3d\",task_attempt_id=\"{:032x}\",subtask_index=\"{task}\",}} {task}.0\n",
                task * 7919 + id
            ));
        }
    }
    text
}

#[test]
fn families_of_several_pages_become_one_each_in_few_bytes() {
    let pages: Vec<String> = (0..10).map(|id| of_task_manager(id, 20, 50)).collect();
    let (text, page, runs) = merged(&pages, 100_000, u64::MAX);
    assert!(runs > 10, "{runs} runs");
    let counts = page.counts();
    assert_eq!(
        (counts.series, counts.duplicates, counts.conflicts),
        (10_000, 0, 0)
    );
    assert_eq!(text.matches("# TYPE").count(), 20);
    assert_eq!(text.matches("# HELP").count(), 20);
    for line in pages
        .iter()
        .flat_map(|page| page.lines())
        .filter(|line| !line.starts_with('#'))
    {
        assert!(text.contains(&line.replace(",}", "}")), "{line}");
    }
    assert!(page.size() < 10_000 * 24, "{} bytes", page.size());
}

#[test]
fn a_spool_takes_few_bytes_for_each_series() {
    let spool = Mutex::new(Spool::default());
    let rules = Rules::default();
    for id in 0..10 {
        let mut reader = Reader::into(&rules, u64::MAX, Gathered::new(&spool));
        reader.feed(of_task_manager(id, 100, 40).as_bytes());
    }
    let spool = spool.into_inner().expect("not poisoned");
    assert!(spool.window.size < WINDOW);
    let kept: usize = spool.runs.iter().map(Bytes::len).sum();
    let text = 40_000 * 160;
    assert!(text > WINDOW, "there is at least one run");
    assert!(kept < 40_000 * 24, "{kept} bytes");
}

#[test]
fn the_limit_is_for_all_pages_together_and_what_is_there_twice_is_counted() {
    let pages = [
        of_task_manager(1, 2, 10),
        of_task_manager(1, 2, 10),
        of_task_manager(2, 2, 10),
    ];
    let (_, page, _) = merged(&pages, 1000, 30);
    let counts = page.counts();
    assert_eq!(counts.series, 30);
    assert!(counts.duplicates >= 10 && counts.over_limit >= 10);
    assert_eq!(counts.duplicates + counts.over_limit, 30);
}

#[test]
fn a_spool_of_nothing_is_nothing() {
    assert!(!Spool::default().finish().next_family(|_| panic!("a line")));
}

/// Lines of a few families, all of them good.
fn good_page() -> impl Strategy<Value = String> {
    let family = prop_oneof!["a", "b", "c_count", "c", "c_b", "c_sum"];
    let sample = (family.clone(), 0..4_u8, 0..3_u8, any::<u8>())
        .prop_map(|(name, x, y, value)| format!("{name}{{x=\"{x}\",y=\"{y}\"}} {value}\n"));
    let kind = prop_oneof![Just("gauge"), Just("counter"), Just("summary")];
    let kind = (family.clone(), kind).prop_map(|(name, kind)| format!("# TYPE {name} {kind}\n"));
    let help = (family, "[a-z]{1,3}").prop_map(|(name, text)| format!("# HELP {name} {text}\n"));
    let lines = prop::collection::vec(prop_oneof![6 => sample, 1 => kind, 1 => help], 0..40);
    lines.prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_family_and_no_series_is_there_twice_and_none_is_lost(
        pages in prop::collection::vec(good_page(), 0..5),
        room in 1_usize..2000,
    ) {
        let (text, page, _) = merged(&pages, room, u64::MAX);
        let samples = |text: &str| -> Vec<(String, String)> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let pairs = lines.filter_map(|line| line.split_once(' '));
            pairs.map(|(series, value)| (series.to_owned(), value.to_owned())).collect()
        };
        let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (series, value) in pages.iter().flat_map(|page| samples(page)) {
            given.entry(series).or_default().insert(value);
        }
        let there = samples(&text);
        let unique: BTreeMap<&String, &String> = there.iter().map(|(series, value)| (series, value)).collect();
        prop_assert_eq!(unique.len(), there.len());
        prop_assert_eq!(unique.keys().copied().collect::<Vec<_>>(), given.keys().collect::<Vec<_>>());
        for (series, value) in unique {
            prop_assert!(given[series].contains(value));
        }
        prop_assert_eq!(page.counts().series, there.len() as u64);
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).filter_map(|line| line.split(' ').nth(2)).collect();
        prop_assert_eq!(heads.iter().collect::<BTreeSet<_>>().len(), heads.len());
    }
}
