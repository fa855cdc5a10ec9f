//! Where the time of one scrape goes, on one core: `make bench-metrics`. Each step has those before it in it.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a program"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use drey::metrics::aggregate::Pages;
use drey::metrics::line::{Labels, read};
use drey::metrics::lines::Lines;
use drey::metrics::merge::{Merger, Sink};
use drey::metrics::page::{Format, Page, Reader};
use drey::metrics::relabel::Rules;

/// For how long each step is repeated.
const TIME: Duration = Duration::from_secs(2);

/// What a connection brings at a time.
const PIECE: usize = 64 << 10;

const SERIES: usize = 10_000;

struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, lines: &[u8]) {
        black_box(lines);
    }

    fn is_full(&self) -> bool {
        false
    }
}

/// A TaskManager's page as Flink's reporter writes it, in which each of 100 metrics is a family.
fn page() -> String {
    let mut text = String::new();
    for metric in 0..100 {
        let name = format!("flink_taskmanager_job_task_metricNumber{metric}");
        text.push_str(&format!(
            "# HELP {name} metricNumber{metric} (scope: taskmanager_job_task)\n# TYPE {name} gauge\n"
        ));
        for subtask in 0..SERIES / 100 {
            text.push_str(&format!(
                "{name}{{host=\"10_244_3_17_flink_metrics_svc_cluster_local\",tm_id=\"10_244_3_17:6122_1f2e3d\",\
                 job_id=\"9b2a7d3c5e6f708192a3b4c5d6e7f809\",job_name=\"orders_enrichment\",task_id=\"cbc357ccb763df2852fee8c4fc7d55f2\",\
                 task_name=\"Window_TumblingEventTimeWindows____Sink__Writer\",task_attempt_id=\"{:032x}_cbc357cc_{subtask}_0\",\
                 task_attempt_num=\"0\",subtask_index=\"{subtask}\",}} {}\n",
                subtask * 7919,
                subtask as f64 * 1000.0 + f64::from(metric) / 8.0
            ));
        }
    }
    text
}

fn lines(text: &str, mut each: impl FnMut(&[u8])) {
    let mut lines = Lines::default();
    for piece in text.as_bytes().chunks(PIECE) {
        lines.feed(piece, &mut each);
    }
}

fn read_page(text: &str) -> Page {
    let rules = Rules::default();
    let mut reader = Reader::new(&rules, u64::MAX);
    text.as_bytes()
        .chunks(PIECE)
        .for_each(|piece| reader.feed(piece));
    reader.finish()
}

/// The same, as with `metrics-aggregate`.
fn aggregated(text: &str, runtime: &tokio::runtime::Runtime) -> Page {
    let (pages, rules) = (Pages::default(), Rules::default());
    let mut reader = Reader::into(&rules, u64::MAX, pages.flinks());
    text.as_bytes()
        .chunks(PIECE)
        .for_each(|piece| reader.feed(piece));
    black_box(reader.counts());
    runtime.block_on(pages.merge(u64::MAX)).0
}

fn step(name: &str, text: &str, mut work: impl FnMut()) {
    work();
    let (began, mut times) = (Instant::now(), 0_u32);
    while began.elapsed() < TIME {
        work();
        times += 1;
    }
    let each = began.elapsed().as_secs_f64() / f64::from(times);
    let speed = text.len() as f64 / 1e6 / each;
    println!("  {name:52} {:8.2} ms  {speed:7.0} MB/s", each * 1e3);
}

fn main() {
    let text = page();
    let rules = Rules::default();
    println!(
        "{SERIES} series, {:.2} MB, one core",
        text.len() as f64 / 1e6
    );
    step("lines found", &text, || {
        lines(&text, |line| {
            black_box(line.len());
        })
    });
    let mut labels = Labels::default();
    step("and read", &text, || {
        lines(&text, |line| {
            let line = std::str::from_utf8(line).unwrap_or_default();
            black_box(read(line, &mut labels).is_ok());
        });
    });
    step("and merged: names, doubles, limits", &text, || {
        let mut merger = Merger::new(&rules, u64::MAX, Nowhere);
        lines(&text, |line| merger.line(line));
        black_box(merger.finish().counts);
    });
    step("and compressed: all of a reading", &text, || {
        drop(black_box(read_page(&text)))
    });
    let page = read_page(&text);
    println!(
        "  {:.1} bytes a series, compressed",
        page.size() as f64 / SERIES as f64
    );
    step("an answer as text", &text, || {
        page.with("", Format::Text)
            .plain()
            .for_each(|piece| drop(black_box(piece)));
    });
    step("an answer in gzip", &text, || {
        drop(black_box(page.with("", Format::Text).gzip()))
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    step("all of a reading, by way of the spool", &text, || {
        drop(black_box(aggregated(&text, &runtime)))
    });
}
