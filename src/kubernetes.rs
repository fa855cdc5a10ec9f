//! What Drey needs of Kubernetes: its own ConfigMap, the pods of the cluster, why a pod goes, and events.
//!
//! Every request has a time limit, and none is repeated here: whoever asks decides what a failure means. There is no polling;
//! what must be known at once is watched, one object by its name.

pub(crate) mod admission;
mod client;
mod dynamic;
mod error;
pub mod events;
pub mod ha;
pub mod owner;
pub mod pods;
pub mod pointer_map;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

pub use client::Kube;
pub(crate) use dynamic::{asked, listing, watched};
pub use error::KubeError;
pub use events::{Event, EventKind, Recorder};
pub use owner::{OwnerSight, owner_of};
pub use pods::{PodSight, watch_pod};
pub use pointer_map::{PointerMap, PointerMapError};

pub use crate::domain::pointer_map::{
    Document, HandEdit, Request, RequestKind, Sight, Version, hand_edit,
};

/// How long a connection is tried before an address counts as silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Nothing answers at this address: refused, unreachable, or no answer within a second.
///
/// An address that is none is silent too; that this process has no socket left is no silence.
pub async fn silent(ip: &str, port: u16) -> bool {
    let Ok(ip) = ip.parse() else { return true };
    match timeout(SILENCE, TcpStream::connect(SocketAddr::new(ip, port))).await {
        Ok(Ok(_)) => false,
        Ok(Err(error)) => !own_fault(&error),
        Err(_) => true,
    }
}

fn own_fault(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let own = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::ADDRNOTAVAIL,
        Errno::PERM,
        Errno::ACCESS,
    ];
    own.iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
