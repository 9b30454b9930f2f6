//! What the documents name exists: every path, feature, item and command that stands in back quotes
//! or in a block of shell commands, in `docs`, the READMEs, CONTRIBUTING and SECURITY.
//!
//! The second half checks sentences that list things: outcomes, features, islands of `unsafe`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names that the documents use and that no file here has: other projects' names for the most part.
const FOREIGN: &[&str] = &[
    "BrokenProcessPool",
    "MADV_DONTFORK",
    "NAME",
    "SA_RESTART",
    "create_worker",
    "deserialize_with",
    "finish_work",
    "get_manager",
    "max_age",
    "max_msgs_per_subject",
    "on_thread_park",
    "pthread_cancel",
    "queue_work",
    "serialize_with",
    "square.c",
    "sync_interval",
];

/// Everything below the repository's root that is tracked or would be: no build output.
fn files() -> Vec<PathBuf> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let skipped = ["target", ".git", "node_modules", "__pycache__"].contains(&name);
            if skipped || path.is_symlink() {
                continue;
            }
            found.push(path.strip_prefix(root).unwrap().to_path_buf());
            if path.is_dir() {
                walk(&path, root, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), root(), &mut found);
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{:?}: {e}", path.as_ref()))
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap()))
}

/// The documents that are checked. The changelog is history and names what is gone.
fn documents(files: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let wanted = files.iter().filter(|path| has_extension(path, &["md"]));
    let wanted = wanted.filter(|path| !path.ends_with("CHANGELOG.md") && !path.starts_with("fuzz"));
    let found: Vec<_> = wanted.map(|path| (path.clone(), read(path))).collect();
    assert!(found.len() > 15, "the documents were not found");
    found
}

/// One piece of a document in back quotes, or one command of a fenced block.
#[derive(Debug)]
struct Span {
    line: usize,
    text: String,
    /// The line that it stands on, for features, which are introduced by a word.
    before: String,
}

fn spans(text: &str) -> Vec<Span> {
    let (mut found, mut fence, mut open) = (Vec::new(), None, String::new());
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_none() { Some(language.trim().to_owned()) } else { None };
            continue;
        }
        match fence.as_deref() {
            Some("sh" | "") => {
                let command = line.split(" #").next().unwrap().trim();
                found.push(Span { line: number, text: command.into(), before: String::new() });
                continue;
            }
            Some(_) => continue,
            None if line.starts_with("    ") && !open.contains('`') => {
                let command = line.trim();
                if COMMANDS.iter().any(|known| command.starts_with(known)) {
                    found.push(Span { line: number, text: command.into(), before: String::new() });
                    continue;
                }
            }
            None => {}
        }
        // A span may go on in the next line of its paragraph.
        let joined =
            if open.is_empty() { line.to_owned() } else { format!("{open} {}", line.trim()) };
        let parts: Vec<&str> = joined.split('`').collect();
        if parts.len().is_multiple_of(2) && !line.is_empty() && !line.starts_with('|') {
            open = joined;
            continue;
        }
        open.clear();
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| index % 2 == 1) {
            let before = parts[..index].join("`");
            found.push(Span { line: number, text: (*part).to_owned(), before });
        }
    }
    found
}

/// What a piece of text begins with to be a command of ours.
const COMMANDS: &[&str] = &[
    "cargo ",
    "aiopool ",
    "bash ",
    "python3 ",
    "RUSTFLAGS=",
    "AIOPOOL_",
    "ffi-examples/",
    "fuzz/",
    "cc ",
    "chaos ",
];

/// Every word of letters, digits and `_` in `text`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The words that code uses, comments not counted: what is defined here, or imported and used.
fn known_words(files: &[PathBuf]) -> BTreeSet<String> {
    let code = ["rs", "toml", "h", "c", "cpp", "hpp", "go", "mjs", "py", "sh", "json"];
    let mut known = BTreeSet::new();
    for path in files.iter().filter(|path| root().join(path).is_file()) {
        if path.ends_with("tests/house/claims.rs") {
            continue;
        }
        if has_extension(path, &code) || path.extension().is_none() {
            let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
            let comment = |line: &&str| {
                let line = line.trim_start();
                has_extension(path, &["rs"]) && line.starts_with("//")
            };
            for line in text.lines().filter(|line| !comment(line)) {
                known.extend(words(line).map(str::to_owned));
            }
        }
        known.extend(path.iter().flat_map(|part| words(part.to_str().unwrap())).map(str::to_owned));
    }
    known
}

