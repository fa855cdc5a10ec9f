//! What Drey knows of Flink itself: its REST interface, its configuration files and its `_metadata`.
pub mod metadata;
pub mod version;
