//! An explicit-state model of the protocol: the very machines of `aiopool_cluster::protocol`, two
//! nodes with agent, zygote, worker and what an old agent left, a submitter, a second one that
//! resumes its job, a janitor, and a link whose messages arrive in any order, arbitrarily late, with
//! lost answers. A lease may run out at any moment, and a tombstone may be written only afterwards.
//!
//! Every search checks that an attempt starts at most once, that no two attempts overlap, that two
//! submitters are never told differently, that no node is called lost while its code runs, and that
//! every state can come to rest (everything over, nothing left in the stream, nothing running).
//!
//! `cargo test -p aiopool-cluster --release --test model -- --ignored` searches with two faults.

mod moves;
mod search;
mod world;

use search::{Found, search};
use world::{Config, Rule};

fn one(faults: u8) -> Config {
    let (tasks, items, attempts, durable, errors) = (1, 1, 2, false, true);
    let (lies, refusals, broken) = (false, false, Vec::new());
    Config { tasks, items, attempts, faults, durable, errors, lies, refusals, broken }
}

fn two(faults: u8) -> Config {
    Config { tasks: 2, attempts: 1, errors: false, ..one(faults) }
}

/// A group of two items.
fn group(faults: u8) -> Config {
    Config { items: 2, ..one(faults) }
}

fn durable(config: Config) -> Config {
    Config { durable: true, ..config }
}

/// A client with the rights of a node writes what is not true.
fn lied_to(config: Config) -> Config {
    Config { lies: true, ..config }
}

/// The server refuses for good what the submitter sends.
fn refused(config: Config) -> Config {
    Config { refusals: true, ..config }
}

/// The broken rules: each with its name, what breaks it, and the search that notices it.
fn broken_rules() -> Vec<(&'static str, Config)> {
    let with = |config: Config, rules: &[Rule]| Config { broken: rules.to_vec(), ..config };
    use Rule::*;
    vec![
        ("no job fence", with(one(2), &[JobFence])),
        ("durable: neither fence nor watermark", with(durable(one(2)), &[JobFence, Watermark])),
        ("durable: a fence without watermark", with(durable(one(2)), &[Watermark])),
        ("durable: a watermark without fence", with(durable(one(2)), &[JobFence])),
        ("a claim of unknown fate is forgotten", with(one(2), &[KeepUnknownClaims])),
        ("no latch after the lease", with(one(2), &[Latch])),
        ("the lock is held by the zygote only", with(one(2), &[LockHeldByWorkers])),
        ("a restart without a lock", with(one(2), &[LockHeld])),
        ("an outcome before the code has ended", with(one(2), &[OutcomeAfterRelease])),
        ("a lost zygote before its workers", with(one(2), &[ZygoteLostAfterWorkers])),
        ("a deposed submitter goes on", with(durable(one(2)), &[DepositedDeadline])),
        ("the job's key by a stale watch", with(one(2), &[FreshJobKey])),
        ("another life is a later life", with(one(2), &[CreationOrder])),
        ("acknowledged at the claim", with(one(2), &[AcknowledgeAfterJob])),
        ("a claim that expects nothing", with(one(2), &[ExpectTheDelivery])),
        ("a chunk purged early", with(two(1), &[PurgeWhenAllOver])),
        ("acknowledged before the claim", with(one(2), &[AcknowledgeAfterClaim])),
        ("one's own claim known by the node alone", with(one(2), &[Nonce])),
        ("a tombstone without waiting", with(one(2), &[WaitForTheLease])),
        ("the agent kills, not the zygote", with(one(2), &[ZygoteKills])),
        ("a stopped zygote without a kernel's timer", with(one(2), &[KernelTimer])),
        ("a hint is taken for a fact", with(one(2), &[StopAtAnotherWord])),
        ("a retry without a swap", with(durable(one(2)), &[RetryBySwap])),
        ("a group is sent again with items that are over", with(group(1), &[SendOpenItemsOnly])),
        ("a dead node's group has not begun", with(group(1), &[AllOfADeadGroupHaveBegun])),
        ("a group is reported before its last item", with(group(1), &[ReportWhenAllHaveEnded])),
        ("one item's end is the whole group's", with(group(1), &[EachItemEndsForItself])),
        ("a group is over with its first item", with(group(1), &[AGroupIsOverWithItsLast])),
        ("a node disowns what it holds", with(one(1), &[DisownNothingHeld])),
        ("a claim of nobody stays", with(lied_to(one(1)), &[DisownClaimsOfNobody])),
        ("a refusal is told before the word is read", with(refused(one(1)), &[ReadAfterRefusal])),
    ]
}

fn holds(name: &str, config: &Config, limit: usize) {
    let start = std::time::Instant::now();
    let Found { states, complete, violation } = search(config, limit);
    println!("{name}: {states} states, complete: {complete}, {:?}", start.elapsed());
    if let Some((what, story)) = violation {
        panic!("{name}: {what}\n  {}", story.join("\n  "));
    }
    assert!(complete, "{name}: more than {limit} states");
}

#[test]
fn the_rules_hold_with_one_fault() {
    holds("one task, two attempts", &one(1), 2_000_000);
    holds("one task, durable", &durable(one(1)), 2_000_000);
    holds("a group of two items", &group(1), 2_000_000);
    holds("a lying claim", &lied_to(one(1)), 2_000_000);
    holds("a refusal for good", &refused(one(1)), 2_000_000);
}

#[test]
#[ignore = "two faults take minutes: run as the head of this file says"]
fn the_rules_hold_with_two_faults() {
    holds("one task, two attempts", &one(2), 20_000_000);
    holds("one task, durable", &durable(one(2)), 20_000_000);
    holds("a group of two items", &group(2), 20_000_000);
    holds("lying claims", &lied_to(one(2)), 20_000_000);
    holds("refusals for good", &refused(one(2)), 20_000_000);
    holds("two tasks", &two(1), 20_000_000);
    holds("two tasks, durable", &durable(two(1)), 20_000_000);
}

#[test]
#[ignore = "takes minutes: run as the head of this file says"]
fn every_broken_rule_is_noticed() {
    let mut unnoticed = Vec::new();
    // One of them, by a part of its name.
    let only = std::env::var("AIOPOOL_MODEL_RULE").unwrap_or_default();
    let rules: Vec<_> = broken_rules().into_iter().filter(|r| r.0.contains(&only)).collect();
    assert!(!rules.is_empty(), "there is no rule with {only} in its name");
    for (name, config) in rules {
        let Found { states, complete, violation } = search(&config, 20_000_000);
        match violation {
            Some((what, story)) => {
                println!("{name}: {what}, after {} steps, {states} states", story.len());
            }
            None => unnoticed.push(format!("{name} ({states} states, complete: {complete})")),
        }
    }
    assert!(unnoticed.is_empty(), "nobody noticed: {unnoticed:#?}");
}
