//! The observer's end of the page: it reads a file and maps nothing.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::time::Duration;

use super::{
    HEADER, HISTOGRAM, Histogram, LAYOUT_VERSION, MADE, MAGIC, NUMBERS, PID, SEQUENCE, WORDS,
    WRITTEN, path_of,
};
use crate::error::{Error, Result};
use crate::sys::clock::monotonic_ns;

/// What a pool of another process has published; see [`observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageStats {
    /// The process that has the pool.
    pub host_pid: u32,
    /// How old the numbers are. A pool that has nothing to do writes none.
    pub age: Duration,
    /// How long tasks waited for a worker.
    pub waited: Histogram,
    /// How long they ran.
    pub ran: Histogram,
    numbers: Vec<u64>,
}

impl PageStats {
    /// Returns the number called `name`: the fields of [`Stats`](crate::Stats).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter().find(|&(known, _)| known == name).map(|(_, number)| number)
    }

    /// Returns all numbers with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NUMBERS.iter().copied().zip(self.numbers.iter().copied())
    }
}

/// Reads what the pool that was built with `stats_page(name)` publishes.
///
/// # Errors
///
/// [`Error::InvalidOption`] if that is no name, [`Error::System`] if there is no such page,
/// [`Error::Corrupt`] if it is not one, or of another version.
pub fn observe(name: &str) -> Result<PageStats> {
    let path = path_of(name).map_err(|allowed| Error::InvalidOption {
        name: "name",
        value: name.to_owned(),
        allowed: allowed.to_owned(),
    })?;
    let read = || {
        read_words(&path).map_err(|error| {
            let what = format!(
                "read the stats page {name:?}: is a pool running that was built with \
                 stats_page({name:?})?"
            );
            Error::system(what, error)
        })
    };
    for _ in 0..1000 {
        let words = read()?;
        check(&words)?;
        // The sequence of the second reading was read after all words of the first.
        let after = read()?;
        let sequence = words[SEQUENCE];
        if sequence % 2 == 0 && after.get(SEQUENCE) == Some(&sequence) {
            return Ok(stats(&words));
        }
        std::thread::yield_now();
    }
    Err(Error::Corrupt(format!(
        "the stats page {name:?} stays unfinished: read again, or restart its pool"
    )))
}

fn check(words: &[u64]) -> Result<()> {
    if words.len() < HEADER || words[0] != MAGIC {
        return Err(Error::Corrupt(
            "the file is no stats page: its magic number is wrong".to_owned(),
        ));
    }
    let (version, numbers) = (words[1] as u32, words[1] >> 32);
    if u64::from(version) != LAYOUT_VERSION
        || numbers != NUMBERS.len() as u64
        || words.len() < WORDS
    {
        return Err(Error::Corrupt(format!(
            "the stats page has layout {version} with {numbers} numbers, this program knows \
             {LAYOUT_VERSION} with {}: use the build that the pool uses",
            NUMBERS.len()
        )));
    }
    Ok(())
}

fn stats(words: &[u64]) -> PageStats {
    let (numbers, rest) = words[HEADER..].split_at(NUMBERS.len());
    let (waited, ran) = rest.split_at(HISTOGRAM);
    PageStats {
        host_pid: words[PID] as u32,
        age: Duration::from_nanos(monotonic_ns().saturating_sub(words[WRITTEN])),
        waited: Histogram::new(waited),
        ran: Histogram::new(&ran[..HISTOGRAM]),
        numbers: numbers.to_vec(),
    }
}

/// Returns the host of the page in that file, if it is one.
#[cfg(feature = "stats-page")]
pub(super) fn host_of(path: &str) -> Option<u32> {
    let words = read_words(path).ok()?;
    (words.len() >= HEADER && words[0] == MAGIC).then(|| words[PID] as u32)
}

/// Removes the page in that file if it is the one that was `made` then, or if it was never
/// finished: its host died while making it.
pub(crate) fn remove(path: &str, made: u64) {
    for last in [false, true] {
        let Ok(words) = read_words(path) else { return };
        match words.get(MADE) {
            Some(it) if *it == made => {}
            // Another host may be making its own at this moment, which takes no time to speak of.
            Some(0) | None if !last => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            Some(0) | None => {}
            _ => return,
        }
        // The process that removed it first did the same.
        let _ = std::fs::remove_file(path);
        return;
    }
}

fn read_words(path: &str) -> io::Result<Vec<u64>> {
    // No more than a page has: what stands there under that name may be anything.
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(8 * WORDS as u64).read_to_end(&mut bytes)?;
    Ok(bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8"))).collect())
}

/// Reads a page of which `bytes` are the words from the first on, behind a right beginning or as
/// they are, and asks it everything. True if it was taken for a page.
#[cfg(any(test, aiopool_fuzz))]
pub fn read_anything(bytes: &[u8]) -> bool {
    let Some((&begins_right, bytes)) = bytes.split_first() else { return false };
    let mut words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8"))).collect();
    if begins_right & 1 == 1 {
        words.resize(WORDS, 0);
        words[..2].copy_from_slice(&[MAGIC, (NUMBERS.len() as u64) << 32 | LAYOUT_VERSION]);
    }
    if check(&words).is_err() {
        return false;
    }
    let page = stats(&words);
    assert_eq!(page.iter().count(), NUMBERS.len());
    assert!(NUMBERS.iter().all(|name| page.get(name).is_some()));
    for histogram in [&page.waited, &page.ran] {
        let (half, most) = (histogram.quantile(0.5), histogram.quantile(1.0));
        assert!(half <= most, "{histogram:?}");
        let _ = (histogram.sum(), histogram.mean(), histogram.quantile(f64::NAN));
        assert_eq!(histogram.buckets().count(), super::BUCKETS);
    }
    let _ = format!("{page:?}");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_words_can_be_read() {
        let page = |byte, len| std::iter::repeat_n(byte, len).collect::<Vec<u8>>();
        for len in [0, 1, 8, 9, 8 * WORDS, 8 * WORDS + 1, 9 * WORDS] {
            assert!(!read_anything(&page(0, len)));
            assert_eq!(read_anything(&page(0xFF, len)), len > 0);
            assert_eq!(read_anything(&page(0x31, len)), len > 0);
        }
    }

    #[test]
    fn of_whatever_stands_there_no_more_is_read_than_a_page_has() {
        let path = path_of(&format!("test-large-{}", std::process::id())).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        let read = read_words(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap().len(), WORDS);
    }

    #[test]
    fn of_a_dead_host_what_it_made_is_removed_and_what_it_had_half_made() {
        let path = path_of(&format!("test-remove-{}", std::process::id())).unwrap();
        let made = |made: u64| {
            let mut words = vec![0; WORDS];
            words[MADE] = made;
            words.iter().flat_map(|word: &u64| word.to_ne_bytes()).collect::<Vec<u8>>()
        };
        for (content, is_left) in
            [(made(7), false), (made(0), false), (vec![], false), (made(8), true)]
        {
            std::fs::write(&path, content).unwrap();
            remove(&path, 7);
            assert_eq!(std::fs::exists(&path).unwrap(), is_left);
        }
        std::fs::remove_file(&path).unwrap();
        remove(&path, 7);
    }
}
