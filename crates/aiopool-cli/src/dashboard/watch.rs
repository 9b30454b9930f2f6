//! Asks all pools, and the server of a cluster, again and again while a browser looks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiopool_cluster::{Connection, observe};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::pools::{Asked, Sample, in_json};

/// Between two questions: a killed worker is on the page well within a second.
const INTERVAL: Duration = Duration::from_millis(250);

/// Between two questions to a cluster's server, which are a connection each.
const NODES_INTERVAL: Duration = Duration::from_secs(2);

/// What the pools answered last, as JSON.
#[derive(Clone)]
pub struct Watch {
    send: Arc<watch::Sender<Arc<str>>>,
}

impl Watch {
    /// Starts the thread that asks, and one more where there is a cluster, its server and the name
    /// of its pool. They ask nothing while no receiver is there.
    pub fn start(cluster: Option<(Connection, String)>) -> Self {
        let send = Arc::new(watch::Sender::new(Arc::from("")));
        let watch = Self { send: Arc::clone(&send) };
        let nodes = cluster.map(|(connection, pool)| {
            let (nodes, asks) = (Nodes::default(), Arc::clone(&send));
            let found = Arc::clone(&nodes);
            std::thread::spawn(move || {
                while Arc::strong_count(&asks) > 2 {
                    if asks.receiver_count() > 0 {
                        let seen = nodes_of(&connection, &pool);
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                    }
                    std::thread::sleep(NODES_INTERVAL);
                }
            });
            nodes
        });
        // The threads' own handles, besides those of the ones that look.
        let own = 1 + usize::from(nodes.is_some());
        std::thread::spawn(move || {
            let mut known = HashMap::new();
            // Its other holders are the handlers; the last one is gone with the program.
            while Arc::strong_count(&send) > own {
                if send.receiver_count() > 0 {
                    let mut all = ask_all(&mut known);
                    if let Some(nodes) = &nodes {
                        all["cluster"] =
                            nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    }
                    send.send_replace(all.to_string().into());
                } else {
                    known.clear();
                }
                std::thread::sleep(INTERVAL);
            }
        });
        watch
    }

    pub fn receiver(&self) -> watch::Receiver<Arc<str>> {
        self.send.subscribe()
    }

    /// Returns the next answer.
    pub async fn next(&self) -> Arc<str> {
        let mut receiver = self.receiver();
        // The sender is this watch's own.
        let _ = receiver.changed().await;
        receiver.borrow_and_update().clone()
    }
}

/// What a cluster's server answered last.
type Nodes = Arc<Mutex<Value>>;

fn nodes_of(connection: &Connection, pool: &str) -> Value {
    match aiopool::block_on(observe(connection.clone(), pool)) {
        Ok(overview) => json!({ "pool": pool, "nodes": overview.nodes, "builds": overview.builds }),
        Err(error) => json!({ "pool": pool, "trouble": error.to_string() }),
    }
}

/// A pool that answered.
struct Known {
    asked: Asked,
    last: Sample,
}

fn ask_all(known: &mut HashMap<(u32, u64), Known>) -> Value {
    let mut pools = Vec::new();
    let mut there = Vec::new();
    for address in aiopool::view::pools() {
        let key = (address.host_pid(), address.number());
        let answer = match known.remove(&key) {
            Some(mut pool) => pool.asked.ask().map(|now| {
                let before = std::mem::replace(&mut pool.last, now);
                (pool, before)
            }),
            None => Asked::new(&address).and_then(|mut asked| {
                let last = asked.ask()?;
                let before = last.clone();
                Ok((Known { asked, last }, before))
            }),
        };
        let Ok((pool, before)) = answer else { continue };
        if let Ok(mut value) = in_json(&before, &pool.last) {
            value["key"] = json!(format!("{}.{}", key.0, key.1));
            pools.push(value);
        }
        there.push(key);
        known.insert(key, pool);
    }
    known.retain(|key, _| there.contains(key));
    json!({ "pools": pools })
}
