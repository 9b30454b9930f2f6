//! The rows as a page with plots.

use plotters::prelude::*;

use super::Run;
use super::contest::{Row, figure};

/// One file, nothing to load.
pub fn html(run: &Run) -> anyhow::Result<String> {
    let mut body = String::new();
    for row in &run.rows {
        let cells = [
            escape(&row.name),
            escape(&row.unit),
            figure(row.ours),
            escape(&row.rival),
            figure(row.theirs),
            figure(row.ratio),
            format!("{:.0} %", row.spread * 100.0),
            escape(row.bar.as_deref().unwrap_or("–")),
            match row.met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            }
            .to_owned(),
        ];
        body += "<tr>";
        cells.iter().for_each(|cell| body += &format!("<td>{cell}</td>"));
        body += &format!("<td>{}</td></tr>\n", plot(row)?);
    }
    Ok(format!(
        "<!doctype html><meta charset=\"utf-8\"><title>aiopool bench</title>\n\
         <style>body{{font:14px sans-serif}}td,th{{padding:2px 8px;text-align:left}}\
         tr:nth-child(even){{background:#f4f4f4}}</style>\n\
         <h1>aiopool bench</h1><p>{}</p><p><code>{}</code></p>\n\
         <p>The plots show our figure by the rival's, round by round; the line is the median.</p>\n\
         <table><tr><th>row<th>unit<th>ours<th>rival<th>theirs<th>ratio<th>spread<th>bar<th><th>\
         rounds</tr>\n{body}</table>\n",
        escape(&run.machine.to_string()),
        escape(&run.command),
    ))
}

/// The ratio of each round, as a small drawing.
fn plot(row: &Row) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (160, 40)).into_drawing_area();
        let top = row.ratios.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1.1;
        let rounds = 0.0..row.ratios.len().max(2) as f64 - 1.0;
        let mut chart =
            ChartBuilder::on(&area).margin(2).build_cartesian_2d(rounds.clone(), 0.0..top)?;
        let points = || row.ratios.iter().enumerate().map(|(i, &ratio)| (i as f64, ratio));
        let median = [(rounds.start, row.ratio), (rounds.end, row.ratio)];
        chart.draw_series(LineSeries::new(median, &RED))?;
        chart.draw_series(LineSeries::new(points(), &BLUE))?;
        chart.draw_series(points().map(|point| Circle::new(point, 2, BLUE.filled())))?;
        area.present()?;
    }
    Ok(svg)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_drawn_and_text_is_escaped() {
        let row = Row {
            name: "a<b".to_owned(),
            unit: "ns".to_owned(),
            ours: 1.0,
            rival: "x".to_owned(),
            theirs: 2.0,
            ratio: 0.5,
            rounds: 2,
            spread: 0.0,
            bar: None,
            met: None,
            ratios: vec![0.4, 0.6],
        };
        assert!(plot(&row).unwrap().contains("<polyline"));
        assert_eq!(escape(&row.name), "a&lt;b");
    }
}
