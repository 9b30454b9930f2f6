//! Where this process stands in the control group trees, versions 1 and 2.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Which generation of the interface a tree speaks; both may be mounted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// One tree per controller.
    V1,
    /// One tree for all.
    V2,
}

/// This process's group in one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// What the tree's files are called.
    pub version: Version,
    /// The top of the tree, as far as it is visible here.
    root: PathBuf,
    /// The group's own directory.
    own: PathBuf,
}

impl Group {
    /// Returns the group's directory, then its parents' up to the top: a limit of any of them
    /// holds.
    pub(crate) fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|directory| directory.starts_with(&self.root))
    }

    /// Returns the group's own directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.own
    }
}

/// Returns this process's groups in the trees that have `controller`.
pub(crate) fn of(controller: &str) -> io::Result<Vec<Group>> {
    among(&lines()?, controller)
}

/// Returns what the kernel says of this process's groups, a line a tree.
pub(crate) fn lines() -> io::Result<String> {
    std::fs::read_to_string("/proc/self/cgroup")
}

/// Returns those of the groups in `lines` whose trees have `controller`.
pub(crate) fn among(lines: &str, controller: &str) -> io::Result<Vec<Group>> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    Ok(locate(lines, &mounts, controller))
}

fn locate(groups: &str, mounts: &[u8], controller: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in groups.lines() {
        // `id:controllers:path`; version 2 is the line `0::path`.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" => Version::V2,
            list if list.split(',').any(|name| name == controller) => Version::V1,
            _ => continue,
        };
        let mount = mounts
            .split(|&byte| byte == b'\n')
            .find_map(|line| Mount::parse(line).filter(|mount| mount.has(version, controller)));
        let Some(mount) = mount else { continue };
        // A group outside of what is mounted here (another namespace's) shows as its top.
        let inside = Path::new(path).strip_prefix(&mount.top).unwrap_or(Path::new(""));
        let visible = inside.components().all(|part| part.as_os_str() != "..");
        let inside = if visible { inside } else { Path::new("") };
        found.push(Group { version, own: mount.point.join(inside), root: mount.point });
    }
    found
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    /// The directory of the tree that is mounted.
    top: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
    kind: Vec<u8>,
    options: Vec<u8>,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let (top, point) = (fields.nth(3)?, fields.next()?);
        let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
        let (kind, options) = (fields.next()?.to_vec(), fields.nth(1)?.to_vec());
        Some(Self { top: unescaped(top), point: unescaped(point), kind, options })
    }

    fn has(&self, version: Version, controller: &str) -> bool {
        let mut options = self.options.split(|&byte| byte == b',');
        match version {
            Version::V2 => self.kind == b"cgroup2",
            Version::V1 => {
                self.kind == b"cgroup" && options.any(|option| option == controller.as_bytes())
            }
        }
    }
}

/// Blanks, tabs, line feeds and backslashes in a path are written as octal numbers.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = (first == b'\\').then(|| tail.get(..3)).flatten();
        let byte = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
        33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n\
        34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    fn directories(groups: &str, mounts: &[u8], controller: &str) -> Vec<Vec<PathBuf>> {
        let groups = locate(groups, mounts, controller);
        groups.iter().map(|group| group.upwards().map(Path::to_path_buf).collect()).collect()
    }

    #[test]
    fn version_2_walks_up_to_the_mount() {
        let mounts = b"31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = directories("0::/user.slice/app.scope\n", mounts, "cpu");
        let expected = ["/sys/fs/cgroup/user.slice/app.scope", "/sys/fs/cgroup/user.slice"];
        assert_eq!(found.len(), 1);
        assert_eq!(found[0][..2], expected.map(PathBuf::from));
        assert_eq!(found[0][2], PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(found[0].len(), 3);
    }

    #[test]
    fn a_hybrid_has_both_trees() {
        let found = locate("4:memory:/m\n1:cpu,cpuacct:/a\n0::/b\n", HYBRID, "cpu");
        let versions: Vec<_> = found.iter().map(|group| group.version).collect();
        assert_eq!(versions, [Version::V1, Version::V2]);
        assert_eq!(found[0].directory(), Path::new("/sys/fs/cgroup/cpu,cpuacct/a"));
        assert_eq!(found[1].directory(), Path::new("/sys/fs/cgroup/unified/b"));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_top() {
        let mounts = b"1 2 0:3 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        let found = locate("3:cpu:/docker/abc/inner\n", mounts, "cpu");
        assert_eq!(found[0].directory(), Path::new("/sys/fs/cgroup/cpu/inner"));
        let elsewhere = locate("3:cpu:/other\n", mounts, "cpu");
        assert_eq!(elsewhere[0].directory(), Path::new("/sys/fs/cgroup/cpu"));
    }

    #[test]
    fn a_group_above_the_namespace_shows_as_the_top() {
        let mounts = b"1 2 0:3 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        let found = locate("0::/../sibling\n", mounts, "cpu");
        assert_eq!(found[0].directory(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn escaped_mount_points_and_nonsense_lines_are_read() {
        let mounts = b"\nnonsense\n1 2 0:3 / /sys/my\\040groups rw - cgroup2 none rw\n";
        let found = locate("nonsense\n0::/a\n", mounts, "cpu");
        assert_eq!(found[0].directory(), Path::new("/sys/my groups/a"));
        assert!(locate("0::/a\n", b"", "cpu").is_empty());
    }
}
