//! The open connections, and which of them goes when there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// All open connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    start: Instant,
    open: Mutex<Open>,
    /// Told after each end of a connection.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_number: HashMap<u64, Arc<Connection>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Connection {
    /// Milliseconds after the start at which it last asked for something.
    active: AtomicU64,
    /// How many requests it has made.
    pub(super) requests: AtomicU64,
    /// Told when it has to go.
    pub(super) go: Notify,
}

/// A place among the connections, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            start: Instant::now(),
            open: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// A place for a new connection. When all are taken, the connection that has been quiet for longest goes: one of an API server that
    /// works is younger than any that only keeps the place.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let connection = Arc::new(Connection {
            active: AtomicU64::new(self.now()),
            requests: AtomicU64::new(0),
            go: Notify::new(),
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_number.len() >= self.most {
            let quiet = |connection: &Connection| connection.active.load(Ordering::Relaxed);
            let oldest = open.by_number.iter().min_by_key(|(_, it)| quiet(it));
            if let Some(number) = oldest.map(|(number, _)| *number)
                && let Some(oldest) = open.by_number.remove(&number)
            {
                oldest.go.notify_one();
            }
        }
        open.last += 1;
        let number = open.last;
        open.by_number.insert(number, Arc::clone(&connection));
        Place {
            all: Arc::clone(self),
            number,
            connection,
        }
    }

    /// Tells all of them to go.
    pub(super) fn end(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in open.by_number.values() {
            connection.go.notify_one();
        }
    }

    pub(super) fn len(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_number.len()
    }

    /// Waits until there is none.
    pub(super) async fn ended(&self) {
        while self.len() > 0 {
            self.ended.notified().await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Place {
    /// It asks for something.
    pub(super) fn asks(&self) {
        let connection = &self.connection;
        connection.active.store(self.all.now(), Ordering::Relaxed);
        connection.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_number.remove(&self.number);
        drop(open);
        self.all.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_quietest_goes_when_there_are_too_many() {
        let all = Connections::new(2);
        let first = all.enter();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = all.enter();
        tokio::time::advance(Duration::from_secs(1)).await;
        first.asks();
        let third = all.enter();
        second.connection.go.notified().await;
        assert_eq!(all.len(), 2);
        drop(second);
        assert_eq!(all.len(), 2);
        drop((first, third));
        all.ended().await;
    }
}
