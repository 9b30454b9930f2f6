//! A pool's numbers have the same names in Rust, in C and, by the snapshot's text, in Python.

use std::collections::BTreeSet;

use aiopool::view::{QueueView, WorkerView};
use aiopool::{FunctionStats, Stats};
use aiopool_testing::root;
use serde_json::Value;

/// The fields of a struct of the header.
fn fields_of(name: &str) -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/aiopool.h")).unwrap();
    let begin = format!("typedef struct {name} {{");
    let body = header.split(&begin).nth(1).unwrap_or_else(|| panic!("no {name} in the header"));
    let body = body.split(&format!("}} {name};")).next().unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with(['*', '/']));
    let fields = lines.filter_map(|line| line.strip_suffix(';'));
    fields.map(|field| field.split([' ', '[']).nth(1).unwrap().to_owned()).collect()
}

/// The names in a text of the snapshot; those of a histogram behind its own.
fn names_of(value: &impl serde::Serialize) -> BTreeSet<String> {
    let Value::Object(object) = serde_json::to_value(value).unwrap() else { panic!("no object") };
    let mut names = BTreeSet::new();
    for (name, value) in object {
        match value {
            Value::Object(within) => {
                names.extend(within.keys().map(|inner| format!("{name}_{inner}")));
            }
            _ => drop(names.insert(name)),
        }
    }
    names
}

fn same(c: &str, value: &impl serde::Serialize, only_in_c: &[&str], only_in_text: &[&str]) {
    let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let (fields, names) = (fields_of(c), names_of(value));
    let only: (BTreeSet<_>, BTreeSet<_>) = (&fields - &names, &names - &fields);
    assert_eq!(only, (strings(only_in_c), strings(only_in_text)), "{c}");
}

#[test]
fn the_numbers_have_one_name_each_in_every_language() {
    let size = ["struct_size", "reserved_0"];
    same("aiopool_stats", &Stats::default(), &size, &[]);
    // Texts and lists are in the snapshot's text only.
    same("aiopool_worker_view", &WorkerView::default(), &[], &["last_end", "tasks"]);
    same("aiopool_queue_view", &QueueView::default(), &[], &[]);
    let means = ["count", "ran_mean_ns", "reserved_0", "struct_size", "waited_mean_ns"];
    let texts = [
        "name",
        "ran_buckets",
        "ran_count",
        "ran_sum_ns",
        "waited_buckets",
        "waited_count",
        "waited_sum_ns",
    ];
    same("aiopool_function_stats", &FunctionStats::default(), &means, &texts);
}
