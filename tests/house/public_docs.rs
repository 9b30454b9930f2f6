//! Nothing of `aiopool::internals` is in the pages that users read.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_parts_below_the_public_interface_are_in_no_page() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("public-docs");
    let output = Command::new(env!("CARGO"))
        .args(["doc", "--package=aiopool", "--no-deps", "--features=internals", "--quiet"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pages = target.join("doc/aiopool");
    let all = fs::read_to_string(pages.join("all.html")).unwrap();
    assert!(all.contains("struct.Pool.html"), "the list of all items was not found");
    assert!(!all.contains("internals"), "{} lists internals", pages.display());
    for name in ["HostQueue", "LaneWriter", "Control", "StateWord", "EventFd"] {
        assert!(!all.contains(&format!("struct.{name}.html")), "{name} has a page");
    }
    assert!(!pages.join("internals").exists(), "internals has pages");
}
