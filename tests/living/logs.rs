//! What tasks log reaches the host's subscriber.

use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use aiopool::{Pool, PoolBuilder, StartMethod};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// An event as the host's subscriber sees it.
#[derive(Clone, Debug, Default)]
struct Seen {
    level: String,
    target: String,
    message: String,
    worker: Option<u64>,
    pid: Option<u64>,
    task: Option<u64>,
    function: String,
    spans: String,
    /// The span of the host that it is within.
    parent: Option<u64>,
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "worker" => self.worker = Some(value),
            "pid" => self.pid = Some(value),
            "task" => self.task = Some(value),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "function" => value.clone_into(&mut self.function),
            "spans" => value.clone_into(&mut self.spans),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Keeps events of this crate, and waits at each while its gate is shut.
#[derive(Clone, Default)]
struct Listener {
    seen: Arc<Mutex<Vec<Seen>>>,
    shut: Arc<(Mutex<bool>, Condvar)>,
    /// The spans that were opened, and those that a thread is in.
    opened: Arc<Mutex<Vec<&'static Metadata<'static>>>>,
    entered: Arc<Mutex<Vec<(Id, &'static Metadata<'static>)>>>,
}

impl Listener {
    fn set_gate(&self, shut: bool) {
        *self.shut.0.lock().unwrap() = shut;
        self.shut.1.notify_all();
    }

    /// Builds a pool whose records come here.
    fn pool(&self, builder: PoolBuilder) -> Pool {
        tracing::subscriber::with_default(self.clone(), || builder.build().unwrap())
    }

    /// What came of this crate's records, and of the library's about them.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target.starts_with("living") || target == "aiopool::worker"
    }

    fn current_span(&self) -> tracing_core::span::Current {
        let entered = self.entered.lock().unwrap();
        match entered.last() {
            Some((id, metadata)) => tracing_core::span::Current::new(id.clone(), metadata),
            None => tracing_core::span::Current::none(),
        }
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let mut shut = self.shut.0.lock().unwrap();
        while *shut {
            shut = self.shut.1.wait(shut).unwrap();
        }
        let mut seen = Seen {
            level: event.metadata().level().to_string(),
            target: event.metadata().target().to_owned(),
            parent: event.parent().map(Id::into_u64),
            ..Seen::default()
        };
        event.record(&mut seen);
        self.seen.lock().unwrap().push(seen);
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut opened = self.opened.lock().unwrap();
        opened.push(attributes.metadata());
        Id::from_u64(opened.len() as u64)
    }

