//! What the process of a worker is, where its pool says so.

use std::time::Duration;

use aiopool::{Pool, StartMethod, TaskOptions, sync_fn};
use aiopool_testing::{Folder, in_time, until};

fn variable(name: String) -> Option<String> {
    std::env::var(name).ok()
}

fn directory(_: u64) -> String {
    std::env::current_dir().unwrap().display().to_string()
}

/// The mode of a file that is created with all permissions.
fn mode_of(path: String) -> u32 {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let file = std::fs::File::options().append(true).create(true).mode(0o777).open(path).unwrap();
    file.metadata().unwrap().mode() & 0o777
}

/// A field of what the kernel says of the process.
fn status(field: String) -> String {
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    all.lines().find_map(|line| line.strip_prefix(&field)).unwrap().trim().to_owned()
}

fn niceness(_: u64) -> i32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_worker_has_the_environment_directory_and_umask_of_its_pool() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let folder = Folder::new("surroundings");
        let builder = Pool::builder().processes(1).start_method(method);
        let pool = builder
            .env("AIOPOOL_TEST_VARIABLE", "one")
            .envs([("AIOPOOL_TEST_OTHER", "two"), ("AIOPOOL_TEST_GONE", "three")])
            .env_remove("AIOPOOL_TEST_GONE")
            .env_remove("PATH")
            .current_dir(folder.path())
            .umask(0o027)
            .nice(3)
            .build()
            .unwrap();
        let get =
            async |name: &str| in_time(pool.apply(sync_fn(variable), name.into())).await.unwrap();
        assert_eq!(get("AIOPOOL_TEST_VARIABLE").await.as_deref(), Some("one"));
        assert_eq!(get("AIOPOOL_TEST_OTHER").await.as_deref(), Some("two"));
        assert_eq!((get("AIOPOOL_TEST_GONE").await, get("PATH").await), (None, None));
        let there = in_time(pool.apply(sync_fn(directory), 0)).await.unwrap();
        assert_eq!(std::fs::canonicalize(there).unwrap(), folder.path().canonicalize().unwrap());
        assert_eq!(in_time(pool.apply(sync_fn(mode_of), "file".into())).await.unwrap(), 0o750);
        assert!(folder.path().join("file").exists(), "the path was another one");
        assert_eq!(in_time(pool.apply(sync_fn(niceness), 0)).await.unwrap(), niceness(0) + 3);
    }
    assert!(std::env::var_os("PATH").is_some(), "the host's own");
}

#[tokio::test]
async fn a_worker_runs_on_the_processors_of_its_pool() {
    let own = status("Cpus_allowed_list:".into());
    let last: u32 = own.rsplit([',', '-']).next().unwrap().parse().unwrap();
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let builder = Pool::builder().start_method(method);
        let pool = builder.processors([last]).build().unwrap();
        assert_eq!(pool.stats().workers, 1, "one for each processor");
        let there = pool.apply(sync_fn(status), "Cpus_allowed_list:".into());
        assert_eq!(in_time(there).await.unwrap(), last.to_string());
    }
    let refused = Pool::builder().processors([last, 1 << 30]).build().unwrap_err().to_string();
    let named = refused.contains("processors") && refused.contains(&(1u32 << 30).to_string());
    assert!(named && refused.contains("some of 0"), "{refused}");
    assert_eq!(status("Cpus_allowed_list:".into()), own, "the host's own");
}

#[tokio::test]
async fn an_environment_can_be_cleared() {
    let pool =
        Pool::builder().processes(1).env("A", "1").env_clear().env("B", "2").build().unwrap();
    let all = |_: u64| async { std::env::vars().collect::<Vec<(String, String)>>() };
    let all = in_time(pool.apply(all, 0)).await.unwrap();
    assert_eq!(all, [("B".to_owned(), "2".to_owned())]);
}

#[tokio::test]
async fn a_worker_of_another_user_has_none_of_roots_rights() {
    let ids = status("Uid:".into());
    if ids.split_whitespace().next() != Some("0") {
        println!("not root: changing users is not tried");
        let pool = Pool::builder().processes(1).user(65_534).build();
        let refused = match pool {
            Ok(pool) => in_time(pool.ready()).await.unwrap_err(),
            Err(refused) => refused,
        };
        assert!(refused.to_string().contains("takes root"), "{refused}");
        return;
    }
    let pool = Pool::builder().processes(1).user(65_534).group(65_533).build().unwrap();
    let get = async |field: &str| in_time(pool.apply(sync_fn(status), field.into())).await.unwrap();
    assert!(get("Uid:").await.split_whitespace().all(|id| id == "65534"));
    assert!(get("Gid:").await.split_whitespace().all(|id| id == "65533"));
    assert_eq!(get("Groups:").await, "65533");
    assert_eq!(get("CapEff:").await.trim_matches('0'), "");
    // It dies with its zygote, which the change of user has not undone.
    assert_eq!(pool.worker_pids().len(), 1);
}

