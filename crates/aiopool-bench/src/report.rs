//! The rows as a page with plots.

use super::Run;
use super::{plots, table};

/// One file, nothing to load.
pub fn html(run: &Run) -> anyhow::Result<String> {
    let mut body = String::new();
    for measured in &run.measured {
        body += "<tr>";
        for cell in table::cells(measured) {
            body += &format!("<td>{}</td>", escape(&cell));
        }
        let verdict = match measured.met() {
            Some(true) => "met",
            Some(false) => "<b>missed</b>",
            None => "",
        };
        body += &format!("<td>{verdict}</td><td>{}</td></tr>\n", plots::rounds(measured)?);
    }
    Ok(format!(
        "<!doctype html><meta charset=\"utf-8\"><title>aiopool bench</title>\n\
         <style>body{{font:14px sans-serif}}td,th{{padding:2px 8px;text-align:left}}\
         tr:nth-child(even){{background:#f4f4f4}}</style>\n\
         <h1>aiopool bench</h1><p>{}</p><p><code>{}</code></p>\n\
         <h2>Every bar</h2>{}\n<h2>As load grows</h2>{}{}\n<h2>Every row</h2>\n\
         <p>The small plots show our figure by the rival's, round by round; the red line is the \
         median.</p>\n\
         <table><tr><th>row<th>unit<th>ours<th>rival<th>theirs<th>ratio<th>spread<th>bar<th><th>\
         rounds</tr>\n{body}</table>\n",
        escape(&run.machine.to_string()),
        escape(&run.command),
        plots::margins(&run.measured)?,
        plots::load(&run.measured)?,
        plots::flatness(&run.measured)?,
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b> & c"), "a&lt;b&gt; &amp; c");
    }
}
