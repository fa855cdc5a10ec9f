//! Drey supervises Apache Flink jobs from inside: it takes a savepoint before a JobManager goes away, records where it
//! is, and makes the next start resume from exactly there.
pub mod domain;
pub mod flink;
