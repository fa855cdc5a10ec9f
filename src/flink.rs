//! What Drey knows of Flink itself: its REST interface, its configuration files and its `_metadata`.
pub mod config_file;
pub mod home;
pub mod metadata;
pub mod restore_keys;
pub mod version;
