//! The pages of TaskManagers in the JobManager's, as they are asked for over real sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use drey::flink::rest::{FlinkRest, RestSettings};
use drey::metrics::JobManager;
use drey::metrics::aggregate::TaskManagers;
use serde_json::json;

use super::support::{Answer, Flink, Options, Scraped, raw, scrape};

/// One port that is free on all of `hosts`, and who answers there.
async fn at(hosts: &[&str], answers: &[Answer]) -> (u16, Vec<Flink>) {
    'port: loop {
        let first = Flink::answering(answers[0].clone()).await;
        let port = first.port;
        let mut members = vec![];
        for (host, answer) in hosts.iter().zip(answers) {
            match Flink::answering_at(&format!("{host}:{port}"), answer.clone()).await {
                Ok(member) => members.push(member),
                Err(_) => continue 'port,
            }
        }
        return (port, members);
    }
}

/// A JobManager's REST interface that names TaskManagers on these hosts.
async fn naming(hosts: &[&str]) -> Answer {
    let members: Vec<_> = hosts
        .iter()
        .map(|host| {
            json!({
                "id": format!("{host}:6122-ab"),
                "path": format!("pekko.tcp://flink@{host}:6122/user/rpc/taskmanager_0"),
                "slotsNumber": 1,
                "freeSlots": 0,
            })
        })
        .collect();
    let text = json!({ "taskmanagers": members }).to_string();
    let length = text.len();
    Answer::Raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    ).into_bytes())
}

async fn job_manager(rest: &Flink) -> JobManager {
    let url = format!("http://127.0.0.1:{}", rest.port).parse();
    let settings = RestSettings::new(url.expect("a URL"));
    let job_manager = JobManager::default();
    job_manager.is_at(FlinkRest::new(settings).expect("good settings"));
    job_manager
}

/// Drey in front of a JobManager with a page of one series, and of TaskManagers on `hosts`, which answer so.
async fn aggregating(hosts: &[&str], answers: &[Answer]) -> SocketAddr {
    let (port, _) = at(hosts, answers).await;
    let rest = Flink::answering(naming(hosts).await).await;
    let flink = Flink::with_page("# TYPE flink_jm gauge\nflink_jm{host=\"jm\",} 1\n").await;
    let mut options = Options::of(&flink);
    options.others = Some(TaskManagers::new(job_manager(&rest).await, port));
    options.serve().await
}

fn page(id: &str) -> Answer {
    Answer::Page(
        format!(
            "# HELP flink_b b\n# TYPE flink_b gauge\nflink_b{{tm_id=\"{id}\",}} 1\n\
             # HELP flink_a a\n# TYPE flink_a gauge\nflink_a{{tm_id=\"{id}\",}} 2\n\
             # HELP drey_build_info x\n# TYPE drey_build_info gauge\ndrey_build_info{{version=\"1\",tm_id=\"forged\"}} 1\n\
             # TYPE drey_jobs gauge\ndrey_jobs{{status=\"running\"}} 4711\n"
        )
        .into_bytes(),
    )
}

/// The id of the TaskManager on `host`, as it is in labels.
fn id(host: &str) -> String {
    format!("{}:6122_ab", host.replace('.', "_"))
}

impl Scraped {
    fn success(&self, host: &str) -> Option<f64> {
        let series = format!(
            "drey_taskmanager_scrape_success{{tm_id=\"{}\",cluster_id=\"test\"}}",
            id(host)
        );
        self.value(&series)
    }
}

#[tokio::test]
async fn the_series_of_all_task_managers_are_in_one_page() {
    let hosts = ["127.0.0.2", "127.0.0.3"];
    let address = aggregating(&hosts, &[page("x"), page("y")]).await;
    for headers in [
        &[][..],
        &["accept: application/openmetrics-text;version=1.0.0"],
    ] {
        let scraped = scrape(address, headers).await;
        for series in ["flink_a{tm_id=\"x\"}", "flink_a{tm_id=\"y\"}"] {
            assert_eq!(scraped.value(series), Some(2.0), "{}", scraped.text);
        }
        assert_eq!(scraped.value("flink_jm{host=\"jm\"}"), Some(1.0));
        for family in ["flink_a", "flink_b", "flink_jm", "drey_build_info"] {
            let head = format!("# TYPE {family} ");
            assert_eq!(scraped.text.matches(&head).count(), 1, "{}", scraped.text);
        }
        for host in hosts {
            assert_eq!(scraped.success(host), Some(1.0));
            let own = format!(
                "drey_build_info{{version=\"1\",tm_id=\"{}\",cluster_id=\"test\"}}",
                id(host)
            );
            assert_eq!(scraped.value(&own), Some(1.0), "{}", scraped.text);
        }
        assert_eq!(scraped.own("drey_taskmanager_list_success"), Some(1.0));
        assert_eq!(scraped.own("drey_flink_scrape_series"), Some(5.0));
        assert_eq!(scraped.own("drey_flink_scrape_success"), Some(1.0));
        // What tells of a supervisor is the JobManager's alone, and no id is believed.
        assert!(!scraped.text.contains("4711"), "{}", scraped.text);
        assert!(!scraped.text.contains("forged"), "{}", scraped.text);
        let mut lines = scraped.text.lines().rev();
        let last = lines.find(|line| *line != "# EOF");
        assert_eq!(
            last,
            Some("drey_flink_scrape_success{cluster_id=\"test\"} 1")
        );
    }
}

