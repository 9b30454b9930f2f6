//! A server that knows nobody but an operator: accounts and users are claims that their issuers have
//! signed, and a user logs in with a file of credentials.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use aiopool_cluster::{Cluster, ClusterError, Connection, Node, observe};
use aiopool_nats::{NEWEST, Server};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::said::warnings;
use crate::verbs::{double, sleeps};
use crate::{LEASE, SHORT, Test, WATCHDOG, in_time};

pub const TESTS: &[Test] = &[
    ("a_file_of_credentials_logs_in", a_file_of_credentials_logs_in),
    ("credentials_that_run_out_are_renewed", credentials_that_run_out_are_renewed),
];

/// What `issuer` says of `subject`, signed; for ever, or until a time in seconds of the epoch.
fn signed(
    issuer: &KeyPair,
    subject: &KeyPair,
    name: &str,
    says: Value,
    until: Option<u64>,
) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let mut claims = json!({
        "jti": format!("{name}-1"), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": name, "sub": subject.public_key(), "nats": says,
    });
    if let Some(until) = until {
        claims["exp"] = json!(until);
    }
    let claims = part(claims);
    let text = format!("{head}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

/// An account's user, as the file that its holder is given.
fn credentials(
    account: &KeyPair,
    name: &str,
    publish: Value,
    subscribe: Value,
    until: Option<u64>,
) -> PathBuf {
    let user = KeyPair::new_user();
    let says = json!({
        "pub": publish, "sub": subscribe, "subs": -1, "data": -1, "payload": -1,
        "type": "user", "version": 2,
    });
    let jwt = signed(account, &user, name, says, until);
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    let path = std::env::temp_dir().join(format!("aiopool-{}-{name}.creds", std::process::id()));
    // Whole at any moment: a client may read it now.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, &path).unwrap();
    path
}

/// A server that knows an operator, and an account of that.
fn server_of(operator: &KeyPair, account: &KeyPair) -> Server {
    let system = KeyPair::new_account();
    let of_operator = json!({"type": "operator", "version": 2});
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
    });
    let of_system = json!({"limits": limits, "type": "account", "version": 2});
    for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
        limits[name] = json!(-1);
    }
    let of_account = json!({"limits": limits, "type": "account", "version": 2});
    let config = format!(
        "operator: \"{}\"\nresolver: MEMORY\nsystem_account: {system_key}\n\
         resolver_preload: {{ {}: \"{}\", {system_key}: \"{}\" }}\n",
        signed(operator, operator, "operator", of_operator, None),
        account.public_key(),
        signed(operator, account, "account", of_account, None),
        signed(operator, &system, "system", of_system, None),
        system_key = system.public_key(),
    );
    Server::with(NEWEST, true, &config)
}

fn a_file_of_credentials_logs_in() {
    let [account, stranger] = [(); 2].map(|()| KeyPair::new_account());
    let server = server_of(&KeyPair::new_operator(), &account);
    let all = credentials(&account, "all", json!({}), json!({}), None);
    // What README.md says that an observer needs.
    let buckets = ["AIOPOOL_t", "AIOPOOL_t_BLOBS", "KV_AIOPOOL_NODES", "KV_AIOPOOL_JOBS"];
    let mut may: Vec<String> = vec!["$JS.API.CONSUMER.INFO.AIOPOOL_t.*".to_owned()];
    may.extend(buckets.iter().map(|bucket| format!("$JS.API.STREAM.INFO.{bucket}")));
    may.extend(buckets.iter().map(|bucket| format!("$JS.API.STREAM.MSG.GET.{bucket}")));
    let inbox = json!({"allow": ["_INBOX.>"]});
    let looks = credentials(&account, "looks", json!({"allow": may}), inbox, None);
    let unknown = credentials(&stranger, "unknown", json!({}), json!({}), None);
    let by = |file: &PathBuf| Connection::new(server.url()).credentials_file(file);
    in_time(async {
        let node = Node::builder(by(&all)).pool("t").processes(1).lease(LEASE);
        let work = async {
            let submitter = Cluster::builder(by(&all)).pool("t").lease(LEASE);
            let cluster = submitter.connect().await.unwrap();
            assert_eq!(cluster.map(double, 0..50).await.unwrap().len(), 50);
            let seen = observe(by(&looks), "t").await.unwrap();
            assert_eq!((seen.nodes.len(), seen.jobs.len()), (1, 1), "{seen:?}");
            let error = Cluster::builder(by(&looks)).pool("t").connect().await.unwrap_err();
            assert!(error.to_string().contains("aiopool.t."), "{error}");
            let error = observe(by(&unknown), "t").await.unwrap_err();
            assert!(error.to_string().contains("authorization"), "{error}");
            assert!(cluster.drain(WATCHDOG).await);
        };
        tokio::select! {
            () = work => {}
            ended = node.run_until(std::future::pending()) => panic!("{ended:?}"),
        }
    });
    [all, looks, unknown].iter().for_each(|file| fs::remove_file(file).unwrap());
}

/// A user's claims run out under a task, and the file has new ones later.
fn credentials_that_run_out_are_renewed() {
    let account = KeyPair::new_account();
    let server = server_of(&KeyPair::new_operator(), &account);
    let write = |until| credentials(&account, "lasting", json!({}), json!({}), until);
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let file = write(None);
    let by = || Connection::new(server.url()).credentials_file(&file);
    in_time(async {
        let node = Node::builder(by()).pool("t").processes(1).lease(SHORT);
        let (tell, stop) = tokio::sync::oneshot::channel::<()>();
        let work = async {
            // The node, too, connects with claims that run out.
            let cluster = Cluster::builder(by()).pool("t").lease(SHORT).connect().await.unwrap();
            cluster.ready().await.unwrap();
            let error = cluster.apply(sleeps, 600_000).await.unwrap_err();
            assert!(matches!(error, ClusterError::Ended(_)), "{error:?}");
            let said = error.to_string();
            assert!(said.contains("lease") && said.contains("authorization"), "{said}");
            assert!(said.contains("User Authentication Expired"), "{said}");
            let ended = |text: &&String| text.ends_with("error=nats: User Authentication Expired");
            let told = warnings().iter().filter(ended).count();
            // Of node and submitter: not for each of the tries in the claims' last second.
            assert!(told <= 6, "{told}: {:?}", warnings());
            let late = Cluster::builder(by()).pool("t").connect().await.unwrap_err();
            assert!(late.to_string().contains("authorization"), "{late}");
            let late = observe(by(), "t").await.unwrap_err();
            assert!(late.to_string().contains("authorization"), "{late}");
            write(None);
            let cluster = Cluster::builder(by()).pool("t").lease(LEASE).connect().await.unwrap();
            assert_eq!(cluster.apply(double, 2).await.unwrap(), 4);
            assert!(cluster.drain(WATCHDOG).await);
            let _ = tell.send(());
        };
        let served = node.run_until(async { drop(stop.await) });
        write(Some(now() + 30));
        let (report, ()) = tokio::join!(served, work);
        assert!(report.unwrap().done >= 1);
    });
    fs::remove_file(&file).unwrap();
}