/// The features of all packages of the workspace.
fn features(files: &[PathBuf]) -> BTreeSet<String> {
    let manifests = files.iter().filter(|path| path.ends_with("Cargo.toml"));
    manifests.flat_map(|path| table(&read(path), "features")).map(|(name, _)| name).collect()
}

/// The keys of a table of a manifest, each with the rest of its line.
fn table(manifest: &str, name: &str) -> Vec<(String, String)> {
    let lines = manifest.lines().skip_while(|line| line.trim() != format!("[{name}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .filter(|(key, _)| !key.starts_with('#'))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

struct House {
    files: Vec<PathBuf>,
    known: BTreeSet<String>,
    features: BTreeSet<String>,
    packages: BTreeSet<String>,
}

impl House {
    fn look() -> Self {
        let files = files();
        let manifests: Vec<String> =
            files.iter().filter(|path| path.ends_with("Cargo.toml")).map(read).collect();
        let packages = manifests.iter().flat_map(|text| table(text, "package"));
        let packages = packages.filter(|(key, _)| key == "name");
        Self {
            known: known_words(&files),
            features: features(&files),
            packages: packages.map(|(_, name)| name.trim_matches('"').to_owned()).collect(),
            files,
        }
    }

    /// Whether a file or folder ends with this path; a source may be named without `.rs`.
    fn has_path(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        if let Some((dir, pattern)) = path.rsplit_once('/')
            && let Some((start, end)) = pattern.split_once('*')
        {
            return self.files.iter().any(|file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                let beside = file.parent().is_some_and(|parent| {
                    dir == "*" || parent.ends_with(dir.trim_end_matches("/*")) || dir.contains('*')
                });
                beside && name.starts_with(start) && name.ends_with(end)
            });
        }
        let source = format!("{path}.rs");
        self.files.iter().any(|file| file.ends_with(path) || file.ends_with(&source))
    }

    /// What is wrong with this span, if anything.
    fn complaint(&self, span: &Span) -> Option<String> {
        let text = span.text.trim();
        if COMMANDS.iter().any(|known| text.starts_with(known)) {
            return self.wrong_command(text);
        }
        let feature = span.before.trim_end_matches([' ', ',']);
        let feature = feature.strip_suffix(" and").unwrap_or(feature);
        let introduced = feature.rsplit_once("feature").is_some_and(|(_, rest)| {
            rest.split('`')
                .enumerate()
                .all(|(i, part)| i % 2 == 1 || ["", " ", "s ", "s", ", ", " and "].contains(&part))
        });
        if introduced && words(text).count() == 1 && !self.features.contains(text) {
            return Some("no such feature".into());
        }
        if is_path(text) {
            return (!self.has_path(text)).then(|| "no such path".into());
        }
        self.wrong_item(text)
    }

    /// Items: each word with a shape of a name must be a word of the code.
    fn wrong_item(&self, text: &str) -> Option<String> {
        let plain =
            text.chars().all(|c| c.is_alphanumeric() || "_:().…&*<>!, -=|{}?;[]".contains(c));
        if !plain || text.contains("://") {
            return None;
        }
        // A name cut short by an ellipsis is a part of one; `_peek` is the end of `aiopool_pool_peek`.
        if text.contains('…') {
            let parts: Vec<&str> = text.split('…').filter(|part| !part.is_empty()).collect();
            let names = parts.iter().all(|part| words(part).eq([*part]));
            let found = self.known.iter().any(|word| parts.iter().all(|part| word.contains(part)));
            return (names && parts.iter().any(|part| part.contains('_')) && !found)
                .then(|| "no name like it".into());
        }
        if text.starts_with('_') && words(text).eq([text]) {
            let found = self.known.iter().any(|word| word.ends_with(text));
            return (!found).then(|| "no name ends with it".into());
        }
        let named = words(text).filter(|word| {
            let camel = word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.contains(|c: char| c.is_ascii_lowercase());
            let snake = word.contains('_') && word.len() > 3;
            (camel || snake) && !FOREIGN.contains(word)
        });
        let unknown: Vec<&str> = named.filter(|word| !self.known.contains(*word)).collect();
        (!unknown.is_empty()).then(|| format!("not a word of the code: {unknown:?}"))
    }

    fn wrong_command(&self, text: &str) -> Option<String> {
        let text = text.split(" && ").next().unwrap();
        let parts: Vec<&str> =
            text.split_whitespace().skip_while(|part| is_assignment(part)).collect();
        let after = |flag: &str| {
            let at = parts.iter().position(|part| *part == flag)?;
            parts.get(at + 1).copied()
        };
        let mut wrong = Vec::new();
        for file in parts.iter().filter(|part| is_path(part) && !FOREIGN.contains(part)) {
            if !self.has_path(file) {
                wrong.push(format!("no such path: {file}"));
            }
        }
        if parts.first() == Some(&"cargo") {
            for feature in after("--features").into_iter().flat_map(|list| list.split(',')) {
                if !self.features.contains(feature) {
                    wrong.push(format!("no such feature: {feature}"));
                }
            }
            for package in [after("-p"), after("--package")].into_iter().flatten() {
                if !self.packages.contains(package) {
                    wrong.push(format!("no such package: {package}"));
                }
            }
            for (flag, folder) in
                [("--test", "tests"), ("--example", "examples"), ("--bench", "benches")]
            {
                let known = |name: &str| {
                    name == "…"
                        || FOREIGN.contains(&name)
                        || [format!("{folder}/{name}.rs"), format!("{folder}/{name}/main.rs")]
                            .iter()
                            .any(|path| self.has_path(path))
                        || self
                            .files
                            .iter()
                            .filter(|path| path.ends_with("Cargo.toml"))
                            .any(|path| read(path).contains(&format!("name = \"{name}\"")))
                };
                if let Some(name) = after(flag).filter(|name| !known(name)) {
                    wrong.push(format!("no such target: {flag} {name}"));
                }
            }
            if parts.get(1) == Some(&"test") && parts.contains(&"--lib") {
                let filters = parts[2..].iter().filter(|part| part.contains("::"));
                for word in filters.flat_map(|filter| filter.split("::")) {
                    if !self.known.contains(word) {
                        wrong.push(format!("no such module: {word}"));
                    }
                }
            }
        }
        // Subcommands and flags of our own programs: the words after `--`, or after the name.
        let ours = match parts.first() {
            Some(&"aiopool" | &"chaos") => &parts[1..],
            Some(&"cargo") => {
                let at = parts.iter().position(|part| *part == "--");
                at.map_or(&[][..], |at| &parts[at + 1..])
            }
            _ => &[],
        };
        for part in ours.iter().flat_map(|part| part.split('|')) {
            let name = part.trim_start_matches(['-', '[']).trim_end_matches(']').replace('-', "_");
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            let camel: String = name
                .split('_')
                .flat_map(|word| word.char_indices())
                .map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c })
                .collect();
            let quoted = part.trim_start_matches(['-', '[']).trim_end_matches(']');
            if !self.known.contains(&name) && !self.known.contains(&camel) {
                wrong.push(format!("no such word on the command line: {quoted}"));
            }
        }
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }
}