#[tokio::test]
async fn a_task_manager_that_is_hostile_costs_its_own_series_alone() {
    let elsewhere = Flink::with_page("flink_elsewhere 1\n").await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/metrics\r\ncontent-length: 0\r\n\r\n",
        elsewhere.port
    );
    for (hostile, least) in [
        (Answer::Stuck(Vec::new()), 0),
        (Answer::Stuck(raw(b"flink_h 1\n")), 1),
        (Answer::Drip(raw(&b"flink_h 1\n".repeat(500))), 0),
        (Answer::Endless(raw(b""), b"flink_h{x=\"1\"} 1\n".to_vec()), 0),
        (Answer::Endless(raw(b""), b"x".repeat(10_000)), 0),
        (Answer::Raw(redirect.into_bytes()), 0),
        (Answer::Raw(b"\0\xff\0".to_vec()), 0),
        (Answer::Raw(b"HTTP/1.1 401 Unauthorized\r\n\r\n".to_vec()), 0),
        (Answer::Page(b"\xff\xfe\n{\n\0flink_a\nflink_a{tm_id=\"x\"} 7\n# TYPE flink_a counter\nflink_h 1".to_vec()), 0),
    ] {
        let hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
        let answers = [page("x"), hostile.clone(), page("z")];
        let address = aggregating(&hosts, &answers).await;
        let began = Instant::now();
        let scraped = scrape(address, &["x-prometheus-scrape-timeout-seconds: 2"]).await;
        assert!(began.elapsed() < Duration::from_secs(20), "{hostile:?}");
        for (host, tm_id) in [("127.0.0.2", "x"), ("127.0.0.4", "z")] {
            let series = format!("flink_b{{tm_id=\"{tm_id}\"}}");
            assert_eq!(scraped.value(&series), Some(1.0), "{hostile:?}: {}", scraped.text);
            assert_eq!(scraped.success(host), Some(1.0), "{hostile:?}");
        }
        let whole = matches!(hostile, Answer::Page(_));
        assert_eq!(scraped.success("127.0.0.3"), Some(f64::from(whole)), "{hostile:?}");
        assert_eq!(scraped.own("drey_flink_scrape_success"), Some(1.0), "{hostile:?}");
        assert_eq!(scraped.text.matches("# TYPE flink_a ").count(), 1);
        assert!(scraped.text.matches("flink_h").count() >= least, "{hostile:?}");
        assert!(!scraped.text.contains("flink_elsewhere"));
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn those_that_hang_leave_time_for_the_ones_behind_them() {
    let names: Vec<String> = (2..24).map(|last| format!("127.0.1.{last}")).collect();
    let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut answers = vec![Answer::Stuck(Vec::new()); hosts.len() - 1];
    answers.push(page("last"));
    let address = aggregating(&hosts, &answers).await;
    let scraped = scrape(address, &["x-prometheus-scrape-timeout-seconds: 4"]).await;
    assert_eq!(
        scraped.value("flink_a{tm_id=\"last\"}"),
        Some(2.0),
        "{}",
        scraped.text
    );
    assert_eq!(scraped.success(hosts[hosts.len() - 1]), Some(1.0));
    assert_eq!(scraped.success(hosts[0]), Some(0.0));
}

#[tokio::test]
async fn a_job_manager_does_not_ask_itself() {
    let flink = Flink::with_page("flink_jm 1\n").await;
    // Its own address, which is known only once it serves.
    let mut options = Options::of(&flink);
    let job = JobManager::default();
    let listener = options.listener().await;
    let own = listener.local_addr().expect("an address");
    options.others = Some(TaskManagers::new(job.clone(), own.port()));
    options.serve_at(listener);
    let rest = Flink::answering(naming(&["127.0.0.1"]).await).await;
    let url = format!("http://127.0.0.1:{}", rest.port)
        .parse()
        .expect("a URL");
    job.is_at(FlinkRest::new(RestSettings::new(url)).expect("good settings"));
    let scraped = scrape(own, &[]).await;
    assert_eq!(scraped.success("127.0.0.1"), Some(0.0));
    assert_eq!(scraped.value("flink_jm"), Some(1.0));
    assert_eq!(scraped.own("drey_flink_scrape_success"), Some(1.0));
    assert_eq!(flink.asked(), 1);
}

#[tokio::test]
async fn without_the_job_managers_word_those_of_the_last_time_are_asked() {
    let hosts = ["127.0.0.2"];
    let (port, members) = at(&hosts, &[page("x")]).await;
    let rest = Flink::answering(naming(&hosts).await).await;
    let flink = Flink::with_page("flink_jm 1\n").await;
    let job = job_manager(&rest).await;
    let mut options = Options::of(&flink);
    options.others = Some(TaskManagers::new(job.clone(), port));
    let address = options.serve().await;
    assert_eq!(
        scrape(address, &[])
            .await
            .own("drey_taskmanager_list_success"),
        Some(1.0)
    );
    let gone = Flink::answering(Answer::Raw(
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec(),
    ))
    .await;
    let url = format!("http://127.0.0.1:{}", gone.port)
        .parse()
        .expect("a URL");
    job.is_at(FlinkRest::new(RestSettings::new(url)).expect("good settings"));
    let scraped = scrape(address, &[]).await;
    assert_eq!(scraped.own("drey_taskmanager_list_success"), Some(0.0));
    assert_eq!(scraped.value("flink_a{tm_id=\"x\"}"), Some(2.0));
    assert_eq!(members[0].asked(), 2);
}

#[tokio::test]
async fn before_flink_was_found_there_is_the_job_managers_own_page() {
    let flink = Flink::with_page("flink_jm 1\n").await;
    let mut options = Options::of(&flink);
    options.others = Some(TaskManagers::new(JobManager::default(), 1));
    let scraped = scrape(options.serve().await, &[]).await;
    assert_eq!(scraped.own("drey_taskmanager_list_success"), Some(0.0));
    assert_eq!(scraped.value("flink_jm"), Some(1.0));
}
