//! `aiopool dashboard` in a real browser, and scraped by a real Prometheus.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aiopool::Pool;
use aiopool_testing::missing;
use serde_json::Value;

use crate::browser::Browser;
use crate::rig::{WATCHDOG, aiopool, run, scratch, signal, wait, wait_until};

async fn double(x: u64) -> u64 {
    x * 2
}

async fn sleep_for_ever(_: u64) -> u64 {
    std::future::pending().await
}

async fn nasty(_: u64) -> Result<u64, String> {
    Err("</script><script>document.title='hurt'</script>\u{1b}[2J".to_owned())
}

/// A running dashboard.
struct Dashboard {
    child: Child,
    url: String,
}

impl Dashboard {
    fn start(options: &[&str]) -> Self {
        let mut command = aiopool(["dashboard", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.get_as(path, None)
    }

    fn get_as(&self, path: &str, host: Option<&str>) -> (u16, String) {
        let base = self.url.split('?').next().unwrap().trim_end_matches('/');
        let authority = base.strip_prefix("http://").unwrap();
        let mut stream = std::net::TcpStream::connect(authority).unwrap();
        let host = host.unwrap_or(authority);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        signal("TERM", self.child.id());
        let status = wait(&mut self.child);
        assert!(std::thread::panicking() || status.success(), "{status}");
    }
}

#[test]
fn the_page_shows_a_known_load_and_a_killed_worker() {
    let Some(mut browser) = Browser::start("browser") else { return };
    // Two of the four tasks that are held are in other workers than the killed one.
    let builder = Pool::builder().name("cli-page").processes(3).queues(1);
    let pool = builder.child_concurrency(2).build().unwrap();
    assert_eq!(pool.map(double, 0..1234).into_blocking_iter().count(), 1234);
    pool.try_apply(nasty, 1).wait().unwrap_err();
    let held: Vec<_> = (0..4).map(|i| pool.apply(sleep_for_ever, i)).collect();
    wait_until("all run", || pool.stats().running == 4);
    let dashboard = Dashboard::start(&[]);
    browser.open(&dashboard.url);
    let key = format!("{}.", std::process::id());
    // Other tests of this program have pools, too.
    browser.wait_for(&format!(
        "(last?.pools ?? []).some(p => p.pool.name === 'cli-page' && p.key.startsWith('{key}'))"
    ));
    browser.value(
        "{ const p = last.pools.find(p => p.pool.name === 'cli-page'); \
         $('choice').value = p.key; $('choice').dispatchEvent(new Event('change')); true }",
    );
    let number = |browser: &mut Browser, id: &str| {
        browser.value(&format!("$('n-{id}').textContent")).as_str().unwrap().to_owned()
    };
    assert_eq!(number(&mut browser, "submitted"), "1239");
    assert_eq!(number(&mut browser, "ok"), "1234");
    assert_eq!(number(&mut browser, "failed"), "1");
    assert_eq!(number(&mut browser, "running"), "4");
    assert_eq!(number(&mut browser, "workers"), "3 of 3");
    browser.wait_for("$('functions').innerText.includes('double')");
    assert_eq!(browser.value("$('workers').rows.length"), 4, "a head and three workers");
    // A load that changes while the page is open.
    for _ in 0..8 {
        assert_eq!(pool.map(double, 0..500).into_blocking_iter().count(), 500);
        std::thread::sleep(Duration::from_millis(250));
    }
    browser.wait_for("$('n-ok').textContent === '5234'");
    // The numbers of a worker's death are there within a second of it, as the page's own clock
    // says: the event's age when it was first drawn.
    let victim = pool.worker_pids()[0];
    assert!(signal("KILL", victim));
    browser.wait_for("$('events').innerText.includes('was killed by signal 9')");
    let seen = browser.value(
        "last.pools.find(p => p.key === chosen).events.find(e => e.kind === 'death').age_ns",
    );
    eprintln!("the death was on the page after {} ms", seen.as_u64().unwrap() / 1_000_000);
    browser.wait_for(&format!("!$('workers').innerText.includes('{victim}')"));
    browser.wait_for("$('n-workers').textContent === '3 of 3'");
    if let Some(folder) = std::env::var_os("AIOPOOL_PICTURES") {
        browser.picture(&Path::new(&folder).join("dashboard.png"));
        browser.colours("dark");
        browser.wait_for("matchMedia('(prefers-color-scheme: dark)').matches");
    }
    // A lane tells what ran at the place that is pointed at: now, and before the page was opened.
    let pointed = |browser: &mut Browser, at: &str| {
        let told = browser.value(&format!(
            "{{ const c = document.querySelector('canvas.lane'), r = c.getBoundingClientRect(); \
             c.dispatchEvent(new PointerEvent('pointermove', {{ bubbles: true, clientX: {at}, \
             clientY: r.top + 5 }})); $('lane-text').textContent }}"
        ));
        told.as_str().unwrap().to_owned()
    };
    let now = pointed(&mut browser, "r.right - 1");
    assert!(now.starts_with("seat 0, ") && now.contains(" s ago: pid "), "{now}");
    assert_eq!(pointed(&mut browser, "r.left + 1"), "seat 0: not seen then");
    browser.wait_for("$('workers').innerText.includes('sleep_for_ever')");
    let lanes = "[...document.querySelectorAll('canvas.lane')]";
    assert_eq!(
        browser.value(&format!("{lanes}.some(c => c.samples.some(s => s.what.includes('sleep')))")),
        true
    );
    // On a phone nothing is wider than the screen; tables scroll by themselves.
    browser.size(390, 800);
    browser.wait_for("innerWidth === 390 && document.documentElement.scrollWidth <= 390");
    if let Some(folder) = std::env::var_os("AIOPOOL_PICTURES") {
        std::thread::sleep(Duration::from_millis(600));
        browser.picture(&Path::new(&folder).join("dashboard-phone.png"));
    }
    assert_eq!(browser.value("document.title"), "aiopool", "a text became code");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    drop((held, pool));
    browser.wait_for("!last.pools.some(p => p.pool.name === 'cli-page')");
    drop(dashboard);
}

#[test]
fn the_page_shows_the_nodes_of_a_cluster_and_when_they_were_heard() {
    let Some(mut browser) = Browser::start("browser-nodes") else { return };
    let server = aiopool_nats::Server::start();
    let node = |name: &str| {
        let mut command = aiopool(["node", "--nats", &server.url(), "--name", name]);
        command.args(["--processes", "1", "--lease", "4"]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let dashboard = Dashboard::start(&["--nats", &server.url()]);
    browser.open(&dashboard.url);
    // Nobody has made the pool.
    let missing = "there is no pool `default` on this server";
    browser.wait_for(&format!("$('cluster-about').innerText.includes('{missing}')"));
    assert_eq!(browser.value("$('cluster-about').className"), "bad");
    let (mut first, mut second) = (node("left"), node("right"));
    for name in ["left", "right"] {
        let row = format!("[...$('nodes').rows].find(r => r.innerText.includes('{name}'))");
        browser.wait_for(&format!("{row}?.innerText.includes('alive') ?? false"));
    }
    assert_eq!(browser.value("$('cluster').hidden"), false);
    assert_eq!(browser.value("$('cluster-about').innerText"), "of default");
    signal("KILL", second.id());
    wait(&mut second);
    // It is gone, or says for how long it was not heard; the other one is heard every second.
    let row =
        |name: &str| format!("[...$('nodes').rows].find(r => r.cells[0].innerText === '{name}')");
    let (left, right) = (row("left"), row("right"));
    browser.wait_for(&format!(
        "!{right} || {right}.innerText.includes('gone') || \
         parseInt({right}.cells[10].innerText) >= 5"
    ));
    browser.wait_for(&format!("parseInt({left}.cells[10].innerText) < 5"));
    assert_eq!(browser.value("$('nodes').innerText.includes('left')"), true);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    signal("TERM", first.id());
    wait(&mut first);
    drop((dashboard, server));
}

#[test]
fn only_this_machine_or_the_token_reads_it() {
    let open = Dashboard::start(&[]);
    assert_eq!(open.get("/").0, 200);
    assert_eq!(open.get_as("/", Some("evil.example")).0, 403);
    assert_eq!(open.get("/metrics").0, 404, "not asked for");
    let locked = Dashboard::start(&["--token", "correct-horse"]);
    assert!(locked.url.ends_with("?token=correct-horse"), "{}", locked.url);
    assert_eq!(locked.get("/").0, 403);
    assert_eq!(locked.get("/?token=correct-hors").0, 403);
    assert_eq!(locked.get("/?token=correct-horse").0, 200);
    let every = Dashboard::start(&["--token", "Aa0._~-9"]);
    assert_eq!(every.get("/?token=Aa0._~-9").0, 200);
    for token in ["fragment#", "a&b&c&d&e", "per%20cent", "with space", "gr\u{fc}n-gr\u{fc}n"] {
        let refused = run(&mut aiopool(["dashboard", "--token", token]));
        assert_eq!(refused.code(), Some(1), "{token}");
        assert!(refused.stderr.contains("A-Z"), "{}", refused.stderr);
    }
    let refused = run(&mut aiopool(["dashboard", "--listen", "0.0.0.0:0"]));
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("--token"), "{}", refused.stderr);
}

#[test]
fn pools_are_there_for_scripts() {
    let pool = Pool::builder().name("cli-script").processes(1).build().unwrap();
    assert_eq!(pool.map(double, 0..10).into_blocking_iter().count(), 10);
    let dashboard = Dashboard::start(&[]);
    let (status, body) = dashboard.get("/pools");
    assert_eq!(status, 200);
    let all: Value = serde_json::from_str(&body).unwrap();
    let ours = all["pools"].as_array().unwrap().iter().find(|p| p["pool"]["name"] == "cli-script");
    assert_eq!(ours.unwrap()["pool"]["ok"], 10, "{body}");
    // Nobody has looked meanwhile; the next answer is of now all the same.
    for round in 2..5 {
        assert_eq!(pool.map(double, 0..10).into_blocking_iter().count(), 10);
        let body = dashboard.get("/pools").1;
        let all: Value = serde_json::from_str(&body).unwrap();
        let mut ours = all["pools"].as_array().unwrap().iter();
        let ours = ours.rfind(|p| p["pool"]["name"] == "cli-script");
        assert_eq!(ours.unwrap()["pool"]["ok"], 10 * round, "{body}");
    }
    drop(pool);
}

/// A program whose pool waits for ever, until it is killed.
struct Stopped(Child);

impl Stopped {
    fn start(name: &str) -> Self {
        let mut command = aiopool(["scrape", "--engine", "pool", "--pages", "50", "--out"]);
        command.arg(scratch(name)).args(["--processes", "1", "--latency-ms", "600000"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let host = Self(child);
        wait_until("the pool listens", || {
            aiopool::view::pools().iter().any(|address| address.host_pid() == host.0.id())
        });
        host
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("KILL", self.0.id());
        wait(&mut self.0);
    }
}

#[test]
fn a_stopped_host_is_shown_as_one_that_does_not_answer_and_holds_up_no_other() {
    let pool = Pool::builder().name("cli-beside").processes(1).build().unwrap();
    let hosts: Vec<Stopped> = (0..5).map(|n| Stopped::start(&format!("stopped-{n}.csv"))).collect();
    let dashboard = Dashboard::start(&["--metrics"]);
    let rounds = || -> Value { serde_json::from_str(&dashboard.get("/pools").1).unwrap() };
    let of = |all: &Value, pid: u32| -> Option<Value> {
        let mut pools = all["pools"].as_array().unwrap().iter();
        pools.find(|p| p["pool"]["host_pid"] == pid).cloned()
    };
    let pids: Vec<u32> = hosts.iter().map(|host| host.0.id()).collect();
    wait_until("all are shown", || {
        let all = rounds();
        pids.iter().all(|&pid| of(&all, pid).is_some_and(|p| p["no_answer"].is_null()))
    });
    assert!(pids.iter().all(|&pid| signal("STOP", pid)));
    // The rest is answered without them, whether a browser looks or a script asks.
    wait_until("the stopped ones are told apart", || {
        let all = rounds();
        pids.iter().all(|&pid| {
            let shown = of(&all, pid).expect("it vanished");
            shown["no_answer"].is_string()
        })
    });
    assert_eq!(pool.map(double, 0..77).into_blocking_iter().count(), 77);
    let all = rounds();
    let own = all["pools"].as_array().unwrap().iter().find(|p| p["pool"]["name"] == "cli-beside");
    assert_eq!(own.unwrap()["pool"]["ok"], 77);
    let text = dashboard.get("/metrics").1;
    assert!(text.contains("pool=\"cli-beside\""), "{text}");
    assert!(pids.iter().all(|&pid| signal("CONT", pid)));
    wait_until("they answer again", || {
        let all = rounds();
        pids.iter().all(|&pid| of(&all, pid).is_some_and(|p| p["no_answer"].is_null()))
    });
    drop(hosts);
}

#[test]
fn an_answer_to_a_script_is_no_older_than_its_question() {
    let pool = Pool::builder().name("cli-now").processes(1).build().unwrap();
    let host = Stopped::start("cli-now.csv");
    assert!(signal("STOP", host.0.id()));
    let dashboard = Dashboard::start(&[]);
    std::thread::scope(|scope| {
        // As long as the stopped host is waited for, the answers of all others are kept.
        scope.spawn(|| dashboard.get("/pools"));
        // Time for this pool to answer before the next question.
        std::thread::sleep(Duration::from_millis(800));
        assert_eq!(pool.map(double, 0..10).into_blocking_iter().count(), 10);
        let all: Value = serde_json::from_str(&dashboard.get("/pools").1).unwrap();
        let ours = all["pools"].as_array().unwrap().iter().find(|p| p["pool"]["name"] == "cli-now");
        assert_eq!(ours.unwrap()["pool"]["ok"], 10, "{all}");
    });
    drop((pool, host));
}

#[test]
fn prometheus_scrapes_the_metrics() {
    let pool = Pool::builder().name("cli-prom").processes(2).build().unwrap();
    assert_eq!(pool.map(double, 0..321).into_blocking_iter().count(), 321);
    pool.try_apply(nasty, 1).wait().unwrap_err();
    let dashboard = Dashboard::start(&["--metrics"]);
    let (status, text) = dashboard.get("/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("pool=\"cli-prom\"") && !text.contains('\u{1b}'), "{text}");
    if missing("prometheus") {
        return;
    }
    let mut checked = Command::new("promtool");
    checked.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut checked = checked.stdout(Stdio::piped()).spawn().unwrap();
    checked.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = checked.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success() && complaints.is_empty(), "{complaints}");
    let prometheus = Prometheus::start(&dashboard);
    let own = format!("pool=\"cli-prom\",host_pid=\"{}\"", std::process::id());
    let of_double = format!("{own},function=~\".*double\"");
    // Whatever became of the scrapes after it: one that takes too long ends all series.
    let last = |name: &str, labels: &str| format!("last_over_time({name}{{{labels}}}[1h])");
    let ok = last("aiopool_tasks_total", &format!("{own},outcome=\"ok\""));
    prometheus.wait_for(&ok, |ok| ok == 321.0);
    let count = last("aiopool_task_run_seconds_count", &of_double);
    prometheus.wait_for(&count, |count| count == 321.0);
    let buckets = last("aiopool_task_run_seconds_bucket", &of_double);
    prometheus.wait_for(&format!("histogram_quantile(0.99, {buckets})"), |time| time > 0.0);
    let workers = last("aiopool_workers", &own);
    prometheus.wait_for(&format!("sum({workers})"), |workers| workers == 2.0);
    drop((prometheus, pool));
}

/// A Prometheus that scrapes a dashboard.
struct Prometheus {
    server: Child,
    port: u16,
    folder: PathBuf,
}

impl Prometheus {
    fn start(dashboard: &Dashboard) -> Self {
        let folder = scratch("prometheus");
        std::fs::create_dir_all(&folder).unwrap();
        let target = dashboard.url.strip_prefix("http://").unwrap().trim_end_matches('/');
        // A scrape may take as long as the interval: longer than a stopped host is waited for.
        let jobs = format!(
            "scrape_configs:\n- job_name: aiopool\n  scrape_interval: 5s\n  static_configs:\n  \
             - targets: ['{target}']\n"
        );
        std::fs::write(folder.join("prometheus.yml"), jobs).unwrap();
        let (server, port) = Self::spawn(&folder);
        let mut prometheus = Self { server, port, folder };
        wait_until("prometheus is ready", || {
            // The port was free, and another process may have taken it since.
            if prometheus.server.try_wait().unwrap().is_some() {
                (prometheus.server, prometheus.port) = Self::spawn(&prometheus.folder);
            }
            prometheus.get("/-/ready").is_some_and(|text| text.contains("Prometheus"))
        });
        prometheus
    }

    /// Starts the server, on a port that is free now.
    fn spawn(folder: &Path) -> (Child, u16) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        (server.unwrap(), port)
    }

    /// Waits until a query has a value that is right.
    fn wait_for(&self, query: &str, is_right: impl Fn(f64) -> bool) {
        wait_until(query, || self.value(query).is_some_and(&is_right));
    }

    fn value(&self, query: &str) -> Option<f64> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={query}"))?;
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        body["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(WATCHDOG)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
        signal("TERM", self.server.id());
        wait(&mut self.server);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_grafana_dashboard_asks_for_metrics_that_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/grafana.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pool = Pool::builder().name("cli-grafana").processes(1).build().unwrap();
    assert_eq!(pool.map(double, 0..10).into_blocking_iter().count(), 10);
    let text = Dashboard::start(&["--metrics"]).get("/metrics").1;
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let names = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in names.filter(|name| name.starts_with("aiopool_")) {
                assert!(text.contains(&format!("\n{name}{{")), "{name} is no metric: {query}");
                asked += 1;
            }
        }
    }
    assert!(asked > 8, "{asked} names");
    drop(pool);
}
