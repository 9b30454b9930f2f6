//! What an observer may ask for: a line each.

/// A request, and its answer, which is one line, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `snapshot`: the pool as it is now.
    Snapshot,
    /// `trace MILLISECONDS EVERY`: a timeline of so long, of each of that many tasks one.
    Trace { time_ns: u64, every: u32 },
}

/// The longest trace, in milliseconds: ten minutes.
const LONGEST_MS: u64 = 600_000;

impl Request {
    /// Bytes of the longest line.
    pub(crate) const LONGEST: usize = 32;

    /// Returns the line without its line feed.
    pub(crate) fn to_line(self) -> String {
        match self {
            Self::Snapshot => "snapshot".to_owned(),
            Self::Trace { time_ns, every } => format!("trace {} {every}", time_ns / 1_000_000),
        }
    }

    /// Returns what a line asks for, if that can be had.
    pub(crate) fn of_line(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let request = match words.next()? {
            "snapshot" => Self::Snapshot,
            "trace" => {
                let ms: u64 = words.next()?.parse().ok().filter(|&ms| ms <= LONGEST_MS)?;
                let every = words.next()?.parse().ok().filter(|&every| every > 0)?;
                Self::Trace { time_ns: ms * 1_000_000, every }
            }
            _ => return None,
        };
        words.next().is_none().then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_from_its_line_and_nothing_else_is_one() {
        let trace = |time_ns, every| Request::Trace { time_ns, every };
        for request in [Request::Snapshot, trace(0, 1), trace(600_000_000_000, u32::MAX)] {
            let line = request.to_line();
            assert!(line.len() <= Request::LONGEST);
            assert_eq!(Request::of_line(line.as_bytes()), Some(request));
        }
        for line in ["", "snapshots", "snapshot 1", "trace", "trace 5", "trace 5 0", "trace -1 1"] {
            assert_eq!(Request::of_line(line.as_bytes()), None, "{line}");
        }
        assert_eq!(Request::of_line(b"trace 600001 1"), None);
        assert_eq!(Request::of_line(b"trace 1 1 1"), None);
        assert_eq!(Request::of_line(b"\xff"), None);
    }
}
