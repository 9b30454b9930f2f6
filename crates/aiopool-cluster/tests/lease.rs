//! The lease against a link that drops, delays, doubles and reorders, with clocks whose rates differ
//! by one in a hundred, a holder that stops, and a bucket that swaps: driven by seeds.
//!
//! What must hold: once a tombstone is stored, the holder's zygote has killed.

use aiopool_cluster::protocol::{
    Incarnation, Key, LONGEST, Lease, LeaseAction, LeaseEvent, LeaseTimes, Observer, Sight, Verdict,
};

const MS: u64 = 1_000_000;
const TIMES: LeaseTimes = LeaseTimes { lease: 20_000 * MS, margin: 2_000 * MS };

/// A generator by xorshift: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// How the rules are broken, if they are.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    /// The lease counts from the answer, not from the sending.
    FromTheAnswer,
    /// The lease counts from the last sending, whichever was stored.
    FromTheLastSending,
    /// The observer waits for less than the lease and its margins.
    NoMargins,
    /// The observer goes by its first sight of the key and not of the revision.
    AnyRevision,
}

#[derive(Clone, Copy)]
enum Message {
    Swap { expected: u64, key: Key, by_node: bool },
    Read,
}

struct Sim {
    random: Random,
    /// True time, in nanoseconds.
    now: u64,
    /// Rates of the node's and the observer's clock, in thousandths above or below one.
    rates: (i64, i64),
    value: Option<(u64, Key)>,
    revision: u64,
    to_server: Vec<(u64, Message)>,
    to_node: Vec<(u64, LeaseEvent)>,
    to_observer: Vec<(u64, Option<(u64, Key)>)>,
    /// The zygote's deadline, by the node's clock; it only grows.
    deadline: u64,
    killed: bool,
    stopped_until: u64,
    broken: Broken,
}

impl Sim {
    fn clock(&self, rate: i64) -> u64 {
        let shift = i128::from(self.now) * i128::from(rate) / 1000;
        (i128::from(self.now) + shift) as u64 + 1_000_000 * MS
    }

    fn delay(&mut self) -> u64 {
        match self.random.below(12) {
            0..8 => self.now + self.random.below(50) * MS,
            8..11 => self.now + self.random.below(6_000) * MS,
            _ => self.now + self.random.below(40_000) * MS,
        }
    }

    /// Sends it once, twice or never.
    fn send(&mut self, message: Message) {
        for _ in 0..[1, 1, 1, 1, 2, 0][self.random.below(6) as usize] {
            let at = self.delay();
            self.to_server.push((at, message));
        }
    }

    fn obey(&mut self, actions: Vec<LeaseAction>) {
        for action in actions {
            match action {
                LeaseAction::Send { expected, key } => {
                    self.send(Message::Swap { expected, key, by_node: true });
                }
                LeaseAction::Read => self.send(Message::Read),
                LeaseAction::Deadline(at) => {
                    let at = match self.broken {
                        Broken::FromTheAnswer => {
                            self.clock(self.rates.0) + TIMES.lease - TIMES.margin
                        }
                        Broken::FromTheLastSending => {
                            // Whatever was sent within the patience before counts as stored.
                            at + TIMES.period() + TIMES.patience()
                        }
                        _ => at,
                    };
                    if !self.killed {
                        self.deadline = self.deadline.max(at);
                    }
                }
                LeaseAction::Reconnect => {}
                LeaseAction::Dead => self.killed = true,
            }
        }
    }

    fn server(&mut self) {
        let due: Vec<Message> = take_due(&mut self.to_server, self.now);
        for message in due {
            match message {
                Message::Swap { expected, key, by_node } => {
                    let stored = self.value.map_or(0, |(revision, _)| revision) == expected;
                    if stored {
                        self.revision += 1;
                        self.value = Some((self.revision, key));
                    }
                    if by_node && self.random.below(6) > 0 {
                        let serial = key.serial;
                        let event = match stored {
                            true => LeaseEvent::Won { serial, revision: self.revision },
                            false => LeaseEvent::Unsure { serial },
                        };
                        let at = self.delay();
                        self.to_node.push((at, event));
                    }
                }
                Message::Read => {
                    let at = self.delay();
                    if at < self.now + TIMES.patience() / 2 {
                        self.to_node.push((at, LeaseEvent::Read(self.value)));
                    }
                }
            }
        }
    }
}

