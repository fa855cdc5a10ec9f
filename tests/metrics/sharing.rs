//! Several scrapes, several ports, several formats.

use std::time::Duration;

use drey::config::Ports;
use drey::metrics::relabel::Rules;
use tokio::net::TcpStream;

use super::support::{Answer, Flink, Options, exchange, raw, scrape};

const PAGE: &str = "# HELP flink_a a \"b\"\n# TYPE flink_a gauge\nflink_a{host=\"x\",} 1.0\n# TYPE flink_b counter\nflink_b 2\n";

#[tokio::test]
async fn scrapes_at_the_same_time_share_one_reading() {
    let flink = Flink::answering(Answer::Drip(raw(b"flink_a 1\n"))).await;
    let address = Options::of(&flink).serve().await;
    let scrapes = (0..20).map(|_| scrape(address, &[]));
    for scraped in futures_util::future::join_all(scrapes).await {
        assert_eq!(scraped.value("flink_a"), Some(1.0));
        assert_eq!(scraped.own("drey_flink_scrape_success"), Some(1.0));
    }
    // The first that came, and one for those that came while it was answered already.
    assert!(flink.asked() <= 2, "asked {} times", flink.asked());
    scrape(address, &[]).await;
    assert!(
        flink.asked() >= 2,
        "without a cache each later scrape is a reading"
    );
}

#[tokio::test]
async fn scrapes_at_the_same_time_share_a_reading_that_fails() {
    let flink = Flink::answering(Answer::Stuck(raw(b"flink_a 1\n"))).await;
    let address = Options::of(&flink).serve().await;
    let scrapes = (0..20).map(|_| scrape(address, &["x-prometheus-scrape-timeout-seconds: 2"]));
    for scraped in futures_util::future::join_all(scrapes).await {
        assert_eq!(scraped.own("drey_flink_scrape_success"), Some(0.0));
    }
    assert!(flink.asked() <= 2, "asked {} times", flink.asked());
}

#[tokio::test]
async fn a_fresh_reading_is_an_answer_for_all() {
    let flink = Flink::with_page(PAGE).await;
    let mut options = Options::of(&flink);
    options.cache = Duration::from_secs(600);
    let address = options.serve().await;
    for _ in 0..5 {
        assert_eq!(scrape(address, &[]).await.value("flink_b"), Some(2.0));
    }
    assert_eq!(flink.asked(), 1);
}

#[tokio::test]
async fn a_flink_is_found_on_any_of_its_ports() {
    for other in [
        Answer::Raw(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()),
        Answer::Page(Vec::new()),
        Answer::Page(b"# HELP flink_a a\nother_a 1\nflink_a 3\n".to_vec()),
    ] {
        // Two ports, of which the first answers with something else. No other test's is between them.
        let (stranger, flink) = loop {
            let stranger = Flink::answering(other.clone()).await;
            let next = format!("127.0.0.1:{}", stranger.port.saturating_add(1));
            let page = Answer::Page(PAGE.as_bytes().to_vec());
            if let Ok(flink) = Flink::answering_at(&next, page).await {
                break (stranger, flink);
            }
        };
        let mut options = Options::of(&flink);
        options.ports = Ports {
            first: stranger.port,
            last: flink.port,
        };
        let address = options.serve().await;
        for _ in 0..2 {
            let scraped = scrape(address, &[]).await;
            assert_eq!(scraped.value("flink_b"), Some(2.0));
            assert_eq!(scraped.value("flink_a{host=\"x\"}"), Some(1.0));
        }
        assert_eq!(stranger.asked(), 1, "what has answered once is asked first");
    }
}

#[tokio::test]
async fn each_gets_the_format_that_it_asks_for() {
    let flink = Flink::with_page(PAGE).await;
    let address = Options::of(&flink).serve().await;
    let text = scrape(address, &[]).await;
    assert!(
        text.head
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(
        text.flinks()
            .starts_with("# HELP flink_a a \"b\"\n# TYPE flink_a gauge\nflink_a{host=\"x\"} 1.0\n")
    );
    let open = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    for headers in [&[open][..], &[open, "accept-encoding: gzip"]] {
        let scraped = scrape(address, headers).await;
        assert!(
            scraped
                .head
                .contains("application/openmetrics-text; version=1.0.0"),
            "{}",
            scraped.head
        );
        assert_eq!(
            scraped.head.contains("content-encoding: gzip"),
            headers.len() > 1
        );
        assert!(scraped.text.ends_with("\n# EOF\n"));
        assert!(scraped.text.contains("# TYPE flink_b unknown\nflink_b 2\n"));
        assert!(scraped.text.contains("# HELP flink_a a \\\"b\\\"\n"));
        assert!(scraped.text.contains("# TYPE drey_savepoints counter\n"));
        assert!(scraped.text.contains("\ndrey_savepoints_total{"));
    }
}

#[tokio::test]
async fn rules_and_labels_are_for_flinks_series() {
    let flink = Flink::with_page(PAGE).await;
    let mut options = Options::of(&flink);
    let rules = "- {source_labels: [__name__], regex: flink_b, action: drop}";
    options.rules =
        Rules::read(rules, vec![("team".to_owned(), "a".to_owned())]).expect("good rules");
    let scraped = scrape(options.serve().await, &[]).await;
    assert_eq!(scraped.value("flink_a{host=\"x\",team=\"a\"}"), Some(1.0));
    assert!(!scraped.text.contains("flink_b"));
    assert!(!scraped.text.contains("drey_flink_reachable{team"));
    assert_eq!(scraped.dropped("filtered"), Some(1.0));
}

#[tokio::test]
async fn there_is_one_page() {
    let flink = Flink::with_page(PAGE).await;
    let address = Options::of(&flink).serve().await;
    for (request, status) in [
        ("GET /", 200),
        ("GET /metrics?name[]=x", 200),
        ("HEAD /metrics", 200),
        ("GET /other", 404),
        ("POST /metrics", 405),
        ("DELETE /", 405),
    ] {
        let stream = TcpStream::connect(address).await.expect("connected");
        assert_eq!(
            exchange(stream, request, &[]).await.status,
            status,
            "{request}"
        );
    }
}

#[tokio::test]
async fn each_series_gets_the_name_of_the_only_job_once_it_is_known() {
    let one = "flink_a{job_name=\"orders\"} 1\nflink_b 2\n";
    let several = "flink_a{job_name=\"orders\"} 1\nflink_a{job_name=\"bills\"} 1\nflink_b 2\n";
    for (page, labels) in [(one, "{job_name=\"orders\"}"), (several, "")] {
        let flink = Flink::with_page(page).await;
        let mut options = Options::of(&flink);
        options.rules = Rules::default().with_job_name(true);
        let address = options.serve().await;
        assert_eq!(scrape(address, &[]).await.value("flink_b"), Some(2.0));
        let second = scrape(address, &[]).await;
        assert_eq!(second.value(&format!("flink_b{labels}")), Some(2.0));
        assert_eq!(second.value("flink_a{job_name=\"orders\"}"), Some(1.0));
    }
}
