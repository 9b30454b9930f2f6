//! Task functions as the engine sees them: a table of functions over a place for the future.
//!
//! A plain `async fn` is a zero-sized type, so all that has to travel is *which* one: the
//! [`ImageAddress`](super::address::ImageAddress) of its vtable.

#![allow(unsafe_code)] // An island: futures of erased type in given memory.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::arena::Block;

use crate::sys::image;

use super::address::ImageAddress;
use super::exception::{self, LiveError};
use super::failure::{Status, TaskFailure};
use super::task_fn::{Argument, IsResult, Stateless, TaskFn, TryTaskFn, Value};
use super::{codec, context};

/// What a task is called with.
#[derive(Clone, Copy, Debug)]
pub struct Input<'i> {
    /// The encoded bytes.
    pub bytes: &'i [u8],
    /// They stay where they are until the task is over, not only for the call.
    pub stays: bool,
}

impl<'i> Input<'i> {
    /// Makes an input of bytes in the request arena.
    pub(crate) fn in_place(bytes: &'i [u8]) -> Self {
        Self { bytes, stays: true }
    }

    /// Makes an input of bytes that are valid for the call.
    pub(crate) fn passing(bytes: &'i [u8]) -> Self {
        Self { bytes, stays: false }
    }
}

/// What a finished task leaves: a status and bytes, in a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The encoded bytes, unless `raw` has them.
    pub(crate) bytes: Vec<u8>,
    /// Bytes that need no encoding.
    pub(crate) raw: Option<Bytes>,
    /// A block that the task filled in place, and the number of its bytes that are output. The code
    /// that takes the output publishes or frees it.
    pub(crate) block: Option<(Block, u32)>,
    /// Whether the code that takes the output handles `block`.
    pub(crate) takes_block: bool,
}

impl Output {
    /// Empties the output, keeping its memory unless that has grown out of proportion.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.raw = None;
        if self.bytes.capacity() > codec::KEEP_BUFFER {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }

    /// Returns what it holds.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(&self.bytes)
    }

    /// Makes it hold `value`, whatever it held.
    #[inline]
    pub(crate) fn set<T: Value>(&mut self, value: &T) -> Result<(), String> {
        self.clear();
        if let Some(raw) = (value as &dyn std::any::Any).downcast_ref::<Bytes>() {
            self.raw = Some(raw.clone());
            return Ok(());
        }
        codec::encode(value, &mut self.bytes)
    }

    /// Makes it hold `bytes` as they are.
    pub(crate) fn set_bytes(&mut self, bytes: Vec<u8>) {
        self.clear();
        self.bytes = bytes;
    }

    /// Makes it hold `reason`, which is what goes with `status`.
    #[cold]
    pub(crate) fn refuse(&mut self, status: Status, reason: &str) -> Status {
        self.clear();
        self.bytes.extend_from_slice(reason.as_bytes());
        status
    }

    /// Makes it hold `value` with `status`, or the text of why it cannot be encoded.
    #[inline(always)]
    pub(crate) fn finish<T: Value>(&mut self, value: &T, status: Status) -> Status {
        match self.set(value) {
            Ok(()) => status,
            Err(reason) => self.refuse(Status::Unencodable, &reason),
        }
    }
}

/// What the table of function entries says besides the vtable: for functions of other languages,
/// and whether a [context](super::context) follows the argument of a Rust function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The function's address.
    pub(crate) address: u64,
    /// The pointer it was registered with.
    pub(crate) user: u64,
}

impl Target {
    /// Of a Rust function whose inputs have a context. No function of another language is at
    /// address 0.
    pub(crate) const WITH_CONTEXT: Self = Self { address: 0, user: 1 };
}

