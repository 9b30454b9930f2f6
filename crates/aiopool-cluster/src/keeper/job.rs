//! The job's key: its lease, what is marked as over, its end.

use std::time::{Duration, Instant};

use aiopool::remote;

use super::{AGAIN, Closing, Event, Keeper};
use crate::crash::{self, Point};
use crate::error::{ClusterError, Error};
use crate::link::{self, JOBS, Link, Swap};
use crate::protocol::{CHUNK, Key, LeaseAction, LeaseEvent, LeaseTimes};
use crate::random;
use crate::wire::{self, Hint, JobKey};

/// A job's key as its next holder found it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The number that is in the subjects of its tasks.
    pub(crate) job: u128,
    /// The name of its key.
    pub(crate) key: String,
    pub(crate) durable: bool,
    /// The revision that the holder's first message replaces; 0 for none.
    pub(crate) revision: u64,
    pub(crate) purged: Vec<(u64, u64)>,
    /// Outcomes that were taken: those of all tasks below.
    pub(crate) taken: u64,
    resumed: bool,
}

impl Claim {
    /// A job of its own, which ends with its holder.
    pub(crate) fn new() -> Self {
        let job = random::bits();
        let (key, purged) = (format!("{job:032x}"), Vec::new());
        Self { job, key, durable: false, revision: 0, purged, taken: 0, resumed: false }
    }

    /// The job's name, as people have it.
    pub(crate) fn name(&self) -> &str {
        wire::name_of_key(&self.key)
    }

