//! What the process of a worker is, where its pool says so.

use aiopool::{Pool, StartMethod, sync_fn};
use aiopool_testing::{Folder, in_time};

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
