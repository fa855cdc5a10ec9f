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
