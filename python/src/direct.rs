//! Usual calls without a Python object for each task: a function that goes by its name, plain
//! arguments. Their results are put where they are awaited as they are received.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aiopool::{Arrived, NamedFunction, Output, PolledPool, TaskError, TaskOptions};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyTuple};

use crate::buffer::{lent, output};
use crate::call::{Awakened, Call};
use crate::errors::described;
use crate::on_the_way::{DIRECT, For, ItemsOf, OnTheWay};
use crate::options::Options;
use crate::plain;
use crate::pool::Pool;

/// Functions whose heads are known, at most.
const KNOWN: usize = 1024;
/// The kind of an error that happened here; an exception belongs to it.
const HERE: &str = "here";
/// Results up to this many bytes are nothing to take note of: `_results._SMALL`.
const SMALL: usize = 4096;

/// The heads of functions by their addresses. Those are kept, so that no other is there later. What
/// does not go by its name is not among them: it may have much, and be one of many.
type Heads = HashMap<usize, (Py<PyAny>, Head)>;

/// What calls of a function begin with, and the function's name.
type Head = (Arc<[u8]>, NamedFunction);

/// What a pool has for such calls.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    heads: Mutex<Heads>,
    pub(crate) on_the_way: OnTheWay,
}

/// The items of a map that are on their way, and where their results go.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Items(pub(crate) Arc<ItemsOf>);

#[pymethods]
impl Items {
    /// Results go to `ready`, by their places, which `append` is called with.
    #[new]
    fn new(ready: Py<PyDict>, append: Py<PyAny>) -> Self {
        Self(Arc::new(ItemsOf::new(ready, append)))
    }

    /// How many are on their way.
    fn flying(&self) -> usize {
        self.0.flying()
    }

    /// Drops what comes from now on.
    fn close(&self) {
        self.0.close();
    }
}

impl Direct {
    /// Returns what calls of `function` begin with, or None if it does not go by its name.
    fn head(
        &self,
        pool: &Pool,
        engine: &PolledPool,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Head>> {
        let lock = || self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let address = function.as_ptr() as usize;
        if let Some((_, head)) = lock().get(&address) {
            return Ok(Some(head.clone()));
        }
        let wire = function.py().import("aiopool._wire")?;
        let found = wire.call_method1("head_by_name", (function,))?;
        let Ok(bytes) = found.cast::<PyBytes>() else { return Ok(None) };
        let name: String = function.getattr("__qualname__")?.extract()?;
        let head: Head = (Arc::from(bytes.as_bytes()), pool.named(engine, &name));
        let known = (function.clone().unbind(), head.clone());
        let forgotten = {
            let mut heads = lock();
            let full = heads.len() >= KNOWN;
            let forgotten = if full { std::mem::take(&mut *heads) } else { Heads::new() };
            heads.insert(address, known);
            forgotten
        };
        // Without the lock: that may run code.
        drop(forgotten);
        Ok(Some(head))
    }
}

/// Submits the task of `token`. False if it was refused, and is kept no longer.
fn submit(
    pool: &Pool,
    engine: &PolledPool,
    function: NamedFunction,
    bytes: &[u8],
    options: Option<&Bound<'_, Options>>,
    token: u64,
) -> bool {
    let options = options.map_or_else(TaskOptions::new, |options| options.get().0);
    let on_the_way = &pool.direct.on_the_way;
    match engine.submit(function, &[bytes], options, None, token) {
        Ok(task) => {
            on_the_way.submitted(token, task);
            true
        }
        Err(_) => {
            drop(on_the_way.take(token));
            false
        }
    }
}

/// See [`Pool::call`].
pub(crate) fn call<'py>(
    pool: &Pool,
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
    options: Option<&Bound<'py, Options>>,
) -> PyResult<Option<Bound<'py, Call>>> {
    let Ok(arguments) = arguments.cast_exact::<PyTuple>() else { return Ok(None) };
    let engine = pool.get()?;
    let head = pool.direct.head(pool, &engine, function)?;
    let Some((head, name)) = head else { return Ok(None) };
    let mut bytes = Vec::with_capacity(head.len() + 64);
    bytes.extend_from_slice(&head);
    if !plain::write_call(arguments, &mut bytes) {
        return Ok(None);
    }
    let mut made = None;
    let token = pool.direct.on_the_way.add(|token| {
        let call = Bound::new(function.py(), Call::new(function, event_loop, token))?;
        let whose = For::Call(call.clone().unbind());
        made = Some(call);
        PyResult::Ok(whose)
    })?;
    let is_taken = submit(pool, &engine, name, &bytes, options, token);
    Ok(made.filter(|_| is_taken))
}

