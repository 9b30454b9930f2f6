//! Swaps, many at a time: their answers come to one inbox, and the loop that asks takes them itself,
//! without a future, a timer and a channel for each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_nats::client::PublishErrorKind;
use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::unconstrained;

use crate::error::{Error, Result};
use crate::link::{Link, NO_SEQ, PATIENCE, Swap, expecting, judge};
use crate::wire::Tail;

/// The swaps that are on their way; `W` says what each is for, and the time is when its answer is
/// expected no more.
#[derive(Debug)]
pub(crate) struct Asks<W> {
    link: Link,
    inbox: String,
    next: u64,
    open: HashMap<u64, (W, Instant)>,
    looked: Instant,
}

/// How often swaps are looked for that nobody has answered.
const LOOK: Duration = Duration::from_millis(500);

/// How long the answer to a question is waited for that can be put in another way.
const SHORT: Duration = Duration::from_secs(1);

impl<W> Asks<W> {
    /// Listens for answers.
    pub(crate) async fn listen(link: &Link) -> Result<(Self, Subscriber)> {
        let inbox = link.client.new_inbox();
        let subscribed = link.client.subscribe(format!("{inbox}.*")).await;
        let answers = subscribed.map_err(|error| Error::Server(format!("subscribe: {error}")))?;
        let (link, open, looked) = (link.clone(), HashMap::new(), Instant::now());
        Ok((Self { link, inbox, next: 0, open, looked }, answers))
    }

    /// Publishes a word if the newest one is number `expected`. The answer comes by
    /// [`answer`](Self::answer) or [`silent`](Self::silent), once; here what is known at once.
    pub(crate) fn swap(
        &mut self,
        what: W,
        subject: String,
        tail: &Tail,
        expected: u64,
        payload: Bytes,
    ) -> Option<(W, Swap)> {
        let headers = expecting(expected, self.link.names.swap(tail));
        self.send(what, subject, headers, payload, PATIENCE)
    }

    /// Asks which revision of a key is the newest that the bucket's leader has, by a swap that cannot
    /// succeed: its refusal names it, and takes the server a fraction of what a reading takes. The
    /// answer comes as that of [`swap`](Self::swap).
    pub(crate) fn newest(&mut self, what: W, bucket: &str, key: &str) -> Option<(W, Swap)> {
        let subject = format!("$KV.{bucket}.{key}");
        let headers = expecting(NO_SEQ, subject.clone());
        self.send(what, subject, headers, Bytes::new(), SHORT)
    }

    fn send(
        &mut self,
        what: W,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        patience: Duration,
    ) -> Option<(W, Swap)> {
        if !self.link.stands() {
            return Some((what, Swap::Unknown));
        }
        let number = self.next;
        self.next += 1;
        let (client, reply) = (self.link.client.clone(), format!("{}.{number}", self.inbox));
        let publish = async move {
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        };
        let mut publish = Box::pin(unconstrained(publish));
        match publish.as_mut().now_or_never() {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                let swap = match error.kind() {
                    PublishErrorKind::InvalidSubject | PublishErrorKind::MaxPayloadExceeded => {
                        Swap::Broken(error.to_string())
                    }
                    PublishErrorKind::Send => Swap::Unknown,
                };
                return Some((what, swap));
            }
            // The connection has more to send than it holds: this waits in line.
            None => drop(tokio::spawn(publish)),
        }
        self.open.insert(number, (what, Instant::now() + patience));
        None
    }

    /// Takes what came to the inbox.
    pub(crate) fn answer(&mut self, message: &Message) -> Option<(W, Swap)> {
        let number = message.subject.strip_prefix(&self.inbox)?.strip_prefix('.')?.parse().ok()?;
        let (what, _) = self.open.remove(&number)?;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            self.link.mend();
            return Some((what, Swap::Unknown));
        }
        Some((what, judge(&message.payload)))
    }

    /// Takes note of another connection: what was on its way with the one before is answered no more,
    /// and what became of it is to be read at once.
    pub(crate) fn forget(&mut self) {
        let now = Instant::now();
        self.open.values_mut().for_each(|(_, until)| *until = now);
    }

    /// Takes the swaps to which no answer is expected any more.
    pub(crate) fn silent(&mut self) -> Vec<W> {
        if self.looked.elapsed() < LOOK {
            return Vec::new();
        }
        self.looked = Instant::now();
        let now = Instant::now();
        let silent = self.open.extract_if(|_, (_, until)| *until < now);
        silent.map(|(_, (what, _))| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use aiopool_nats::Server;

    use super::*;

    #[test]
    fn what_was_on_its_way_with_a_connection_is_not_waited_for_with_the_next() {
        let server = Server::start();
        // It takes what comes, and answers nothing.
        aiopool::block_on(async {
            let link = Link::connect(&server.url().into(), "t", "a test").await.unwrap();
            let (mut asks, _answers) = Asks::listen(&link).await.unwrap();
            server.signal("STOP");
            let tail = Tail { class: 0, build: "b".to_owned(), job: 1, n: 0 };
            let subject = link.names.queue(&tail);
            assert_eq!(asks.swap(7, subject, &tail, 0, Bytes::new()), None);
            let due = || Instant::now().checked_sub(LOOK).expect("a time after the start");
            asks.looked = due();
            assert_eq!(asks.silent(), [0_u64; 0]);
            asks.forget();
            asks.looked = due();
            assert_eq!(asks.silent(), [7]);
        });
    }
}
