//! Users with the rights that README.md lists and no others, TLS, nkeys and credentials.

use std::process::Command;

use aiopool_cluster::{Cluster, Connection, Node, observe};
use aiopool_nats::{NEWEST, Server};

use crate::verbs::double;
use crate::{LEASE, Test, WATCHDOG, in_time, make};

pub const TESTS: &[Test] = &[
    ("the_listed_rights_are_enough", the_listed_rights_are_enough),
    ("a_missing_right_is_named", a_missing_right_is_named),
    ("no_password_is_shown", no_password_is_shown),
    ("nkeys_and_tls", nkeys_and_tls),
];

/// The block of README.md that begins with this line.
fn rights(role: &str) -> String {
    let readme = include_str!("../../README.md");
    let from = readme.find(&format!("# {role}\n")).expect("README.md lists the rights");
    let to = readme[from..].find("```").expect("the block has an end");
    readme[from..from + to].replace("mypool", "t")
}

fn users(node: &str) -> String {
    format!(
        "authorization {{ users = [\n\
         {{ user: admin, password: a }},\n\
         {{ user: submitter, password: s, permissions: {{ {} }} }},\n\
         {{ user: node, password: n, permissions: {{ {node} }} }} ] }}\n",
        rights("submitter")
    )
}

fn the_listed_rights_are_enough() {
    let server = Server::with(NEWEST, true, &users(&rights("node")));
    let by = |user: &str, password: &str| {
        Connection::new(server.url()).user(user, password).inbox_prefix(format!("_INBOX_{user}"))
    };
    in_time(async {
        // Streams and buckets are made by the administrator's first connection.
        make(by("admin", "a")).await;
        let node = Node::builder(by("node", "n")).pool("t").processes(1).lease(LEASE);
        let work = async {
            let submitter = Cluster::builder(by("submitter", "s")).pool("t").lease(LEASE);
            let cluster = submitter.connect().await.unwrap();
            assert_eq!(cluster.map(double, 0..1100).await.unwrap().len(), 1100);
            let large = vec![7_u8; 300_000];
            assert_eq!(cluster.apply(length, large).await.unwrap(), 300_000);
            let job = cluster.job("j").await.unwrap();
            assert_eq!(job.apply(double, 3).await.unwrap(), 6);
            job.finish().await;
            assert!(cluster.drain(WATCHDOG).await);
        };
        tokio::select! {
            () = work => {}
            ended = node.run_until(std::future::pending()) => panic!("{ended:?}"),
        }
        let left = observe(by("admin", "a"), "t").await.unwrap();
        assert_eq!((left.messages, left.pieces, left.jobs.len()), (0, 0, 0), "{left:?}");
    });
}

async fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

/// The rights of a role, each by itself: what stands in quotation marks.
fn each_right(role: &str) -> Vec<String> {
    rights(role).split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One user for each right, with all the others.
fn a_missing_right_is_named() {
    let mut users = "{ user: admin, password: a },\n".to_owned();
    let mut all = Vec::new();
    for role in ["submitter", "node"] {
        for (i, right) in each_right(role).into_iter().enumerate() {
            let name = format!("{role}{i}");
            let rest = rights(role).replace(&format!("\"{right}\""), "\"nothing.at.all\"");
            users += &format!("{{ user: {name}, password: x, permissions: {{ {rest} }} }},\n");
            all.push((role, name, right));
        }
    }
    assert!(all.len() > 30, "{all:?}");
    let server = Server::with(NEWEST, true, &format!("authorization {{ users = [\n{users}] }}\n"));
    in_time(async {
        make(Connection::new(server.url()).user("admin", "a")).await;
        let url = &server.url();
        let tries = all.iter().map(|(role, name, right)| async move {
            let by = Connection::new(url).user(name, "x");
            let by = by.inbox_prefix(format!("_INBOX_{role}"));
            let error = if *role == "node" {
                let node = Node::builder(by).pool("t").processes(1).lease(LEASE);
                let node = node.run_until(tokio::time::sleep(WATCHDOG / 2));
                node.await.err()
            } else {
                Cluster::builder(by).pool("t").lease(LEASE).connect().await.err()
            };
            let text = error.map_or_else(|| "nothing".to_owned(), |error| error.to_string());
            let subject = right.trim_end_matches(['*', '>']);
            (!text.contains(subject)).then(|| format!("{role} without {right}: {text}"))
        });
        let unnamed: Vec<String> =
            futures_util::future::join_all(tries).await.into_iter().flatten().collect();
        assert!(unnamed.is_empty(), "{unnamed:#?}");
        let wrong = Connection::new(server.url()).user("node", "wrong");
        let error = Cluster::builder(wrong).pool("t").connect().await.unwrap_err();
        assert!(error.to_string().contains("authorization"), "{error}");
    });
}

fn no_password_is_shown() {
    let url = "nats://me:secret@127.0.0.1:1, tls://me:secret@127.0.0.1:2,me:secret@127.0.0.1:3";
    let error = in_time(Cluster::connect(url)).unwrap_err();
    for text in [
        error.to_string(),
        format!("{error:?}"),
        format!("{:?}", Connection::new(url)),
        format!("{:?}", Cluster::builder(url)),
        format!("{:?}", Node::builder(url)),
    ] {
        assert!(text.contains("127.0.0.1:1") && !text.contains("secret"), "{text}");
    }
}

fn nkeys_and_tls() {
    let made = std::env::temp_dir().join(format!("aiopool-tls-{}", std::process::id()));
    std::fs::create_dir_all(&made).unwrap();
    let (key, certificate) = (made.join("key.pem"), made.join("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    assert!(openssl.output().unwrap().status.success(), "openssl makes no certificate");
    // The pair that the server's documentation shows.
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let config = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n\
         authorization {{ users = [ {{ nkey: {public} }} ] }}\n",
        certificate.display(),
        key.display()
    );
    let server = Server::with(NEWEST, true, &config);
    in_time(async {
        let known = Connection::new(server.url()).root_certificates(&certificate).nkey_seed(seed);
        let overview = observe(known, "t").await.unwrap();
        assert!(overview.nodes.is_empty());
        let stranger = Connection::new(server.url()).root_certificates(&certificate);
        let error = observe(stranger, "t").await.unwrap_err();
        assert!(error.to_string().contains("authorization"), "{error}");
        let distrusting = Connection::new(server.url()).tls(true).nkey_seed(seed);
        let error = observe(distrusting, "t").await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
        let missing = Connection::new(server.url()).credentials_file("/nowhere/a.creds");
        let error = observe(missing, "t").await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/a.creds"), "{error}");
        let missing = Connection::new(server.url()).root_certificates("/nowhere/ca.pem");
        let error = observe(missing, "t").await.unwrap_err().to_string();
        assert!(error.contains("root_certificates = /nowhere/ca.pem"), "{error}");
        let swapped = Connection::new(server.url()).client_certificate(&key, &certificate);
        let error = observe(swapped, "t").await.unwrap_err().to_string();
        assert!(
            error.contains("client_certificate") && error.contains("no CERTIFICATE"),
            "{error}"
        );
        let other = Connection::new(server.url()).nkey_seed("a secret");
        let error = observe(other, "t").await.unwrap_err().to_string();
        assert!(error.contains("nkey_seed") && !error.contains("secret"), "{error}");
    });
    let _ = std::fs::remove_dir_all(&made);
}
