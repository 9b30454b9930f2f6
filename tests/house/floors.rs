//! The layout of `docs/design.md` §8, enforced: imports go strictly down, `unsafe` stays on its
//! islands, and no file is longer than one concept.

use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up; a module may use what is listed before it, on its floor or below.
const FLOORS: &[&[&str]] = &[
    &["error", "sys", "sync"],
    &["shm"],
    &["stats", "view", "arena", "doorbell", "table", "ring", "trace"],
    &["control", "task", "logs"],
    &["worker"],
    &["launch", "queue"],
    &["scheduler", "supervisor"],
    &["pool", "process"],
    &["ffi", "internals", "remote"],
];

/// Where `unsafe` may be: a folder or a file. Every other file is under a `forbid(unsafe_code)`.
const ISLANDS: &[&str] = &[
    "sync/model.rs",
    "sys/",
    "shm/private.rs",
    "shm/region.rs",
    "table/record.rs",
    "stats/page.rs",
    "control/mod.rs",
    "task/address.rs",
    "task/callback.rs",
    "task/entry.rs",
    "worker/mod.rs",
    "worker/slots.rs",
    "worker/functions.rs",
    "launch/zygote/",
    "ffi/",
];

/// Lines of code, comments and blank lines not counted, tests not counted.
const WALL: usize = 400;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 30, "the sources were not found");
    let strip = |path: PathBuf| path.strip_prefix(&root).unwrap().to_path_buf();
    found.into_iter().map(|(path, text)| (strip(path), text)).collect()
}

/// The number of a module in the order of [`FLOORS`].
fn place_of(module: &str) -> Option<usize> {
    FLOORS.iter().copied().flatten().position(|&known| known == module)
}

/// Whether the file is only compiled for tests, or for the model checker.
fn is_for_tests(path: &Path) -> bool {
    let test_folder = |part: &std::ffi::OsStr| part == "tests" || part == "model" || part == "fuzz";
    let file = path.file_stem().unwrap();
    path.parent().unwrap().iter().any(test_folder)
        || ["tests", "listing"].iter().any(|&n| file == n)
}

