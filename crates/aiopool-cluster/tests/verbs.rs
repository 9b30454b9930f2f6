//! The verbs of `Cluster` and of `Pool`, compared by the sources that declare them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What a pool can say of its own processes, and a handle of other machines' cannot.
/// And `try_submit`, the old name of a verb.
const OF_ONE_MACHINE: &[&str] = &[
    "new",
    "processes",
    "child_concurrency",
    "worker_pids",
    "snapshot",
    "trace",
    "trace_sampled",
    "printed",
    "extend_deadline",
    "try_submit",
];

/// Verbs that cannot be kept over several machines: a word belongs to whichever node claims it, and
/// which nodes and workers there are is known to nobody. The README says what to do instead.
const OF_EVERY_WORKER: &[&str] = &["broadcast", "try_broadcast"];

/// What a task's handle can do only beside its worker: on another machine it would be a message that
/// may come late or never.
const OF_A_WORKER_HERE: &[&str] = &["abort_handle", "cancel_within", "progress"];

/// What a handle has besides: how it connects, and what belongs to jobs and nodes.
const OF_SEVERAL_MACHINES: &[&str] = &["connect", "job", "job_blocking", "outcomes_by_node"];

/// What an outcome of a cluster says besides. A local task's number of attempts is in its error and,
/// as it runs, in the task itself.
const OF_AN_OUTCOME: &[&str] = &["attempts"];

/// The public functions in the `impl` blocks of a type, in the files of a folder or one file.
fn verbs(place: &Path, of: &str) -> BTreeSet<String> {
    let mut files = vec![place.to_path_buf()];
    if let Ok(entries) = fs::read_dir(place) {
        files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    }
    let mut found = BTreeSet::new();
    for file in files {
        let mut inside = false;
        for line in fs::read_to_string(&file).unwrap().lines() {
            if line.starts_with("impl") && line.ends_with('{') || line.starts_with("impl<") {
                let after = line.trim_start_matches("impl");
                let words = after.split(|c: char| !c.is_alphanumeric() && c != '_');
                let words: Vec<&str> = words.collect();
                inside = words.contains(&of) && !words.contains(&"for");
            }
            let function = line.trim_start();
            let named = ["pub fn ", "pub async fn "].iter().find_map(|k| function.strip_prefix(k));
            if let Some(named) = named.filter(|_| inside) {
                let end = named.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
                found.insert(named[..end].to_owned());
            }
        }
    }
    found
}

#[test]
fn a_cluster_has_the_verbs_of_a_pool() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (pool, cluster) = (here.join("../../src/pool"), here.join("src/cluster"));
    let of_every = |verb: &str| OF_EVERY_WORKER.contains(&verb);
    let local = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let mut handle = verbs(&cluster, "Cluster");
    handle.extend(verbs(&here.join("src/cluster.rs"), "Cluster"));
    let mut expected = verbs(&pool, "Pool");
    assert!(expected.len() > 20, "{expected:?}");
    let (only_pool, only_cluster): (BTreeSet<String>, BTreeSet<String>) =
        (local(OF_ONE_MACHINE), local(OF_SEVERAL_MACHINES));
    assert!(only_pool.is_subset(&expected), "{expected:?}");
    expected.retain(|verb| !only_pool.contains(verb) && !of_every(verb));
    handle.retain(|verb| !only_cluster.contains(verb));
    assert_eq!(handle, expected);
    let mut submit = verbs(&pool, "Submit");
    submit.retain(|verb| verb != "try_submit" && !of_every(verb));
    assert_eq!(verbs(&cluster, "Submit"), submit);
    let mut task = verbs(&pool, "Task");
    task.retain(|verb| !OF_A_WORKER_HERE.contains(&verb.as_str()));
    let mut of_cluster = verbs(&cluster, "Task");
    assert!(local(OF_AN_OUTCOME).is_subset(&of_cluster), "{of_cluster:?}");
    of_cluster.retain(|verb| !OF_AN_OUTCOME.contains(&verb.as_str()));
    assert_eq!(of_cluster, task);
    let mut maps = verbs(&pool, "Map");
    maps.extend(verbs(&pool.join("map"), "Map"));
    assert_eq!(verbs(&cluster, "Map"), maps);
    let keyed = pool.join("map");
    assert_eq!(verbs(&cluster, "Flat"), verbs(&keyed, "Flat"));
    assert_eq!(verbs(&cluster, "Parts"), verbs(&pool, "Parts"));
    assert_eq!(verbs(&cluster, "TaskSet"), verbs(&pool, "TaskSet"));
    assert_eq!(verbs(&cluster, "Keyed"), verbs(&keyed, "Keyed"));
    assert_eq!(verbs(&cluster, "Enumerated"), verbs(&keyed, "Enumerated"));
}
