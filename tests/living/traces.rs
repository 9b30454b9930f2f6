//! A task in a distributed trace: OpenTelemetry's own exporter sees its span.

use std::collections::HashMap;

use aiopool::{Error, Pool, StartMethod, TaskContext, TaskOptions, WorkerContext};
use bytes::Bytes;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::dispatcher::with_default;
use tracing::{Dispatch, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

async fn work(text: String) -> usize {
    tracing::info!("{text}");
    text.len()
}

async fn fail(_: u64) -> Result<u64, String> {
    Err("no".to_owned())
}

fn named<'s>(spans: &'s [SpanData], name: &str) -> Vec<&'s SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn tracer() -> (Dispatch, InMemorySpanExporter, SdkTracerProvider) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("living"));
    (Dispatch::new(tracing_subscriber::registry().with(layer)), exporter, provider)
}

#[test]
fn a_tasks_span_has_the_trace_id_of_its_caller() {
    let (dispatch, exporter, provider) = tracer();
    let pool = with_default(&dispatch, || {
        let logs = aiopool::logs().filter("info").task_spans();
        Pool::builder().processes(1).logs(logs).build().unwrap()
    });
    let numbers = with_default(&dispatch, || {
        let in_a_request = |text: &str| {
            let request = tracing::info_span!("request");
            request.in_scope(|| {
                let task = pool.apply(work, text.to_owned());
                let number = task.id();
                assert_eq!(task.wait().unwrap(), text.len());
                number.unwrap()
            })
        };
        let numbers = [in_a_request("first"), in_a_request("second")];
        tracing::info_span!("request").in_scope(|| pool.try_apply(fail, 1).wait().unwrap_err());
        // In no span: none is opened.
        pool.apply(work, "alone".to_owned()).wait().unwrap();
        numbers
    });
    pool.close();
    pool.join_blocking().unwrap();
    provider.force_flush().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let (requests, tasks) = (named(&spans, "request"), named(&spans, "task"));
    assert_eq!((requests.len(), tasks.len()), (3, 3), "{spans:#?}");
    for task in &tasks {
        let of =
            |request: &&&SpanData| request.span_context.trace_id() == task.span_context.trace_id();
        let request = requests.iter().find(of).expect("a request with the task's trace id");
        assert_eq!(task.parent_span_id, request.span_context.span_id());
        assert!(task.start_time >= request.start_time && task.end_time <= request.end_time);
    }
    for number in numbers {
        let is_its = |attribute: &opentelemetry::KeyValue| {
            attribute.key.as_str() == "task" && attribute.value.to_string() == number.to_string()
        };
        assert!(tasks.iter().any(|task| task.attributes.iter().any(is_its)), "{tasks:#?}");
    }
    let traces: std::collections::HashSet<_> =
        tasks.iter().map(|task| task.span_context.trace_id()).collect();
    assert_eq!(traces.len(), 3, "each request has a trace of its own");
}

fn of_caller() -> Option<String> {
    let mut context = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut context);
    (!context.is_empty()).then(|| serde_json::to_string(&context).unwrap())
}

fn adopt(span: &Span, context: &str) {
    let context: HashMap<String, String> = serde_json::from_str(context).unwrap();
    span.set_parent(TraceContextPropagator::new().extract(&context)).unwrap();
}

/// Sets up the worker's own subscriber and exporter.
async fn trace_here((): ()) -> Result<(), String> {
    let (dispatch, exporter, provider) = tracer();
    tracing::dispatcher::set_global_default(dispatch).map_err(|error| error.to_string())?;
    let worker = WorkerContext::current().unwrap();
    worker.set_state(exporter);
    worker.set_state(provider);
    Ok(())
}

/// The ids of a trace, of a span and of the one above it, as text.
type Ids = (String, String, String);

/// Returns the spans named `task` that the worker has exported since the last call.
async fn exported((): ()) -> Vec<Ids> {
    let exporter = WorkerContext::current().unwrap().state::<InMemorySpanExporter>().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    exporter.reset();
    let tasks = named(&spans, "task").into_iter().map(|span| {
        let of = &span.span_context;
        (of.trace_id().to_string(), of.span_id().to_string(), span.parent_span_id.to_string())
    });
    tasks.collect()
}

