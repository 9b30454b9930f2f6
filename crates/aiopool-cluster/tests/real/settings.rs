//! Streams and buckets that an operator has made by hand.

use aiopool_cluster::observe;
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
