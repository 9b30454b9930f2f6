//! The functions in C that this process knows: by number, and by context and name.
//!
//! A number is never given twice. A function whose name was taken back, or whose context was freed,
//! is gone: its number stands for nothing, and pools that were given calls of it keep it.

use std::collections::HashMap;
use std::ffi::c_void;

use super::boundary::Failure;
use super::contexts::ContextId;
use super::status::*;
use super::task::{aiopool_output, aiopool_task};
use crate::sys::forked::PerProcess;
use crate::sys::{image, instruments};
use crate::task::entry::Target;
use crate::task::function::MAX_NAME;

/// What `aiopool_task_fn` is where it is not NULL.
pub(super) type TaskFn = unsafe extern "C" fn(
    *mut aiopool_task,
    *const c_void,
    usize,
    *mut aiopool_output,
    *mut c_void,
) -> i32;

/// Returns the function at `target`.
///
/// # Safety
///
/// `target` is of [`add`], in this process or in the one that it was forked from.
pub(super) unsafe fn function_at(target: Target) -> Option<TaskFn> {
    // SAFETY: `add` was given a function of this type, which lies in an image that was mapped
    // when it was registered and, checked once more, when the snapshot for forks was taken.
    unsafe { std::mem::transmute::<usize, Option<TaskFn>>(target.address as usize) }
}

/// A function that this process can submit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) context: ContextId,
    pub(super) name: &'static str,
    /// The function and its user pointer; none if only workers of another program have it.
    pub(super) target: Option<Target>,
    /// The first snapshot of this process that has it; 0 if none was taken since.
    pub(super) since: u32,
    /// It was unregistered.
    is_gone: bool,
}

#[derive(Clone, Debug, Default)]
struct Registry {
    functions: Vec<Known>,
    by_name: HashMap<ContextId, HashMap<&'static str, u32>>,
}

static REGISTRY: PerProcess<Registry> =
    PerProcess::new(|parents| parents.cloned().unwrap_or_default());

/// Adds a function, or finds the same one again, and returns its number.
pub(super) fn add(context: ContextId, name: &str, target: Option<Target>) -> Result<u32, Failure> {
    if let Some(target) = target {
        check(target, name)?;
        // Workers that are forked later write the coverage of tasks at their end.
        instruments::look();
    }
    REGISTRY.write().add(context, name, target)
}

