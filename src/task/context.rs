//! The context of a task's caller, in the task's input.
//!
//! In a pool with [`Logs::carry_context`](crate::Logs::carry_context) a text and its length (four
//! bytes, little-endian) follow the encoded argument: behind it, so that the argument lies as it
//! does without. The table of functions says whose inputs have them, [`Target::WITH_CONTEXT`], so
//! no other task pays for it. Being input, they come with each attempt.
//!
//! [`Target::WITH_CONTEXT`]: super::entry::Target::WITH_CONTEXT

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::Span;

use super::callback::AdoptContext;
use super::failure::panic_text;

/// Appends `context` to an encoded argument.
pub(crate) fn append(context: &str, input: &mut Vec<u8>) {
    // A longer one is longer than any input may be, and refused as that.
    let len = context.len() as u32;
    input.extend_from_slice(context.as_bytes());
    input.extend_from_slice(&len.to_le_bytes());
}

/// Returns the encoded argument and the context of an input.
///
/// # Errors
///
/// The text of what is wrong with it.
pub(crate) fn split(input: &[u8]) -> Result<(&[u8], &str), String> {
    let split = || {
        let (rest, len) = input.split_last_chunk::<4>()?;
        let at = rest.len().checked_sub(u32::from_le_bytes(*len) as usize)?;
        let (argument, context) = rest.split_at(at);
        Some((argument, std::str::from_utf8(context).ok()?))
    };
    split().ok_or_else(|| "the input has no context behind it".to_owned())
}

thread_local! {
    static ADOPT: Cell<Option<AdoptContext>> = const { Cell::new(None) };
}

/// Sets what gives contexts to the spans of this worker's tasks, on its executor thread.
pub(crate) fn set_adopter(adopt: AdoptContext) {
    ADOPT.set(Some(adopt));
}

/// Gives the context in `input` to the span of its task. Code of the user that panics is logged,
/// and the task runs without.
pub(crate) fn adopt(span: &Span, input: &[u8]) {
    let (Some(adopt), Ok((_, context))) = (ADOPT.get(), split(input)) else { return };
    if context.is_empty() {
        return;
    }
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| adopt(span, context))) {
        let text = panic_text(&*payload);
        crate::sys::stderr::line(&format!("aiopool: a task's context was not adopted: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_split_where_it_was_joined_and_nothing_else_is() {
        for (argument, context) in [("", ""), ("argument", ""), ("", "00-1"), ("four", "00-é")] {
            let mut input = argument.as_bytes().to_vec();
            append(context, &mut input);
            assert_eq!(split(&input).unwrap(), (argument.as_bytes(), context));
        }
        for wrong in [&[][..], &[0; 3], &[1, 0, 0, 0], &[0xff; 64], &[0xff, 1, 0, 0, 0]] {
            assert!(split(wrong).is_err(), "{wrong:?}");
        }
    }
}
