//! Asks all pools again and again while a browser looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::pools::{Asked, Sample, in_json};

/// Between two questions: a killed worker is on the page well within a second.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the pools answered last, as JSON.
#[derive(Clone)]
pub struct Watch {
    send: Arc<watch::Sender<Arc<str>>>,
}

impl Watch {
    /// Starts the thread that asks. It asks nothing while no receiver is there.
    pub fn start() -> Self {
        let send = Arc::new(watch::Sender::new(Arc::from("")));
        let watch = Self { send: Arc::clone(&send) };
        std::thread::spawn(move || {
            let mut known = HashMap::new();
            // Its other holders are the handlers; the last one is gone with the program.
            while Arc::strong_count(&send) > 1 {
                if send.receiver_count() > 0 {
                    send.send_replace(ask_all(&mut known).to_string().into());
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