impl Registry {
    fn add(
        &mut self,
        context: ContextId,
        name: &str,
        target: Option<Target>,
    ) -> Result<u32, Failure> {
        if name.is_empty() || name.len() > MAX_NAME {
            let text = format!("a name of {} bytes: 1 to {MAX_NAME} are possible", name.len());
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        let by_name = self.by_name.entry(context).or_default();
        if let Some(&known) = by_name.get(name) {
            if self.functions[known as usize - 1].target == target {
                return Ok(known);
            }
            let text = format!("another function has the name {name:?} already");
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        // Names stay for good, as the functions do: a process has a few of them.
        let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
        self.functions.push(Known { context, name, target, since: 0, is_gone: false });
        let number = self.functions.len() as u32;
        by_name.insert(name, number);
        Ok(number)
    }
}

/// Returns the number of the function called `name`.
pub(super) fn by_name(context: ContextId, name: &str) -> Result<u32, Failure> {
    let registry = REGISTRY.read();
    let found = registry.by_name.get(&context).and_then(|by_name| by_name.get(name).copied());
    found.ok_or_else(|| unknown(name))
}

/// Returns function `number` of `context`.
pub(super) fn known(context: ContextId, number: u32) -> Result<Known, Failure> {
    let at = (number as usize).checked_sub(1);
    let known = at.and_then(|index| REGISTRY.read().functions.get(index).copied());
    let refuse = |text: String| Err(Failure::new(AIOPOOL_ERR_UNKNOWN, text));
    match known {
        Some(known) if known.is_gone => {
            refuse(format!("the function {:?} (number {number}) was unregistered", known.name))
        }
        Some(known) if known.context != context => refuse(format!(
            "the function {:?} (number {number}) is of another context than the pool",
            known.name
        )),
        Some(known) => Ok(known),
        None => refuse(format!("no task function has the number {number}")),
    }
}

/// Returns where function `number` of `context` is, for hooks: in forks of this process only.
pub(super) fn target_of(context: ContextId, number: u32) -> Result<Target, Failure> {
    let Known { name, target, since, .. } = known(context, number)?;
    if target.is_some() && since == 0 {
        let text =
            format!("{name:?} was registered after aiopool_init(): call it again before this");
        return Err(Failure::new(AIOPOOL_ERR_TOO_LATE, text));
    }
    target.ok_or_else(|| {
        let text = format!("the function {name:?} is only declared: hooks have to be registered");
        Failure::new(AIOPOOL_ERR_INVALID, text)
    })
}

/// Returns where the function is that was registered as `name` in this process's default context.
pub(super) fn target_by_name(name: &str) -> Option<Target> {
    let registry = REGISTRY.read();
    let number = *registry.by_name.get(&ContextId::DEFAULT)?.get(name)?;
    registry.functions[number as usize - 1].target
}

/// Returns the name of the function at `target`, in a fork of the process that registered it.
pub(super) fn name_of(target: Target) -> &'static str {
    let registry = REGISTRY.read();
    let known = registry.functions.iter().find(|known| known.target == Some(target));
    known.map_or("a C function", |known| known.name)
}

/// Takes the name of a function back: it is found no more, and another one may have the name.
pub(super) fn remove(context: ContextId, name: &str) -> Result<(), Failure> {
    let mut registry = REGISTRY.write();
    let number = registry.by_name.get_mut(&context).and_then(|by_name| by_name.remove(name));
    registry.forget(number.ok_or_else(|| unknown(name))?);
    Ok(())
}

/// Takes back all functions of a context that was freed.
pub(super) fn remove_all(context: ContextId) {
    let mut registry = REGISTRY.write();
    for number in registry.by_name.remove(&context).unwrap_or_default().into_values() {
        registry.forget(number);
    }
}

impl Registry {
    fn forget(&mut self, number: u32) {
        let known = &mut self.functions[number as usize - 1];
        (known.target, known.is_gone) = (None, true);
    }
}

fn unknown(name: &str) -> Failure {
    let text = format!("no task function has the name {name:?}: register or declare it");
    Failure::new(AIOPOOL_ERR_UNKNOWN, text)
}

/// Returns whether a function was registered that is in no snapshot.
pub(super) fn any_new() -> bool {
    REGISTRY.read().functions.iter().any(Known::is_new)
}

/// Returns whether one of `context` was.
pub(super) fn any_new_of(context: ContextId) -> bool {
    let registry = REGISTRY.read();
    registry.functions.iter().any(|known| known.context == context && known.is_new())
}

impl Known {
    fn is_new(&self) -> bool {
        self.target.is_some() && self.since == 0
    }
}

/// A snapshot was taken: the new functions are in it.
pub(super) fn set_snapshot(number: u32) {
    let mut registry = REGISTRY.write();
    registry.functions.iter_mut().filter(|known| known.since == 0).for_each(|known| {
        known.since = number;
    });
}

/// Returns whether a function of `context` was registered that only forks of this process have.
pub(super) fn any_registered(context: ContextId) -> bool {
    let registry = REGISTRY.read();
    registry.functions.iter().any(|known| known.context == context && known.target.is_some())
}

/// Checks that every function is still in an image: a library may have been unloaded.
pub(super) fn check_all() -> Result<(), Failure> {
    let functions = REGISTRY.read().functions.clone();
    functions.iter().try_for_each(|known| known.target.map_or(Ok(()), |t| check(t, known.name)))
}

fn check(target: Target, name: &str) -> Result<(), Failure> {
    if image::is_code(target.address as usize) {
        return Ok(());
    }
    let text = format!(
        "the function {name:?} is in no image that is mapped now: it was made at run time or its \
         library is unloaded, so workers would not have it"
    );
    Err(Failure::new(AIOPOOL_ERR_INVALID, text))
}
