//! The frame of both models: a search through everything that can happen, and what it has come across.

#![allow(unreachable_pub, reason = "a module of test binaries")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, DiscoveryClassification, HasDiscoveries, Model};

/// What a search has come across.
#[derive(Debug, Default)]
pub struct Found {
    /// Promises that did not hold.
    pub broken: Vec<&'static str>,
    /// What else was to be seen.
    pub seen: Vec<&'static str>,
}

/// Searches until `finish`, breadth first, to `depth` or to the end. Broken promises are printed with their shortest traces.
pub fn explore<M>(name: &str, model: M, finish: HasDiscoveries, depth: Option<usize>) -> Found
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let started = Instant::now();
    let mut builder = model.checker().threads(2).finish_when(finish);
    if let Some(depth) = depth {
        builder = builder.target_max_depth(depth);
    }
    let checker = builder.spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    let mut found = Found::default();
    for (property, path) in checker.discoveries() {
        if let DiscoveryClassification::Example = checker.discovery_classification(property) {
            found.seen.push(property);
            continue;
        }
        println!("broken: {property}");
        for step in path.into_actions() {
            println!("    {step:?}");
        }
        found.broken.push(property);
    }
    found
}

/// Fails unless all promises hold in every state, and the search has come across all of `sights`.
pub fn holds<M>(name: &str, model: M, depth: Option<usize>, sights: &[&'static str])
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let found = explore(name, model, HasDiscoveries::AnyFailures, depth);
    assert!(found.broken.is_empty(), "{:#?}", found.broken);
    let unseen: Vec<_> = sights
        .iter()
        .filter(|sight| !found.seen.contains(sight))
        .collect();
    assert!(unseen.is_empty(), "never came across: {unseen:#?}");
}

/// Whether the search finds that `promise` does not hold.
pub fn finds<M>(name: &str, model: M, promise: &'static str) -> bool
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let finish = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    explore(name, model, finish, None).broken.contains(&promise)
}
