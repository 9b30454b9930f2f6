//! Every option takes what its documentation says, both ends of it, and nothing beyond.

use crate::Error;
use crate::pool::PoolBuilder;

type Set = fn(PoolBuilder, usize) -> PoolBuilder;

/// An option: its name in errors, how it is set, and the ends of its range.
struct Ranged(&'static str, Set, usize, usize);

fn few() -> PoolBuilder {
    PoolBuilder::default().processes(4)
}

#[test]
fn every_number_is_taken_from_the_least_to_the_most_that_is_stated() {
    const GIB: usize = 1 << 30;
    let options = [
        Ranged("processes", |b, n| b.processes(n), 1, 2_047),
        Ranged("processes", |b, n| b.processes(n).queues(32), 32, 65_504),
        Ranged("queues", |b, n| b.queues(n), 1, 4),
        Ranged("child_concurrency", |b, n| b.child_concurrency(n), 1, 65_536),
        Ranged("capacity", |b, n| b.capacity(n), 16, 1 << 20),
        Ranged("priorities", |b, n| b.priorities(n), 1, 4),
        Ranged("max_payload", |b, n| b.max_payload(n), 1, GIB),
        // Beside every `max_payload`, whichever of the two is set first.
        Ranged("input_arena", |b, n| b.input_arena(n), 128 << 20, 32 * GIB),
        Ranged("input_arena", |b, n| b.input_arena(n).max_payload(1), 2, 32 * GIB),
        Ranged("input_arena", |b, n| b.max_payload(GIB).input_arena(n), 2 * GIB, 32 * GIB),
        Ranged("output_arena", |b, n| b.output_arena(n), 128 << 20, 32 * GIB),
        Ranged("output_arena", |b, n| b.output_arena(n).max_payload(1), 2, 32 * GIB),
        Ranged("output_arena", |b, n| b.max_payload(GIB).output_arena(n), 2 * GIB, 32 * GIB),
    ];
    for Ranged(name, set, least, most) in options {
        for taken in [least, most] {
            let plan = set(few(), taken).plan();
            assert!(plan.is_ok(), "{name} = {taken}: {}", plan.unwrap_err());
        }
        for refused in [least - 1, most + 1] {
            match set(few(), refused).plan() {
                Err(Error::InvalidOption { name: said, value, allowed }) => {
                    // Fewer processes than queues are the queues' error.
                    let other = (name, said) == ("processes", "queues");
                    assert!(said == name || other, "{name} = {refused}: {said} is named");
                    assert!(other || value == refused.to_string(), "{name}: {value}");
                    assert!(allowed.contains(|c: char| c.is_ascii_digit()), "{name}: {allowed}");
                }
                other => panic!("{name} = {refused}: {other:?}"),
            }
        }
    }
    assert!(few().capacity(17).plan().is_err(), "a power of two");
}

#[test]
fn every_pair_of_options_at_their_ends_is_taken_together() {
    let sets: [Set; 5] = [
        |b, end| b.max_payload([1, 1 << 30][end]),
        |b, end| b.capacity([16, 1 << 20][end]),
        |b, end| b.child_concurrency([1, 65_536][end]),
        |b, end| b.priorities([1, 4][end]),
        |b, end| b.queues([1, 4][end]),
    ];
    for (i, first) in sets.iter().enumerate() {
        for second in &sets[i + 1..] {
            for ends in 0..4 {
                let plan = second(first(few(), ends & 1), ends >> 1).plan();
                assert!(plan.is_ok(), "{i}: {}", plan.unwrap_err());
            }
        }
    }
}

#[test]
fn the_process_of_a_worker_is_checked_at_the_build() {
    let refused = |builder: PoolBuilder| match builder.check_surroundings() {
        Err(Error::InvalidOption { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(few().umask(0o1000)), "umask");
    assert_eq!(refused(few().nice(40)), "nice");
    assert_eq!(refused(few().nice(-1)), "nice");
    assert_eq!(refused(few().env("A=B", "1")), "env");
    assert_eq!(refused(few().env("A", "1\0")), "env");
    assert_eq!(refused(few().current_dir("/no/such/directory")), "current_dir");
    assert_eq!(refused(few().processors([])), "processors");
    assert_eq!(refused(few().processors([0, 1 << 30])), "processors");
    let one = crate::sys::cpus::Mask::of_this_thread().unwrap().processors()[0] as u32;
    assert!(few().processors([one]).check_surroundings().is_ok());
    assert_eq!(PoolBuilder::default().processors([one]).plan().unwrap().processes, 1);
    let taken = few().umask(0).umask(0o777).nice(0).nice(39).env("A", "").current_dir("/");
    assert!(taken.check_surroundings().is_ok());
}
