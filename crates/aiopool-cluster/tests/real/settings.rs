//! Streams and buckets that an operator has made by hand.

use std::time::Duration;

use aiopool_cluster::{Cluster, ClusterBuilder, Connection, Error, Node, observe};
use aiopool_nats::Server;
use serde_json::{Value, json};

use crate::jobs::ask;
use crate::said::warnings;
use crate::verbs::double;
use crate::{Process, Test, WATCHDOG, connect, in_time, make};

pub const TESTS: &[Test] = &[
    ("each_setting_that_breaks_the_protocol_is_named", each_setting_that_breaks_is_named),
    ("settings_that_an_operator_may_choose", settings_that_an_operator_may_choose),
    ("looking_makes_nothing", looking_makes_nothing),
    ("a_pool_that_is_half_made_is_empty", a_pool_that_is_half_made_is_empty),
    ("options_at_their_limits", options_at_their_limits),
    ("fewer_replicas_than_asked_for_are_said", fewer_replicas_than_asked_for_are_said),
];

/// The pool's stream and its neighbours, with their subjects.
const STREAMS: [(&str, &[&str]); 4] = [
    ("AIOPOOL_t", &["aiopool.t.q.>", "aiopool.t.w.>"]),
    ("AIOPOOL_t_BLOBS", &["aiopool.t.b.>"]),
    ("KV_AIOPOOL_NODES", &["$KV.AIOPOOL_NODES.>"]),
    ("KV_AIOPOOL_JOBS", &["$KV.AIOPOOL_JOBS.>"]),
];

fn with(base: &Value, more: &Value) -> Value {
    let mut all = base.clone();
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// As the pool makes them.
fn good(name: &str, subjects: &[&str]) -> Value {
    json!({
        "name": name, "subjects": subjects, "retention": "limits", "storage": "file",
        "discard": "new", "max_msgs_per_subject": 1, "max_age": 0, "num_replicas": 1,
    })
}

/// What each setting may wrongly be, with what has to go with it.
fn bad(subjects: &[&str]) -> Vec<(&'static str, Value)> {
    let first = subjects[0];
    vec![
        ("discard", json!({"discard": "old"})),
        ("retention", json!({"retention": "workqueue"})),
        ("retention", json!({"retention": "interest"})),
        ("max_age", json!({"max_age": 3_600_000_000_000_u64})),
        ("max_msgs", json!({"max_msgs": 1000})),
        ("max_msgs_per_subject", json!({"max_msgs_per_subject": 5})),
        ("max_msgs_per_subject", json!({"max_msgs_per_subject": -1})),
        ("max_msg_size", json!({"max_msg_size": 1000})),
        ("storage", json!({"storage": "memory"})),
        ("persist_mode", json!({"persist_mode": "async"})),
        ("no_ack", json!({"no_ack": true})),
        ("deny_purge", json!({"deny_purge": true})),
        ("discard_new_per_subject", json!({"discard_new_per_subject": true})),
        ("allow_msg_counter", json!({"allow_msg_counter": true, "discard": "old"})),
        ("mirror", json!({"mirror": {"name": "other"}, "subjects": null, "discard": "old"})),
        ("sources", json!({"sources": [{"name": "other"}]})),
        ("subject_transform", json!({"subject_transform": {"src": first, "dest": "moved.>"}})),
        ("subjects", json!({"subjects": [first.replace(".>", ".*")]})),
        ("subjects", json!({"subjects": [first, "more.than.that"]})),
        ("sealed", json!({"sealed": true})),
    ]
}

fn each_setting_that_breaks_is_named() {
    let server = Server::start();
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let other = json!({"name": "other", "subjects": ["other"]});
        assert!(ask(&client, "STREAM.CREATE.other", other).await["error"].is_null());
        for (name, subjects) in STREAMS {
            let good = good(name, subjects);
            for (setting, wrong) in bad(subjects) {
                let of = |verb: &str| format!("STREAM.{verb}.{name}");
                let wrong = with(&good, &wrong);
                // A stream is sealed when it is there.
                let at_first = with(&wrong, &json!({"sealed": false}));
                let made = ask(&client, &of("CREATE"), at_first).await;
                assert!(made["error"].is_null(), "{setting}: {made}");
                if setting == "sealed" {
                    let sealed = ask(&client, &of("UPDATE"), wrong).await;
                    assert!(sealed["error"].is_null(), "{sealed}");
                }
                let error = observe(server.url(), "t").await.map(|_| setting).unwrap_err();
                let text = error.to_string();
                assert!(text.contains(&format!("{name}: {setting} is ")), "{setting}: {text}");
                // What the text says can be done, and is enough.
                let (verb, config) = if text.contains(&format!("`nats stream edit {name}`")) {
                    ("UPDATE", with(&made["config"], &good))
                } else {
                    assert!(text.contains(&format!("`nats stream rm {name}`")), "{text}");
                    ("DELETE", json!({}))
                };
                let cleared = match setting {
                    "sources" | "subject_transform" => json!({setting: null}),
                    "max_msgs" | "max_msg_size" => json!({setting: -1}),
                    "no_ack" | "discard_new_per_subject" => json!({setting: false}),
                    _ => json!({}),
                };
                let changed = ask(&client, &of(verb), with(&config, &cleared)).await;
                assert!(changed["error"].is_null(), "{setting}: {changed}");
                make(server.url()).await;
                for (name, _) in STREAMS {
                    ask(&client, &format!("STREAM.DELETE.{name}"), json!({})).await;
                }
            }
        }
    });
}

