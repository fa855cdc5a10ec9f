//! What Drey knows and decides, as plain values: no I/O, no async and no clock in here.
pub mod budget;
pub mod claim;
pub mod job;
pub mod pointer;
pub mod restore;
pub mod savepoint;
pub mod supervise;
