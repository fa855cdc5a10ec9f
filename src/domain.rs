//! What Drey knows and decides, as plain values: no I/O, no async and no clock in here.
pub mod job;
pub mod savepoint;