    /// Whether an earlier holder may have sent tasks.
    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Looks for a durable job; waits until its holder has left it, or is silent for twice its
    /// lease.
    ///
    /// # Errors
    ///
    /// [`Error::JobHeld`] while a holder lives.
    pub(crate) async fn durable(link: &Link, name: &str) -> Result<Self, Error> {
        let key = wire::durable_key(name);
        let fresh = |revision| Self { durable: true, key: key.clone(), revision, ..Self::new() };
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            let Ok(stored) = link.key(JOBS, &link.names.job_key(&key)).await else {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            };
            let Some(stored) = stored else { return Ok(fresh(0)) };
            // Deleted by hand, as `nats kv del` does it.
            if stored.payload.is_empty() {
                return Ok(fresh(stored.seq));
            }
            let Some(found) = wire::decode::<JobKey>(&stored.payload) else {
                let key = link.names.job_key(&key);
                return Err(Error::Server(format!(
                    "the key of the job {name} cannot be read: another version of aiopool has \
                     written it, or a stranger; `nats kv del {JOBS} {key}` removes the job"
                )));
            };
            if !found.key.alive {
                return Ok(fresh(stored.seq));
            }
            let over = match seen {
                _ if !found.held => true,
                Some((before, _)) if before != stored.seq => {
                    let holder = wire::shown(&found.holder);
                    return Err(Error::JobHeld { job: name.to_owned(), holder });
                }
                Some((_, since)) => {
                    // The holder counts its lease from its sending, an observer from its sight.
                    let times = LeaseTimes { lease: found.lease, margin: 0 };
                    since.elapsed() >= Duration::from_nanos(times.wait())
                }
                None => {
                    seen = Some((stored.seq, Instant::now()));
                    false
                }
            };
            if over {
                let JobKey { job, purged, taken, .. } = found;
                let (revision, resumed) = (stored.seq, true);
                return Ok(Self { job, key, durable: true, revision, purged, taken, resumed });
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

impl Keeper {
    /// Marks chunks that are over and whose outcomes were all taken.
    pub(super) fn unpark(&mut self) {
        let below = match self.claim.durable {
            true => self.taken.lock().map_or(0, |taken| taken.below()),
            false => u64::MAX,
        };
        let (due, parked): (Vec<u64>, Vec<u64>) =
            self.parked.drain(..).partition(|chunk| (chunk + 1) * CHUNK <= below);
        self.parked = parked;
        for chunk in due {
            let (from, to) = (chunk * CHUNK, (chunk + 1) * CHUNK);
            self.ended.retain(|n| !(from..to).contains(n));
            self.mark(from, to);
        }
    }

    /// Has the next renewal say that tasks are over; the purge follows when that is stored.
    pub(super) fn mark(&mut self, from: u64, to: u64) {
        add(&mut self.purged, from, to);
        self.marks.push((from, to, self.lease.next_serial()));
        let actions = self.lease.hurry(remote::boottime_ns());
        self.obey(actions);
    }

    /// Purges what the renewal of serial `stored`, or one before it, has marked.
    pub(super) fn purge_marked(&mut self, stored: u64) {
        let due: Vec<(u64, u64)> =
            self.marks.iter().filter(|mark| mark.2 <= stored).map(|m| (m.0, m.1)).collect();
        for (from, to) in due {
            crash::here(Point::S4);
            // Not twice: the next renewal comes before the purge is over.
            let same = |mark: &&mut (u64, u64, u64)| (mark.0, mark.1) == (from, to);
            self.marks.iter_mut().filter(same).for_each(|mark| mark.2 = u64::MAX);
            self.purge(from, to, Duration::ZERO);
        }
    }

    pub(super) fn purge(&self, from: u64, to: u64, pause: Duration) {
        let (link, job, events) = (self.link.clone(), self.claim.job, self.events.clone());
        let blobs = self.has_blobs;
        tokio::spawn(async move {
            link::pause(pause).await;
            let purged = link.purge_tasks(job, from, to, blobs).await;
            let _ = events.send(Event::Purged(from, to, purged));
        });
    }

    pub(super) fn tick(&mut self) {
        self.lease_event(LeaseEvent::Tick);
        let over = self.lease.deadline() != 0 && remote::boottime_ns() >= self.lease.deadline();
        if over {
            let text = match (self.refused.take(), self.link.away()) {
                (Some(why), _) => format!("the server did not store its renewals: {why}"),
                (None, Some(why)) => format!("the server did not answer for that long ({why})"),
                (None, None) => "the server did not answer for that long".to_owned(),
            };
            let text = format!("its lease ran out: {text}");
            self.lose(text);
        } else if self.lease.next().is_none() && self.lease.deadline() != 0 {
            self.lose("another process took it, or a node ended it".to_owned());
        }
    }

    /// The job may be another's by now: nothing is delivered or sent any more.
    pub(super) fn lose(&mut self, reason: String) {
        // Before anything is delivered: a caller that is told of it may ask for more at once.
        if self.lost.set(reason.clone()).is_ok() {
            self.deliver_all(|| ClusterError::Ended(Error::JobLost(reason.clone())));
        }
    }

    pub(super) fn lease_event(&mut self, event: LeaseEvent) {
        let actions = self.lease.step(remote::boottime_ns(), event);
        self.obey(actions);
    }

    pub(super) fn obey(&mut self, actions: Vec<LeaseAction>) {
        for action in actions {
            let (link, events) = (self.link.clone(), self.events.clone());
            let name = link.names.job_key(&self.claim.key);
            match action {
                LeaseAction::Send { expected, key } => {
                    let value = self.value(key);
                    let patience = Duration::from_nanos(self.times.patience());
                    tokio::spawn(async move {
                        let payload = wire::encode(&value);
                        let swap = link.swap_key(JOBS, &name, expected, payload, patience).await;
                        let _ = events.send(Event::Renewal(key.serial, swap));
                    });
                }
                LeaseAction::Read => {
                    tokio::spawn(async move {
                        let _ = events.send(Event::Key(link.key(JOBS, &name).await));
                    });
                }
                // The server answers others: it is slow, and the connection is not the reason.
                LeaseAction::Reconnect if self.answered.elapsed() < link::PATIENCE => {}
                LeaseAction::Reconnect => link.reconnect(),
                LeaseAction::Deadline(_) | LeaseAction::Dead => {}
            }
        }
    }

    fn value(&self, key: Key) -> JobKey {
        JobKey {
            key,
            job: self.claim.job,
            durable: self.claim.durable,
            held: true,
            taken: self.taken.lock().map_or(0, |taken| taken.below()),
            purged: self.purged.clone(),
            lease: self.times.lease,
            holder: format!("{}:{}", random::host(), std::process::id()),
        }
    }

    /// Ends the job: its key says so first, then its words go, then its key. A durable job that was
    /// not finished stays, and its key says that nobody holds it.
    pub(super) async fn end(self) {
        if self.lost.get().is_some() {
            return;
        }
        let stays = match self.closing {
            Closing::Finish | Closing::Terminate => false,
            Closing::No | Closing::Close | Closing::Leave => self.claim.durable,
        };
        let key = Key { incarnation: self.lease.incarnation(), serial: u64::MAX, alive: stays };
        let name = self.link.names.job_key(&self.claim.key);
        let value = wire::encode(&JobKey { held: false, ..self.value(key) });
        let mut expected = self.lease.revision();
        let start = Instant::now();
        for _ in 0..5 {
            let swap =
                self.link.swap_key(JOBS, &name, expected, value.clone(), link::PATIENCE).await;
            if let Swap::Won(revision) = swap {
                if !stays {
                    if self.link.purge_job(self.claim.job).await {
                        self.link.forget_key(JOBS, &name, revision).await;
                    }
                    self.say_it_is_over().await;
                }
                break;
            }
            // A renewal was on its way, or this very message; another's key is left alone.
            match self.link.key(JOBS, &name).await {
                Ok(Some(stored)) => {
                    let found = wire::decode::<JobKey>(&stored.payload).map(|found| found.key);
                    let own = self.lease.incarnation().id;
                    if found.is_none_or(|found| found.incarnation.id != own) {
                        break;
                    }
                    expected = stored.seq;
                }
                Ok(None) => break,
                // The server has gone: a janitor ends the job, or the next holder waits for it.
                Err(()) if start.elapsed() > link::PATIENCE => break,
                Err(()) => tokio::time::sleep(AGAIN).await,
            }
        }
        self.link.flush().await;
    }

    /// Has the nodes that run tasks of the job look at their words now.
    async fn say_it_is_over(&self) {
        for (node, _) in self.watched.keys() {
            let hint = Hint::Job { job: self.claim.job };
            let subject = self.link.names.hints(node);
            let _ = self.link.client.publish(subject, wire::encode(&hint)).await;
        }
    }
}

/// Adds tasks to ranges that are in order.
fn add(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    ranges.push((from, to));
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(from, to) in ranges.iter() {
        match merged.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    *ranges = merged;
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_of_tasks_grow_together() {
        let mut ranges = Vec::new();
        for task in [3, 1, 0, 2, 7] {
            super::add(&mut ranges, task, task + 1);
        }
        assert_eq!(ranges, [(0, 4), (7, 8)]);
    }
}
