//! Peer: a store with blocking calls, and the threads that drive it.

use std::time::{Duration, Instant};

use super::{CompareError, Setup, Trial, Work};
use crate::machine;
use crate::payload::Payload;
use crate::record::Record;

/// Values that are loaded at once while the data is written.
const LOAD_VALUES: u64 = 1024;
/// Bytes at the start of a value that say which it is.
const HEAD_BYTES: usize = 8;

/// A store of values by number.
pub(super) trait Peer: Send + Sync {
    /// Replaces a value; it is durable then.
    fn write(&self, number: u64, value: &[u8]) -> Result<(), CompareError>;
    /// Reads a value; empty if there is none.
    fn read(&self, number: u64, value: &mut Vec<u8>) -> Result<(), CompareError>;
    /// Writes many at once, in order.
    fn load(&self, values: &[(u64, Vec<u8>)]) -> Result<(), CompareError>;
    /// All was loaded: makes it durable and lets what goes on in the background end, where it can.
    fn settle(&self) -> Result<(), CompareError>;
    /// Bytes that it wrote to the device, if it counts them.
    fn written_bytes(&self) -> Option<u64>;
    /// How it was set up.
    fn options(&self) -> String;
}

/// Runs a trial of a peer.
pub(super) fn run<P: Peer>(
    setup: &Setup,
    open: impl FnOnce(&Setup) -> Result<P, CompareError>,
) -> Result<Trial, CompareError> {
    let peer = open(setup)?;
    let bytes = setup.value_len();
    let payload = Payload::new(bytes);
    for first in (0..setup.values()).step_by(usize::try_from(LOAD_VALUES).expect("small")) {
        let numbers = first..setup.values().min(first + LOAD_VALUES);
        let values: Vec<_> = numbers.map(|number| (number, value(&payload, bytes, number, number))).collect();
        peer.load(&values)?;
    }
    peer.settle()?;

    let (own, kernel, cpu) = (peer.written_bytes(), machine::written_bytes(), machine::cpu_time());
    let start = Instant::now();
    let until = start + setup.time;
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..setup.clients)
            .map(|client| {
                let (peer, payload) = (&peer, &payload);
                scope.spawn(move || Client { peer, payload, setup, start, until }.run(client))
            })
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let seconds = start.elapsed().as_secs_f64();
    let cpu = machine::cpu_time().saturating_sub(cpu);
    let more = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
    let (own, kernel) = (more(own, peer.written_bytes()), more(kernel, machine::written_bytes()));

    let (mut record, mut wrong) = (Record::default(), 0);
    for outcome in outcomes {
        let failed =
            CompareError::Peer { name: setup.contestant.name(), why: "a client panicked".to_owned() };
        let (of_client, wrong_of_client) = outcome.unwrap_or(Err(failed))?;
        record.merge(&of_client);
        wrong += wrong_of_client;
    }
    Ok(Trial {
        cpu_seconds: cpu.as_secs_f64(),
        own_bytes: own,
        kernel_bytes: kernel,
        peak_bytes: machine::peak_memory_bytes(),
        wrong,
        options: peer.options(),
        ..Trial::of(setup.clients, &record, seconds)
    })
}

fn value(payload: &Payload, bytes: usize, number: u64, write: u64) -> Vec<u8> {
    let mut value = payload.bytes(write, bytes).to_vec();
    value[..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
    value
}

struct Client<'a, P> {
    peer: &'a P,
    payload: &'a Payload,
    setup: &'a Setup,
    start: Instant,
    until: Instant,
}

impl<P: Peer> Client<'_, P> {
    /// Its operations, and how many reads were wrong.
    fn run(&self, client: u32) -> Result<(Record, u64), CompareError> {
        let mut rng = fastrand::Rng::with_seed(u64::from(client) + 1);
        let (mut record, mut wrong, mut read) = (Record::default(), 0, Vec::new());
        while Instant::now() < self.until {
            let number = rng.u64(..self.setup.values());
            let latency: Duration = match self.setup.work {
                Work::Overwrite | Work::Put => {
                    let value = value(self.payload, self.setup.value_len(), number, rng.u64(..));
                    let start = Instant::now();
                    self.peer.write(number, &value)?;
                    start.elapsed()
                }
                Work::Read => {
                    let start = Instant::now();
                    self.peer.read(number, &mut read)?;
                    let latency = start.elapsed();
                    let head = read.get(..HEAD_BYTES);
                    let is_right =
                        head == Some(&number.to_le_bytes()) && read.len() == self.setup.value_len();
                    wrong += u64::from(!is_right);
                    latency
                }
            };
            record.add(self.setup.value_bytes(), latency, self.start.elapsed());
        }
        Ok((record, wrong))
    }
}

/// Nothing: what the threads themselves cost.
pub(super) struct Nothing {
    bytes: usize,
}

impl Nothing {
    #[expect(clippy::unnecessary_wraps, reason = "as the others are opened")]
    pub(super) fn open(setup: &Setup) -> Result<Self, CompareError> {
        Ok(Self { bytes: setup.value_len() })
    }
}

impl Peer for Nothing {
    fn write(&self, _: u64, _: &[u8]) -> Result<(), CompareError> {
        Ok(())
    }

    fn read(&self, number: u64, value: &mut Vec<u8>) -> Result<(), CompareError> {
        value.resize(self.bytes, 0);
        value[..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
        Ok(())
    }

    fn load(&self, _: &[(u64, Vec<u8>)]) -> Result<(), CompareError> {
        Ok(())
    }

    fn settle(&self) -> Result<(), CompareError> {
        Ok(())
    }

    fn written_bytes(&self) -> Option<u64> {
        None
    }

    fn options(&self) -> String {
        "nothing is stored".to_owned()
    }
}
