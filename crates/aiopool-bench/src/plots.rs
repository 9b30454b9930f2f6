//! The rows as drawings.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::contest::Measured;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const GOOD: RGBColor = RGBColor(46, 125, 50);
const BAD: RGBColor = RGBColor(198, 40, 40);
const PALE: RGBColor = RGBColor(200, 200, 200);

/// The ratio of each round, small enough for a table.
pub fn rounds(measured: &Measured) -> anyhow::Result<String> {
    let ratios = &measured.ratios;
    drawn((160, 40), |area| {
        let top = ratios.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1.1;
        let rounds = 0.0..ratios.len().max(2) as f64 - 1.0;
        let mut chart =
            ChartBuilder::on(area).margin(2).build_cartesian_2d(rounds.clone(), 0.0..top)?;
        let points = || ratios.iter().enumerate().map(|(i, &ratio)| (i as f64, ratio));
        let median = [(rounds.start, measured.row.ratio), (rounds.end, measured.row.ratio)];
        chart.draw_series(LineSeries::new(median, &RED))?;
        chart.draw_series(LineSeries::new(points(), &BLUE))?;
        chart.draw_series(points().map(|point| Circle::new(point, 2, BLUE.filled())))?;
        Ok(())
    })
}

/// How far every row that has a bar is on the right side of it.
pub fn margins(rows: &[Measured]) -> anyhow::Result<String> {
    const LINE: i32 = 18;
    const LABELS: i32 = 300;
    const WIDE: i32 = 520;
    let barred: Vec<_> =
        rows.iter().filter_map(|m| Some((m, m.bar?.margin(m.row.ratio)))).collect();
    let height = LINE * (barred.len() as i32 + 2);
    drawn(((LABELS + WIDE + 20) as u32, height as u32), |area| {
        // Decades from 1/100 to 10,000.
        let at = |margin: f64| {
            LABELS + (f64::from(WIDE) * (margin.log10().clamp(-2.0, 4.0) + 2.0) / 6.0) as i32
        };
        let style = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let middle = style(12).pos(Pos::new(HPos::Center, VPos::Center));
        let right = style(12).pos(Pos::new(HPos::Right, VPos::Center));
        for (decade, name) in [
            (0.01, "1/100"),
            (0.1, "1/10"),
            (1.0, "the bar"),
            (10.0, "10x"),
            (100.0, "100x"),
            (1e3, "1,000x"),
        ] {
            let color = if decade == 1.0 { BLACK } else { PALE };
            let line = vec![(at(decade), LINE), (at(decade), height)];
            area.draw(&PathElement::new(line, color))?;
            area.draw(&Text::new(name, (at(decade), LINE / 2), middle.clone()))?;
        }
        for (i, (measured, margin)) in barred.iter().enumerate() {
            let y = LINE * (i as i32 + 1) + LINE / 2;
            let color = if measured.met() == Some(true) { GOOD } else { BAD };
            let label = format!("{} / {}", measured.row.name, measured.row.rival);
            area.draw(&Text::new(label, (LABELS - 8, y), right.clone()))?;
            let (from, to) = (at(1.0).min(at(*margin)), at(1.0).max(at(*margin)));
            area.draw(&Rectangle::new([(from, y - 5), (to.max(from + 1), y + 5)], color.filled()))?;
        }
        Ok(())
    })
}

/// A line of a chart, with its name.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// What a task costs by the number in flight, and beside it tokio's.
pub fn load(rows: &[Measured]) -> anyhow::Result<String> {
    let points = |figure: fn(&Measured) -> f64| with_number(rows, "in-flight-", figure);
    let lines = [
        Line { name: "aiopool, two workers", points: points(|m| m.row.ours) },
        Line { name: "tokio spawn + await", points: points(|m| m.row.theirs) },
    ];
    chart("nanoseconds a task, by tasks in flight", &lines)
}

/// What a task costs as one map grows, and as queues are added.
pub fn flatness(rows: &[Measured]) -> anyhow::Result<String> {
    let first = |start: &str| rows.iter().find(|m| m.row.name == start).map(|m| m.row.theirs);
    let line = |name, prefix, start, at| {
        let mut points: Vec<_> = first(start).map(|theirs| (at, theirs)).into_iter().collect();
        points.extend(with_number(rows, prefix, |m| m.row.ours));
        Line { name, points }
    };
    let lines = [
        line("by tasks of one map, two workers", "tasks-", "tasks-1e4", 1e3),
        line("by queues, 16 workers", "queues-", "queues-2", 1.0),
    ];
    chart("nanoseconds a task, by tasks and by queues", &lines)
}

/// Rows called `prefix` and a number: the number and a figure of each.
fn with_number(rows: &[Measured], prefix: &str, figure: fn(&Measured) -> f64) -> Vec<(f64, f64)> {
    let number = |m: &Measured| m.row.name.strip_prefix(prefix)?.parse().ok();
    let mut points: Vec<_> = rows.iter().filter_map(|m| Some((number(m)?, figure(m)))).collect();
    points.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
    points
}

/// Lines on two logarithmic axes.
fn chart(title: &str, lines: &[Line]) -> anyhow::Result<String> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high { 1.0..10.0 } else { low / 1.5..high * 1.5 }
    };
    let xs = range(&mut all().map(|point| point.0));
    let ys = range(&mut all().map(|point| point.1));
    drawn((640, 360), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
        chart.configure_mesh().light_line_style(PALE.mix(0.3)).draw()?;
        for (line, color) in lines.iter().zip([BLUE, RED]) {
            let points = || line.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points(), &color))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
            chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
        }
        chart.configure_series_labels().background_style(WHITE).border_style(PALE).draw()?;
        Ok(())
    })
}

fn drawn(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::{Bar, Row};

    fn measured(name: &str, ours: f64, theirs: f64) -> Measured {
        let row = Row {
            name: name.to_owned(),
            unit: "ns".to_owned(),
            ours,
            rival: "x".to_owned(),
            theirs,
            ratio: ours / theirs,
            rounds: 2,
            spread: 0.0,
        };
        Measured { row, bar: Some(Bar::AtMost(1.0)), ratios: vec![0.4, 0.6] }
    }

    #[test]
    fn every_plot_is_drawn() {
        let rows =
            [measured("in-flight-1", 1000.0, 9000.0), measured("in-flight-10", 500.0, 800.0)];
        assert!(rounds(&rows[0]).unwrap().contains("<polyline"));
        assert_eq!(margins(&rows).unwrap().matches("in-flight-10 / x").count(), 1);
        assert!(load(&rows).unwrap().contains("tokio spawn + await"));
        // Rows that were not run leave an empty chart, not an error.
        assert!(flatness(&rows).unwrap().contains("by queues"));
    }

    #[test]
    fn numbers_of_rows_are_read_from_their_names() {
        let rows = [measured("tasks-1e6", 3.0, 1.0), measured("tasks-1e4", 2.0, 1.0)];
        assert_eq!(with_number(&rows, "tasks-", |m| m.row.ours), [(1e4, 2.0), (1e6, 3.0)]);
    }
}
