//! Ports for servers that a test starts.

#![allow(unreachable_pub, reason = "a module of several test binaries")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that nobody listens on. Below the ports that the kernel gives to outgoing connections, and never the same
/// twice, so that it stays free until a process that is started with it listens there.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let start = u16::try_from(std::process::id() * 61 % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let at = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", FIRST + at)).is_ok() {
            return FIRST + at;
        }
    }
    panic!("no free port")
}
