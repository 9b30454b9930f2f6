//! Launching for real: zygotes, workers and their deaths, over regions that are only files.
//!
//! The workers are this test binary's: [`act`] runs in them instead of the worker's loop when the
//! configuration says so. What needs a process of its own as host (because it kills its zygote, or
//! forks one) is a *role*: this binary executed anew and caught before its `main` by
//! [`before_main`], where it has one thread.

mod contract;
mod crash_points;
mod death;
mod host;
pub(super) mod rig;
mod role;
mod snapshot;
mod start_methods;

pub(super) use role::before_main;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::sys::exit::{exit_now, orderly_exit};
use crate::sys::process;
use crate::worker::WorkerStart;

/// Opens a configuration that is for [`act`].
const VERB: &str = "launch test: ";

/// Memory that a forked worker has from its host, and an executed one has not.
static SHARED: AtomicU32 = AtomicU32::new(0);

/// What a worker does in these tests; comes back for any other worker.
pub(super) fn act(start: &WorkerStart) {
    let Ok(config) = str::from_utf8(&start.config) else { return };
    let Some(verb) = config.strip_prefix(VERB) else { return };
    match verb.split_once(' ').unwrap_or((verb, "")) {
        ("sleep", _) => sleep(),
        ("exit", status) => orderly_exit(status.parse().unwrap()),
        ("signal", number) => {
            process::signal_group(process::own_pid(), number.parse().unwrap()).unwrap();
            sleep()
        }
        ("describe", _) => {
            write(start, &describe(start));
            sleep()
        }
        ("keep-a-child", _) => {
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            write(start, "end\n");
            child.wait().unwrap();
            exit_now(98)
        }
        ("leave-a-child", _) => {
            #[allow(clippy::zombie_processes)] // what is tested: it is left behind
            let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            write(start, &format!("{}\n", child.id()));
            orderly_exit(0)
        }
        _ => exit_now(99),
    }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Puts a text into the file that stands for the control region.
fn write(start: &WorkerStart, text: &str) {
    let mut file = File::from(start.fds.control.try_clone().unwrap());
    file.write_all(text.as_bytes()).unwrap();
}

/// Returns what a worker finds about itself, a `name=value` a line; the last is `end`.
fn describe(start: &WorkerStart) -> String {
    let fds = &start.fds;
    let fixed = [&fds.control, &fds.requests, &fds.outputs, &fds.host_bell, &fds.supervisor_bell];
    let mut own: Vec<_> = fixed.into_iter().chain(&fds.bells).map(AsRawFd::as_raw_fd).collect();
    own.extend([0, 1, 2]);
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let open: Vec<i32> = open.collect();
    // The listing itself is gone by now.
    let foreign = open.iter().filter(|&&fd| !own.contains(&fd));
    let foreign: Vec<_> =
        foreign.filter_map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()).collect();
    let missing = own.iter().filter(|fd| !open.contains(fd)).count();
    let inherited = fixed
        .into_iter()
        .chain(&fds.bells)
        .any(|fd| !crate::sys::fd::is_close_on_exec(fd.as_fd()).unwrap());
    let mut text = format!(
        "id={}\nseat={}\nlanes={} {}\npid={}\nparent={}\nbells={}\nforeign={foreign:?}\n\
        missing={missing}\ninherited={inherited}\nstdin={}\noom={}\nshared={}\nargs={:?}\n",
        start.id,
        start.seat,
        start.lane_start,
        start.handback_start,
        process::own_pid(),
        process::parent_pid(),
        fds.bells.len(),
        std::fs::read_link("/proc/self/fd/0").unwrap().display(),
        crate::sys::oom::score_adjustment().unwrap(),
        SHARED.load(Ordering::Relaxed),
        std::env::args_os().collect::<Vec<_>>(),
    );
    text += &format!(
        "cwd={}\nnice={}\ntoken={:?}\nlocale={:?}\nprocessors={:?}\nhabits={:?}\ndumpable={}\n",
        std::env::current_dir().unwrap().display(),
        crate::sys::scheduling::niceness().unwrap(),
        std::env::var("LAUNCH_TEST_TOKEN").ok(),
        crate::sys::surroundings::locale().unwrap(),
        crate::sys::cpus::Mask::of_this_thread().unwrap().processors(),
        crate::sys::habits::Habits::of_this_thread(),
        crate::sys::credentials::is_dumpable().unwrap(),
    );
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        // What configures the tests is not the library's.
        let ours = name_text.starts_with("AIOPOOL_")
            && !["AIOPOOL_CI", "AIOPOOL_FUZZ_ROUNDS"].contains(&&*name_text);
        if ours || name == "LD_PRELOAD" {
            text += &format!("variable={}\n", name.to_string_lossy());
        }
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    text += &format!("group={}\n", after_name.split(' ').nth(2).unwrap());
    text += &format!("session={}\n", after_name.split(' ').nth(3).unwrap());
    for line in std::fs::read_to_string("/proc/self/status").unwrap().lines() {
        if let Some((name, value)) = line.split_once(':') {
            text += &format!("{name}={}\n", value.trim());
        }
    }
    for line in std::fs::read_to_string("/proc/self/limits").unwrap().lines() {
        if let Some((name, values)) = line.split_at_checked(26) {
            let values: Vec<_> = values.split_whitespace().take(2).collect();
            text += &format!("{}={}\n", name.trim(), values.join(" "));
        }
    }
    text + "end\n"
}
