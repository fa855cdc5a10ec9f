//! Real object storage servers on free loopback ports, each ended when its handle is dropped.

#![allow(unreachable_pub, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::free_port;

/// Azurite's well-known account and its key, which is public.
pub const AZURITE_ACCOUNT: &str = "devstoreaccount1";
pub const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How long a server may take to open its port on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A server process, its data and its port.
pub struct Server {
    child: Child,
    pub dir: TempDir,
    pub port: u16,
}

impl Server {
    /// versitygw with one bucket, `bucket`; region us-east-1, keys `test` and `secret`.
    pub fn s3(bucket: &str) -> Self {
        Self::s3_with(bucket, &[])
    }

    pub fn s3_with(bucket: &str, options: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir_all(data.join(bucket)).unwrap();
        Self::s3_over(&data, dir, options)
    }

    /// Another versitygw over the same buckets.
    pub fn beside(&self, options: &[&str]) -> Self {
        let data = self.dir.path().join("data");
        Self::s3_over(&data, TempDir::new().unwrap(), options)
    }

    fn s3_over(data: &Path, dir: TempDir, options: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(installed("s3", "VERSITYGW", "versitygw", "versitygw"));
        command.args([
            "--port",
            &format!("127.0.0.1:{port}"),
            "--access",
            "test",
            "--secret",
            "secret",
            "--quiet",
        ]);
        command.args(options).arg("posix").arg(data);
        Self::start(command, dir, port)
    }

    /// fake-gcs-server with one bucket.
    pub fn gcs(bucket: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let url = format!("127.0.0.1:{port}");
        let mut command = Command::new(installed(
            "gcs",
            "FAKE_GCS_SERVER",
            "fake-gcs-server",
            "fake-gcs-server",
        ));
        command.args([
            "-scheme",
            "http",
            "-host",
            "127.0.0.1",
            "-port",
            &port.to_string(),
            "-backend",
            "memory",
        ]);
        command.args([
            "-public-host",
            &url,
            "-external-url",
            &format!("http://{url}"),
            "-log-level",
            "warn",
        ]);
        let server = Self::start(command, dir, port);
        let body = format!(r#"{{"name":"{bucket}"}}"#);
        let answer = http(port, "POST", "/storage/v1/b?project=test", &body);
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "cannot make the bucket: {answer}"
        );
        server
    }

    /// Azurite's blob service with one container.
    pub fn azurite(container: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let mut command = Command::new(installed(
            "azurite",
            "AZURITE",
            "azurite",
            "node_modules/.bin/azurite-blob",
        ));
        command.args([
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port.to_string(),
            "--inMemoryPersistence",
            "--silent",
        ]);
        command
            .args(["--disableTelemetry", "--skipApiVersionCheck"])
            .current_dir(dir.path());
        let server = Self::start(command, dir, port);
        make_container(port, container);
        server
    }

    /// Puts an object, given as `gs://BUCKET/KEY`, through the JSON interface.
    pub fn gcs_upload(&self, location: &str, body: &str) {
        let (bucket, key) = location
            .strip_prefix("gs://")
            .and_then(|rest| rest.split_once('/'))
            .unwrap();
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={key}");
        let answer = http(self.port, "POST", &path, body);
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "cannot upload {location}: {answer}"
        );
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start(mut command: Command, dir: TempDir, port: u16) -> Self {
        let log = dir.path().join("server.log");
        let file = std::fs::File::create(&log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut server = Self { child, dir, port };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(
                ended.is_none(),
                "{command:?} ended with {ended:?}: {}",
                log()
            );
            assert!(
                since.elapsed() < START_LIMIT,
                "{command:?} does not open port {port}: {}",
                log()
            );
            // Between two looks, not instead of looking.
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Ends the server now; its port refuses connections afterwards.
    pub fn stop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What `tests/setup.sh PART` brings, in the version that tests/versions.env names as `pin`.
fn installed(part: &str, pin: &str, dir: &str, file: &str) -> PathBuf {
    let env = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = env("DREY_CACHE")
        .or_else(|| Some(env("XDG_CACHE_HOME")?.join("drey")))
        .or_else(|| Some(env("HOME")?.join(".cache/drey")))
        .expect("HOME or DREY_CACHE is set");
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/versions.env");
    let versions = std::fs::read_to_string(versions).unwrap();
    let version = |line: &str| line.strip_prefix(&format!("{pin}=")).map(str::to_owned);
    let version = versions.lines().find_map(version);
    let path = cache
        .join(dir)
        .join(version.expect("pinned in versions.env"))
        .join(file);
    let shown = path.display();
    assert!(
        path.exists(),
        "{shown} is missing; run `tests/setup.sh {part}`"
    );
    path
}

/// One request, one answer.
pub fn http(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// object_store makes no containers, and Azurite wants a signature: its own Node computes it.
fn make_container(port: u16, container: &str) {
    let script = r"
        const [port, account, key, container] = process.argv.slice(1);
        const date = new Date().toUTCString(), path = `/${account}/${container}`;
        const text = `PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:${date}\nx-ms-version:2021-12-02\n/${account}${path}\nrestype:container`;
        const mac = require('crypto').createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
        const headers = { 'x-ms-date': date, 'x-ms-version': '2021-12-02', 'Content-Length': 0,
            Authorization: `SharedKey ${account}:${mac}` };
        const options = { host: '127.0.0.1', port, method: 'PUT', path: `${path}?restype=container`, headers };
        require('http').request(options, r => { r.pipe(process.stderr); process.exitCode = r.statusCode === 201 ? 0 : 1; }).end();
    ";
    let output = Command::new("node")
        .args([
            "-e",
            script,
            &port.to_string(),
            AZURITE_ACCOUNT,
            AZURITE_KEY,
            container,
        ])
        .output()
        .expect("node is installed, which Azurite needs too");
    assert!(
        output.status.success(),
        "cannot make the container: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
