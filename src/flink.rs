//! Everything that talks to Flink or knows its formats.
pub mod version;