    fn enter(&self, id: &Id) {
        let metadata = self.opened.lock().unwrap()[id.into_u64() as usize - 1];
        self.entered.lock().unwrap().push((id.clone(), metadata));
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().unwrap().pop();
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

fn end(pool: Pool) {
    pool.close();
    pool.join_blocking().unwrap();
}

async fn say(text: String) -> u32 {
    let page = tracing::info_span!("page", number = 7);
    page.in_scope(|| tracing::warn!(attempt = 2, "{text}"));
    log::info!("by log: {text}");
    tokio::task::yield_now().await;
    tracing::debug!("after a pause");
    tracing::trace!("too much");
    std::process::id()
}

fn says_all(builder: PoolBuilder) {
    let listener = Listener::default();
    let pool = listener.pool(builder);
    let task = pool.apply(say, "two\nlines".to_owned());
    let number = task.id();
    let pid = u64::from(task.wait().unwrap());
    end(pool);
    let seen = listener.seen();
    let mine = |seen: &&Seen| seen.target.starts_with("living");
    let seen: Vec<_> = seen.iter().filter(mine).collect();
    let said: Vec<_> = seen.iter().map(|seen| (&*seen.level, &*seen.message)).collect();
    let wanted = [
        ("WARN", "two\nlines attempt=2"),
        ("INFO", "by log: two\nlines"),
        ("DEBUG", "after a pause"),
    ];
    assert_eq!(said, wanted, "{seen:#?}");
    for one in &seen {
        assert_eq!((one.worker, one.pid, one.task), (Some(0), Some(pid), number), "{one:?}");
        assert!(one.function.ends_with("say"), "{one:?}");
    }
    assert_eq!(seen[0].spans, "page{number=7}");
    assert_eq!(seen[1].spans, "");
}

#[test]
fn what_a_task_logs_reaches_the_hosts_subscriber_with_its_worker_and_task() {
    says_all(Pool::builder().processes(1));
    says_all(Pool::builder().processes(1).start_method(StartMethod::Spawn));
}

#[cfg(feature = "sandbox")]
#[test]
fn a_worker_in_a_sandbox_logs_too() {
    says_all(Pool::builder().processes(1).sandbox(aiopool::Sandbox::new()));
}

#[test]
fn what_a_task_logs_is_within_the_span_of_its_caller() {
    let listener = Listener::default();
    let pool = listener.pool(Pool::builder().processes(1));
    let (first, second) = tracing::subscriber::with_default(listener.clone(), || {
        let (first, second) = (tracing::info_span!("first"), tracing::info_span!("second"));
        let task = first.in_scope(|| pool.apply(say, "first".to_owned()));
        let texts = ["second".to_owned(), "second".to_owned()];
        second.in_scope(|| aiopool::block_on(pool.map(say, texts)).unwrap());
        task.wait().unwrap();
        pool.apply(say, "none".to_owned()).wait().unwrap();
        (first.id(), second.id())
    });
    end(pool);
    for (text, parent, count) in [("first", first, 1), ("second", second, 2), ("none", None, 1)] {
        let parent = parent.as_ref().map(Id::into_u64);
        let message = format!("by log: {text}");
        let seen: Vec<_> = listener.seen().into_iter().filter(|s| s.message == message).collect();
        let parents: Vec<_> = seen.iter().map(|seen| seen.parent).collect();
        assert_eq!(parents, vec![parent; count], "{seen:?}");
    }
}

#[test]
fn workers_send_what_the_filter_names_and_a_filter_that_is_none_is_refused() {
    let listener = Listener::default();
    let logs = aiopool::logs().filter("error,living::logs=info");
    let pool = listener.pool(Pool::builder().processes(1).logs(logs));
    pool.apply(say, "x".to_owned()).wait().unwrap();
    end(pool);
    let seen = listener.seen();
    let levels: Vec<_> = seen.iter().map(|seen| &*seen.level).collect();
    assert_eq!(levels, ["WARN", "INFO"], "{seen:#?}");

    let refused = Pool::builder().logs(aiopool::logs().filter("living=loud")).build();
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("logs") && refused.contains("living=loud"), "{refused}");
}

#[test]
fn logs_that_are_off_stay_in_the_workers() {
    let listener = Listener::default();
    let pool = listener.pool(Pool::builder().processes(1).logs(aiopool::logs().off()));
    pool.apply(say, "x".to_owned()).wait().unwrap();
    end(pool);
    assert!(listener.seen().is_empty(), "{:?}", listener.seen());
}

async fn say_many(count: u32) {
    for number in 0..count {
        tracing::info!("{number}");
    }
}

#[test]
fn a_slow_host_never_holds_up_a_worker_and_learns_how_many_records_were_dropped() {
    const COUNT: u32 = 5000;
    let listener = Listener::default();
    let pool = listener.pool(Pool::builder().processes(1));
    listener.set_gate(true);
    pool.apply(say_many, COUNT).wait().unwrap();
    listener.set_gate(false);
    // The next record that finds room carries the number.
    let dropped = |seen: &[Seen]| -> u64 {
        let counts = seen.iter().filter(|seen| seen.target == "aiopool::worker");
        counts.filter_map(|seen| seen.message.split(' ').next()?.parse::<u64>().ok()).sum()
    };
    let mut more = 0;
    while dropped(&listener.seen()) == 0 {
        pool.apply(say_many, 1).wait().unwrap();
        more += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    end(pool);
    let seen = listener.seen();
    let came = seen.iter().filter(|seen| seen.target.starts_with("living")).count() as u64;
    assert_eq!(came + dropped(&seen), u64::from(COUNT) + more);
    let numbers: Vec<u32> = seen.iter().filter_map(|seen| seen.message.parse().ok()).collect();
    let first = &numbers[..numbers.len() - more as usize];
    assert!(first.is_sorted(), "{first:?}");
}

async fn say_and_die(_: ()) {
    tracing::error!("my last words");
    std::process::abort();
}

#[test]
fn what_a_worker_said_before_it_died_arrives() {
    let listener = Listener::default();
    let pool = listener.pool(Pool::builder().processes(1));
    for _ in 0..3 {
        pool.apply(say_and_die, ()).wait().unwrap_err();
    }
    end(pool);
    let said = listener.seen().iter().filter(|seen| seen.message == "my last words").count();
    assert_eq!(said, 3);
}