/// What all items of a map have in common.
pub(crate) struct Feed<'a, 'py> {
    pub(crate) items: &'a Bound<'py, Items>,
    pub(crate) results: &'a Bound<'py, PyAny>,
    pub(crate) start: &'a [u8],
    pub(crate) star: bool,
    pub(crate) options: Option<&'a Bound<'py, Options>>,
}

/// See [`Pool::feed`].
pub(crate) fn feed(
    pool: &Pool,
    what: &Feed<'_, '_>,
    iterator: &Bound<'_, PyIterator>,
    index: u64,
    room: usize,
) -> PyResult<(usize, &'static str, Py<PyAny>)> {
    let py = iterator.py();
    let engine = pool.get()?;
    let items = &what.items.get().0;
    let name: String = what.results.getattr("name")?.extract()?;
    let function = pool.named(&engine, &name);
    let mut bytes = Vec::with_capacity(what.start.len() + 64);
    let mut count = 0;
    while count < room {
        let item = match iterator.clone().next() {
            None => return Ok((count, "end", py.None())),
            Some(Err(error)) => return Ok((count, "error", error.into_value(py).into_any())),
            Some(Ok(item)) => item,
        };
        let item = if what.star && item.cast_exact::<PyTuple>().is_err() {
            match py.get_type::<PyTuple>().call1((item,)) {
                Ok(item) => item,
                Err(error) => return Ok((count, "error", error.into_value(py).into_any())),
            }
        } else {
            item
        };
        bytes.clear();
        bytes.extend_from_slice(what.start);
        let is_plain = if what.star {
            item.cast_exact::<PyTuple>().is_ok_and(|item| plain::write_call(item, &mut bytes))
        } else {
            plain::write_item(&item, &mut bytes)
        };
        if !is_plain {
            return Ok((count, "item", item.unbind()));
        }
        items.departs();
        let whose =
            For::Item(Arc::clone(items), what.results.clone().unbind(), index + count as u64);
        let token = pool.direct.on_the_way.add(|_| PyResult::Ok(whose))?;
        if !submit(pool, &engine, function, &bytes, what.options, token) {
            items.lands();
            return Ok((count, "item", item.unbind()));
        }
        count += 1;
    }
    Ok((count, "room", py.None()))
}

/// Names whose outcome it is, as Python sees it.
pub(crate) fn named(py: Python<'_>, whose: For) -> PyResult<Bound<'_, PyAny>> {
    match whose {
        For::Call(call) => Ok(call.into_bound(py).into_any()),
        For::Item(items, results, index) => {
            items.lands();
            (results, index).into_bound_py_any(py)
        }
    }
}

/// The results of maps that have had some.
#[derive(Default)]
struct Touched(Vec<(Py<PyAny>, usize)>);

impl Touched {
    fn note(&mut self, results: Py<PyAny>, size: usize) {
        let size = if size > SMALL { size } else { 0 };
        match self.0.iter_mut().find(|(known, _)| known.is(&results)) {
            Some((_, largest)) => *largest = size.max(*largest),
            None => self.0.push((results, size)),
        }
    }
}

/// See [`Pool::receive`].
pub(crate) fn receive<'py>(
    pool: &Pool,
    limit: usize,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut arrived = Vec::new();
    if let Ok(engine) = pool.get() {
        engine.receive(limit, &mut arrived);
    }
    taken(pool, arrived, event_loop)
}

