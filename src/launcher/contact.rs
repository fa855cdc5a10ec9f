//! How a TaskManager in standalone mode meets its JobManager, and whether it has met one.
//!
//! Left to itself, Flink learns its own address by connecting to the JobManager, with waits that double while nobody listens
//! there, and ignores SIGTERM meanwhile (`ConnectionUtils.LeaderConnectingAddressListener`); after that it asks for its
//! registration every 10 s. Both cost seconds where the two JVMs start side by side, as in every rollout.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::config::Settings;
use crate::domain::budget::Backoff;
use crate::flink::REGISTRATION_AGAIN;
use crate::supervisor::high_availability;

const HOST: &str = "jobmanager.rpc.address";
const PORT: &str = "jobmanager.rpc.port";
/// Flink's own default.
const USUAL_PORT: u16 = 6123;

const OWN_HOST: &str = "taskmanager.host";
/// `ip`, Flink's default, or `name`.
const POLICY: &str = "taskmanager.network.bind-policy";

/// How long the JobManager's name may take to be resolved; without an answer Flink finds its address itself.
const RESOLVED: Duration = Duration::from_secs(2);

/// Between looks for a connection, until there is one.
const LOOK: Backoff = Backoff {
    first: Duration::from_millis(100),
    most: Duration::from_secs(1),
};

/// A JobManager's address, as far as it is known before it runs.
#[derive(Debug, Default)]
pub(super) struct Contact {
    /// Its RPC port; `None` with high availability, where only its leader's entry tells.
    port: Option<u16>,
    /// The address that this pod has towards it.
    own: Option<IpAddr>,
}

impl Contact {
    /// By the TaskManager's `configuration`; nothing is known outside Kubernetes and in native mode, where Flink itself starts
    /// TaskManagers after their JobManager.
    pub(super) async fn find(
        settings: &Settings,
        native: bool,
        configuration: &BTreeMap<String, String>,
    ) -> Self {
        if native || settings.pod_name.is_none() {
            return Self::default();
        }
        let Some((host, port)) = job_manager(configuration) else {
            return Self::default();
        };
        let own = timeout(RESOLVED, own_address(host, port)).await;
        let own = own.ok().flatten().filter(|own| !own.is_loopback());
        debug!(host, port, ?own, "Where the JobManager is expected");
        Self {
            port: Some(port),
            own,
        }
    }

    /// What the TaskManager's configuration needs so that it loses no time; nothing that is set there already.
    pub(super) fn keys(
        &self,
        configuration: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        let by_name = configuration
            .get(POLICY)
            .is_some_and(|policy| policy != "ip");
        if let Some(own) = self.own
            && !by_name
            && !configuration.contains_key(OWN_HOST)
        {
            keys.insert(OWN_HOST.to_owned(), own.to_string());
            let (again, after) = REGISTRATION_AGAIN;
            if !configuration.contains_key(again) {
                keys.insert(again.to_owned(), after.to_owned());
            }
        }
        keys
    }

    /// Whether the TaskManager is known to have no connection to a JobManager now.
    pub(super) fn is_missing(&self) -> bool {
        self.port.is_some_and(|port| !connected_to(port))
    }

    /// Waits until the TaskManager has a connection to a JobManager.
    pub(super) async fn made(&self) {
        let Some(port) = self.port else {
            return pending().await;
        };
        let mut looks = 0;
        while !connected_to(port) {
            looks += 1;
            sleep(LOOK.wait(looks)).await;
        }
    }
}

/// The JobManager's host and port, where they are fixed.
fn job_manager(configuration: &BTreeMap<String, String>) -> Option<(&str, u16)> {
    if high_availability(configuration) {
        return None;
    }
    let host = configuration.get(HOST)?;
    let port = match configuration.get(PORT) {
        Some(port) => port.parse().ok()?,
        None => USUAL_PORT,
    };
    Some((host, port))
}

/// The address from which this machine would reach `host`. A UDP socket that is connected sends nothing.
async fn own_address(host: &str, port: u16) -> Option<IpAddr> {
    let to = lookup_host((host, port)).await.ok()?.next()?;
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(to).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether somebody in this network namespace has a connection to that port.
fn connected_to(port: u16) -> bool {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    tables.iter().any(|path| established(&read(path), port))
}

/// Reads the kernel's table of sockets: number, local and remote `ADDRESS:PORT` in hexadecimal, state (`01`: established).
fn established(table: &str, port: u16) -> bool {
    let remote = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(2);
        let is_remote = fields.next().is_some_and(|field| field.ends_with(&remote));
        is_remote && fields.next() == Some("01")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_jobmanager_is_expected_at_its_configured_address_unless_a_leader_is_elected() {
        let at = (HOST, "jm");
        assert_eq!(job_manager(&map(&[at])), Some(("jm", 6123)));
        assert_eq!(job_manager(&map(&[at, (PORT, "70")])), Some(("jm", 70)));
        assert_eq!(job_manager(&map(&[at, (PORT, "70-80")])), None);
        assert_eq!(job_manager(&map(&[])), None);
        let elected = map(&[at, ("high-availability.type", "kubernetes")]);
        assert_eq!(job_manager(&elected), None);
    }

    #[test]
    fn what_the_user_has_set_stays() {
        let contact = Contact {
            port: Some(6123),
            own: Some(Ipv4Addr::new(10, 0, 0, 7).into()),
        };
        let both = map(&[(OWN_HOST, "10.0.0.7"), REGISTRATION_AGAIN]);
        assert_eq!(contact.keys(&map(&[])), both);
        assert_eq!(contact.keys(&map(&[(POLICY, "ip")])), both);
        assert!(contact.keys(&map(&[(POLICY, "name")])).is_empty());
        assert!(contact.keys(&map(&[(OWN_HOST, "tm")])).is_empty());
        let own = map(&[(OWN_HOST, "10.0.0.7")]);
        assert_eq!(contact.keys(&map(&[(REGISTRATION_AGAIN.0, "3 s")])), own);
        assert!(Contact::default().keys(&map(&[])).is_empty());
    }

    #[test]
    fn a_connection_counts_when_it_is_established_to_that_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:17EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  9999        0 1 1\n\
                     1: 0500F40A:9C41 C3FC600A:17EB 02 00000000:00000000 00:00000000 00000000  9999        0 2 1\n";
        assert!(!established(table, 6123), "listening, and connecting");
        let connected = "1: 0500F40A:9C41 C3FC600A:17EB 01 00000000:00000000 00:00000000 00000000  9999  0 2 1\n";
        assert!(established(&format!("{table}{connected}"), 6123));
        assert!(!established(connected, 40001), "the local port");
    }

    #[tokio::test]
    async fn the_own_address_is_of_the_interface_towards_the_jobmanager() {
        let own = own_address("127.0.0.1", 6123).await;
        assert_eq!(own, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(own_address("no-such-host.invalid", 6123).await, None);
    }
}
