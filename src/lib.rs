//! Drey supervises Apache Flink jobs from inside: it takes a savepoint before a JobManager goes away, records where it
//! is, and makes the next start resume from exactly there.
mod certificate;
pub mod changes;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod domain;
pub mod flink;
pub mod inject;
pub mod job_update;
mod kill;
pub mod kubernetes;
pub mod launcher;
pub mod metrics;
pub mod pointer_file;
pub mod process;
pub mod restore_points;
pub mod retention;
mod root_certificates;
pub mod session_jobs;
pub mod status_page;
pub mod storage;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod webhook;
pub use kill::kill_point;
