//! The lives of the nodes that have tasks of this job.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use aiopool::remote;
use tokio::sync::oneshot;

use super::{Event, Keeper};
use crate::crash::{self, Point};
use crate::link::{self, Link, NODES, Stored, Swap};
use crate::protocol::{Incarnation, KeptEvent, Key, LeaseTimes, Observer, Sight, Verdict};
use crate::wire::{self, NodeKey, Written};

/// Looks for a node where none is seen, and the time between them: a node writes its key six times in
/// its lease, which is 150 s at most.
const LOOKS: u32 = 7;
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A node that has tasks of this job.
pub(super) struct Watched {
    observer: Observer,
    times: LeaseTimes,
    of: Incarnation,
    pub(super) seen: Instant,
    asked: bool,
}

impl Keeper {
    /// A task is claimed: its node is watched.
    pub(super) fn watch(&mut self, n: u64) {
        let Some(out) = self.out.get_mut(&n) else { return };
        let newest = out.newest.as_ref().map(|stored| &stored.payload);
        let Some(Written::Claim { node, life, lease, .. }) =
            newest.and_then(|payload| wire::decode(payload))
        else {
            return;
        };
        out.holder = Some((node.clone(), life.id));
        self.lonely.remove(&out.tail.build);
        let times = LeaseTimes { lease, ..self.times };
        let entry = self.watched.entry((node, life.id));
        let watched = entry.or_insert_with(|| Watched {
            observer: Observer::of(times, life),
            times,
            of: life,
            seen: Instant::now(),
            asked: false,
        });
        if watched.observer.verdict() == Verdict::Dead {
            self.tell(n, KeptEvent::NodeDead(life.id));
        }
    }

    /// Looks until there is a live node of `build` that has places, and says so.
    pub(super) fn await_node(&self, build: String, mut to: oneshot::Sender<()>) {
        let link = self.link.clone();
        tokio::spawn(async move {
            let look = async {
                let mut before = HashMap::new();
                while !has_node(&link, &build, &mut before).await {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            let there = tokio::select! {
                () = look => true,
                // Nobody waits any more.
                () = to.closed() => false,
            };
            if there {
                let _ = to.send(());
            }
        });
    }

    /// Reads the keys of nodes that have tasks, and forgets nodes that have none.
    pub(super) fn look_at_nodes(&mut self) {
        let holders: HashSet<(String, u128)> = self.holders().cloned().collect();
        self.watched.retain(|holder, _| holders.contains(holder));
        let names: BTreeSet<String> =
            self.watched.iter().filter(|(_, w)| !w.asked).map(|(key, _)| key.0.clone()).collect();
        for name in names {
            of_name(&mut self.watched, &name).for_each(|watched| watched.asked = true);
            let (link, events) = (self.link.clone(), self.events.clone());
            tokio::spawn(async move {
                let stored = link.key(NODES, &link.names.node_key(&name)).await;
                let _ = events.send(Event::Node(name, stored));
            });
        }
    }

    pub(super) fn saw_node(&mut self, name: &str, stored: Result<Option<Stored>, ()>) {
        let now = remote::monotonic_ns();
        let sight = stored.map(|stored| match stored {
            None => Sight::Absent,
            Some(stored) => match wire::decode::<NodeKey>(&stored.payload) {
                Some(key) => Sight::Key(stored.seq, key.key),
                None => Sight::Garbage(stored.seq),
            },
        });
        let mut tombstone = None;
        for watched in of_name(&mut self.watched, name) {
            watched.asked = false;
            let Ok(sight) = sight else { continue };
            let before = watched.observer.clone();
            watched.observer.saw(now, sight);
            // A successor's key, or a tombstone, is no sign of this life.
            let is_its_own = matches!(sight, Sight::Key(_, key) if key.incarnation == watched.of);
            if is_its_own && watched.observer != before {
                watched.seen = Instant::now();
            }
            if let Some(expected) = watched.observer.tombstone(now) {
                tombstone = Some((expected, watched.of, watched.times.lease));
            }
        }
        if let Some((expected, incarnation, lease)) = tombstone {
            of_name(&mut self.watched, name).for_each(|watched| watched.asked = true);
            let key = Key { incarnation, serial: u64::MAX, alive: false };
            let value = NodeKey::tombstone(key, lease);
            let (link, events, name) = (self.link.clone(), self.events.clone(), name.to_owned());
            tokio::spawn(async move {
                let subject = link.names.node_key(&name);
                let payload = wire::encode(&value);
                let swap = link.swap_key(NODES, &subject, expected, payload, link::PATIENCE).await;
                let _ = events.send(Event::Tombstone(name, swap));
            });
        }
        self.bury(name);
    }

    /// Takes what became of a tombstone.
    pub(super) fn buried(&mut self, name: &str, swap: &Swap) {
        if matches!(swap, Swap::Won(_)) {
            crash::here(Point::S3);
        }
        let now = remote::monotonic_ns();
        for watched in of_name(&mut self.watched, name) {
            watched.asked = false;
            match swap {
                Swap::Won(_) => watched.observer.won(),
                _ => watched.observer.unsure(now),
            }
        }
        self.bury(name);
    }

    /// Tells the tasks of dead lives of their end.
    fn bury(&mut self, name: &str) {
        let dead: Vec<u128> = of_name(&mut self.watched, name)
            .filter(|watched| watched.observer.verdict() == Verdict::Dead)
            .map(|watched| watched.of.id)
            .collect();
        for life in dead {
            let theirs: Vec<u64> = self
                .out
                .iter()
                .filter(|(_, out)| out.holder.as_ref().is_some_and(|holder| holder.1 == life))
                .map(|(&n, _)| n)
                .collect();
            theirs.into_iter().for_each(|n| self.tell(n, KeptEvent::NodeDead(life)));
        }
    }
}

fn of_name<'w>(
    watched: &'w mut HashMap<(String, u128), Watched>,
    name: &str,
) -> impl Iterator<Item = &'w mut Watched> {
    watched.iter_mut().filter(move |(key, _)| key.0 == name).map(|(_, watched)| watched)
}

/// Looks for a node of `build` for longer than the longest time between two signs of life of one.
pub(super) async fn are_none(link: &Link, build: &str) -> bool {
    let mut before = HashMap::new();
    for look in 0..LOOKS {
        link::pause(BETWEEN_LOOKS * look.min(1)).await;
        if has_node(link, build, &mut before).await {
            return false;
        }
    }
    link.stands()
}

/// Whether a node of `build` lives and takes tasks. A key's age counts by this machine's clock; where
/// that differs from the server's, a key that moves between two looks does.
async fn has_node(link: &Link, build: &str, before: &mut HashMap<String, u64>) -> bool {
    let Ok(names) = link.keys(NODES).await else { return false };
    for name in names {
        let Ok(Some(stored)) = link.key(NODES, &link.names.node_key(&name)).await else { continue };
        let Some(node) = wire::decode::<NodeKey>(&stored.payload) else { continue };
        let moved = before.insert(name, stored.seq).is_some_and(|seq| seq != stored.seq);
        let age = Duration::from_secs(link::age(stored.time));
        let fresh = moved || age < Duration::from_nanos(node.lease);
        if node.key.alive && !node.draining && node.places > 0 && node.build == build && fresh {
            return true;
        }
    }
    false
}