/// See [`Pool::search`].
pub(crate) fn search<'py>(
    pool: &Pool,
    limit: usize,
    event_loop: &Bound<'py, PyAny>,
    others: i32,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Ok(engine) = pool.get() else { return Ok(None) };
    let mut arrived = Vec::new();
    if !lent(others, |others| engine.search(others, limit, &mut arrived)) {
        return Ok(None);
    }
    taken(pool, arrived, event_loop).map(Some)
}

/// Returns an outcome as Python sees it: a kind of error or None, and what belongs to it.
fn seen(
    py: Python<'_>,
    result: Result<Output, TaskError>,
    attempts: u32,
) -> PyResult<(Option<&'static str>, Bound<'_, PyAny>)> {
    match result {
        Ok(bytes) => Ok((None, output(py, bytes)?)),
        Err(error) => {
            let (kind, details) = described(py, &error)?;
            details.set_item("attempts", attempts)?;
            Ok((Some(kind), details.into_any()))
        }
    }
}

/// Adds an outcome to `list`. One that cannot be had here, for want of memory, is an error of its own
/// task: those behind it in the pool's hands are told in any case.
pub(crate) fn told(
    list: &Bound<'_, PyList>,
    whose: Option<For>,
    token: u64,
    outcome: PyResult<(Option<&'static str>, Bound<'_, PyAny>)>,
) {
    let py = list.py();
    let (kind, data) = outcome.unwrap_or_else(|error| {
        let error = error.into_value(py).into_bound(py).into_any();
        (Some(HERE), error)
    });
    let whose = match whose {
        Some(whose) => named(py, whose),
        None => token.into_bound_py_any(py),
    };
    let added = whose.and_then(|whose| list.append((whose, kind, data)));
    if let Err(error) = added {
        error.write_unraisable(py, None);
    }
}

/// Puts outcomes where they are awaited, and gives Python what it has to see to.
fn taken<'py>(
    pool: &Pool,
    arrived: Vec<Arrived>,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = event_loop.py();
    let list = PyList::empty(py);
    let (mut awakened, mut touched) = (VecDeque::new(), Touched::default());
    let count = arrived.len();
    for Arrived { token, result, attempts, .. } in arrived {
        let whose = if token & DIRECT == 0 { None } else { pool.direct.on_the_way.take(token) };
        if token & DIRECT != 0 && whose.is_none() {
            continue;
        }
        let value = match &result {
            Ok(bytes) => whose
                .as_ref()
                .and_then(|_| bytes.as_slice())
                .and_then(|bytes| Some((plain::read(py, bytes)?, bytes.len()))),
            Err(_) => None,
        };
        match (whose, value) {
            (Some(For::Call(call)), Some((value, _))) if call.get().is_of(event_loop) => {
                if call.get().succeed(value) {
                    awakened.push_back(call);
                }
            }
            (Some(For::Item(items, results, index)), Some((value, size))) => {
                match items.arrive(index, &value) {
                    Ok(()) => {
                        items.lands();
                        touched.note(results, size);
                    }
                    Err(error) => {
                        let whose = For::Item(items, results, index);
                        told(&list, Some(whose), token, Err(error));
                    }
                }
            }
            (whose, _) => told(&list, whose, token, seen(py, result, attempts)),
        }
    }
    for (results, size) in touched.0 {
        list.append((results, py.None(), size))?;
    }
    let awakened = if awakened.is_empty() {
        py.None().into_bound(py)
    } else {
        Bound::new(py, Awakened::of(awakened))?.into_any()
    };
    (list, count, awakened).into_pyobject(py)
}