/// Returns the ids of the trace and the span that the calling code is in.
fn here() -> (String, String) {
    let context = Span::current().context();
    let of = context.span().span_context().clone();
    (of.trace_id().to_string(), of.span_id().to_string())
}

async fn where_it_is(_: u64) -> (String, String) {
    tokio::task::yield_now().await;
    here()
}

async fn where_raw(raw: Bytes) -> Bytes {
    assert_eq!(raw, vec![b'x'; raw.len()]);
    Bytes::from(here().0)
}

async fn at_the_second(_: u64) -> Result<(String, String), String> {
    match TaskContext::current().map(|task| task.attempt()) {
        Some(2) => Ok(here()),
        attempt => Err(format!("{attempt:?}")),
    }
}

#[test]
fn what_the_worker_exports_is_within_the_callers_trace() {
    let (dispatch, ..) = tracer();
    let pool = with_default(&dispatch, || {
        let logs = aiopool::logs().carry_context(of_caller, adopt);
        Pool::builder().processes(1).initializer(trace_here, ()).logs(logs).build().unwrap()
    });
    let spans = || pool.apply(exported, ()).wait().unwrap();
    let in_a_request = |code: &dyn Fn() -> Vec<String>| {
        // Of the task that asks, which is in no span here.
        spans();
        let request = tracing::info_span!("request");
        let (ids, traces) = request.in_scope(|| (here(), code()));
        let tasks = spans();
        assert!(!tasks.is_empty() && !traces.is_empty());
        assert!(traces.iter().all(|trace| *trace == ids.0), "{ids:?} {traces:?}");
        // The first is of the call of `spans` before.
        for (trace, span, parent) in &tasks[1..] {
            assert_eq!((trace, parent), (&ids.0, &ids.1));
            assert_ne!(span, parent);
        }
        assert_ne!(tasks[0].0, ids.0);
        (ids, tasks.len() - 1)
    };
    with_default(&dispatch, || {
        let (one, tasks) = in_a_request(&|| vec![pool.apply(where_it_is, 1).wait().unwrap().0]);
        assert_eq!(tasks, 1);
        let (other, tasks) = in_a_request(&|| {
            let places = aiopool::block_on(pool.map(where_it_is, 0..100)).unwrap();
            places.into_iter().map(|(trace, _)| trace).collect()
        });
        assert_eq!(tasks, 100);
        assert_ne!(one.0, other.0, "each request has a trace of its own");
        let (_, attempts) = in_a_request(&|| {
            let twice = TaskOptions::new().retries(1).retry_on_error(true);
            vec![pool.with(twice).try_apply(at_the_second, 1).wait().unwrap().0]
        });
        assert_eq!(attempts, 2, "both have the caller's context");
        // In the descriptor, in the record and in a block.
        for len in [0, 3, 40, 100_000] {
            let raw = Bytes::from(vec![b'x'; len]);
            let trace = || pool.apply(where_raw, raw.clone()).wait().unwrap();
            in_a_request(&|| vec![String::from_utf8(trace().to_vec()).unwrap()]);
        }
        // In no span: within the worker's own.
        spans();
        let (trace, _) = pool.apply(where_it_is, 1).wait().unwrap();
        let tasks = spans();
        assert!(tasks.len() == 2 && tasks.iter().all(|ids| ids.0 == trace), "{tasks:?}");
        assert_eq!(tasks[0].2, tasks[1].2);
        assert!(trace != one.0 && trace != other.0);
    });
    pool.close();
    pool.join_blocking().unwrap();
}

#[test]
fn a_context_that_panics_costs_the_task_nothing_and_other_programs_get_none() {
    let always = || Some("anything".to_owned());
    let logs = aiopool::logs().carry_context(always, |_, context| panic!("no {context}"));
    let pool = Pool::builder().processes(1).logs(logs.clone()).build().unwrap();
    assert_eq!(pool.apply(work, "four".to_owned()).wait().unwrap(), 4);
    assert_eq!(pool.stats().deaths, 0);
    let command = StartMethod::Command(vec!["true".into()]);
    let refused = Pool::builder().start_method(command).logs(logs).build().unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { name: "carry_context", .. }), "{refused}");
}
