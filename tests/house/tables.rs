//! The page for those who come from aiomultiprocess names every option and verb that there is, so
//! what is new stands beside what it takes the place of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Old names, and what goes with a verb that is there.
const NOT_NAMED: [&str; 3] = ["try_submit", "is_empty", "len"];

fn files(folders: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// The public functions in the `impl` blocks of `types`, but those of traits.
fn verbs(folders: &[&str], types: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files(folders) {
        let mut inside = false;
        for line in fs::read_to_string(file).unwrap().lines() {
            if line.starts_with("impl") && line.ends_with('{') {
                let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
                inside = types.iter().any(|of| words.contains(of)) && !words.contains(&"for");
            }
            let function = ["    pub fn ", "    pub async fn ", "    pub const fn "];
            let named = function.iter().find_map(|start| line.strip_prefix(start));
            if let Some(named) = named.filter(|_| inside) {
                let end = named.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
                found.insert(named[..end].to_owned());
            }
        }
    }
    found
}

#[test]
fn the_page_for_users_of_aiomultiprocess_names_every_verb_and_option() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/coming-from-aiomultiprocess.md");
    let page = fs::read_to_string(page).unwrap();
    let words: BTreeSet<&str> = page.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut verbs = verbs(
        &["src/pool", "src/pool/map", "src/task", "src/process"],
        &["Pool", "PoolBuilder", "Submit", "Task", "Map", "TaskSet", "TaskOptions", "Process"],
    );
    assert!(verbs.len() > 100, "{verbs:?}");
    verbs.retain(|verb| !words.contains(verb.as_str()) && !NOT_NAMED.contains(&verb.as_str()));
    assert!(verbs.is_empty(), "docs/coming-from-aiomultiprocess.md does not name {verbs:?}");
}
