//! What Drey knows of Flink itself: its REST interface, its configuration files and its `_metadata`.
pub mod arguments;
pub mod config_file;
pub mod fault;
pub mod home;
pub mod metadata;
pub mod operator_id;
pub mod reporter;
pub mod rest;
pub mod restore_keys;
pub mod tls;
pub mod version;
pub mod wire;

/// How long Flink waits after a registration that reached nobody (`ClusterOptions.ERROR_REGISTRATION_DELAY`, 10 s if not set), and
/// what Drey sets, in ms. In native mode the job's own JobMaster asks before the ResourceManager beside it is there, in each start,
/// and in standalone mode a TaskManager does that is there before its JobManager.
pub(crate) const REGISTRATION_AGAIN: (&str, &str) = ("cluster.registration.error-delay", "500");
