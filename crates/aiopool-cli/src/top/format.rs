//! Numbers as people read them.

/// A duration of nanoseconds in at most six characters.
pub fn time(ns: u64) -> String {
    let scaled = |value: f64, unit: &str| {
        if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
    };
    let ns_f = ns as f64;
    match ns {
        0 => "0".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => scaled(ns_f / 1e3, "µs"),
        1_000_000..1_000_000_000 => scaled(ns_f / 1e6, "ms"),
        1_000_000_000..100_000_000_000 => scaled(ns_f / 1e9, "s"),
        _ => {
            let seconds = ns / 1_000_000_000;
            match seconds {
                0..6_000 => format!("{}m{:02}", seconds / 60, seconds % 60),
                6_000..172_800 => format!("{}h{:02}", seconds / 3600, seconds / 60 % 60),
                _ => format!("{}d", seconds / 86_400),
            }
        }
    }
}

/// A count in at most six characters.
pub fn count(n: u64) -> String {
    scaled(n, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// A number of bytes likewise.
pub fn bytes(n: u64) -> String {
    scaled(n, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

fn scaled(n: u64, step: u64, units: &[&str]) -> String {
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 10_000.0 && unit + 1 < units.len() {
        value /= step as f64;
        unit += 1;
    }
    if unit == 0 {
        n.to_string()
    } else if value < 99.95 {
        format!("{value:.1}{}", units[unit])
    } else {
        format!("{value:.0}{}", units[unit])
    }
}

/// A rate by the second.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 && per_second > 0.0 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", count(per_second.round() as u64))
    }
}

/// A share in percent, if it is known.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "?".to_owned(), |share| format!("{share:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_magnitude_has_few_characters() {
        for power in 0..64 {
            let n = 1_u64 << power;
            for text in [time(n), count(n), count(n - 1), bytes(n)] {
                assert!(text.chars().count() <= 7, "{n}: {text}");
            }
        }
        assert_eq!(
            [time(1_500), time(12_345_678), time(754_000_000_000)],
            ["1.5µs", "12ms", "12m34"]
        );
        assert_eq!([count(9_999), count(12_345), bytes(1 << 20)], ["9999", "12.3k", "1024Ki"]);
        assert_eq!(
            [rate(0.0), rate(2.5), rate(123_456.0)],
            ["0/s", "2.5/s", "123/s".replace("123", "123k").as_str()]
        );
    }
}