/// The functions of one kind of task.
pub(crate) struct Vtable {
    /// What [`find`] knows a vtable of a Rust function by.
    pub(crate) mark: Mark,
    /// What a future of this kind takes.
    pub(crate) layout: Layout,
    /// The task function's name.
    pub(crate) name: fn() -> &'static str,
    /// Decodes the input, calls the function and puts its future into the memory given.
    ///
    /// # Safety
    ///
    /// The memory has `layout` and holds no future. On `Err` it still holds none.
    pub(crate) start: unsafe fn(*mut u8, Target, Input<'_>) -> Result<(), String>,
    /// Polls the future; `Ready` means that the output holds what the status says.
    ///
    /// # Safety
    ///
    /// The memory holds a future that `start` put there, which has not moved since.
    pub(crate) poll: unsafe fn(*mut u8, &mut Context<'_>, &mut Output) -> Poll<Status>,
    /// Drops the future.
    ///
    /// # Safety
    ///
    /// As `poll`; the memory holds no future afterwards, even if the drop panics.
    pub(crate) drop: unsafe fn(*mut u8),
}

impl fmt::Debug for Vtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vtable")
            .field("name", &(self.name)())
            .field("layout", &self.layout)
            .finish()
    }
}

/// How what a future returns becomes an outcome: as it is, or as a `Result`'s value or error.
trait Finish<R> {
    fn finish(returned: R, function: &'static str, output: &mut Output) -> Status;
}

/// The returned value is the output.
struct Plain;

/// The returned `Ok` is the output, the `Err` becomes the outcome's error.
struct Fallible;

impl<T: Value> Finish<T> for Plain {
    #[inline(always)]
    fn finish(returned: T, _: &'static str, output: &mut Output) -> Status {
        output.finish(&returned, Status::Ok)
    }
}

impl<R: IsResult<Value: Value, Error: fmt::Display + 'static>> Finish<R> for Fallible {
    #[inline]
    fn finish(returned: R, function: &'static str, output: &mut Output) -> Status {
        match returned.into_result() {
            Ok(value) => output.finish(&value, Status::Ok),
            Err(error) => {
                exception::tell(&LiveError::error(function, &error));
                output.finish(&TaskFailure::of(&error), Status::Failed)
            }
        }
    }
}

/// Returns the vtable of `function`, whose value is the task's.
pub(crate) fn vtable<F: TaskFn<A>, A: Argument>(_function: F) -> &'static Vtable {
    &Kind::<F, A, F::Future, Plain>::VTABLE
}

/// Returns the vtable of `function`, whose `Ok` is the task's value and whose `Err` is its error.
pub(crate) fn try_vtable<F: TryTaskFn<A>, A: Argument>(_function: F) -> &'static Vtable {
    &Kind::<F, A, F::Future, Fallible>::VTABLE
}

/// A number by chance.
const MARK: u64 = 0x9d1c_5a37_e04b_82f6;

/// Tells the vtables of Rust functions from all else that lies in an image.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Mark(u64, &'static u8);

impl Mark {
    /// For a vtable that no address from another machine may name.
    pub(crate) const NONE: Self = Self(0, &SEAL);
}

/// Its address follows [`MARK`] in vtables, and nowhere else. A static, because a function may have
/// another address in each crate that names it: the compiler copies small ones.
static SEAL: u8 = 0;

/// Returns the vtable whose address is `raw`, if there is one; for numbers that came from another
/// machine, whatever they are.
pub(crate) fn find(raw: u64) -> Option<&'static Vtable> {
    let address = ImageAddress::<Vtable>::from_raw(raw)?;
    let place = address.address();
    let fits =
        place.is_multiple_of(align_of::<Vtable>()) && image::holds(place, size_of::<Vtable>()) && {
            let mark = place as *const u8;
            let number = std::mem::offset_of!(Vtable, mark.0);
            let seal = std::mem::offset_of!(Vtable, mark.1);
            // SAFETY: the memory is mapped and readable for the whole of a vtable, and aligned for
            // one; both fields are read as numbers, which any bytes are.
            let words = unsafe {
                (
                    mark.add(number).cast::<u64>().read_volatile(),
                    mark.add(seal).cast::<usize>().read_volatile(),
                )
            };
            words == (MARK, &raw const SEAL as usize)
        };
    // SAFETY: these two words lie side by side in vtables alone, all of which `Kind` made for this
    // image, in which the address lies.
    fits.then(|| unsafe { address.get() })
}

struct Kind<F, A, Fut, M>(PhantomData<(F, A, Fut, M)>);

