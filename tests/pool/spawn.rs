//! Start method `Spawn`: workers are executed anew; same verbs, from a host with threads.

use std::time::Duration;

use aiopool::{Pool, StartMethod, TaskOptions, WorkerContext};
use aiopool_testing::in_time;

fn spawned(processes: usize) -> aiopool::PoolBuilder {
    Pool::builder().processes(processes).start_method(StartMethod::Spawn)
}

async fn double(x: u64) -> u64 {
    x * 2
}

async fn pid(_: u64) -> u32 {
    std::process::id()
}

async fn die_once(path: String) -> u32 {
    if std::fs::File::create_new(path).is_ok() {
        std::process::abort();
    }
    std::process::id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_with_threads_uses_the_same_verbs() {
    let busy = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(300)));
    let pool = spawned(2).build().unwrap();
    let doubled = in_time(pool.map(double, 0..500)).await.unwrap();
    assert_eq!(doubled, (0..500).map(|x| x * 2).collect::<Vec<_>>());
    async fn refuse(x: u64) -> Result<u64, String> {
        Err(format!("no {x}"))
    }
    let error = in_time(pool.try_apply(refuse, 3)).await.unwrap_err();
    assert_eq!(error.to_string(), "no 3");
    busy.join().unwrap();
    pool.close();
    in_time(pool.join()).await.unwrap();
}

#[tokio::test]
async fn every_worker_is_executed_and_not_only_forked() {
    async fn starts(_: u64) -> (u32, u64) {
        // The randomised place of the stack: forks of one process share it.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let after_name = stat.rsplit(") ").next().unwrap();
        let start_stack = after_name.split(' ').nth(25).unwrap().parse().unwrap();
        (std::process::id(), start_stack)
    }
    // How many workers there are, and how many places of stacks.
    let stacks = |method: StartMethod| async move {
        let pool = Pool::builder().processes(3).start_method(method).build().unwrap();
        let all = in_time(pool.broadcast(starts, 0)).await;
        let by_pid: std::collections::HashMap<u32, u64> =
            all.into_iter().map(Result::unwrap).collect();
        let stacks: std::collections::HashSet<u64> = by_pid.values().copied().collect();
        (by_pid.len(), stacks.len())
    };
    assert_eq!(stacks(StartMethod::Fork).await, (3, 1));
    assert_eq!(stacks(StartMethod::Spawn).await, (3, 3));
}

#[tokio::test]
async fn every_worker_has_its_name_before_its_first_task() {
    async fn name(_: u64) -> String {
        std::fs::read_to_string("/proc/self/comm").unwrap()
    }
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(1).start_method(method).build().unwrap();
        assert_eq!(in_time(pool.apply(name, 0)).await.unwrap(), "aiopool 0.0\n");
    }
}

#[tokio::test]
async fn recycling_deaths_and_retries_are_as_with_fork() {
    let pool = spawned(2).max_tasks_per_child(4).build().unwrap();
    let pids = in_time(pool.map(pid, 0..24)).await.unwrap();
    let mut counts = std::collections::HashMap::new();
    pids.iter().for_each(|pid| *counts.entry(*pid).or_insert(0) += 1);
    assert!(counts.values().all(|&n| n <= 4), "{counts:?}");
    let path = std::env::temp_dir().join(format!("aiopool-spawn-{}", std::process::id()));
    let path = path.to_str().unwrap().to_owned();
    let retried = pool.with(TaskOptions::new().retries(1)).apply(die_once, path.clone());
    in_time(retried).await.unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(pool.stats().deaths, 1);
}

#[tokio::test]
async fn initializer_runtime_and_handlers_reach_an_executed_worker() {
    fn name_the_threads(runtime: &mut tokio::runtime::Builder) {
        runtime.thread_name("executed");
    }
    fn handler(error: &aiopool::LiveError<'_>) {
        WorkerContext::current().unwrap().set_state(error.to_string());
    }
    async fn open(state: u64) -> Result<(), String> {
        WorkerContext::current().unwrap().set_state(state);
        Ok(())
    }
    async fn look(_: u64) -> (u64, String, Option<String>) {
        let worker = WorkerContext::current().unwrap();
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        let thread = tokio::task::spawn_blocking(name).await.unwrap();
        let told = worker.state::<String>().map(|text| (*text).clone());
        (*worker.state::<u64>().unwrap(), thread, told)
    }
    async fn fail(_: u64) -> Result<(), String> {
        Err("told".to_owned())
    }
    let pool = spawned(1)
        .initializer(open, 7)
        .runtime_initializer(name_the_threads)
        .exception_handler(handler)
        .build()
        .unwrap();
    in_time(pool.try_apply(fail, 0)).await.unwrap_err();
    let seen = in_time(pool.apply(look, 0)).await.unwrap();
    assert_eq!(seen, (7, "executed".to_owned(), Some("told".to_owned())));
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_an_error_that_says_so() {
    let words = ["/bin/true".into()].to_vec();
    let built = Pool::builder().processes(1).start_method(StartMethod::Command(words)).build();
    let error = match built {
        Err(error) => error.to_string(),
        Ok(pool) => in_time(pool.apply(double, 1)).await.unwrap_err().to_string(),
    };
    assert!(error.contains("/bin/true") || error.contains("attach"), "{error}");
}
