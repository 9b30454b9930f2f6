//! What every node does for the pool besides its tasks: it ends jobs whose submitter has died, and
//! purges what belongs to no job.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use aiopool::remote;

use crate::link::{self, JOBS, Link, Swap};
use crate::protocol::{Key, LeaseTimes, Observer, Sight, Verdict};
use crate::random;
use crate::wire::{self, JobKey, Queued};

/// Rounds between two searches for messages of no job: they are rare, and the search reads every
/// subject.
const SEARCH: u32 = 20;

/// Keeps the pool clean, for ever.
pub(super) async fn keep(link: Link, lease: Duration) {
    let (mut observers, mut told) = (HashMap::new(), BTreeMap::new());
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
            let _ = search(&link, &mut told).await;
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
        let found = wire::decode::<JobKey>(&stored.payload);
        if found.is_none() && stored.payload.is_empty() {
            // Deleted by hand, as `nats kv del` does it: what the job had goes with it.
            if let Some(job) = wire::number_of_key(&name) {
                clear(link, &subject, job, stored.seq).await;
            } else {
                link.forget_key(JOBS, &subject, stored.seq).await;
            }
            continue;
        }
        let sight = match &found {
            Some(found) => Sight::Key(stored.seq, found.key),
            None => Sight::Garbage(stored.seq),
        };
        // What cannot be read says neither whose it is nor for how long: the key's name says which job
        // it is of, unless that is durable, and the job of another version may well live.
        let unread = || Some(JobKey::unread(wire::number_of_key(&name)?));
        let Some(found) = found.or_else(unread) else { continue };
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
        observer.saw(now, sight);
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
///
/// A key that cannot be read keeps its own job's messages, and no other's.
async fn search(link: &Link, told: &mut BTreeMap<String, u64>) -> Result<(), ()> {
    let mut there: BTreeSet<u128> = BTreeSet::new();
    let pool = &link.names.pool;
    let words = link.subjects(&link.names.stream(), &format!("aiopool.{pool}.>")).await?;
    let blobs = link.subjects(&link.names.blobs(), &format!("aiopool.{pool}.b.>")).await?;
    for (subjects, at) in [(words, 5), (blobs, 3)] {
        there.extend(subjects.iter().filter_map(|s| wire::number_of_key(s.split('.').nth(at)?)));
    }
    if there.is_empty() {
        return Ok(());
    }
    let mut unread = BTreeMap::new();
    // After the messages were listed: a job that began since has none among them.
    for name in link.keys(JOBS).await? {
        let Some(stored) = link.key(JOBS, &link.names.job_key(&name)).await? else { continue };
        let said = wire::decode::<JobKey>(&stored.payload).map(|found| found.job);
        let own = [said, wire::number_of_key(&name)];
        if own == [None, None] && !stored.payload.is_empty() {
            unread.insert(name, stored.seq);
        }
        there.retain(|&job| !own.contains(&Some(job)));
    }
    for (name, revision) in &unread {
        if told.get(name) != Some(revision) {
            tracing::warn!(key = name, bucket = JOBS, "a job's key cannot be read: its job stays");
        }
    }
    for &job in &there {
        // Which key the number belongs to stands in each of the job's tasks.
        if unread.is_empty() || !may_be_of(link, job, &unread).await? {
            link.purge_job(job).await;
        }
    }
    *told = unread;
    Ok(())
}

/// Whether a job's tasks name one of these keys, or cannot be read either; a job that has no tasks, only
/// pieces of large ones, may be of any.
async fn may_be_of(link: &Link, job: u128, keys: &BTreeMap<String, u64>) -> Result<bool, ()> {
    let queued = link.newest(&link.names.stream(), &link.names.queued_of_job(job)).await?;
    let queued = queued.and_then(|stored| wire::decode::<Queued>(&stored.payload));
    Ok(queued.is_none_or(|queued| keys.contains_key(&queued.job)))
}
