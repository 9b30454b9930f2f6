//! iceoryx2: request-response and publish-subscribe between two processes, both polling.

use std::time::{Duration, Instant};

use anyhow::Context;
use iceoryx2::port::client::Client;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::other::{self, Other};

/// Ends a block.
const LAST: u64 = u64::MAX;

fn node() -> anyhow::Result<Node<ipc::Service>> {
    NodeBuilder::new().create::<ipc::Service>().map_err(|e| anyhow::anyhow!("{e:?}"))
}

/// A name that no other run uses.
fn unique(what: &str) -> String {
    format!("aiopool-bench/{what}/{}", std::process::id())
}

fn named(name: &str) -> anyhow::Result<ServiceName> {
    name.try_into().map_err(|e| anyhow::anyhow!("{e:?}"))
}

macro_rules! ask {
    ($call:expr) => {
        $call.map_err(|error| anyhow::anyhow!("iceoryx2: {error:?}"))?
    };
}

/// A client whose server is another process.
pub struct Requests {
    client: Client<ipc::Service, u64, (), u64, ()>,
    other: Other,
}

impl Requests {
    pub fn start() -> anyhow::Result<Self> {
        let name = unique("requests");
        let service =
            ask!(node()?.service_builder(&named(&name)?).request_response::<u64, u64>().create());
        let client = ask!(service.client_builder().create());
        let mut other = Other::start("iceoryx-requests", &name)?;
        other.wake()?;
        let mut started = Self { client, other };
        started.ask(LAST)?;
        Ok(started)
    }

    fn ask(&mut self, value: u64) -> anyhow::Result<()> {
        let pending = ask!(ask!(self.client.loan_uninit()).write_payload(value).send());
        let start = Instant::now();
        loop {
            if let Some(response) = ask!(pending.receive()) {
                anyhow::ensure!(*response == value, "a wrong response");
                return Ok(());
            }
            std::hint::spin_loop();
            if start.elapsed() > Duration::from_secs(5) {
                anyhow::bail!("no response from the other process");
            }
        }
    }

    /// The median time of a request, in microseconds.
    pub fn median_us(&mut self) -> anyhow::Result<f64> {
        self.other.wake()?;
        let median = crate::rows::median_us(|| self.ask(1));
        self.ask(LAST)?;
        median
    }
}

pub fn serve_requests(name: &str) -> anyhow::Result<()> {
    let service =
        ask!(node()?.service_builder(&named(name)?).request_response::<u64, u64>().open());
    let server = ask!(service.server_builder().create());
    other::serve(|| {
        loop {
            let Some(request) = ask!(server.receive()) else {
                std::hint::spin_loop();
                continue;
            };
            let value = *request;
            ask!(ask!(request.loan_uninit()).write_payload(value).send());
            if value == LAST {
                return Ok(());
            }
        }
    })
}

/// Two services, one for each direction.
pub struct Samples {
    publisher: Publisher<ipc::Service, u64, ()>,
    subscriber: Subscriber<ipc::Service, u64, ()>,
    other: Other,
}

type Ends = (Publisher<ipc::Service, u64, ()>, Subscriber<ipc::Service, u64, ()>);

fn ends(there: &str, back: &str) -> anyhow::Result<Ends> {
    let node = node()?;
    let service = |name: &str| -> anyhow::Result<_> {
        Ok(ask!(node.service_builder(&named(name)?).publish_subscribe::<u64>().open_or_create()))
    };
    let publisher = ask!(service(there)?.publisher_builder().create());
    Ok((publisher, ask!(service(back)?.subscriber_builder().create())))
}

impl Samples {
    pub fn start() -> anyhow::Result<Self> {
        let name = unique("samples");
        let (publisher, subscriber) = ends(&format!("{name}/there"), &format!("{name}/back"))?;
        let mut other = Other::start("iceoryx-samples", &name)?;
        other.wake()?;
        let mut started = Self { publisher, subscriber, other };
        started.send(LAST)?;
        Ok(started)
    }

    fn send(&mut self, value: u64) -> anyhow::Result<()> {
        ask!(ask!(self.publisher.loan_uninit()).write_payload(value).send());
        loop {
            if let Some(sample) = ask!(self.subscriber.receive()) {
                anyhow::ensure!(*sample == value, "a wrong sample");
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }

    /// The time of `operations` round trips.
    pub fn block(&mut self, operations: u64) -> anyhow::Result<Duration> {
        self.other.wake()?;
        let start = Instant::now();
        for value in 0..operations {
            self.send(value)?;
        }
        let time = start.elapsed();
        self.send(LAST)?;
        Ok(time)
    }
}

pub fn serve_samples(name: &str) -> anyhow::Result<()> {
    let (publisher, subscriber) = ends(&format!("{name}/back"), &format!("{name}/there"))?;
    other::serve(|| {
        loop {
            let Some(sample) = ask!(subscriber.receive()) else {
                std::hint::spin_loop();
                continue;
            };
            let value = *sample;
            drop(sample);
            ask!(ask!(publisher.loan_uninit()).write_payload(value).send());
            if value == LAST {
                return Ok(());
            }
        }
    })
    .context("the other process of a publish-subscribe pair")
}
