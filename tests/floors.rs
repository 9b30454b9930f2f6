//! The layout of `docs/design.md` §8, enforced: imports go strictly down, `unsafe` stays on its
//! islands, and no file is longer than one concept.

use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up; modules on one floor may use each other.
const FLOORS: &[&[&str]] = &[
    &["error", "sync", "sys"],
    &["shm"],
    &["ring", "table", "arena", "doorbell", "stats"],
    &["control", "task"],
    &["worker"],
    &["launch", "queue"],
    &["supervisor", "scheduler"],
    &["pool", "process"],
    &["ffi", "internals"],
];

/// Where `unsafe` may be: a module or one file of it.
const ISLANDS: &[&str] = &[
    "sync/model.rs",
    "sys/",
    "shm/",
    "ring/",
    "table/",
    "arena/",
    "doorbell/",
    "stats/",
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

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
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
        if module == "lib" || path.components().any(|c| c.as_os_str() == "tests") {
            continue;
        }
        let Some(floor) = floor_of(module) else {
            wrong.push(format!("{}: module {module} is on no floor", path.display()));
            continue;
        };
        for line in code(&text) {
            for used in line.split("crate::").skip(1) {
                let name: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if floor_of(&name).is_some_and(|below| below > floor) {
                    wrong.push(format!("{}: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_on_its_islands() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| {
            let path = path.to_str().unwrap();
            let island = ISLANDS.iter().any(|island| path.starts_with(island));
            !island && code(text).any(|line| line.starts_with("#![allow(unsafe_code)"))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "unsafe outside the islands of docs/design.md §8: {wrong:?}");
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
        let elsewhere = ["Z7", "Z8", "Z9", "Z11", "Z12"].contains(&&**point);
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