fn settings_that_an_operator_may_choose() {
    let server = Server::start();
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        for (name, subjects) in STREAMS {
            // Buckets as `nats kv add` makes them; limits of bytes and compression anywhere.
            let chosen = json!({
                "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
                "compression": "s2", "max_bytes": 50_000_000, "allow_msg_ttl": true,
                "description": "of an operator", "metadata": {"owner": "me"}, "first_seq": 7000,
            });
            let config = with(&good(name, subjects), &chosen);
            let made = ask(&client, &format!("STREAM.CREATE.{name}"), config).await;
            assert!(made["error"].is_null(), "{made}");
        }
    });
    let _node = Process::node(server.url());
    let cluster = connect(&server);
    in_time(async {
        assert_eq!(cluster.map(double, 0..1100).await.unwrap().len(), 1100);
        assert!(cluster.drain(WATCHDOG).await);
        let left = observe(server.url(), "t").await.unwrap();
        assert_eq!((left.messages, left.jobs.len()), (0, 0), "{left:?}");
    });
}

fn looking_makes_nothing() {
    let server = Server::start();
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let seen = observe(server.url(), "typo").await.unwrap();
        assert!(!seen.exists && seen.nodes.is_empty() && seen.jobs.is_empty(), "{seen:?}");
        assert!(!aiopool_cluster::end_job(server.url(), "typo", "nightly").await.unwrap());
        let streams = ask(&client, "STREAM.NAMES", json!({})).await;
        assert_eq!(streams["total"], 0, "{streams}");
    });
    let cluster = connect(&server);
    let seen = in_time(observe(server.url(), "t")).unwrap();
    assert!(seen.exists && seen.jobs.len() == 1, "{seen:?}");
    let seen = in_time(observe(server.url(), "typo")).unwrap();
    assert!(!seen.exists && seen.jobs.is_empty(), "{seen:?}");
    drop(cluster);
}

/// The first connection makes one stream after the other, and another process may look meanwhile.
fn a_pool_that_is_half_made_is_empty() {
    let server = Server::start();
    in_time(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        for (name, subjects) in STREAMS {
            let made = ask(&client, &format!("STREAM.CREATE.{name}"), good(name, subjects)).await;
            assert!(made["error"].is_null(), "{made}");
            let seen = observe(server.url(), "t").await.unwrap();
            assert!(seen.exists && seen.nodes.is_empty() && seen.jobs.is_empty(), "{seen:?}");
            assert!(!aiopool_cluster::end_job(server.url(), "t", "nightly").await.unwrap());
        }
    });
}

/// Which option is refused, if one is.
fn refused<T>(tried: Result<T, Error>) -> Option<&'static str> {
    match tried {
        Ok(_) => None,
        Err(Error::InvalidOption { name, .. }) => Some(name),
        Err(error) => panic!("{error:?}"),
    }
}

