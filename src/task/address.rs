//! Addresses that mean the same in every process of one program.
//!
//! A fork has the host's image where the host has it, an executed worker may have it elsewhere.
//! The distance of two statics in one image is the same in both, so a static travels as its
//! distance from [`ANCHOR`]. The number becomes a reference again through one door, which is
//! `unsafe`: [`ImageAddress::get`].

#![allow(unsafe_code)] // An island: a number becomes a reference.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// What every address counts from: a static of the image that all of them lie in.
static ANCHOR: u8 = 0;

/// The place of a static `T` in the image of this program. Until [`get`](Self::get) it is a number,
/// and any code may make or decode one.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(crate) struct ImageAddress<T> {
    /// The distance from the anchor. No other static lies where the anchor does, so it is not 0.
    relative: NonZeroU64,
    #[serde(skip)]
    names: PhantomData<fn() -> T>,
}

impl<T: Sync + 'static> ImageAddress<T> {
    /// Returns the address of `target`, which is not of size 0.
    #[inline]
    pub(crate) fn of(target: &'static T) -> Self {
        const { assert!(size_of::<T>() > 0) };
        let relative = (std::ptr::from_ref(target) as u64).wrapping_sub(&raw const ANCHOR as u64);
        Self::from_raw(relative).expect("two statics never share an address")
    }

    /// Returns the number, to be written where a worker reads it; never 0.
    pub(crate) fn to_raw(self) -> u64 {
        self.relative.get()
    }

    /// Returns the address that a number stands for; none for 0.
    pub(crate) fn from_raw(relative: u64) -> Option<Self> {
        Some(Self { relative: NonZeroU64::new(relative)?, names: PhantomData })
    }

    /// Returns where the static would be in this process.
    pub(crate) fn address(self) -> usize {
        self.relative.get().wrapping_add(&raw const ANCHOR as u64) as usize
    }

    /// Returns the static in this process.
    ///
    /// # Safety
    ///
    /// The address was made by [`of`](Self::of), for the same `T`, in a process that runs the
    /// image that this process runs.
    pub(crate) unsafe fn get(self) -> &'static T {
        // SAFETY: by the caller's promise a `T` lies at this distance from the anchor; a static
        // never moves or goes away.
        unsafe { &*(self.address() as *const T) }
    }
}

// By hand: a derive would ask for the same of `T`.
impl<T> Clone for ImageAddress<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ImageAddress<T> {}

impl<T> PartialEq for ImageAddress<T> {
    fn eq(&self, other: &Self) -> bool {
        self.relative == other.relative
    }
}

impl<T> Eq for ImageAddress<T> {}

impl<T> Hash for ImageAddress<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.relative.hash(state);
    }
}

impl<T> fmt::Debug for ImageAddress<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageAddress({:#x})", self.relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static WORD: u64 = 7;

    #[test]
    fn a_static_is_found_again_by_its_address_whichever_way_that_travels() {
        let address = ImageAddress::of(&WORD);
        let bytes = postcard::to_stdvec(&Some(address)).unwrap();
        let decoded: Option<ImageAddress<u64>> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(decoded, Some(address));
        assert_eq!(ImageAddress::from_raw(address.to_raw()), decoded);
        // SAFETY: made by `of` just above, in this process.
        assert!(std::ptr::eq(unsafe { address.get() }, &WORD));
    }

    #[test]
    fn zero_is_no_address() {
        assert_eq!(ImageAddress::<u64>::from_raw(0), None);
        assert!(postcard::from_bytes::<ImageAddress<u64>>(&[0]).is_err());
    }
}
