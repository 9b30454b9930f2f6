//! Bytes at a multiple of 16, where C may cast them to any of its types.

/// Bytes in memory of their own.
#[derive(Debug, Default)]
pub struct Aligned {
    words: Vec<u128>,
    len: usize,
}

/// Where every byte range that C is given begins: at a multiple of this.
pub(super) const ALIGNMENT: usize = 16;
const _: () = assert!(align_of::<u128>() == ALIGNMENT);

impl Aligned {
    /// Returns a copy of `bytes`.
    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        let count = bytes.len().div_ceil(size_of::<u128>());
        let mut words = Vec::<u128>::with_capacity(count);
        // SAFETY: there is room for `count` words, which are at least as many bytes; the rest of
        // the last one is set to 0, so all of them are initialised.
        unsafe {
            if let Some(last) = count.checked_sub(1) {
                words.as_mut_ptr().add(last).write(0);
            }
            let to = words.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            words.set_len(count);
        }
        Self { words, len: bytes.len() }
    }

    /// Returns where the bytes are; aligned also if there are none.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.words.as_ptr().cast()
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Few bytes, in the memory of what owns them, at a multiple of [`ALIGNMENT`].
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(super) struct Few(pub(super) [u8; Few::MOST]);

impl Few {
    /// As many as a payload that needs no allocation has, rounded up to whole words.
    pub(super) const MOST: usize = 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_equal_and_aligned() {
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).collect();
            let copy = Aligned::copy_of(&bytes);
            assert_eq!((copy.as_ptr().addr() % ALIGNMENT, copy.len()), (0, bytes.len()));
            // SAFETY: it holds that many bytes.
            let back = unsafe { std::slice::from_raw_parts(copy.as_ptr(), copy.len()) };
            assert_eq!(back, bytes);
        }
    }
}
