//! ipc-channel: a typed channel each way, the kernel in between.

use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender};

use super::other::{self, Other};

type Both = (IpcSender<u64>, IpcReceiver<u64>);

/// The other process gives back what it is sent.
pub struct Echo {
    there: IpcSender<u64>,
    back: IpcReceiver<u64>,
    _other: Other,
}

impl Echo {
    pub fn start() -> anyhow::Result<Self> {
        let (server, name) = IpcOneShotServer::<Both>::new()?;
        let mut other = Other::start("ipc-echo", &name)?;
        other.wake()?;
        let (_, (there, back)) = server.accept()?;
        Ok(Self { there, back, _other: other })
    }

    pub fn once(&mut self) -> anyhow::Result<()> {
        self.there.send(7)?;
        anyhow::ensure!(self.back.recv()? == 7, "a wrong answer");
        Ok(())
    }
}

pub fn serve(name: &str) -> anyhow::Result<()> {
    other::serve(|| {
        let (there, requests) = ipc::channel::<u64>()?;
        let (answers, back) = ipc::channel::<u64>()?;
        IpcSender::<Both>::connect(name.to_owned())?.send((there, back))?;
        // Until the host is gone.
        while let Ok(value) = requests.recv() {
            answers.send(value)?;
        }
        Ok(())
    })
}
