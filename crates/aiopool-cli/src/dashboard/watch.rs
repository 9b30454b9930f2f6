//! Asks all pools, and the server of a cluster, again and again while a browser looks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use aiopool::view::Address;
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
    send: Arc<watch::Sender<Round>>,
    /// The number of the last round that has begun.
    begun: Arc<AtomicU64>,
}

/// The answers to one question each, and the number of that round, from 1.
type Round = (u64, Arc<str>);

impl Watch {
    /// Starts the thread that asks, and one more where there is a cluster, its server and the name
    /// of its pool. They ask nothing while no receiver is there.
    pub fn start(cluster: Option<(Connection, String)>) -> Self {
        let send = Arc::new(watch::Sender::new((0, Arc::from(""))));
        let begun = Arc::new(AtomicU64::new(0));
        let watch = Self { send: Arc::clone(&send), begun: Arc::clone(&begun) };
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
            let mut pools = Pools::new();
            // Its other holders are the handlers; the last one is gone with the program.
            while Arc::strong_count(&send) > own {
                if send.receiver_count() > 0 {
                    let round = begun.fetch_add(1, Ordering::SeqCst) + 1;
                    let mut all = pools.ask();
                    if let Some(nodes) = &nodes {
                        all["cluster"] =
                            nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    }
                    send.send_replace((round, all.to_string().into()));
                } else {
                    pools = Pools::new();
                }
                std::thread::sleep(INTERVAL);
            }
        });
        watch
    }

    pub fn receiver(&self) -> watch::Receiver<Round> {
        self.send.subscribe()
    }

    /// Returns what the pools answer to a question that was asked after this call: what was answered
    /// before may be of a time at which a page looked last.
    pub async fn next(&self) -> Arc<str> {
        let mut receiver = self.receiver();
        let asked_before = self.begun.load(Ordering::SeqCst);
        // The sender is this watch's own.
        while receiver.changed().await.is_ok() && receiver.borrow_and_update().0 <= asked_before {}
        receiver.borrow().1.clone()
    }
}

/// What a cluster's server answered last.
type Nodes = Arc<Mutex<Value>>;

fn nodes_of(connection: &Connection, pool: &str) -> Value {
    match aiopool::block_on(observe(connection.clone(), pool)) {
        Ok(overview) if !overview.exists => {
            let why = format!("there is no pool `{pool}` on this server");
            json!({ "pool": pool, "trouble": why })
        }
        Ok(overview) => json!({ "pool": pool, "nodes": overview.nodes, "builds": overview.builds }),
        Err(error) => json!({ "pool": pool, "trouble": error.to_string() }),
    }
}

/// The pools of this user, each of which is asked by a thread of its own: one whose host is stopped
/// holds up no other.
struct Pools {
    known: BTreeMap<Key, Known>,
    answers: Receiver<(Key, Answer)>,
    /// Goes with each question.
    answer: Sender<(Key, Answer)>,
}

/// A pool's host and its number there.
type Key = (u32, u64);

/// `None` if no pool listens there any more.
type Answer = Option<anyhow::Result<(Asked, Sample)>>;

struct Known {
    name: String,
    /// Its connection, while no question is out.
    asked: Option<Asked>,
    /// Whether a question is out.
    is_asked: bool,
    last: Option<Sample>,
    /// What is shown of it.
    shown: Value,
    /// Why it did not answer the last question.
    silent: Option<String>,
}

impl Pools {
    fn new() -> Self {
        let (answer, answers) = channel();
        Self { known: BTreeMap::new(), answers, answer }
    }

    /// Asks all pools, and returns what they answer. Those that did not answer the last question
    /// are shown as they were before it, and are not waited for.
    fn ask(&mut self) -> Value {
        let addresses = aiopool::view::pools();
        let keys: Vec<Key> = addresses.iter().map(key_of).collect();
        self.known.retain(|key, _| keys.contains(key));
        for address in addresses {
            self.ask_one(address);
        }
        // The sender of this struct's own keeps the channel open.
        while self.known.values().any(|pool| pool.is_asked && pool.silent.is_none()) {
            let Ok((key, answer)) = self.answers.recv() else { break };
            self.take(key, answer);
        }
        while let Ok((key, answer)) = self.answers.try_recv() {
            self.take(key, answer);
        }
        let pools =
            self.known.iter().filter(|(_, pool)| pool.silent.is_some() || pool.last.is_some());
        let pools: Vec<Value> = pools.map(|(key, pool)| pool.show(*key)).collect();
        json!({ "pools": pools })
    }

    fn ask_one(&mut self, address: Address) {
        let key = key_of(&address);
        let pool = self.known.entry(key).or_insert_with(|| Known {
            name: address.name().to_owned(),
            asked: None,
            is_asked: false,
            last: None,
            shown: Value::Null,
            silent: None,
        });
        if pool.is_asked {
            return;
        }
        let (asked, answer) = (pool.asked.take(), self.answer.clone());
        let ask = move || {
            let connected = asked.map_or_else(|| Asked::new(&address).ok(), Some);
            let told = connected.map(|mut asked| asked.ask().map(|now| (asked, now)));
            // The watch may have ended.
            let _ = answer.send((key, told));
        };
        // A thread that is not to be had: the next round asks again.
        pool.is_asked = Builder::new().name("ask".to_owned()).spawn(ask).is_ok();
    }

    fn take(&mut self, key: Key, answer: Answer) {
        // Its pool may be gone, and its number have come again.
        let Some(pool) = self.known.get_mut(&key) else { return };
        pool.is_asked = false;
        match answer {
            None => {
                self.known.remove(&key);
            }
            Some(Err(error)) => pool.silent = Some(format!("{error:#}")),
            Some(Ok((asked, now))) => {
                let before = pool.last.as_ref().unwrap_or(&now);
                pool.shown = in_json(before, &now).unwrap_or_default();
                (pool.asked, pool.last, pool.silent) = (Some(asked), Some(now), None);
            }
        }
    }
}

impl Known {
    fn show(&self, (host_pid, number): Key) -> Value {
        let mut value = self.shown.clone();
        value["key"] = json!(format!("{host_pid}.{number}"));
        if let Some(why) = &self.silent {
            value["no_answer"] = json!(why);
            value["pool"]["name"] = json!(self.name);
            value["pool"]["host_pid"] = json!(host_pid);
            value["pool"]["number"] = json!(number);
        }
        value
    }
}

fn key_of(address: &Address) -> Key {
    (address.host_pid(), address.number())
}
