//! One row of the table: our block and the rivals', turn by turn, until there are enough rounds.

use serde::Serialize;

/// Runs one block of a contestant and gives its figure in the row's unit.
pub type Block = Box<dyn FnMut() -> anyhow::Result<f64>>;

/// Whom we are compared with, and what the ratio of our figure to theirs should be.
pub struct Rival {
    pub name: &'static str,
    pub bar: Option<Bar>,
    pub block: Block,
}

/// What the ratio should be.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// At most this many times more, and at most this many times less.
    Within(f64),
}

impl Bar {
    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bar) => ratio >= bar,
            Self::AtMost(bar) => ratio <= bar,
            Self::Within(bar) => (1.0 / bar..=bar).contains(&ratio),
        }
    }

    /// How far `ratio` is on the right side of the bar: 1 is on it, more is better.
    pub fn margin(self, ratio: f64) -> f64 {
        match self {
            Self::AtLeast(bar) => ratio / bar,
            Self::AtMost(bar) => bar / ratio,
            Self::Within(bar) => bar / ratio.max(1.0 / ratio),
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, ">= {}", figure(*bar)),
            Self::AtMost(bar) => write!(f, "<= {}", figure(*bar)),
            Self::Within(bar) => write!(f, "within {}", figure(*bar)),
        }
    }
}

/// As many as every row should have that can.
pub const ROUNDS: usize = 21;

/// A row before it is run.
pub struct Contest {
    pub unit: &'static str,
    pub ours: Block,
    pub rivals: Vec<Rival>,
    pub rounds: usize,
    /// Whether a round that does not count comes first.
    pub warm: bool,
}

impl Contest {
    pub fn new(unit: &'static str, ours: impl FnMut() -> anyhow::Result<f64> + 'static) -> Self {
        Self { unit, ours: Box::new(ours), rivals: Vec::new(), rounds: ROUNDS, warm: true }
    }

    pub fn against(
        mut self,
        name: &'static str,
        bar: Option<Bar>,
        block: impl FnMut() -> anyhow::Result<f64> + 'static,
    ) -> Self {
        self.rivals.push(Rival { name, bar, block: Box::new(block) });
        self
    }

    /// More rounds for short blocks that vary much, fewer for blocks that cannot be short.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// No warm-up round: a block is a whole program's run, or nothing gets warm.
    pub fn cold(mut self) -> Self {
        self.warm = false;
        self
    }
}

/// A row after it was run: we against one rival. The names and their order are the contract of
/// `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: String,
    pub ours: f64,
    pub rival: String,
    pub theirs: f64,
    /// The median of our figure by theirs, round by round.
    pub ratio: f64,
    pub rounds: usize,
    /// Half the distance between the quartiles of the ratio, as a part of its median.
    pub spread: f64,
}

/// A row, what is asked of it, and what it was made of.
#[derive(Clone, Debug)]
pub struct Measured {
    pub row: Row,
    pub bar: Option<Bar>,
    /// Our figure by theirs in each round.
    pub ratios: Vec<f64>,
}

impl Measured {
    /// Whether the bar is met, if there is one.
    pub fn met(&self) -> Option<bool> {
        self.bar.map(|bar| bar.holds(self.row.ratio))
    }
}

/// Runs the rounds, `limit` at most; in each everybody has one block, we first in every other.
pub fn run(name: &str, contest: Contest, limit: usize) -> anyhow::Result<Vec<Measured>> {
    let Contest { unit, mut ours, mut rivals, rounds, warm } = contest;
    let rounds = rounds.min(limit);
    let mut our_figures = Vec::with_capacity(rounds);
    let mut their_figures = vec![Vec::with_capacity(rounds); rivals.len()];
    // The first round is for caches, page faults and learned budgets.
    for round in usize::from(!warm)..=rounds {
        let mut mine = None;
        if round % 2 == 0 {
            mine = Some(ours()?);
        }
        for (rival, figures) in rivals.iter_mut().zip(&mut their_figures) {
            let figure = (rival.block)()?;
            if round > 0 {
                figures.push(figure);
            }
        }
        let mine = mine.map_or_else(&mut ours, Ok)?;
        if round > 0 {
            our_figures.push(mine);
        }
    }
    let rows = rivals.iter().zip(their_figures).map(|(rival, theirs)| {
        let ratios: Vec<f64> = our_figures.iter().zip(&theirs).map(|(o, t)| o / t).collect();
        let ratio = quantile(&ratios, 0.5);
        let row = Row {
            name: name.to_owned(),
            unit: unit.to_owned(),
            ours: quantile(&our_figures, 0.5),
            rival: rival.name.to_owned(),
            theirs: quantile(&theirs, 0.5),
            ratio,
            rounds,
            spread: (quantile(&ratios, 0.75) - quantile(&ratios, 0.25)) / 2.0 / ratio,
        };
        Measured { row, bar: rival.bar, ratios }
    });
    Ok(rows.collect())
}

/// The value below which `part` of all values lie.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = part * (sorted.len().max(1) - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let (Some(&a), Some(&b)) = (sorted.get(low), sorted.get(high)) else { return f64::NAN };
    a + (b - a) * at.fract()
}

/// A number with three digits that count.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1e5 => format!("{value:.2e}"),
        v if v >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        v if v >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[5.0], 0.25), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // Both double in the second half: the ratio must not notice.
        let (mut a, mut b) = (0, 0);
        let mut figures = [10.0, 10.0, 20.0, 20.0].iter().cycle().copied();
        let mut double = [5.0, 5.0, 10.0, 10.0].iter().cycle().copied();
        let contest = Contest::new("x", move || {
            a += 1;
            Ok(figures.next().unwrap_or_default() * f64::from(a.min(1)))
        })
        .against("y", Some(Bar::AtLeast(2.0)), move || {
            b += 1;
            Ok(double.next().unwrap_or_default() * f64::from(b.min(1)))
        });
        let rows = run("row", contest, 7).unwrap();
        assert_eq!((rows[0].row.ratio, rows[0].row.spread), (2.0, 0.0));
        assert_eq!((rows[0].row.rounds, rows[0].met()), (7, Some(true)));
    }

    #[test]
    fn bars_hold_on_their_side_only() {
        assert!(Bar::AtLeast(3.0).holds(3.0) && !Bar::AtLeast(3.0).holds(2.9));
        assert!(Bar::AtMost(0.5).holds(0.5) && !Bar::AtMost(0.5).holds(0.6));
        assert!([0.8, 1.0, 1.3].iter().all(|&ratio| Bar::Within(1.3).holds(ratio)));
        assert!([0.7, 1.4].iter().all(|&ratio| !Bar::Within(1.3).holds(ratio)));
        assert_eq!((Bar::AtMost(0.5).margin(0.25), Bar::AtLeast(3.0).margin(1.5)), (2.0, 0.5));
    }
}