fn take_due<T: Copy>(list: &mut Vec<(u64, T)>, now: u64) -> Vec<T> {
    let due = list.iter().filter(|(at, _)| *at <= now).map(|&(_, item)| item).collect();
    list.retain(|(at, _)| *at > now);
    due
}

/// One life; whether a tombstone came, and whether it came while the node's code might run.
fn run(seed: u64, broken: Broken) -> (bool, bool) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let rates = (random.below(11) as i64 - 5, random.below(11) as i64 - 5);
    let mut sim = Sim {
        random,
        now: 0,
        rates,
        value: None,
        revision: 0,
        to_server: Vec::new(),
        to_node: Vec::new(),
        to_observer: Vec::new(),
        deadline: 0,
        killed: false,
        stopped_until: 0,
        broken,
    };
    let (mut lease, actions) = Lease::begin(TIMES, 7, 0, sim.clock(rates.0));
    sim.obey(actions);
    let mut observer: Option<Observer> = None;
    let mut asked = 0;
    for _ in 0..3_000 {
        sim.now += 50 * MS;
        sim.server();
        if sim.deadline != 0 && sim.clock(rates.0) >= sim.deadline {
            sim.killed = true;
        }
        if sim.random.below(800) == 0 {
            sim.stopped_until = sim.now + sim.random.below(60_000) * MS;
        }
        if sim.now >= sim.stopped_until {
            let here = sim.clock(rates.0);
            for event in take_due(&mut sim.to_node, sim.now) {
                let actions = lease.step(here, event);
                sim.obey(actions);
            }
            if lease.next().is_some_and(|at| at <= here) && !sim.killed {
                let actions = lease.step(here, LeaseEvent::Tick);
                sim.obey(actions);
            }
        }
        // The observer knows the life from a claim, so only after it began.
        let there = sim.clock(rates.1);
        if observer.is_none() && lease.incarnation().created != 0 {
            let times = match broken {
                Broken::NoMargins => LeaseTimes { lease: TIMES.lease * 3 / 4, ..TIMES },
                _ => TIMES,
            };
            observer = Some(Observer::of(times, lease.incarnation()));
        }
        let Some(observer) = &mut observer else { continue };
        if sim.now >= asked + 1_000 * MS {
            asked = sim.now;
            let at = sim.delay();
            let seen = sim.value;
            sim.to_observer.push((at, seen));
        }
        for seen in take_due(&mut sim.to_observer, sim.now) {
            let sight = match (seen, broken) {
                (Some((_, key)), Broken::AnyRevision) if key.alive => Sight::Key(1, key),
                (Some((revision, key)), _) => Sight::Key(revision, key),
                (None, _) => Sight::Absent,
            };
            observer.saw(there, sight);
        }
        if let Some(expected) = observer.tombstone(there) {
            let expected = match broken {
                Broken::AnyRevision => sim.value.map_or(0, |(revision, _)| revision),
                _ => expected,
            };
            let key = Key { incarnation: lease.incarnation(), serial: 0, alive: false };
            if sim.value.map_or(0, |(revision, _)| revision) == expected {
                sim.revision += 1;
                sim.value = Some((sim.revision, key));
                observer.won();
            } else {
                observer.unsure(there);
            }
        }
        if observer.verdict() == Verdict::Dead {
            return (true, !sim.killed);
        }
    }
    (false, false)
}

#[test]
fn no_tombstone_comes_before_the_kill() {
    let mut tombstones = 0;
    for seed in 1..=4_000 {
        let (tombstone, early) = run(seed, Broken::Nothing);
        assert!(!early, "seed {seed}: a tombstone while the node's code runs");
        tombstones += u32::from(tombstone);
    }
    assert!(tombstones > 400, "only {tombstones} lives ended: the link is too kind");
}

#[test]
fn each_broken_rule_is_noticed() {
    use Broken::*;
    for (name, broken) in [
        ("from the answer", FromTheAnswer),
        ("from the last sending", FromTheLastSending),
        ("no margins", NoMargins),
        ("any revision", AnyRevision),
    ] {
        let noticed = (1..=20_000).find(|&seed| run(seed, broken).1);
        assert!(noticed.is_some(), "{name}: nobody noticed");
    }
}