#[tokio::test]
async fn the_output_of_workers_goes_to_files_and_its_end_into_the_error() {
    fn say_and_die(text: String) {
        println!("out: {text}");
        eprintln!("first line\nlast line: {text}");
        std::process::abort();
    }
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let folder = Folder::new("output");
        let builder = Pool::builder().processes(1).start_method(method);
        let pool = builder.current_dir("/").output_to(folder.path()).build().unwrap();
        let error = in_time(pool.apply(sync_fn(say_and_die), "one".into())).await.unwrap_err();
        let lost = error.worker_lost().unwrap();
        assert_eq!(lost.stderr, "first line\nlast line: one\n");
        assert!(error.to_string().contains("its last words: last line: one"), "{error}");
        let error = in_time(pool.apply(sync_fn(say_and_die), "two".into())).await.unwrap_err();
        assert!(error.worker_lost().unwrap().stderr.ends_with("last line: two\n"), "{error}");
        let all = std::fs::read_to_string(folder.path().join("worker-0.err")).unwrap();
        assert_eq!(all.lines().count(), 4, "{all}");
        assert!(folder.path().join("worker-0.out").exists());
    }
    let refused = Pool::builder().output_to("/no/such/directory").build().unwrap_err();
    assert!(refused.to_string().contains("output_to"), "{refused}");
}

#[tokio::test]
async fn what_each_task_prints_is_told_apart() {
    async fn say(x: u64) -> u64 {
        print!("{x} begins, ");
        tokio::time::sleep(Duration::from_millis(x % 3)).await;
        println!("{x} ends");
        eprintln!("{x} has erred");
        x
    }
    fn say_nothing(x: u64) -> u64 {
        x
    }
    fn say_and_die(text: String) {
        println!("out: {text}");
        eprintln!("attempt {}", aiopool::TaskContext::current().unwrap().attempt());
        std::process::abort();
    }
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let folder = Folder::new("printed");
        // Of another pool that had the directory, and this number.
        std::fs::write(folder.path().join("task-0.out"), "old").unwrap();
        std::fs::write(folder.path().join("task-1.out"), "old").unwrap();
        let builder = Pool::builder().processes(2).start_method(method).child_concurrency(1);
        let pool = builder.output_to(folder.path()).output_per_task(true).build().unwrap();
        let mut tasks: Vec<_> = (0..50).map(|x| pool.apply(say, x)).collect();
        for (x, task) in tasks.iter_mut().enumerate() {
            let number = task.id().unwrap();
            assert_eq!(in_time(&mut *task).await.unwrap(), x as u64);
            let printed = pool.printed(number).unwrap();
            let wanted = format!("{x} begins, {x} ends\n");
            assert_eq!(String::from_utf8(printed.stdout).unwrap(), wanted);
            assert_eq!(printed.stderr, format!("{x} has erred\n").into_bytes());
        }
        let silent = pool.apply(sync_fn(say_nothing), 1);
        let number = silent.id().unwrap();
        in_time(silent).await.unwrap();
        assert_eq!(pool.printed(number).unwrap(), aiopool::Printed::default());
        assert!(!folder.path().join(format!("task-{number}.out")).exists());
        // One that kills its workers, on each attempt.
        let pool_again = pool.with(TaskOptions::new().retries(1));
        let task = pool_again.apply(sync_fn(say_and_die), "so".to_owned());
        let number = task.id().unwrap();
        let error = in_time(task).await.unwrap_err();
        assert_eq!(error.worker_lost().unwrap().stderr, "attempt 1\nattempt 2\n");
        let printed = pool.printed(number).unwrap();
        assert_eq!(printed.stdout, b"out: so\nout: so\n");
        // A task that is called off leaves what it has said.
        let mut task = pool.apply(forever_after_a_word, ());
        let number = task.id().unwrap();
        until(|| !pool.printed(number).unwrap().stdout.is_empty()).await;
        task.cancel();
        in_time(task).await.unwrap_err();
        in_time(pool.apply(say, 7)).await.unwrap();
        assert_eq!(pool.printed(number).unwrap().stdout, b"waits\n");
    }
    let refused = Pool::builder().output_per_task(true).build().unwrap_err().to_string();
    assert!(refused.contains("output_to"), "{refused}");
    let folder = Folder::new("printed");
    let builder = Pool::builder().output_to(folder.path()).output_per_task(true);
    let refused = builder.build().unwrap_err().to_string();
    assert!(refused.contains("child_concurrency 1"), "{refused}");
    let pool = Pool::builder().processes(1).build().unwrap();
    assert!(pool.printed(0).unwrap_err().to_string().contains("output_per_task"));
}

async fn forever_after_a_word((): ()) {
    println!("waits");
    std::future::pending::<()>().await;
}