impl<F, A, Fut, M> Kind<F, A, Fut, M>
where
    F: Fn(A) -> Fut + Stateless,
    A: Argument,
    Fut: Future + 'static,
    M: Finish<Fut::Output>,
{
    const VTABLE: Vtable = Vtable {
        mark: Mark(MARK, &SEAL),
        layout: Layout::new::<Fut>(),
        name: std::any::type_name::<F>,
        start: Self::start,
        poll: Self::poll,
        drop: Self::drop,
    };

    unsafe fn start(place: *mut u8, target: Target, input: Input<'_>) -> Result<(), String> {
        const { F::CHECK };
        let bytes = match target {
            Target::WITH_CONTEXT => context::split(input.bytes)?.0,
            _ => input.bytes,
        };
        let argument = codec::decode::<A>(bytes)?;
        // SAFETY: `F` is zero-sized and `Copy`, and there is a value of it, since `vtable` and
        // `try_vtable` took one, so a copy of it is made here out of no bytes at all.
        let function = unsafe { std::ptr::NonNull::<F>::dangling().read() };
        let future = function(argument);
        // SAFETY: the caller gives memory of `Fut`'s layout that holds nothing.
        unsafe { place.cast::<Fut>().write(future) };
        Ok(())
    }

    unsafe fn poll(place: *mut u8, context: &mut Context<'_>, output: &mut Output) -> Poll<Status> {
        // SAFETY: the caller vouches that the future is there and never moves.
        let future = unsafe { Pin::new_unchecked(&mut *place.cast::<Fut>()) };
        future.poll(context).map(|returned| M::finish(returned, std::any::type_name::<F>(), output))
    }

    unsafe fn drop(place: *mut u8) {
        // SAFETY: the caller vouches that the future is there.
        unsafe { place.cast::<Fut>().drop_in_place() }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::task::Waker;

    use super::*;
    use crate::task::address::ImageAddress;

    async fn double(x: u64) -> u64 {
        x * 2
    }

    async fn fail(x: u64) -> Result<u64, String> {
        Err(format!("no {x}"))
    }

    fn run(vtable: &'static Vtable, input: &[u8]) -> Result<(Status, Vec<u8>), String> {
        let mut place = [MaybeUninit::<u128>::uninit(); 64];
        assert!(vtable.layout.size() <= size_of_val(&place));
        let place = place.as_mut_ptr().cast::<u8>();
        let mut output = Output::default();
        // SAFETY: the memory is large and aligned enough and empty; then it holds the future.
        unsafe {
            (vtable.start)(place, Target::default(), Input::passing(input))?;
            let status = (vtable.poll)(place, &mut Context::from_waker(Waker::noop()), &mut output);
            (vtable.drop)(place);
            let Poll::Ready(status) = status else { panic!("not ready") };
            Ok((status, output.as_slice().to_vec()))
        }
    }

    #[test]
    fn a_function_is_found_again_by_its_address_in_the_image_and_runs() {
        let direct = vtable(double);
        // SAFETY: made by `of` just here, in this process.
        let found = unsafe { ImageAddress::of(direct).get() };
        assert_eq!(run(found, &[21]).unwrap(), (Status::Ok, vec![42]));
        assert!((found.name)().ends_with("double"));
    }

    #[test]
    fn only_the_address_of_a_vtable_is_found() {
        let vtable = vtable(double);
        let raw = ImageAddress::of(vtable).to_raw();
        assert!(find(raw).is_some_and(|found| std::ptr::eq(found, vtable)));
        let near = (0..4096).map(|i| raw.wrapping_add(i * 8 + 8));
        let far = (0..64).map(|bit| raw ^ (1 << bit));
        for wrong in near.chain(far).chain([0, 1, u64::MAX]) {
            // A number near by may be another vtable's; nothing else is found.
            assert!(find(wrong).is_none_or(|found| found.mark.0 == MARK), "{wrong:#x}");
        }
        assert!(find(raw + 1).is_none() && find(0).is_none());
    }

    #[test]
    fn errors_and_bad_input_are_told_apart() {
        let (status, bytes) = run(try_vtable(fail), &[7]).unwrap();
        assert_eq!(status, Status::Failed);
        assert_eq!(codec::decode::<TaskFailure>(&bytes).unwrap().message(), "no 7");
        assert!(run(vtable(double), &[]).is_err());
    }
}
