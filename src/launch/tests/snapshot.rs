//! A worker is what its host is when the pool is opened, whatever the zygote was made from.

use super::rig::{FIRST, Rig, spec};
use super::role;
use crate::launch::{PoolSpec, StartMethod};
use crate::sys::cpus::Mask;
use crate::sys::habits::Habits;
use crate::sys::rlimit::{self, Limit, Resource};
use crate::sys::{credentials, place, scheduling};
use crate::table::WorkerId;

/// Opens a pool, changes all that takes no rights, and opens another.
pub(super) fn change_surroundings() {
    set_token(Some("secret"));
    std::env::set_current_dir("/usr").unwrap();
    let first = Rig::new("describe");
    let before = first.describe(FIRST);
    assert_eq!(before.get("token"), "Some(\"secret\")");
    assert_eq!(before.get("cwd"), "/usr");

    set_token(None);
    let gone = std::env::temp_dir().join(format!("aiopool-gone-{}", std::process::id()));
    std::fs::create_dir(&gone).unwrap();
    std::env::set_current_dir(&gone).unwrap();
    place::set_file_mask(0o123);
    let nice = scheduling::niceness().unwrap() + 1;
    scheduling::set_niceness(nice).unwrap();
    let files = rlimit::get(Resource::FileSize).unwrap();
    rlimit::set(Resource::FileSize, Limit { soft: 1 << 40, ..files }).unwrap();
    let last = *Mask::of_this_thread().unwrap().processors().last().unwrap();
    Mask::single(last).apply().unwrap();
    assert!(crate::sys::surroundings::set_locale(c"C.UTF-8"));
    let habits = Habits::other();
    habits.take_on().unwrap();
    assert_eq!(Habits::of_this_thread(), habits);
    credentials::set_dumpable(false).unwrap();

    for start in [StartMethod::Fork, StartMethod::Spawn] {
        let second = Rig::open(&PoolSpec { start, ..spec("describe") }).unwrap();
        // A replacement has what the first worker had, whatever the host has become.
        std::env::set_current_dir("/").unwrap();
        set_token(Some("later"));
        for queue in [0, 1] {
            let after = second.describe(WorkerId { queue, ..FIRST });
            assert_eq!(after.get("token"), "None");
            assert_eq!(after.get("cwd"), gone.to_str().unwrap());
            assert_eq!(after.get("Umask"), "0123");
            assert_eq!(after.get("nice"), nice.to_string());
            assert!(after.get("Max file size").starts_with(&format!("{} ", 1u64 << 40)));
            assert_eq!(after.get("processors"), format!("[{last}]"));
            assert_eq!(after.get("locale"), "\"C.UTF-8\"");
            assert_eq!(after.get("habits"), format!("{habits:?}"));
            assert_eq!(after.get("dumpable"), "false");
        }
        std::env::set_current_dir(&gone).unwrap();
        set_token(None);
    }
    std::fs::remove_dir(&gone).unwrap();
}

fn set_token(value: Option<&str>) {
    crate::launch::zygote::tests::set_variable("LAUNCH_TEST_TOKEN", value);
}

#[test]
fn a_worker_has_the_environment_directory_limits_and_priority_of_its_pools_build() {
    role::play("surroundings");
    role::play("surroundings after a fork");
}

#[test]
fn a_worker_has_the_user_that_the_host_has_become_and_no_right_more() {
    role::play("rights given up");
}

#[test]
fn rights_that_the_zygote_lacks_are_refused_at_the_build() {
    role::play("rights taken back");
}

#[test]
fn a_host_cannot_claim_rights_that_it_gave_up() {
    role::play("foreign rights claimed");
}
