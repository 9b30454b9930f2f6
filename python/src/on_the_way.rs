//! The tasks that Python has no object for while they are on their way: single calls that are
//! awaited, and items of maps.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiopool::PolledTask;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::Call;

/// The bit by which their tokens differ from the numbers that Python gives its own tasks.
pub(crate) const DIRECT: u64 = 1 << 63;
/// The bits of a token that say where the task is kept; the others make it the only one.
const PLACE: u64 = (1 << 24) - 1;

/// What a task's outcome goes to.
#[derive(Debug)]
pub(crate) enum For {
    Call(Py<Call>),
    /// A map's results, and the item's place among them.
    Item(Arc<ItemsOf>, Py<PyAny>, u64),
}

#[derive(Debug)]
struct Place {
    token: u64,
    task: Option<PolledTask>,
    whose: For,
}

#[derive(Debug, Default)]
struct Places {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    count: u64,
}

/// All that are on their way.
#[derive(Debug, Default)]
pub(crate) struct OnTheWay(Mutex<Places>);

impl OnTheWay {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a task that is about to be submitted; `whose` is told its token.
    pub(crate) fn add<E>(&self, whose: impl FnOnce(u64) -> Result<For, E>) -> Result<u64, E> {
        let (token, at) = {
            let mut all = self.lock();
            all.count += 1;
            let at = all.free.pop().unwrap_or_else(|| {
                all.places.push(None);
                all.places.len() - 1
            });
            (DIRECT | (all.count * (PLACE + 1)) & !DIRECT | at as u64, at)
        };
        // Without the lock: an object is made, and Python may use the occasion for others.
        match whose(token) {
            Ok(whose) => {
                self.lock().places[at] = Some(Place { token, task: None, whose });
                Ok(token)
            }
            Err(error) => {
                self.lock().free.push(at);
                Err(error)
            }
        }
    }

    /// The task was submitted; it may be over by now.
    pub(crate) fn submitted(&self, token: u64, task: PolledTask) {
        if let Some(place) = self.lock().get(token) {
            place.task = Some(task);
        }
    }

    /// Takes a task out that is over, or was never submitted.
    pub(crate) fn take(&self, token: u64) -> Option<For> {
        let mut all = self.lock();
        all.get(token)?;
        let at = (token & PLACE) as usize;
        all.free.push(at);
        all.places[at].take().map(|place| place.whose)
    }

    /// Returns the task that was submitted with `token`, if it is not over.
    pub(crate) fn task(&self, token: u64) -> Option<PolledTask> {
        self.lock().get(token)?.task
    }

    /// Returns the tasks of a map.
    pub(crate) fn tasks_of(&self, items: &Arc<ItemsOf>) -> Vec<PolledTask> {
        let all = self.lock();
        let of_it =
            |place: &&Place| matches!(&place.whose, For::Item(its, ..) if Arc::ptr_eq(its, items));
        all.places.iter().flatten().filter(of_it).filter_map(|place| place.task).collect()
    }

    /// Takes all out.
    pub(crate) fn take_all(&self) -> Vec<For> {
        let mut all = self.lock();
        let Places { places, free, .. } = &mut *all;
        let taken = places.iter_mut().enumerate().filter_map(|(at, place)| {
            let place = place.take()?;
            free.push(at);
            Some(place.whose)
        });
        taken.collect()
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        let all = self.lock();
        all.places.len() - all.free.len()
    }
}

impl Places {
    fn get(&mut self, token: u64) -> Option<&mut Place> {
        let place = self.places.get_mut((token & PLACE) as usize)?.as_mut()?;
        (place.token == token).then_some(place)
    }
}

/// Where the results of a map's items go.
#[derive(Debug)]
pub(crate) struct ItemsOf {
    /// The results by the places of their items.
    pub(crate) ready: Py<PyDict>,
    /// The places in the order in which the results came: `append` of the list of them.
    pub(crate) append: Py<PyAny>,
    flying: AtomicUsize,
    /// Results that come now are not wanted any more.
    closed: AtomicBool,
}

impl ItemsOf {
    pub(crate) fn new(ready: Py<PyDict>, append: Py<PyAny>) -> Self {
        Self { ready, append, flying: AtomicUsize::new(0), closed: AtomicBool::new(false) }
    }

    /// Returns how many items are on their way.
    pub(crate) fn flying(&self) -> usize {
        self.flying.load(Ordering::SeqCst)
    }

    pub(crate) fn departs(&self) {
        self.flying.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn lands(&self) {
        self.flying.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Takes the result of the item at `index`.
    pub(crate) fn arrive(&self, index: u64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.closed.load(Ordering::SeqCst) {
            self.ready.bind(value.py()).set_item(index, value)?;
            self.append.call1(value.py(), (index,))?;
        }
        Ok(())
    }
}
