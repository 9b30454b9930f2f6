//! What a process uses, as `/proc` says; what it hides is `None`.

use std::fs;

/// A process as `/proc` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident bytes, shared pages included.
    pub(crate) rss_bytes: Option<u64>,
    /// The letter of its state: `R` runs or waits for a processor, `T` and `t` are stopped.
    pub(crate) state: Option<char>,
}

/// Returns what process `pid` uses.
pub(crate) fn of(pid: u32) -> Usage {
    let text = fs::read(format!("/proc/{pid}/stat"));
    text.map_or_else(|_| Usage::default(), |text| parse(&String::from_utf8_lossy(&text)))
}

fn parse(stat: &str) -> Usage {
    /// On x86-64 and aarch64 as pools run there; a kernel with larger pages tells more than is.
    const PAGE: u64 = 4096;
    // The second field is the program's name in parentheses and may hold anything.
    let Some((_, fields)) = stat.rsplit_once(')') else { return Usage::default() };
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next().and_then(|state| state.chars().next());
    let pages = fields.nth(20).and_then(|pages| pages.parse::<u64>().ok());
    Usage { rss_bytes: pages.map(|pages| pages.saturating_mul(PAGE)), state }
}

/// Returns the memory of process `pid` with each shared page divided among its users. The kernel
/// walks the process's page tables for it, which takes it milliseconds where there are gigabytes.
pub(crate) fn pss_bytes_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_what_it_uses_itself() {
        let own = of(std::process::id());
        assert!(own.rss_bytes.unwrap() > 1 << 19 && own.state.is_some(), "{own:?}");
        let pss = pss_bytes_of(std::process::id()).unwrap();
        assert!(pss > 1 << 16, "{pss}");
        assert_eq!((of(u32::MAX), pss_bytes_of(u32::MAX)), (Usage::default(), None));
    }

    #[test]
    fn a_name_may_hold_anything() {
        let rest = "T 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 5 22";
        let usage = Usage { rss_bytes: Some(5 * 4096), state: Some('T') };
        assert_eq!(parse(&format!("7 (a) R 1 (b) {rest}")), usage);
        assert_eq!(parse("7 (a"), Usage::default());
        assert_eq!(parse("7 (a) S x"), Usage { rss_bytes: None, state: Some('S') });
    }
}
