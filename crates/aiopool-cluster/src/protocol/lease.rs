//! The lease: a key that a node renews by revision, and that others revoke by revision.
//!
//! Times are numbers of one clock of one machine, in nanoseconds. The holder's is `CLOCK_BOOTTIME`,
//! an observer's `CLOCK_MONOTONIC`; they are never compared with each other.

use serde::{Deserialize, Serialize};

/// A node's life, from its first key to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation {
    /// 128 random bits.
    pub id: u128,
    /// The revision of the key's message that began it; 0 in that message itself.
    pub created: u64,
}

/// What a key says of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The life that the key speaks of.
    pub incarnation: Incarnation,
    /// Counts the renewals of this life as they were sent, each sending once.
    pub serial: u64,
    /// False in a tombstone, and in what a leaving holder writes.
    pub alive: bool,
}

/// How long the parts of a lease take, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTimes {
    /// How long a committed renewal is good for, from just before it was sent.
    pub lease: u64,
    /// How long before the end of the lease everything is killed.
    pub margin: u64,
}

/// The shortest lease, in nanoseconds: a renewal, its question and the margin have to fit.
pub const SHORTEST: u64 = 4_000_000_000;

/// The longest lease, in nanoseconds: an observer waits for one part in a hundred and a second more.
pub const LONGEST: u64 = 150_000_000_000;

impl LeaseTimes {
    /// The pause between two renewals.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.lease / 6
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn patience(&self) -> u64 {
        self.lease / 12
    }

    /// How long an observer waits: the clocks' rates differ by one in a hundred, and a second more.
    #[must_use]
    pub fn wait(&self) -> u64 {
        // Any number may stand in a key that another wrote; of a job two leases are waited for.
        let lease = self.lease.min(2 * LONGEST);
        lease + lease / 100 + 1_000_000_000
    }
}

/// The holder's side of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    times: LeaseTimes,
    id: u128,
    /// The revision that began this life, once known.
    created: u64,
    /// The newest revision of ours that is known to be stored; 0 before the first.
    revision: u64,
    /// The serial of the last sending.
    serial: u64,
    /// Sendings that may be stored: serial and the time just before it was sent.
    sent: Vec<(u64, u64)>,
    /// When the lease ends, by the newest stored renewal.
    ends: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The next renewal goes out then.
    Resting(u64),
    /// A renewal is on its way; its answer is waited for until then.
    Waiting(u64),
    /// The key is being read; the answer is waited for until then.
    Reading(u64),
    /// A tombstone or another life was read.
    Dead,
}

/// What happens to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Time has come to this.
    Tick,
    /// The renewal of this serial is stored.
    Won {
        /// Which renewal: an answer may come late, and the lease counts from its own sending.
        serial: u64,
        /// The revision under which it is stored.
        revision: u64,
    },
    /// The renewal of this serial was refused, or its fate is unknown.
    Unsure {
        /// Which renewal.
        serial: u64,
    },
    /// The key as the bucket's leader has it: its revision and value; none where there is no key.
    Read(Option<(u64, Key)>),
    /// What the bucket's leader has in the key's place is none: its revision.
    Garbage(u64),
}

/// What a lease asks of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseAction {
    /// Send this value, expecting this revision.
    Send {
        /// The revision that it replaces; 0 for none.
        expected: u64,
        /// What it says.
        key: Key,
    },
    /// Ask the bucket's leader for the key.
    Read,
    /// Everything is to be killed at this time, and not before.
    Deadline(u64),
    /// The link has been silent for too long: take another.
    Reconnect,
    /// This life is over: a tombstone or another life was read.
    Dead,
}

use LeaseAction as Do;
use LeaseEvent as Event;

impl Lease {
    /// Begins a life: the key replaces `revision` (0: there is none), sent at time `now`.
    #[must_use]
    pub fn begin(times: LeaseTimes, id: u128, revision: u64, now: u64) -> (Self, Vec<Do>) {
        let mut lease = Self {
            times,
            id,
            created: 0,
            revision,
            serial: 0,
            sent: Vec::new(),
            ends: 0,
            stage: Stage::Resting(now),
        };
        let actions = lease.send(now);
        (lease, actions)
    }

