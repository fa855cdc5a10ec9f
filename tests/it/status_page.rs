//! The status page of a real job in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Cluster, ROOT, Version, eventually, free_port};

/// Chromium without a window. It runs as root here, where its own sandbox does not.
fn browser(cluster: &Cluster, args: &[&str]) -> String {
    let mut setup = Command::new(Path::new(ROOT).join("tests/setup.sh"));
    let output = setup.arg("chromium").stderr(Stdio::inherit()).output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "`tests/setup.sh chromium` failed; run it by hand to see why"
    );
    let program = String::from_utf8(output.stdout).unwrap();
    let mut command = Command::new(program.trim());
    let profile = format!("--user-data-dir={}", cluster.path("browser").display());
    command.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    // The page as it comes; not what it asks for again later.
    command
        .args(["--virtual-time-budget=1000", &profile])
        .args(args);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // What a page is not allowed to do, and what goes wrong in its script, is told there.
    assert!(!errors.contains("CONSOLE"), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A picture of the page as people with this preference see it.
fn picture(cluster: &Cluster, url: &str, scheme: &str, number: u8) -> Vec<u8> {
    let file = cluster.path(&format!("{scheme}.png"));
    let shot = format!("--screenshot={}", file.display());
    let preference = format!("--blink-settings=preferredColorScheme={number}");
    browser(
        cluster,
        &[
            "--window-size=900,1080",
            "--hide-scrollbars",
            &preference,
            &shot,
            url,
        ],
    );
    let kept = PathBuf::from(ROOT).join(format!("target/status-page-{scheme}.png"));
    fs::copy(&file, kept).unwrap();
    fs::read(file).unwrap()
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["--silent"]).args(args).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

fn work(cluster: &Cluster, drey: &mut crate::support::Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(3);
    cluster.drey_ok(&["savepoint"]);
}

/// Fails unless the page can only be looked at, and only under a name of this machine.
fn assert_for_this_machine_alone(url: &str) {
    let code = |args: &[&str]| {
        curl(
            &[
                &["--output", "/dev/null", "--write-out", "%{http_code}"],
                args,
            ]
            .concat(),
        )
    };
    assert_eq!(code(&[url]), "200");
    assert_eq!(code(&["--header", "Host: rebound.example", url]), "421");
    assert_eq!(code(&["--request", "POST", url]), "405");
}

#[test]
fn a_browser_shows_two_lives_of_a_job_and_nobody_can_make_it_act() {
    let address = format!("127.0.0.1:{}", free_port());
    let cluster = Cluster::new(Version::v2()).drey_env("DREY_STATUS_PAGE", &address);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    let stopped_at = cluster.newest().unwrap();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    let url = format!("http://{address}/");

    let recorded = cluster.newest().unwrap().path;
    // The supervisor looks at Flink's checkpoints from time to time, and Flink's own statistics lag behind as well.
    let checkpoint = "<circle class=\"checkpoint completed";
    let page = eventually("the page has both, and a checkpoint", || {
        let page = browser(&cluster, &["--dump-dom", &url]);
        let all = [recorded.as_str(), &stopped_at.path, checkpoint];
        all.iter().all(|it| page.contains(it)).then_some(page)
    });
    let run = cluster.entry().run.unwrap().id.to_string();
    for wanted in [
        "Cluster default",
        "<dd class=\"state good\">RUNNING</dd>",
        "<rect class=\"savepoint completed newest\"",
        "<rect class=\"stop completed",
        &format!("run <code>{run}</code>"),
        &format!("started from <code>{}</code>", stopped_at.path),
        "<td class=\"n\">take a savepoint</td>",
        "<td class=\"n\">record the restore point</td>",
        "<code>DREY_STATUS_PAGE</code>",
    ] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
    let light = picture(&cluster, &url, "light", 1);
    let dark = picture(&cluster, &url, "dark", 0);
    assert!(light.starts_with(b"\x89PNG") && light != dark);

    assert_for_this_machine_alone(&url);
    let mut served = cluster.drey_background(&["status", "--serve=127.0.0.1:0"]);
    let url = eventually("the address is printed", || {
        let log = served.log();
        log.lines()
            .find(|line| line.starts_with("http://"))
            .map(str::to_owned)
    });
    let data: Value = serde_json::from_str(&curl(&[&format!("{url}data.json")])).unwrap();
    assert_eq!(data["status"]["cluster-id"], "default", "{data}");
    assert_eq!(data["jobs"][0]["lineage"][0]["run"], run.as_str(), "{data}");
    served.kill();
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    let errors = String::from_utf8(cluster.drey(&["status", "--serve"]).stderr).unwrap();
    assert!(errors.contains("no supervisor"), "{errors}");
}
