//! Flinks that are broken, slow or hostile: each scrape is answered with 200 and Drey's own metrics.

use super::support::{Answer, Flink, Options, Scraped, one, raw, scrape};

const SOON: &str = "x-prometheus-scrape-timeout-seconds: 0.5";
const GOOD: &str = "# TYPE flink_a gauge\nflink_a{host=\"x\",} 1.0\n";

async fn scraped(answer: Answer, headers: &[&str]) -> Scraped {
    let flink = Flink::answering(answer).await;
    let scraped = scrape(Options::of(&flink).serve().await, headers).await;
    assert_eq!(scraped.status, 200);
    let last = scraped.text.lines().last().expect("lines");
    assert!(last.starts_with("drey_flink_scrape_success{"), "{last}");
    assert_eq!(
        scraped.value("drey_build_info{version=\"0.1.0\",cluster_id=\"test\"}"),
        Some(1.0)
    );
    scraped
}

fn success(scraped: &Scraped) -> Option<f64> {
    scraped.own("drey_flink_scrape_success")
}

fn outcome(scraped: &Scraped, outcome: &str) -> Option<f64> {
    scraped.value(&format!(
        "drey_flink_scrapes_total{{outcome=\"{outcome}\",cluster_id=\"test\"}}"
    ))
}

#[tokio::test]
async fn a_good_page_is_served_whole() {
    for answer in [
        Answer::Page(GOOD.into()),
        Answer::Raw(raw(GOOD.as_bytes())),
        Answer::Drip(raw(b"flink_a 1\n")),
    ] {
        let scraped = scraped(answer, &[]).await;
        assert_eq!(success(&scraped), Some(1.0));
        assert_eq!(outcome(&scraped, "complete"), Some(1.0));
        assert!(scraped.flinks().contains("flink_a"), "{}", scraped.text);
    }
}

#[tokio::test]
async fn a_flink_that_is_down_costs_nothing_else() {
    let free = Flink::with_page("").await.port;
    let flink = Flink::with_page(GOOD).await;
    let mut options = Options::of(&flink);
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    assert_ne!(free, gone);
    options.ports = one(gone);
    let scraped = scrape(options.serve().await, &[]).await;
    assert_eq!((scraped.status, success(&scraped)), (200, Some(0.0)));
    assert_eq!(outcome(&scraped, "down"), Some(1.0));
    assert_eq!(flink.asked(), 0);
}

#[tokio::test]
async fn what_comes_in_time_is_served() {
    for answer in [
        Answer::Stuck(Vec::new()),
        Answer::Stuck(raw(GOOD.as_bytes())),
        Answer::Stuck(raw(b"flink_a{host=\"x\"} 1.0\nflink_b 12")),
        Answer::Drip(raw(&b"flink_a{host=\"x\"} 1.0\n".repeat(100))),
    ] {
        let scraped = scraped(answer, &[SOON]).await;
        assert_eq!(success(&scraped), Some(0.0));
        assert_eq!(outcome(&scraped, "slow"), Some(1.0));
        assert!(
            !scraped.text.contains("flink_b"),
            "half a line: {}",
            scraped.text
        );
    }
    let stuck = scraped(Answer::Stuck(raw(GOOD.as_bytes())), &[SOON]).await;
    assert_eq!(stuck.value("flink_a{host=\"x\"}"), Some(1.0));
}

#[tokio::test]
async fn an_answer_without_end_ends() {
    let scraped = scraped(
        Answer::Endless(raw(GOOD.as_bytes()), b"flink_b{x=\"1\"} 1\n".repeat(100)),
        &[SOON],
    )
    .await;
    assert_eq!(success(&scraped), Some(0.0));
    assert_eq!(scraped.value("flink_a{host=\"x\"}"), Some(1.0));
    assert_eq!(scraped.value("flink_b{x=\"1\"}"), Some(1.0));
    assert!(scraped.dropped("duplicate") > Some(99.0));
}

#[tokio::test]
async fn a_hundred_megabytes_are_served_up_to_the_limit() {
    let mut page = String::with_capacity(105 << 20);
    page.push_str("# TYPE flink_a gauge\n");
    let filler = "x".repeat(900);
    for n in 0..110_000 {
        page.push_str(&format!("flink_a{{n=\"{n}\",filler=\"{filler}\"}} {n}\n"));
    }
    assert!(page.len() > 100_000_000);
    let flink = Flink::with_page(&page).await;
    let mut options = Options::of(&flink);
    options.limit = 1000;
    let address = options.serve().await;
    let scraped = scrape(address, &["x-prometheus-scrape-timeout-seconds: 120"]).await;
    assert_eq!(success(&scraped), Some(1.0));
    assert_eq!(scraped.own("drey_flink_scrape_series"), Some(1000.0));
    assert_eq!(
        scraped.own("drey_flink_scrape_series_over_limit"),
        Some(109_000.0)
    );
    assert_eq!(scraped.dropped("limit"), Some(109_000.0));
}

#[tokio::test]
async fn bad_lines_are_left_out_and_counted() {
    let page = [
        &b"# TYPE flink_a gauge\nflink_a{x=\"1\"} NaN\nflink_a{x=\"2\"} +Inf\nflink_a{x=\"3\"} -Inf\nflink_a{x=\"1\"} 2\n"[..],
        b"# TYPE flink_a counter\nflink_b{x=\"\xff\"} 1\nflink_b{x=\"\\q\"} 1\nflink_b{x=\"1\",x=\"2\"} 1\nflink_b{x=\"1\n",
        b"flink_c 1 1700000000000\nflink_d one\n",
    ]
    .concat();
    let scraped = scraped(Answer::Page(page), &[]).await;
    assert_eq!(success(&scraped), Some(1.0));
    assert_eq!(
        scraped.flinks(),
        "# TYPE flink_a gauge\nflink_a{x=\"1\"} NaN\nflink_a{x=\"2\"} +Inf\nflink_a{x=\"3\"} -Inf\nflink_c 1\n"
    );
    for (reason, lines) in [
        ("invalid", 5.0),
        ("duplicate", 1.0),
        ("conflict", 1.0),
        ("timestamp", 1.0),
    ] {
        assert_eq!(scraped.dropped(reason), Some(lines), "{reason}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed_and_nothing_but_metrics_is_served() {
    let other = Flink::with_page(GOOD).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/metrics\r\ncontent-length: 0\r\n\r\n",
        other.port
    );
    for raw in [
        redirect.into_bytes(),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\nflink_a 1\n".to_vec(),
        b"HTTP/1.1 200 OK\r\n\r\nflink_a 1\n".to_vec(),
        b"HTTP/1.1 500 Oops\r\ncontent-type: text/plain\r\n\r\nflink_a 1\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 99\r\n\r\n".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        Vec::new(),
    ] {
        let scraped = scraped(Answer::Raw(raw.clone()), &[]).await;
        assert_eq!(success(&scraped), Some(0.0));
        assert_eq!(outcome(&scraped, "broken"), Some(1.0));
        assert_eq!(scraped.flinks(), "", "{}", String::from_utf8_lossy(&raw));
    }
    assert_eq!(other.asked(), 0);
}
