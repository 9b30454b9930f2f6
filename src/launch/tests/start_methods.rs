//! Workers that are executed, and programs that are none.

use std::ffi::OsString;

use super::contract::{AWAITED, DECIDED, IGNORED};
use super::rig::{FIRST, Rig, spec};
use crate::launch::{PoolSpec, StartMethod, ZygoteReport};
use crate::table::WorkerId;
use crate::task::WorkerExit;

fn command(words: &[&str]) -> PoolSpec {
    let words = words.iter().map(OsString::from).collect();
    PoolSpec { start: StartMethod::Command(words), ..spec("describe") }
}

fn not_started(exit: WorkerExit) -> String {
    match exit {
        WorkerExit::NotStarted { reason } => reason,
        other => panic!("expected a worker that could not start, got {other:?}"),
    }
}

#[test]
fn a_spawned_worker_has_what_a_forked_one_has() {
    // More than one message would take.
    let mut spec = PoolSpec { start: StartMethod::Spawn, ..spec("describe ") };
    spec.worker.resize(1 << 20, b' ');
    let rig = Rig::open(&spec).unwrap();
    let worker = rig.describe(WorkerId { queue: 1, slot: 0, incarnation: 3 });
    assert_eq!(worker.get("id"), "worker 1.0#3");
    assert_eq!(worker.get("seat"), "5");
    assert_eq!(worker.get("lanes"), "17 1099511627776");
    assert_eq!(worker.get("bells"), "1");
    assert_eq!(worker.get("foreign"), "[]");
    assert_eq!(worker.get("missing"), "0");
    assert_eq!(worker.get("inherited"), "false");
    assert_eq!(worker.get("stdin"), "/dev/null");
    assert_eq!(worker.get("group"), worker.get("pid"));
    assert_eq!(worker.get("session"), worker.get("pid"));
    assert_eq!(worker.mask("SigBlk"), AWAITED);
    assert_eq!(worker.mask("SigIgn") & DECIDED, 0);
    assert_eq!(worker.all("variable").next(), None);
}

#[test]
fn a_command_that_attaches_is_a_worker() {
    let exe = std::env::current_exe().unwrap();
    let role = "LAUNCH_TEST_ROLE=attach";
    for words in [
        vec!["env", role, exe.to_str().unwrap()],
        // Executed by a shell that waits for it: another process than the one the zygote forked.
        vec!["sh", "-c", "env \"$@\"; exit $?", "sh", role, exe.to_str().unwrap()],
    ] {
        let rig = Rig::open(&command(&words)).unwrap();
        let worker = rig.describe(WorkerId { queue: 0, slot: 1, incarnation: 2 });
        assert_eq!(worker.get("id"), "worker 0.1#2");
        assert_eq!(worker.get("bells"), "2");
        assert_eq!(worker.mask("SigBlk"), 0);
        assert_eq!(worker.mask("SigIgn") & DECIDED, IGNORED);
        assert_eq!(worker.get("foreign"), "[]");
        assert_eq!(worker.get("missing"), "0");
        assert_eq!(worker.get("inherited"), "false");
        assert_eq!(worker.all("variable").next(), None);
    }
}

fn preloaded(role: &str) -> PoolSpec {
    let exe = std::env::current_exe().unwrap();
    let words = ["env".into(), format!("LAUNCH_TEST_ROLE={role}").into(), exe.into_os_string()];
    PoolSpec { start: StartMethod::Preloaded(words.into()), ..spec("describe") }
}

#[test]
fn a_preloaded_worker_is_a_copy_of_its_program() {
    let rig = Rig::open(&preloaded("template")).unwrap();
    let worker = rig.describe(WorkerId { queue: 0, slot: 1, incarnation: 2 });
    assert_eq!(worker.get("id"), "worker 0.1#2");
    assert_eq!(worker.get("shared"), "7");
    assert_eq!(worker.mask("SigBlk"), 0);
    assert_eq!(worker.mask("SigIgn") & DECIDED, IGNORED);
    assert_eq!(worker.get("foreign"), "[]");
    assert_eq!(worker.get("missing"), "0");
    assert_eq!(worker.get("stdin"), "/dev/null");
    assert_eq!(worker.get("session"), worker.get("pid"));
    assert_eq!(worker.all("variable").next(), None);
}

#[test]
fn a_program_that_cannot_be_preloaded_says_why() {
    let open = |words: &[&str]| {
        let words = words.iter().map(OsString::from).collect();
        let start = StartMethod::Preloaded(words);
        Rig::open(&PoolSpec { start, ..spec("describe") }).err().unwrap().to_string()
    };
    let refused = Rig::open(&preloaded("refusing-template")).err().unwrap().to_string();
    assert!(refused.contains("the model is missing"), "{refused}");
    let refused = open(&["sh", "-c", "exit 3"]);
    assert!(refused.contains("exited with status 3"), "{refused}");
    let refused = open(&["/nowhere/at/all"]);
    assert!(refused.contains("execute /nowhere/at/all"), "{refused}");
    let refused = open(&[]);
    assert!(refused.contains("not named"), "{refused}");
    let refused = crate::launch::Template::attach().unwrap_err().to_string();
    assert!(refused.contains("was not started to preload"), "{refused}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let rig = Rig::open(&command(&["/nowhere/at/all"])).unwrap();
    rig.start(FIRST);
    let reason = not_started(rig.death(FIRST));
    assert!(reason.contains("cannot execute /nowhere/at/all: No such file"), "{reason}");
}

#[test]
fn a_program_that_does_not_attach_is_said_not_to() {
    let rig = Rig::open(&command(&["sh", "-c", "exit 3"])).unwrap();
    rig.start(FIRST);
    let reason = not_started(rig.death(FIRST));
    assert!(reason.contains("exited with status 3 before it attached"), "{reason}");
}

#[test]
fn a_program_that_attaches_and_ends_at_once_has_attached() {
    let exe = std::env::current_exe().unwrap();
    let words = ["env", "LAUNCH_TEST_ROLE=attach", exe.to_str().unwrap()];
    let rig = Rig::open(&PoolSpec { start: command(&words).start, ..spec("exit 7") }).unwrap();
    // Many at once: each death wakes the zygote, which may find the next one dead too.
    let ids: Vec<_> = (0..40).map(|incarnation| WorkerId { incarnation, ..FIRST }).collect();
    ids.iter().for_each(|&id| rig.order(id));
    let mut deaths = 0;
    while deaths < ids.len() {
        if let ZygoteReport::Died { exit, .. } = rig.report() {
            assert_eq!(exit, WorkerExit::Exited(7));
            deaths += 1;
        }
    }
}

#[test]
fn a_command_that_is_killed_was_killed() {
    let rig = Rig::open(&command(&["sleep", "1000"])).unwrap();
    rig.start(FIRST);
    // Z12: it never attaches.
    rig.launcher.kill(FIRST).unwrap();
    let exit = WorkerExit::Signalled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(rig.death(FIRST), exit);
}

#[test]
fn an_empty_command_is_refused_at_once() {
    let refused = Rig::open(&command(&[])).err().unwrap().to_string();
    assert!(refused.contains("name a program"), "{refused}");
}

#[test]
fn attaching_is_for_workers() {
    let refused = crate::launch::attach().unwrap_err().to_string();
    assert!(refused.contains("not started as a worker"), "{refused}");
}