#[test]
fn an_older_life_and_a_missing_key_say_nothing() {
    let of = Incarnation { id: 9, created: 40 };
    let key =
        |id, created, alive| Key { incarnation: Incarnation { id, created }, serial: 1, alive };
    let mut observer = Observer::of(TIMES, of);
    observer.saw(0, Sight::Absent);
    observer.saw(0, Sight::Key(30, key(8, 30, true)));
    observer.saw(0, Sight::Key(31, key(8, 30, false)));
    assert_eq!(observer.verdict(), Verdict::Unknown);
    observer.saw(0, Sight::Key(50, key(10, 0, true)));
    assert_eq!(observer.verdict(), Verdict::Dead, "a life that begins with revision 50 is later");
    let mut observer = Observer::of(TIMES, of);
    observer.saw(0, Sight::Key(44, key(9, 40, false)));
    assert_eq!(observer.verdict(), Verdict::Dead, "a tombstone");
}

/// A claim may name a life that never was, under the name of a node that lives.
#[test]
fn a_life_that_never_was_is_known_by_the_one_that_is() {
    let key = |serial| Key { incarnation: Incarnation { id: 8, created: 30 }, serial, alive: true };
    let mut observer = Observer::of(TIMES, Incarnation { id: 9, created: 40 });
    observer.saw(0, Sight::Key(39, key(5)));
    assert_eq!(observer.verdict(), Verdict::Unknown, "it may be the life before");
    observer.saw(0, Sight::Key(41, key(6)));
    assert_eq!(observer.verdict(), Verdict::Dead, "what was renewed after revision 40");
    let mut observer = Observer::of(TIMES, Incarnation { id: 9, created: u64::MAX });
    let mut now = 0;
    for revision in 50.. {
        observer.saw(now, Sight::Key(revision, key(revision)));
        let over = now >= TIMES.wait();
        assert_eq!(observer.tombstone(now), None, "a node that lives is killed");
        assert_eq!(observer.verdict() == Verdict::Dead, over, "after {now} ns");
        if over {
            break;
        }
        now += TIMES.period();
    }
    // Without a renewal nothing is known before a tombstone is stored.
    let mut observer = Observer::of(TIMES, Incarnation { id: 9, created: u64::MAX });
    observer.saw(0, Sight::Key(50, key(1)));
    observer.saw(2 * TIMES.wait(), Sight::Key(50, key(1)));
    assert_eq!(observer.verdict(), Verdict::Unknown);
    assert_eq!(observer.tombstone(2 * TIMES.wait()), Some(50));
}

#[test]
fn a_renewal_that_was_stored_without_an_answer_counts_from_its_own_sending() {
    let (mut lease, _) = Lease::begin(TIMES, 7, 0, 1_000 * MS);
    let late = 1_000 * MS + TIMES.patience();
    assert_eq!(lease.step(late, LeaseEvent::Tick), [LeaseAction::Read]);
    let stored = Key { incarnation: Incarnation { id: 7, created: 0 }, serial: 1, alive: true };
    let actions = lease.step(late, LeaseEvent::Read(Some((5, stored))));
    let deadline = 1_000 * MS + TIMES.lease - TIMES.margin;
    assert_eq!(actions, [LeaseAction::Deadline(deadline)]);
    assert_eq!(lease.incarnation().created, 5);
    assert!(lease.holds(deadline - 1) && !lease.holds(deadline));
}

#[test]
fn whatever_a_key_says_of_its_lease_it_is_waited_for_with_an_end() {
    let longest = LeaseTimes { lease: LONGEST, margin: 0 };
    let two = LeaseTimes { lease: 2 * LONGEST, margin: 0 };
    let lie = LeaseTimes { lease: u64::MAX, margin: 0 };
    assert_eq!(longest.wait(), LONGEST + LONGEST / 100 + 1_000 * MS);
    assert!(two.wait() > longest.wait());
    assert_eq!(lie.wait(), two.wait());
}

#[test]
fn what_stands_in_the_place_of_a_key_is_replaced_after_a_lease() {
    let mut observer = Observer::of(TIMES, Incarnation { id: 9, created: 40 });
    observer.saw(0, Sight::Garbage(50));
    assert_eq!(observer.verdict(), Verdict::Unknown, "it says nothing");
    assert_eq!(observer.tombstone(TIMES.wait() - 1), None);
    assert_eq!(observer.tombstone(TIMES.wait()), Some(50));
}
