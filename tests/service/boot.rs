//! How a worker comes to be takes nothing for granted: what the command is, how this program was
//! started, what its libraries do before `main`.
#![allow(unsafe_code)] // calls into libc

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aiopool::{AttachedWorker, Completion, Event, Pool, StartMethod};
use aiopool_testing::{missing, scratch};

use crate::Named;
use crate::host::{End, Host, ROLE, command};

pub const TESTS: &[Named] = &[
    ("a_command_that_builds_a_pool_itself_is_no_storm", no_storm),
    ("a_program_that_its_loader_was_told_to_run_has_workers", through_the_loader),
    ("a_program_whose_file_is_renamed_or_deleted_has_workers", without_its_file),
    ("a_preloaded_sanitizer_is_no_hindrance", sanitized),
    ("a_library_that_starts_threads_before_main_is_named", threads_before_main),
];

pub const ROLES: &[Named] = &[
    ("storm", || storm(&["role", "storm"].map(OsString::from))),
    ("storm of children", || storm(&["role", "closes and runs"].map(OsString::from))),
    ("closes and runs", || {
        let mut child = command("storm of children");
        // SAFETY: between fork and execution; takes numbers only.
        let child = unsafe { child.pre_exec(close_all) };
        child.status().unwrap();
    }),
    ("works", works),
    ("works with init", || {
        aiopool::init().unwrap();
        works();
    }),
    ("works without its file", || {
        let own = std::env::current_exe().unwrap();
        let other = own.with_extension("renamed");
        std::fs::rename(&own, &other).unwrap();
        works();
        std::fs::remove_file(other).unwrap();
        works();
    }),
    ("worker", be_worker),
    ("has threads", has_threads),
];

/// The file into which each process of a storm writes a line.
const STORM: &str = "AIOPOOL_TEST_STORM";

fn close_all() -> std::io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::close_range(3, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Does what a program does that knows nothing of workers: it builds a pool, of itself.
fn storm(arguments: &[OsString]) {
    use std::io::Write;
    let place = std::env::var_os(STORM).unwrap();
    let mut file = std::fs::File::options().append(true).create(true).open(place).unwrap();
    writeln!(file, "{}", std::process::id()).unwrap();
    let own = std::env::current_exe().unwrap().into_os_string();
    let words = std::iter::once(own).chain(arguments.iter().cloned()).collect();
    let builder = Pool::builder().processes(2).start_method(StartMethod::Command(words));
    let error = match builder.build() {
        Ok(pool) => pool.apply_named("x", "y").wait().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    println!("{error}");
}

fn no_storm() {
    for (role, most) in [("storm", 3), ("storm of children", 20)] {
        let place = scratch("storm").join(role.replace(' ', "-"));
        let _ = std::fs::remove_file(&place);
        let End { status, stdout, stderr } = Host::spawn(command(role).env(STORM, &place)).end();
        assert!(status.success(), "{role}: {status}\n{stdout}\n{stderr}");
        let said: Vec<_> = stdout.lines().collect();
        // The host alone has something to say of an error; the others ended before that.
        assert_eq!(said.len(), 1, "{role}: {stdout}\n{stderr}");
        assert!(said[0].contains("the command [") && said[0].contains("role"), "{stdout}");
        let runs = std::fs::read_to_string(&place).unwrap().lines().count();
        assert!(runs <= most, "{role}: {runs} processes\n{stderr}");
        let lines: Vec<_> = stderr.lines().filter(|line| line.contains("builds a pool")).collect();
        // The pool ends with the first, and may end the others before they have said it.
        assert!((1..runs).contains(&lines.len()), "{role}: {runs} processes: {stderr}");
    }
}

async fn double(x: u32) -> u32 {
    2 * x
}

fn works() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(1).start_method(method).build().unwrap();
        println!("{}", pool.apply(double, 21).wait().unwrap());
    }
}

fn loader() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..])));
    let is_loader = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("ld-"))
    };
    paths.into_iter().find(is_loader).expect("a dynamic program")
}

fn through_the_loader() {
    let own = std::env::current_exe().unwrap();
    let (folder, name) = (own.parent().unwrap(), own.file_name().unwrap());
    for role in ["works", "works with init"] {
        for options in [&[][..], &["--library-path", "/nowhere in particular"]] {
            let mut command = Command::new(loader());
            command.args(options).arg(PathBuf::from(".").join(name)).args([ROLE, role]);
            Host::spawn(command.current_dir(folder)).end().wrote("42\n42\n");
        }
    }
}

fn without_its_file() {
    let copy = scratch("without-its-file").join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(copy);
    Host::spawn(command.args([ROLE, "works without its file"])).end().wrote("42\n42\n42\n42\n");
}

/// Where the compiler has a library, if it has it.
fn library_of_compiler(name: &str) -> Option<String> {
    if missing("cc") {
        return None;
    }
    let output = Command::new("cc").arg(format!("-print-file-name={name}")).output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    // It answers with the bare name where it has none.
    path.contains('/').then_some(path)
}

fn sanitized() {
    let Some(library) = library_of_compiler("libasan.so") else { return };
    for role in ["works", "works with init"] {
        let mut command = command(role);
        command.env("LD_PRELOAD", &library).env("ASAN_OPTIONS", "detect_leaks=0");
        Host::spawn(&mut command).end().wrote("42\n42\n");
    }
}

const THREAD_LIBRARY: &str = "
#include <pthread.h>
#include <unistd.h>
static void *run(void *unused) { for (;;) pause(); return unused; }
__attribute__((constructor)) static void begin(void) {
    pthread_t thread;
    pthread_create(&thread, 0, run, 0);
}
";

fn be_worker() {
    let mut worker = AttachedWorker::attach().unwrap();
    loop {
        match worker.next_event() {
            Event::Run { task, .. } => worker.complete(task, Completion::Ok(b"here")).unwrap(),
            Event::Nothing => worker.wait(),
            Event::Cancel { task } => worker.complete(task, Completion::Cancelled).unwrap(),
            _ => break,
        }
    }
    worker.leave();
}

fn has_threads() {
    println!("{}", aiopool::init().unwrap_err());
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let error = Pool::builder().processes(1).start_method(method).build().unwrap_err();
        println!("{error}");
    }
    let own = std::env::current_exe().unwrap().into_os_string();
    let words = vec![own, ROLE.into(), "worker".into()];
    let builder = Pool::builder().processes(2).start_method(StartMethod::Command(words));
    let pool = builder.start_timeout(Duration::from_secs(60)).build().unwrap();
    println!("{}", str::from_utf8(&pool.apply_named("x", "y").wait().unwrap()).unwrap());
}

fn threads_before_main() {
    if missing("cc") {
        return;
    }
    let folder = scratch("threads-before-main");
    let (source, library) = (folder.join("libthr.c"), folder.join("libthr.so"));
    std::fs::write(&source, THREAD_LIBRARY).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success());
    let End { status, stdout, stderr } =
        Host::spawn(command("has threads").env("LD_PRELOAD", &library)).end();
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    let said: Vec<_> = stdout.lines().collect();
    assert_eq!(said.len(), 4, "{stdout}\n{stderr}");
    for refused in &said[..3] {
        assert!(refused.contains("libthr.so"), "{refused}");
    }
    assert!(
        said[1].contains("before main") && said[1].contains("StartMethod::Command"),
        "{stdout}"
    );
    assert_eq!(said[3], "here");
}
