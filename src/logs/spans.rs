//! The spans of a worker that forwards its events.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::Mutex;

use slab::Slab;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata};

use crate::sync::lock;

/// All open spans, by their ids less one.
#[derive(Default)]
pub(super) struct Spans(Mutex<Slab<Span>>);

struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<usize>,
    /// Handles, and spans whose parent it is.
    references: usize,
    /// The task whose span it is.
    task: Option<(u32, String)>,
    /// Its fields; empty for the span of a task.
    fields: String,
}

/// What an event belongs to.
#[derive(Default)]
pub(super) struct Around {
    pub task: Option<(u32, String)>,
    /// The spans within the task's, outermost first.
    pub spans: String,
}

thread_local! {
    /// The spans that this thread is in, innermost last.
    static ENTERED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn index_of(id: &Id) -> usize {
    id.into_u64() as usize - 1
}

fn id_of(index: usize) -> Id {
    Id::from_u64(index as u64 + 1)
}

fn innermost() -> Option<usize> {
    ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten()
}

impl Spans {
    fn with<R>(&self, code: impl FnOnce(&mut Slab<Span>) -> R) -> R {
        code(&mut lock(&self.0))
    }

    pub(super) fn open(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let (task, fields) = if is_of_a_task(metadata) {
            let mut task = TaskFields::default();
            attributes.record(&mut task);
            (Some((task.task, task.function)), String::new())
        } else {
            let mut text = Text::default();
            attributes.record(&mut text);
            (None, text.line())
        };
        let parent = match attributes.parent() {
            Some(parent) => Some(index_of(parent)),
            None if attributes.is_contextual() => innermost(),
            None => None,
        };
        self.with(|spans| {
            if let Some(parent) = parent.and_then(|parent| spans.get_mut(parent)) {
                parent.references += 1;
            }
            id_of(spans.insert(Span { metadata, parent, references: 1, task, fields }))
        })
    }

    pub(super) fn record(&self, id: &Id, values: &Record<'_>) {
        let mut text = Text::default();
        values.record(&mut text);
        self.with(|spans| {
            if let Some(span) = spans.get_mut(index_of(id)) {
                span.fields.push_str(&text.line());
            }
        });
    }

    pub(super) fn copy(&self, id: &Id) {
        self.with(|spans| {
            if let Some(span) = spans.get_mut(index_of(id)) {
                span.references += 1;
            }
        });
    }

    /// Gives up one reference. Returns whether that was the last.
    pub(super) fn close(&self, id: &Id) -> bool {
        self.with(|spans| {
            let mut index = Some(index_of(id));
            let mut closed = false;
            // A span that is gone no longer holds its parent.
            while let Some(span) = index.and_then(|index| spans.get_mut(index)) {
                span.references -= 1;
                if span.references > 0 {
                    break;
                }
                closed |= index == Some(index_of(id));
                let parent = span.parent;
                index.map(|index| spans.remove(index));
                index = parent;
            }
            closed
        })
    }

    pub(super) fn enter(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(index_of(id)));
    }

    pub(super) fn exit(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            if let Some(at) = entered.iter().rposition(|&index| index == index_of(id)) {
                entered.remove(at);
            }
        });
    }

    /// Returns the innermost span that this thread is in.
    pub(super) fn current(&self) -> Option<(Id, &'static Metadata<'static>)> {
        let index = innermost()?;
        self.with(|spans| Some((id_of(index), spans.get(index)?.metadata)))
    }

    /// Returns what is around an event, or, with `None`, around the calling code.
    pub(super) fn around(&self, event: Option<&Event<'_>>) -> Around {
        let first = match event.and_then(Event::parent) {
            Some(parent) => Some(index_of(parent)),
            None if event.is_none_or(Event::is_contextual) => innermost(),
            None => None,
        };
        self.with(|spans| {
            let mut around = Around::default();
            let mut within = Vec::new();
            let mut index = first;
            while let Some(span) = index.and_then(|index| spans.get(index)) {
                if span.task.is_some() {
                    around.task.clone_from(&span.task);
                    break;
                }
                within.push(span);
                index = span.parent;
            }
            for span in within.into_iter().rev() {
                let separator = if around.spans.is_empty() { "" } else { ":" };
                let (name, fields) = (span.metadata.name(), span.fields.trim_start());
                let _ = match fields {
                    "" => write!(around.spans, "{separator}{name}"),
                    fields => write!(around.spans, "{separator}{name}{{{fields}}}"),
                };
            }
            around
        })
    }
}

/// Returns whether a span is the one that the worker opens for each task.
fn is_of_a_task(metadata: &Metadata<'_>) -> bool {
    metadata.name() == "task"
        && metadata.target().starts_with(concat!(env!("CARGO_PKG_NAME"), "::worker"))
}

#[derive(Default)]
struct TaskFields {
    task: u32,
    function: String,
}

impl Visit for TaskFields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "task" {
            self.task = value as u32;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "function" {
            value.clone_into(&mut self.function);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// The message and the fields of an event or a span, as text.
#[derive(Default)]
pub(crate) struct Text {
    message: String,
    fields: String,
}

impl Text {
    /// Returns the message and after it the fields, each with a space before it.
    pub(crate) fn line(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
