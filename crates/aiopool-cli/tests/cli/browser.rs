//! A real browser, driven by its own protocol.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aiopool_testing::missing;
use serde_json::{Value, json};

use crate::rig::{WATCHDOG, scratch, signal, wait};

/// Chromium without a window, spoken to over a pair of pipes.
pub struct Browser {
    child: Child,
    to: std::fs::File,
    from: BufReader<std::fs::File>,
    session: Option<String>,
    next: u64,
    pub complaints: Vec<String>,
    folder: PathBuf,
}

impl Browser {
    /// `None` where there is no Chromium, which a test says.
    pub fn start(name: &str) -> Option<Self> {
        if missing("chromium") {
            return None;
        }
        let folder = scratch(name);
        std::fs::create_dir_all(&folder).unwrap();
        let pipes = ["to", "from"].map(|pipe| folder.join(pipe));
        for pipe in &pipes {
            let _ = std::fs::remove_file(pipe);
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        // Pages that know more addresses than this machine's own get no answer from there.
        let line = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
            --no-first-run --hide-scrollbars \
            --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' --user-data-dir=\"$3\" --remote-debugging-pipe \
            about:blank 3<\"$1\" 4>\"$2\" 2>/dev/null";
        let mut shell = Command::new("sh");
        shell.args(["-c", line, "sh"]).args(&pipes).arg(folder.join("profile"));
        let child = shell.stdin(Stdio::null()).spawn().unwrap();
        let to = std::fs::File::options().write(true).open(&pipes[0]).unwrap();
        let from = BufReader::new(std::fs::File::open(&pipes[1]).unwrap());
        let complaints = Vec::new();
        Some(Self { child, to, from, session: None, next: 0, complaints, folder })
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        loop {
            let mut answer = Vec::new();
            assert!(self.from.read_until(0, &mut answer).unwrap() > 0, "chromium has ended");
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let method = answer["method"].as_str().unwrap_or_default();
            let is_error = method == "Runtime.exceptionThrown"
                || method == "Runtime.consoleAPICalled" && answer["params"]["type"] == "error"
                || method == "Log.entryAdded" && answer["params"]["entry"]["level"] == "error";
            if is_error {
                self.complaints.push(answer.to_string());
            }
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{answer}");
                return answer["result"].clone();
            }
        }
    }

    pub fn open(&mut self, url: &str) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", attach);
        self.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.size(1100, 760);
        self.call("Page.navigate", json!({ "url": url }));
    }

    pub fn size(&mut self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    pub fn colours(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What the expression comes to, or its promise.
    pub fn value(&mut self, expression: &str) -> Value {
        let what = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let evaluated = self.call("Runtime.evaluate", what);
        evaluated["result"]["value"].clone()
    }

    pub fn wait_for(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != true {
            if begun.elapsed() > WATCHDOG {
                let text = self.value("document.body.innerText");
                panic!("{expression} does not become true on:\n{}", text.as_str().unwrap_or("?"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn picture(&mut self, path: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        std::fs::write(path, decoded(picture["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        signal("KILL", self.child.id());
        wait(&mut self.child);
        // Its other processes end with it, and may still write.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Base64, as browsers write it.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes().take_while(|&letter| letter != b'=') {
        let six = LETTERS.iter().position(|&known| known == letter).unwrap() as u32;
        (bits, held) = (bits << 6 | six, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