/// Each takes what its description says, and refuses the next value by name.
fn options_at_their_limits() {
    let server = Server::start();
    let url = server.url();
    let (longest, longer) = ("x".repeat(32), "x".repeat(33));
    let seconds = Duration::from_secs_f64;
    let submit = |change: &dyn Fn(ClusterBuilder) -> ClusterBuilder| {
        refused(in_time(change(Cluster::builder(url.as_str()).pool("t")).connect()))
    };
    let serve = |change: &dyn Fn(Node) -> Node| {
        let node = change(Node::builder(url.as_str()).pool("t").processes(1));
        refused(in_time(node.run_until(std::future::ready(()))))
    };
    for (lease, is) in [(3.999, false), (4.0, true), (150.0, true), (150.001, false)] {
        let verdict = (!is).then_some("lease");
        assert_eq!(submit(&|builder| builder.lease(seconds(lease))), verdict, "{lease}");
        assert_eq!(serve(&|node| node.lease(seconds(lease))), verdict, "{lease}");
    }
    for (capacity, is) in [(0, false), (1, true), (1_048_576, true), (1_048_577, false)] {
        let verdict = (!is).then_some("capacity");
        assert_eq!(submit(&|builder| builder.capacity(capacity)), verdict, "{capacity}");
    }
    for (items, is) in [(0, false), (1, true), (256, true), (257, false)] {
        let verdict = (!is).then_some("items_per_message");
        assert_eq!(submit(&|builder| builder.items_per_message(items)), verdict, "{items}");
    }
    for (replicas, is) in [(0, false), (1, true), (2, false), (4, false), (6, false)] {
        let by = || Connection::new(url.as_str()).replicas(replicas);
        let verdict = (!is).then_some("replicas");
        assert_eq!(refused(in_time(Cluster::builder(by()).connect())), verdict, "{replicas}");
        assert_eq!(refused(in_time(observe(by(), "t"))), verdict, "{replicas}");
    }
    let texts = [("", false), (longest.as_str(), true), (&longer, false), ("a.b", false)];
    for (text, is) in texts {
        let verdict = |name| (!is).then_some(name);
        assert_eq!(submit(&|builder| builder.pool(text)), verdict("pool"), "{text}");
        assert_eq!(submit(&|builder| builder.version(text)), verdict("version"), "{text}");
        assert_eq!(serve(&|node| node.pool(text)), verdict("pool"), "{text}");
        assert_eq!(serve(&|node| node.version(text)), verdict("version"), "{text}");
        assert_eq!(serve(&|node| node.name(text)), verdict("name"), "{text}");
    }
    // A pool, an inbox and what the server keeps for itself are never of one name.
    assert_eq!(submit(&|builder| builder.pool("x_BLOBS")), Some("pool"));
    let inboxes = [
        ("_INBOX_me", true),
        ("mine.aiopool", true),
        ("aiopools", true),
        ("aiopool", false),
        ("aiopool.t.w", false),
        ("aiopool.t.x", false),
        ("$KV.AIOPOOL_NODES", false),
        ("$JS.API", false),
    ];
    for (prefix, is) in inboxes {
        let by = || Connection::new(url.as_str()).inbox_prefix(prefix);
        let verdict = (!is).then_some("inbox_prefix");
        let node = Node::builder(by()).pool("t").processes(1);
        assert_eq!(refused(in_time(node.run_until(std::future::ready(())))), verdict, "{prefix}");
        assert_eq!(refused(in_time(Cluster::builder(by()).connect())), verdict, "{prefix}");
        assert_eq!(refused(in_time(observe(by(), "t"))), verdict, "{prefix}");
    }
    let cluster = connect(&server);
    for (text, is) in [("", false), (&longest[..30], true), (&longest[..31], false)] {
        let verdict = (!is).then_some("job");
        assert_eq!(refused(in_time(cluster.job(text))), verdict, "{text}");
    }
}

/// The streams are made by the connection that comes first, and stay as they are.
fn fewer_replicas_than_asked_for_are_said() {
    let server = Server::start();
    drop(connect(&server));
    let asks = aiopool_cluster::Connection::new(server.url()).replicas(3);
    let cluster = aiopool_cluster::Cluster::builder(asks).pool("t").connect_blocking().unwrap();
    for (name, _) in STREAMS {
        let edit = format!("nats stream edit {name} --replicas 3");
        assert!(warnings().iter().any(|text| text.contains(&edit)), "{name}: {:?}", warnings());
    }
    drop(cluster);
}
