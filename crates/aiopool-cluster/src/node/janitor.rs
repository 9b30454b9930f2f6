//! What every node does for the pool besides its tasks: it ends jobs whose submitter has died, and
//! purges what belongs to no job.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aiopool::remote;

use crate::link::{self, JOBS, Link, Swap};
use crate::protocol::{Key, LeaseTimes, Observer, Sight, Verdict};
use crate::random;
use crate::wire::{self, JobKey};

/// Rounds between two searches for messages of no job: they are rare, and the search reads every
/// subject.
const SEARCH: u32 = 20;

/// Keeps the pool clean, for ever.
pub(super) async fn keep(link: Link, lease: Duration) {
    let mut observers = HashMap::new();
    for round in 1_u32.. {
        // Nodes that were started together do not all come together.
        let jitter = Duration::from_millis(random::bits() as u64 % 2000);
        tokio::time::sleep((lease / 2).max(Duration::from_secs(2)) + jitter).await;
        if !link.stands() {
            continue;
        }
        // Where the server does not answer, the next round is as good.
        let _ = look_at_jobs(&link, &mut observers).await;
        if round % SEARCH == 0 {
            let _ = search(&link).await;
        }
    }
}

/// Looks at each job's key, and ends the jobs whose holders are silent for twice their lease.
async fn look_at_jobs(link: &Link, observers: &mut HashMap<String, Observer>) -> Result<(), ()> {
    let keys: BTreeSet<String> = link.keys(JOBS).await?.into_iter().collect();
    observers.retain(|name, _| keys.contains(name));
    for name in keys {
        let subject = link.names.job_key(&name);
        let Some(stored) = link.key(JOBS, &subject).await? else { continue };
        let Some(found) = wire::decode::<JobKey>(&stored.payload) else { continue };
        if !found.key.alive {
            clear(link, &subject, found.job, stored.seq).await;
            continue;
        }
        if found.durable {
            continue;
        }
        let times = LeaseTimes { lease: found.lease.saturating_mul(2), margin: 0 };
        let of = found.key.incarnation;
        let observer = observers.entry(name).or_insert_with(|| Observer::of(times, of));
        let now = remote::monotonic_ns();
        observer.saw(now, Sight::Key(stored.seq, found.key));
        if observer.verdict() == Verdict::Dead {
            // Another holder than the one that was looked at.
            *observer = Observer::of(times, of);
        }
        let Some(expected) = observer.tombstone(now) else { continue };
        let job = found.job;
        let key = Key { serial: u64::MAX, alive: false, ..found.key };
        let value = wire::encode(&JobKey { key, held: false, ..found });
        match link.swap_key(JOBS, &subject, expected, value, link::PATIENCE).await {
            Swap::Won(revision) => {
                tracing::warn!(job = format!("{job:032x}"), "its submitter has died: it is ended");
                clear(link, &subject, job, revision).await;
            }
            _ => observer.unsure(now),
        }
    }
    Ok(())
}

/// Purges a job that is over, and then its key as it was in `revision`.
async fn clear(link: &Link, subject: &str, job: u128, revision: u64) {
    if link.purge_job(job).await {
        link.forget_key(JOBS, subject, revision).await;
    }
}

/// Purges messages whose job has no key: a job's key is made before its first message.
async fn search(link: &Link) -> Result<(), ()> {
    let mut there: BTreeSet<u128> = BTreeSet::new();
    let pool = &link.names.pool;
    let words = link.subjects(&link.names.stream(), &format!("aiopool.{pool}.>")).await?;
    let blobs = link.subjects(&link.names.blobs(), &format!("aiopool.{pool}.b.>")).await?;
    for (subjects, at) in [(words, 5), (blobs, 3)] {
        let job = |s: &String| u128::from_str_radix(s.split('.').nth(at)?, 16).ok();
        there.extend(subjects.iter().filter_map(job));
    }
    if there.is_empty() {
        return Ok(());
    }
    // After the messages were listed: a job that began since has none among them.
    for name in link.keys(JOBS).await? {
        let Some(stored) = link.key(JOBS, &link.names.job_key(&name)).await? else { continue };
        match wire::decode::<JobKey>(&stored.payload) {
            Some(found) => drop(there.remove(&found.job)),
            // Another version's: its job is not known.
            None => return Ok(()),
        }
    }
    for job in there {
        link.purge_job(job).await;
    }
    Ok(())
}
