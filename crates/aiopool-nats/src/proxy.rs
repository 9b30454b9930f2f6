//! A link between a client and a server that delays, is slow, or lets nothing through for a while,
//! as a network does: what is held back comes later, and no connection is reset.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Server;

/// A port of this machine behind which a server is.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In milliseconds, each way.
    delay: AtomicU64,
    /// In bytes a second, each way; 0 is without limit.
    rate: AtomicU64,
    /// Nothing comes through to the server.
    cut_up: AtomicBool,
    /// Nothing comes through to the client.
    cut_down: AtomicBool,
    over: AtomicBool,
}

impl Proxy {
    /// Puts a proxy before a server.
    ///
    /// # Panics
    ///
    /// When the system has no port for it.
    #[must_use]
    pub fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let (state, to) = (Arc::<State>::default(), server.port);
        let kept = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if kept.over.load(Relaxed) {
                    break;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                carry(&client, &server, &kept, true);
                carry(&server, &client, &kept, false);
            }
        });
        Self { port, state }
    }

    /// Returns the address that a client is to be given.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Delays what goes through, each way.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(delay.as_millis() as u64, Relaxed);
    }

    /// Limits what goes through, in bytes a second each way.
    pub fn rate(&self, bytes: u64) {
        self.state.rate.store(bytes, Relaxed);
    }

    /// Holds everything back that goes to the server, or to the client, or both.
    pub fn cut(&self, to_the_server: bool, to_the_client: bool) {
        self.state.cut_up.store(to_the_server, Relaxed);
        self.state.cut_down.store(to_the_client, Relaxed);
    }

    /// Lets everything through that was held back.
    pub fn heal(&self) {
        self.cut(false, false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Carries what comes from one stream to the other, in two threads of their own.
fn carry(from: &TcpStream, to: &TcpStream, state: &Arc<State>, up: bool) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let _ = to.set_nodelay(true);
    // Bounded, as the buffers of a network are.
    let (put, take) = mpsc::sync_channel::<(Instant, Vec<u8>)>(256);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if put.send((Instant::now(), buffer[..len].to_vec())).is_err() {
                break;
            }
        }
    });
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        while let Ok((came, bytes)) = take.recv() {
            let due = came + Duration::from_millis(state.delay.load(Relaxed));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let cut = if up { &state.cut_up } else { &state.cut_down };
            while cut.load(Relaxed) && !state.over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let rate = state.rate.load(Relaxed);
            if rate > 0 {
                std::thread::sleep(Duration::from_secs(1) * bytes.len() as u32 / rate as u32);
            }
            if state.over.load(Relaxed) || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