fn is_assignment(part: &str) -> bool {
    part.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    })
}

/// Something in this repository by its looks: a known ending, or a slash between names.
fn is_path(text: &str) -> bool {
    let outside = ["/", "target", "-", "~", "$", "http", "dep:", "../"];
    let plain = text.chars().all(|c| c.is_alphanumeric() || "_-./*@".contains(c));
    if !plain || outside.iter().any(|start| text.starts_with(start)) {
        return false;
    }
    let endings =
        ["rs", "md", "toml", "h", "c", "cpp", "hpp", "go", "mjs", "py", "sh", "svg", "json", "txt"];
    let ending =
        text.rsplit_once('.').is_some_and(|(name, end)| !name.is_empty() && endings.contains(&end));
    ending
        || text.contains('/')
            && words(text).any(|word| word.starts_with(|c: char| c.is_alphabetic()))
}

#[test]
fn what_the_documents_name_exists() {
    let house = House::look();
    let mut wrong = Vec::new();
    for (path, text) in documents(&house.files) {
        for span in spans(&text) {
            if let Some(complaint) = house.complaint(&span) {
                wrong.push(format!(
                    "{}:{}: `{}`: {complaint}",
                    path.display(),
                    span.line,
                    span.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} names of nothing:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_document_that_the_code_cites_exists() {
    let house = House::look();
    let mut wrong = Vec::new();
    for path in house.files.iter().filter(|path| has_extension(path, &["rs"])) {
        let text = read(path);
        let cited = text.split(|c: char| c.is_whitespace() || "`\"()<>,;:'".contains(c));
        for name in cited.filter(|word| word.ends_with(".md") && word.len() > 3 && is_path(word)) {
            if !house.has_path(name) {
                wrong.push(format!("{} cites {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "documents that are not there:\n{}", wrong.join("\n"));
}

/// The variants of a public enum, by its source.
fn variants(file: &str, name: &str) -> Vec<String> {
    let text = read(file);
    let (_, body) = text.split_once(&format!("pub enum {name} {{\n")).expect("the enum is there");
    let body = body.split("\n}").next().unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let starts = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    starts.filter_map(|line| words(line).next()).map(str::to_owned).collect()
}

/// The paragraph or list item of `document` that contains `start`.
fn passage(document: &str, start: &str) -> String {
    let text = read(document);
    let at = text.find(start).unwrap_or_else(|| panic!("{document} has no {start:?}"));
    let rest = text[at..].split("\n\n").next().unwrap();
    rest.split("\n- ").next().unwrap().to_owned()
}

fn quoted(passage: &str) -> BTreeSet<String> {
    passage.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_design_lists_every_outcome_feature_and_island() {
    let outcomes = quoted(&passage("docs/design.md", "**outcome**"));
    let mut wanted: BTreeSet<String> =
        variants("src/task/error.rs", "TaskError").into_iter().collect();
    wanted.insert("Ok".into());
    wanted.insert("TaskError".into());
    assert_eq!(outcomes, wanted, "outcomes in docs/design.md");

    let listed = quoted(&passage("docs/design.md", "Features of the library"));
    let manifest = table(&read("Cargo.toml"), "features");
    let mut features: BTreeSet<String> = manifest.iter().map(|(name, _)| name.clone()).collect();
    features.remove("default");
    assert_eq!(listed, features, "features in docs/design.md");

    let floors = read("tests/house/floors.rs");
    let (_, islands) = floors.split_once("const ISLANDS: &[&str] = &[").unwrap();
    let islands = islands.split("];").next().unwrap().split('"').skip(1).step_by(2);
    let islands: BTreeSet<String> = islands.map(str::to_owned).collect();
    let listed = quoted(&passage("docs/design.md", "Islands of `unsafe`"));
    let listed: BTreeSet<String> = listed.into_iter().filter(|name| name != "unsafe").collect();
    assert_eq!(listed, islands, "islands of unsafe in docs/design.md");
}

#[test]
fn the_map_lists_every_folder_of_the_library_in_the_order_of_the_floors() {
    let floors = read("tests/house/floors.rs");
    let (_, order) = floors.split_once("const FLOORS: &[&[&str]] = &[").unwrap();
    let order = order.split("\n];").next().unwrap().split('"').skip(1).step_by(2);
    let folders: Vec<&str> = order.filter(|name| root().join("src").join(name).is_dir()).collect();
    let map = read("docs/where-is-what.md");
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `src/")?.split('`').next());
    let rows: Vec<&str> = rows.filter(|name| !name.ends_with(".rs")).collect();
    assert_eq!(rows, folders, "docs/where-is-what.md");
}

/// Words that leave the reader to guess which process or thread acts, or which number is meant.
const RIDDLES: &[&str] = &["whoever", "whomever", "somebody", "so many", "as above"];

/// What follows a `who` that stands for a caller, a worker or a thread, and asks nothing.
const AFTER_WHO: &[&str] = &["has", "is", "looks", "waits", "sleeps", "can", "cannot", "drains"];

#[test]
fn comments_and_documents_say_which_process_or_thread_acts() {
    let mut wrong = Vec::new();
    for path in files().iter().filter(|path| has_extension(path, &["rs", "md", "h", "c"])) {
        if path.ends_with("tests/house/claims.rs") || path.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = read(path);
        let document = has_extension(path, &["md"]);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let comment = ["//", "*", "/*"].iter().any(|start| line.starts_with(start));
            if !document && !comment {
                continue;
            }
            // Test names that are quoted are names.
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            let words: Vec<String> = words(&prose).map(str::to_lowercase).collect();
            let has = |riddle: &&str| {
                let parts: Vec<&str> = riddle.split(' ').collect();
                words.windows(parts.len()).any(|found| found == parts)
            };
            let pronoun = words
                .windows(2)
                .any(|pair| pair[0] == "who" && AFTER_WHO.contains(&pair[1].as_str()));
            if RIDDLES.iter().any(has) || pronoun {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "who is meant?\n{}", wrong.join("\n"));
}
