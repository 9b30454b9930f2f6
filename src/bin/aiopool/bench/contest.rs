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
}

impl Bar {
    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bar) => ratio >= bar,
            Self::AtMost(bar) => ratio <= bar,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, ">= {}", figure(*bar)),
            Self::AtMost(bar) => write!(f, "<= {}", figure(*bar)),
        }
    }
}

/// A row before it is run.
pub struct Contest {
    pub unit: &'static str,
    pub ours: Block,
    pub rivals: Vec<Rival>,
    /// Rounds for rows that need more time than the others; `None` for as many as all.
    pub rounds: Option<usize>,
}

impl Contest {
    pub fn new(unit: &'static str, ours: impl FnMut() -> anyhow::Result<f64> + 'static) -> Self {
        Self { unit, ours: Box::new(ours), rivals: Vec::new(), rounds: None }
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

    /// At most so many rounds, for blocks that cannot be short.
    pub fn at_most(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }
}

/// A row after it was run: we against one rival.
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
    pub bar: Option<String>,
    pub met: Option<bool>,
    /// Our figure by theirs in each round, for the plots.
    pub ratios: Vec<f64>,
}

/// Runs `rounds` rounds; in each everybody has one block, we first in every other.
pub fn run(name: &str, contest: Contest, rounds: usize) -> anyhow::Result<Vec<Row>> {
    let Contest { unit, mut ours, mut rivals, rounds: limit } = contest;
    let rounds = limit.map_or(rounds, |limit| limit.min(rounds));
    let mut our_figures = Vec::with_capacity(rounds);
    let mut their_figures = vec![Vec::with_capacity(rounds); rivals.len()];
    // The first round is for caches, page faults and learned budgets.
    for round in 0..=rounds {
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
        Row {
            name: name.to_owned(),
            unit: unit.to_owned(),
            ours: quantile(&our_figures, 0.5),
            rival: rival.name.to_owned(),
            theirs: quantile(&theirs, 0.5),
            ratio,
            rounds,
            spread: (quantile(&ratios, 0.75) - quantile(&ratios, 0.25)) / 2.0 / ratio,
            bar: rival.bar.map(|bar| bar.to_string()),
            met: rival.bar.map(|bar| bar.holds(ratio)),
            ratios,
        }
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
        assert_eq!((rows[0].ratio, rows[0].spread, rows[0].met), (2.0, 0.0, Some(true)));
        assert_eq!(rows[0].rounds, 7);
    }
}