    /// Returns the life that this lease is of; its creation is 0 before the first answer.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        Incarnation { id: self.id, created: self.created }
    }

    /// Returns the revision to expect when the holder leaves.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the serial of the next renewal that is sent.
    #[must_use]
    pub fn next_serial(&self) -> u64 {
        self.serial + 1
    }

    /// Sends the next renewal now, if none is on its way; else that is the next one.
    pub fn hurry(&mut self, now: u64) -> Vec<Do> {
        match self.stage {
            Stage::Resting(_) => self.send(now),
            _ => Vec::new(),
        }
    }

    /// Returns the time at which everything is killed; 0 before the first answer.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.ends.saturating_sub(self.times.margin)
    }

    /// Whether a claim may be sent and code be started at `now`.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.stage != Stage::Dead && now < self.deadline()
    }

    /// When [`LeaseEvent::Tick`] is due next.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        match self.stage {
            Stage::Resting(at) | Stage::Waiting(at) | Stage::Reading(at) => Some(at),
            Stage::Dead => None,
        }
    }

    /// Takes an event at time `now` and answers with what is to be done.
    pub fn step(&mut self, now: u64, event: Event) -> Vec<Do> {
        match (self.stage, event) {
            (Stage::Dead, _) => Vec::new(),
            (Stage::Resting(at), Event::Tick) if now >= at => self.send(now),
            (Stage::Waiting(at), Event::Tick) if now >= at => self.read(now),
            (Stage::Reading(at), Event::Tick) if now >= at => {
                // Twice silent: the renewal and the question after it.
                let mut actions = vec![Do::Reconnect];
                actions.extend(self.read(now));
                actions
            }
            (Stage::Waiting(_), Event::Won { serial, revision }) if serial == self.serial => {
                self.stored(now, revision, serial)
            }
            (Stage::Waiting(_), Event::Unsure { serial }) if serial == self.serial => {
                self.read(now)
            }
            (Stage::Reading(_), Event::Read(Some((revision, key)))) => {
                if key.incarnation.id == self.id && key.alive {
                    if revision > self.revision {
                        self.stored(now, revision, key.serial)
                    } else {
                        // Nothing came of it yet. A copy that still comes is refused, or it is
                        // the one that counts and this one is refused.
                        self.send(now)
                    }
                } else if self.revision == 0 || revision > self.revision {
                    self.stage = Stage::Dead;
                    vec![Do::Dead]
                } else {
                    self.send(now)
                }
            }
            (Stage::Reading(_), Event::Read(None)) => {
                if self.created == 0 {
                    // Nothing of this life is stored, and what it was to replace is removed for
                    // good by now: it begins where there is no key.
                    self.revision = 0;
                    return self.send(now);
                }
                // Deleted by hand. Nothing can be renewed; the lease runs out.
                self.rest(now)
            }
            (Stage::Reading(_), Event::Garbage(revision)) => {
                // It may be what this life is to replace, and nothing came of that yet.
                if self.created == 0 && revision == self.revision {
                    return self.send(now);
                }
                self.rest(now)
            }
            _ => Vec::new(),
        }
    }

    fn send(&mut self, now: u64) -> Vec<Do> {
        self.serial += 1;
        self.sent.push((self.serial, now));
        self.stage = Stage::Waiting(now + self.times.patience());
        let incarnation = self.incarnation();
        let key = Key { incarnation, serial: self.serial, alive: true };
        vec![Do::Send { expected: self.revision, key }]
    }

    fn rest(&mut self, now: u64) -> Vec<Do> {
        self.stage = Stage::Resting(now + self.times.period());
        Vec::new()
    }

    fn read(&mut self, now: u64) -> Vec<Do> {
        self.stage = Stage::Reading(now + self.times.patience());
        vec![Do::Read]
    }

    /// The sending `serial` is stored under `revision`: the lease counts from that sending.
    fn stored(&mut self, now: u64, revision: u64, serial: u64) -> Vec<Do> {
        let Some(&(_, sent)) = self.sent.iter().find(|(number, _)| *number == serial) else {
            // Not one of ours, whatever it says of itself.
            self.stage = Stage::Dead;
            return vec![Do::Dead];
        };
        if self.created == 0 {
            self.created = revision;
        }
        self.revision = revision;
        self.ends = sent + self.times.lease;
        self.sent.retain(|(number, _)| *number > serial);
        self.stage = Stage::Resting((sent + self.times.period()).max(now));
        vec![Do::Deadline(self.deadline())]
    }
}

/// What an observer has read of a key, however stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// There is no key.
    Absent,
    /// The key with its revision.
    Key(u64, Key),
    /// The revision of what stands in the key's place and is none.
    Garbage(u64),
}

/// What may be said of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may live.
    Unknown,
    /// It is over, and its code has ended.
    Dead,
}

