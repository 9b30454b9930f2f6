//! `docs/` brought up to date from a run: its JSON, its table within the page, its plots.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Run, plots, table};

/// What is between these lines of the page is the run's.
const BEGIN: &str = "<!-- From here: aiopool bench --docs -->\n";
const END: &str = "<!-- To here -->\n";

pub fn write(folder: &Path, run: &Run) -> anyhow::Result<()> {
    let page = folder.join("performance.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let text = replaced(&text, &section(run)).with_context(|| page.display().to_string())?;
    let files = [
        (page, text),
        (folder.join("bench.json"), run.json()?),
        (folder.join("bench-bars.svg"), plots::margins(&run.measured)?),
        (folder.join("bench-load.svg"), plots::load(&run.measured)?),
        (folder.join("bench-flatness.svg"), plots::flatness(&run.measured)?),
    ];
    for (path, text) in files {
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn section(run: &Run) -> String {
    format!("\n{}:\n`{}`.\n\n{}\n", run.machine, run.command, table::markdown(&run.measured))
}

/// `page` with another section between the two lines.
fn replaced(page: &str, section: &str) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("where does the table begin?")?;
    let (_, after) = rest.split_once(END).context("where does the table end?")?;
    Ok([before, BEGIN, section, END, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_is_replaced() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), format!("a\n{BEGIN}new\n{END}b\n"));
        assert!(replaced("a page without a section", "new").is_err());
    }
}
