//! What single values cannot tell: whether settings go together, and whether the files that they name can be read.
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use url::Url;

use super::error::Problem;
use super::sources::Resolver;
use super::table::Settings;
use super::values::Mode;
use crate::session_jobs::{self, SessionJobsError};

/// Longest path of a Unix socket in bytes: `sun_path` has 108, the last of which is zero.
const SOCKET_PATH: usize = 107;

/// Checks settings against each other and against the file system.
pub(super) fn check(settings: &Settings, resolver: &mut Resolver) {
    paths(settings, resolver);
    together(settings, resolver);
    session(settings, resolver);
}

/// Checks settings against each other alone.
pub(super) fn together(settings: &Settings, resolver: &mut Resolver) {
    tls(settings, resolver);
    pairs(resolver);
    endpoints(settings, resolver);
    metrics(settings, resolver);
    schedule(settings, resolver);
}

fn schedule(settings: &Settings, resolver: &mut Resolver) {
    if settings.savepoint_interval.is_some() && settings.savepoint_schedule.is_some() {
        let what = "an interval and a schedule for the same savepoints";
        wrong(resolver, "savepoint-schedule", what, "keep one of them");
    }
}

/// Notes what is wrong with `key`, where it was given.
fn wrong(resolver: &mut Resolver, key: &str, what: impl Into<String>, remedy: &str) {
    let source = resolver.source(key).clone();
    resolver.wrong(key, &source, Problem::new(what, remedy));
}

fn paths(settings: &Settings, resolver: &mut Resolver) {
    let length = settings.socket.as_os_str().as_bytes().len();
    if length > SOCKET_PATH {
        let what =
            format!("a socket's path of {length} bytes is too long, {SOCKET_PATH} are allowed");
        let key = ["socket", "state-dir"]
            .into_iter()
            .find(|key| resolver.is_given(key))
            .unwrap_or("socket");
        wrong(resolver, key, what, "set `socket` to a shorter path");
    }
    if settings.pointer == settings.socket {
        let what = "pointer and socket are the same file";
        wrong(resolver, "socket", what, "set one of them to another path");
    }
    if settings.state_dir.exists() && !settings.state_dir.is_dir() {
        let what = format!("{} is not a directory", settings.state_dir.display());
        wrong(resolver, "state-dir", what, "name a directory");
    }
    if settings.pointer.is_dir() {
        let what = format!("{} is a directory", settings.pointer.display());
        wrong(resolver, "pointer", what, "name a file in it");
    }
    for (key, directory) in [
        ("flink-home", &settings.flink_home),
        ("flink-conf-dir", &settings.flink_conf_dir),
    ] {
        if let Some(why) = directory.as_deref().and_then(unreadable_directory) {
            wrong(resolver, key, why, "name a directory that can be read");
        }
    }
    for (key, file) in [
        ("rest-ca", &settings.rest_ca),
        ("rest-client-cert", &settings.rest_client_cert),
        ("rest-client-key", &settings.rest_client_key),
        ("rest-bearer-file", &settings.rest_bearer_file),
        ("rest-basic-file", &settings.rest_basic_file),
        ("storage-ca", &settings.storage_ca),
        ("metrics-web-config", &settings.metrics_web_config),
        ("metrics-relabel", &settings.metrics_relabel),
    ] {
        if let Some(why) = file.as_deref().and_then(unreadable_file) {
            wrong(resolver, key, why, "name a file that can be read");
        }
    }
}

fn unreadable_directory(path: &Path) -> Option<String> {
    fs::read_dir(path)
        .err()
        .map(|error| could_not(path, &error))
}

/// Only plain files are opened: opening a pipe would wait for its writer.
fn unreadable_file(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            File::open(path).err().map(|error| could_not(path, &error))
        }
        Ok(_) => Some(format!("{} is not a file", path.display())),
        Err(error) => Some(could_not(path, &error)),
    }
}

fn could_not(path: &Path, error: &std::io::Error) -> String {
    format!("could not read {}: {error}", path.display())
}

fn is_plain(url: Option<&Url>) -> bool {
    url.is_some_and(|url| url.scheme() == "http")
}

fn tls(settings: &Settings, resolver: &mut Resolver) {
    if !is_plain(settings.rest_url.as_ref()) {
        return;
    }
    for key in ["rest-ca", "rest-client-cert"] {
        if resolver.is_given(key) {
            let what = "is of no use with a `rest-url` of `http:`";
            wrong(resolver, key, what, "make it `https:`, or leave this out");
        }
    }
}

fn pairs(resolver: &mut Resolver) {
    let (cert, key) = ("rest-client-cert", "rest-client-key");
    for (one, other) in [(cert, key), (key, cert)] {
        if resolver.is_given(one) && !resolver.is_given(other) {
            let what = format!("needs `{other}`, too");
            wrong(resolver, one, what, "give both, or neither");
        }
    }
    let (bearer, basic) = ("rest-bearer-file", "rest-basic-file");
    if resolver.is_given(bearer) && resolver.is_given(basic) {
        let other = resolver.source(basic).naming(basic);
        let what = format!("excludes {other}");
        wrong(resolver, bearer, what, "keep one of them");
    }
}

fn endpoints(settings: &Settings, resolver: &mut Resolver) {
    if settings.storage_allow_http {
        return;
    }
    for (key, endpoint) in [
        ("s3-endpoint", &settings.s3_endpoint),
        ("gcs-endpoint", &settings.gcs_endpoint),
        ("azure-endpoint", &settings.azure_endpoint),
    ] {
        if is_plain(endpoint.as_ref()) {
            let what = "sends requests in the clear";
            wrong(
                resolver,
                key,
                what,
                "make it `https:`, or set `storage-allow-http`",
            );
        }
    }
}

/// The list of jobs, as a whole. Another mode has no use for it.
fn session(settings: &Settings, resolver: &mut Resolver) {
    let Some(path) = &settings.session_jobs else {
        return;
    };
    let key = "session-jobs";
    if settings.mode == Mode::Application {
        wrong(
            resolver,
            key,
            "is of no use in application mode",
            "leave it out",
        );
    }
    if let Some(why) = unreadable_file(path) {
        wrong(resolver, key, why, "name a file that can be read");
        return;
    }
    match session_jobs::load(path) {
        Err(SessionJobsError::Flawed { path, flaws }) => {
            for flaw in flaws {
                let place = format!("{path}:{}", flaw.line);
                resolver
                    .errors
                    .push(Problem::new(flaw.what, flaw.remedy).at(place));
            }
        }
        Err(error) => wrong(
            resolver,
            key,
            error.to_string(),
            "name a file that can be read",
        ),
        Ok(_) => {}
    }
}

/// Drey must not read itself.
fn metrics(settings: &Settings, resolver: &mut Resolver) {
    let Some(address) = settings.metrics_address else {
        return;
    };
    if settings.flink_metrics_port.contains(address.port()) {
        let what = format!("has the port {} of `metrics-address`", address.port());
        let remedy = "keep the two apart, as 9249 and 9250-9260";
        wrong(resolver, "flink-metrics-port", what, remedy);
    }
}