/// Anybody's side of another's lease, for one life of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observer {
    times: LeaseTimes,
    of: Incarnation,
    /// The revision that was seen last (0: absent), and when it was first seen.
    since: Option<(u64, u64)>,
    /// The first revision of a life that began before this one, and when it was seen; none where
    /// something else has stood there since.
    older: Option<(u64, u64)>,
    verdict: Verdict,
}

impl Observer {
    /// Observes a life that a claim named.
    #[must_use]
    pub fn of(times: LeaseTimes, of: Incarnation) -> Self {
        Self { times, of, since: None, older: None, verdict: Verdict::Unknown }
    }

    /// Returns what may be said.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes note of what was read at `now`.
    ///
    /// Dead is only what a tombstone says, or a life that was created later under the same key:
    /// a node begins one only when the one before has ended. Another life alone says nothing: it
    /// may be the one before, read from a replica that lags behind. Where that one is renewed later
    /// than this life began, or for as long as a silent holder is waited for, there was no such life:
    /// the claim that named it is nobody's.
    pub fn saw(&mut self, now: u64, sight: Sight) {
        let revision = match sight {
            Sight::Absent => 0,
            // It says nothing of any life; no renewal is stored after it, though.
            Sight::Garbage(revision) => revision,
            Sight::Key(revision, key) => {
                let created =
                    if key.incarnation.created == 0 { revision } else { key.incarnation.created };
                let same = key.incarnation.id == self.of.id;
                let later = created.max(revision) > self.of.created;
                if (same && !key.alive) || (!same && later) {
                    self.verdict = Verdict::Dead;
                }
                revision
            }
        };
        match sight {
            Sight::Key(revision, key) if key.alive && key.incarnation.id != self.of.id => {
                let (first, since) = *self.older.get_or_insert((revision, now));
                let waited = now.saturating_sub(since) >= self.times.wait();
                if waited && revision > first {
                    self.verdict = Verdict::Dead;
                }
            }
            _ => self.older = None,
        }
        // A lower one comes of a replica that lags behind.
        let moved = |(seen, _)| revision > seen || (revision == 0 && seen != 0);
        if self.since.is_none_or(moved) {
            self.since = Some((revision, now));
        }
    }

    /// Returns the revision that a tombstone is to replace, if it is time for one.
    #[must_use]
    pub fn tombstone(&self, now: u64) -> Option<u64> {
        let (revision, since) = self.since?;
        let over = now.saturating_sub(since) >= self.times.wait();
        (over && self.verdict == Verdict::Unknown).then_some(revision)
    }

    /// Takes note that its own tombstone was stored.
    pub fn won(&mut self) {
        self.verdict = Verdict::Dead;
    }

    /// Takes note that its tombstone was refused or is of unknown fate: the key is to be read.
    pub fn unsure(&mut self, now: u64) {
        if let Some((_, since)) = &mut self.since {
            // The same revision after another wait, unless a newer one is seen.
            *since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: LeaseTimes = LeaseTimes { lease: 12_000_000_000, margin: 2_000_000_000 };

    /// Begins a life over revision 40, and has its first sending refused.
    fn refused() -> Lease {
        let (mut lease, actions) = Lease::begin(TIMES, 7, 40, 1);
        assert!(matches!(actions[..], [Do::Send { expected: 40, .. }]));
        assert_eq!(lease.step(2, Event::Unsure { serial: 1 }), [Do::Read]);
        lease
    }

    #[test]
    fn a_life_begins_where_what_it_was_to_replace_has_gone() {
        let mut lease = refused();
        let actions = lease.step(3, Event::Read(None));
        assert!(matches!(actions[..], [Do::Send { expected: 0, .. }]), "{actions:?}");
        lease.step(4, Event::Won { serial: 2, revision: 50 });
        assert!(lease.holds(5));
        assert_eq!(lease.incarnation().created, 50);
        // Once it has begun, a key that has gone is not made again.
        let at = 3 + TIMES.period();
        assert!(matches!(lease.step(at, Event::Tick)[..], [Do::Send { expected: 50, .. }]));
        lease.step(at, Event::Unsure { serial: 3 });
        assert_eq!(lease.step(at, Event::Read(None)), []);
        assert_eq!(lease.next(), Some(at + TIMES.period()));
    }

    #[test]
    fn a_life_begins_over_what_is_no_key_and_not_over_another_such() {
        let mut lease = refused();
        let actions = lease.step(3, Event::Garbage(40));
        assert!(matches!(actions[..], [Do::Send { expected: 40, .. }]), "{actions:?}");
        let mut lease = refused();
        assert_eq!(lease.step(3, Event::Garbage(41)), []);
        assert_eq!(lease.next(), Some(3 + TIMES.period()));
    }
}