/// The product part of a file: what comes before its tests.
fn product(text: &str) -> &str {
    let starts =
        ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(all(test, not(aiopool_loom)))]\nmod tests {"];
    let tests = starts.iter().find_map(|start| text.find(start));
    &text[..tests.unwrap_or(text.len())]
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    product(text).lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

#[test]
fn imports_go_strictly_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = path.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        if module == "lib" || is_for_tests(&path) {
            continue;
        }
        let Some(place) = place_of(module) else {
            wrong.push(format!("{}: module {module} is on no floor", path.display()));
            continue;
        };
        for line in code(&text) {
            for used in line.split("crate::").skip(1) {
                let name: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if name != module && place_of(&name).is_some_and(|above| above > place) {
                    wrong.push(format!("{}: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_on_its_islands() {
    let sources = sources();
    let says = |path: PathBuf, lint: &str| {
        let file = sources.iter().find(|(known, _)| *known == path);
        file.is_some_and(|(_, text)| code(text).any(|line| line.starts_with(lint)))
    };
    let (allow, forbid) = ("#![allow(unsafe_code)]", "#![forbid(unsafe_code)]");
    let mut wrong = Vec::new();
    for (path, text) in &sources {
        let on_island = ISLANDS.iter().any(|island| path.to_str().unwrap().starts_with(island));
        if on_island {
            continue;
        }
        // `Cargo.toml` denies it, so it takes an `allow`: here, or in the file of the folder.
        let folder = path.with_file_name("mod.rs");
        if text.contains("allow(unsafe_code)") || says(folder, allow) && !says(path.clone(), forbid)
        {
            wrong.push(format!("{} allows unsafe and is on no island", path.display()));
        }
    }
    for folder in FLOORS.iter().copied().flatten() {
        let is_safe = !ISLANDS.iter().any(|island| island.split('/').next() == Some(folder));
        let heads = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
        if is_safe && !heads.iter().any(|head| says(head.into(), forbid)) {
            wrong.push(format!("{folder} has no unsafe: say {forbid} at its head"));
        }
    }
    for island in ISLANDS {
        let mut files =
            sources.iter().filter(|(path, _)| path.to_str().unwrap().starts_with(island));
        if !files.any(|(_, text)| code(text).any(|line| line.contains("unsafe"))) {
            wrong.push(format!("{island} is listed as an island and has no unsafe"));
        }
    }
    assert!(wrong.is_empty(), "see docs/design.md §8:\n{}", wrong.join("\n"));
}

/// The module path of a file: `["queue", "submit"]` for `queue/submit.rs`, `["queue"]` for its
/// `mod.rs`.
fn module_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    parts.pop_if(|last| last == "mod" || last == "lib");
    parts
}

/// Each path of a use tree: `a::b` and `a::c` for `a::{b, c}`.
fn paths_of(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        found.push(format!("{prefix}{}", path.trim()));
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let inner = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    paths_of(&inner[start..at], &prefix, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// How a file names something of this crate.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Use,
    /// `pub use`, which hands it on.
    PubUse,
    /// A path in the code.
    Path,
}

/// What a file uses of this crate, as paths from the crate's root.
fn uses_of(module: &[String], text: &str) -> Vec<(By, Vec<String>)> {
    let lines: Vec<&str> = code(text).map(|line| line.split("//").next().unwrap()).collect();
    let text = lines.join("\n");
    let mut found: Vec<(By, String)> = Vec::new();
    for statement in text.split(';') {
        let from = statement.lines().skip_while(|line| !line.contains("use "));
        let statement = from.collect::<Vec<_>>().join(" ");
        if let Some((before, tree)) = statement.split_once("use ")
            && (before.is_empty() || before.starts_with("pub"))
        {
            let by = if before.is_empty() { By::Use } else { By::PubUse };
            let mut paths = Vec::new();
            paths_of(tree, "", &mut paths);
            found.extend(paths.into_iter().map(|path| (by, path)));
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in text.match_indices(root) {
            let whole = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = text[at..].chars().take_while(|&c| whole(c)).collect();
            if !text[..at].ends_with("::") {
                found.push((By::Path, path.trim_end_matches(':').to_owned()));
            }
        }
    }
    // A path that begins with a module declared here: `engine::run`.
    for name in lines.iter().filter_map(|line| line.split("mod ").nth(1)?.strip_suffix(';')) {
        let whole = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for line in lines.iter().filter(|line| !line.contains("use ")) {
            for (at, _) in line.match_indices(&format!("{name}::")) {
                if !line[..at].ends_with(whole) {
                    let path: String = line[at..].chars().take_while(|&c| whole(c)).collect();
                    found.push((By::Path, path.trim_end_matches(':').to_owned()));
                }
            }
        }
    }
    let absolute = |path: String| -> Vec<String> {
        let mut parts = path.split("::").filter(|part| *part != "*").peekable();
        let mut base = module.to_vec();
        match parts.peek() {
            Some(&"crate") => base.clear(),
            Some(&"super") => {}
            _ => return base.into_iter().chain(parts.map(str::to_owned)).collect(),
        }
        for part in parts {
            match part {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                name => base.push(name.to_owned()),
            }
        }
        base
    };
    found.into_iter().map(|(by, path)| (by, absolute(path))).collect()
}

#[test]
fn no_two_files_of_a_folder_import_each_other() {
    let files: Vec<(Vec<String>, PathBuf, String)> = sources()
        .into_iter()
        .filter(|(path, _)| !is_for_tests(path) && path != Path::new("lib.rs"))
        .map(|(path, text)| (module_of(&path), path, text))
        .collect();
    let file_of = |module: &[String]| files.iter().position(|(known, ..)| known == module);
    let uses: Vec<_> = files.iter().map(|(module, _, text)| uses_of(module, text)).collect();
    // The file that an item is in: a folder's own file may only have it from another one.
    let home = |path: &[String]| {
        let mut path = path.to_vec();
        for _ in 0..4 {
            let at = (0..=path.len()).rev().find_map(|len| file_of(&path[..len]).map(|f| (f, len)));
            let (file, len) = at?;
            let Some(name) = path.get(len) else { return Some(file) };
            let from = uses[file].iter().find(|(by, known)| {
                *by != By::Path && known.last() == Some(name) && known.len() > len + 1
            });
            match from {
                Some((_, known)) => path = known.clone(),
                None => return Some(file),
            }
        }
        None
    };
    let mut edges = std::collections::BTreeSet::new();
    for (from, uses) in uses.iter().enumerate() {
        let (module, path, _) = &files[from];
        for (by, used) in uses {
            // What a folder's own file hands on it does not use itself.
            let handed_on =
                *by == By::PubUse && path.ends_with("mod.rs") && used.starts_with(module);
            if let Some(to) = home(used).filter(|&to| to != from && !handed_on) {
                edges.insert((from, to));
            }
        }
    }
    let folder = |at: usize| files[at].1.parent().unwrap();
    let wrong: Vec<String> = edges
        .iter()
        .filter(|&&(a, b)| a < b && folder(a) == folder(b) && edges.contains(&(b, a)))
        .map(|&(a, b)| (&files[a].1, &files[b].1))
        .map(|(a, b)| format!("{} <-> {}", a.display(), b.display()))
        .collect();
    assert!(edges.len() > 100, "the imports were not found");
    assert!(wrong.is_empty(), "files that import each other:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_concept() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (path, code(&text).count()))
        .filter(|&(_, lines)| lines > WALL)
        .map(|(path, lines)| format!("{} has {lines} lines of code", path.display()))
        .collect();
    assert!(wrong.is_empty(), "over {WALL} lines:\n{}", wrong.join("\n"));
}

#[test]
fn comments_are_at_most_a_hundred_characters_wide() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let comment = |line: &str| line.trim_start().starts_with("//");
        let wide = text.lines().enumerate();
        let wide = wide.filter(|(_, line)| comment(line) && line.chars().count() > 100);
        wrong.extend(wide.map(|(at, _)| format!("{}:{}", path.display(), at + 1)));
    }
    assert!(wrong.is_empty(), "wider than 100 characters: {wrong:?}");
}

#[test]
fn imports_stand_at_the_head_of_their_file() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = product(&text).lines().collect();
        let item =
            |line: &&str| ["fn ", "pub fn ", "impl", "struct "].iter().any(|s| line.starts_with(s));
        let first = lines.iter().position(item).unwrap_or(lines.len());
        let late =
            lines[first..].iter().any(|l| l.starts_with("use ") || l.starts_with("pub use "));
        if late {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "a `use` behind the first item: {wrong:?}");
}

/// The crash points that the README in `dir` has a row for, each with its letter and number.
fn crash_points(readme: &str) -> Vec<&str> {
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let names = rows.map(|(name, _)| name);
    names.filter(|name| name.len() > 1 && name[1..].parse::<u8>().is_ok()).collect()
}

#[test]
fn the_readmes_are_where_the_code_says_and_number_what_it_cites() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut wrong, mut numbered) = (Vec::new(), Vec::new());
    for (path, text) in sources() {
        for (at, _) in text.match_indices("README.md") {
            let outside = |c: char| !c.is_alphanumeric() && c != '/' && c != '.';
            let start = text[..at].rfind(outside).map_or(0, |before| before + 1);
            let beside = path.parent().unwrap().join("README.md");
            let dir = text[start..at].trim_end_matches('/');
            let readme = if dir.is_empty() { beside } else { Path::new(dir).join("README.md") };
            if !root.join(&readme).is_file() && !dir.contains("..") {
                wrong.push(format!("{} cites {}", path.display(), readme.display()));
            }
        }
    }
    for module in ["table", "ring", "arena", "doorbell", "control", "launch"] {
        let readme = fs::read_to_string(root.join(module).join("README.md")).unwrap();
        numbered.extend(crash_points(&readme).into_iter().map(str::to_owned));
    }
    assert!(numbered.len() > 20, "the rows were not found: {numbered:?}");
    let code: String = sources().into_iter().map(|(_, text)| text).collect();
    let points = fs::read_to_string(root.join("sync/crash.rs")).unwrap();
    for point in &numbered {
        let killed = points.contains(&format!("    {point},\n"))
            || points.contains(&format!("    {point} = 1,\n"));
        let passed = code.contains(&format!("crash::here(Point::{point})"));
        // Any moment is one to die at, or the death is not the library's to bring about.
        let elsewhere = ["Z7", "Z8", "Z9", "Z11", "Z12", "Z13", "Z14", "Z15"].contains(&&**point);
        if !(elsewhere || killed && passed) {
            wrong.push(format!("{point} is in a README, and nobody dies there"));
        }
        if ![":", ".", " "].iter().any(|end| code.contains(&format!("// {point}{end}"))) {
            wrong.push(format!("{point} is in a README, and no code or test cites it"));
        }
    }
    for (at, start) in code.match_indices("crash::here(Point::") {
        let point = code[at + start.len()..].split(')').next().unwrap();
        if !numbered.iter().any(|known| known == point) {
            wrong.push(format!("{point} is in no README"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_library_does_without_the_tools_of_the_programs_beside_it() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    let manifest = manifest.unwrap();
    let start = manifest.find("\n[dependencies]").expect("the manifest has dependencies");
    let dependencies = manifest[start + 1..].split("\n[").next().unwrap();
    for tool in ["clap", "axum", "reqwest", "plotters", "scraper", "anyhow"] {
        let depends =
            dependencies.lines().any(|line| line.split(&[' ', '.', '=']).next() == Some(tool));
        assert!(!depends, "the library depends on {tool}");
        for (path, text) in sources() {
            let named = code(&text).any(|line| line.contains(&format!("{tool}::")));
            assert!(!named, "{} names {tool}", path.display());
        }
    }
}

#[test]
fn no_module_is_a_drawer() {
    for (path, _) in sources() {
        for part in path.iter() {
            let name = part.to_str().unwrap().trim_end_matches(".rs");
            assert!(
                !["common", "util", "utils", "helpers", "misc"].contains(&name),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn words_that_processes_share_come_from_the_facade() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| {
            !path.starts_with("sync")
                && code(text)
                    .any(|line| line.contains("std::sync::atomic") && line.contains("AtomicU64"))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "AtomicU64 not from crate::sync, so loom cannot drive it: {wrong:?}");
}
