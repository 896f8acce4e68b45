//! Ring: reads, writes and flushes of one thread, on an io_uring of its own beside those of the executor.
//!
//! The executor has three rings and looks at them when no task can run. It sets and cancels two timers each time, 15 to 20 us
//! of a core, and a record cost three such passes: one to reach the device, one to be seen, one to be answered. Here an
//! urgent write reaches the device within the call, and the rest goes in turns that a task takes while the executor runs
//! (`turns`).
//!
//! What completes together is answered a few at a time: what a group then asks for goes out before the next is answered, so
//! that core and device work at the same time. Example: 32 clients that take 11 us of the core for each read, of a device
//! that takes 400 us for 32: all at once 32 * 11 + 400 = 750 us for a round, in four groups 400 us.
//!
//! The kernel may do less than was asked: the rest is asked for again, from a block boundary on, as direct I/O must; an
//! operation that gets nowhere is an EIO.
//!
//! Invariants: 1. What the kernel has of an operation, its buffer among it, is owned by its entry here until the kernel says
//! that it has ended; a caller's future only looks at the entry. 2. Entries keep the ring alive: one that is let go of with
//! operations in flight is never freed. The device waits for them before it lets go.
//!
//! Cost: an entry of a slab for an operation; a system call for a turn, none if there is nothing to give and nothing to collect.
//! Limits: [`ENTRIES`] are given to the kernel in one call. Buffers are not registered: pinning 17 pages of a record is 1 us.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::io::{DmaBuffer, PollState, PollableFd};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use slab::Slab;

use super::open::whole_blocks;
use crate::WriteBuf;
use crate::local::Notify;

/// Entries of the submission queue; more are submitted in several calls.
const ENTRIES: u32 = 256;
/// So many are answered at once however few are in flight.
const GROUP_MIN: usize = 8;
/// Of those in flight so many groups are made.
const GROUPS: usize = 4;
/// So often in a row the kernel may say that an operation is to be asked for again.
pub(super) const AGAIN_MAX: u8 = 16;

/// What an operation does, and the memory that it does it with.
pub(super) enum Work {
    Read(DmaBuffer),
    Write(Rc<WriteBuf>),
    Flush,
    /// Of so many bytes of a file, as a hole; of a block device, if it can.
    Discard(u64),
}

/// One operation, until it has ended and its caller has seen that or is gone.
struct Entry {
    fd: RawFd,
    at: u64,
    work: Work,
    /// Bytes so far.
    done: usize,
    /// How often in a row nothing was done.
    again: u8,
    outcome: Option<Result<(), Errno>>,
    waker: Option<Waker>,
    is_watched: bool,
    /// Invariant 2.
    _ring: Rc<Ring>,
}

/// An io_uring and what is in flight on it.
pub(super) struct Ring {
    uring: RefCell<IoUring>,
    pollable: PollableFd<OwnedFd>,
    entries: RefCell<Slab<Entry>>,
    /// Operations that found no place in the submission queue.
    waiting: RefCell<VecDeque<usize>>,
    in_flight: Cell<usize>,
    idle: Notify,
    /// The ring cannot be used any more. What the kernel has may still end.
    broken: Cell<Option<Errno>>,
    /// Operations in flight that a broken ring will never give to the kernel.
    stuck: Cell<usize>,
    /// Whether an operation has begun, or the end has come, since the last turn.
    has_news: Cell<bool>,
    /// Of who takes the turns, while that parks.
    parked: RefCell<Option<Waker>>,
    closing: Cell<bool>,
}

/// Completions wait for the thread's next system call instead of interrupting it, where the kernel can (5.19). They are not
/// deferred until the thread asks for them, as the ring's descriptor does not become readable then.
fn make() -> io::Result<IoUring> {
    let mut cooperative = IoUring::builder();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    let made = cooperative.setup_cqsize(16 * ENTRIES).build(ENTRIES);
    made.or_else(|_| IoUring::builder().setup_cqsize(16 * ENTRIES).build(ENTRIES))
}

impl Ring {
    /// Inside an executor; the ring is this thread's from now on.
    pub(super) fn new() -> io::Result<Rc<Self>> {
        let uring = make()?;
        // SAFETY: the ring's own descriptor, open as long as it is borrowed here.
        #[expect(unsafe_code, reason = "the ring gives its descriptor as a number only")]
        let descriptor = rustix::io::dup(unsafe { BorrowedFd::borrow_raw(uring.as_raw_fd()) })?;
        let pollable = PollableFd::new(descriptor).map_err(io::Error::from)?;
        Ok(Rc::new(Self {
            uring: RefCell::new(uring),
            pollable,
            entries: RefCell::default(),
            waiting: RefCell::default(),
            in_flight: Cell::new(0),
            idle: Notify::default(),
            broken: Cell::new(None),
            stuck: Cell::new(0),
            has_news: Cell::new(false),
            parked: RefCell::default(),
            closing: Cell::new(false),
        }))
    }

    /// Begins an operation on `fd`, which stays open until it has ended. `urgent`: it reaches the device in this call; others go
    /// with what else comes before the next turn.
    pub(super) fn begin(self: &Rc<Self>, fd: RawFd, at: u64, work: Work, urgent: bool) -> Operation {
        let broken = self.broken.get();
        let entry = Entry {
            fd,
            at,
            work,
            done: 0,
            again: 0,
            outcome: broken.map(Err),
            waker: None,
            is_watched: true,
            _ring: Rc::clone(self),
        };
        let key = self.entries.borrow_mut().insert(entry);
        if broken.is_some() {
            return Operation { ring: Rc::clone(self), key: Some(key) };
        }
        self.in_flight.set(self.in_flight.get() + 1);
        self.push(key);
        if urgent {
            self.enter();
        }
        self.tell();
        Operation { ring: Rc::clone(self), key: Some(key) }
    }

    /// Waits until nothing is in flight.
    pub(super) async fn idle(&self) {
        self.idle.until(|| self.is_idle()).await;
    }

    /// Waits until nothing is in flight; of a ring that is broken, `patience` at most. False: the kernel may have some left.
    pub(super) async fn ended(&self, patience: Duration) -> bool {
        self.idle.until(|| self.is_idle() || self.broken.get().is_some()).await;
        let begun = Instant::now();
        while !self.is_idle() && begun.elapsed() < patience {
            // Nothing else may look at a broken ring.
            self.turn();
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        self.is_idle()
    }

    /// Whether the kernel has no operation, and is not going to have one.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.get() == self.stuck.get()
    }

    /// Whether no more turns are needed.
    pub(super) fn is_closed(&self) -> bool {
        self.closing.get() && self.is_idle()
    }

    /// Lets the turns end when nothing is in flight.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.tell();
    }

    fn tell(&self) {
        if !self.has_news.replace(true)
            && let Some(waker) = self.parked.take()
        {
            waker.wake();
        }
    }

    /// Puts what is left of an operation into the submission queue, or behind those that wait for a place there.
    fn push(&self, key: usize) {
        if !self.waiting.borrow().is_empty() || !self.push_now(key) {
            self.waiting.borrow_mut().push_back(key);
            self.enter();
            self.push_waiting();
        }
    }

    fn push_waiting(&self) {
        while let Some(key) = self.next_waiting()
            && self.push_now(key)
        {
            self.waiting.borrow_mut().pop_front();
        }
    }

    fn next_waiting(&self) -> Option<usize> {
        self.waiting.borrow().front().copied()
    }

    /// False: the queue is full.
    fn push_now(&self, key: usize) -> bool {
        let entry = self.entries.borrow_mut()[key].submission().user_data(key as u64);
        // SAFETY: descriptor and memory are valid until the completion (invariant 1): the entry owns the buffer, the device
        // the descriptor, which it closes when nothing is in flight.
        #[expect(unsafe_code, reason = "the kernel reads and writes memory that the entry owns")]
        let pushed = unsafe { self.uring.borrow_mut().submission().push(&entry) };
        pushed.is_ok()
    }

    /// Whether there are operations that the kernel has not taken: nothing will tell when it can, so it must be asked again.
    pub(super) fn has_queued(&self) -> bool {
        let is_whole = self.broken.get().is_none();
        is_whole && (!self.waiting.borrow().is_empty() || !self.uring.borrow_mut().submission().is_empty())
    }

    /// Gives the device what is in the submission queue, and lets the kernel tell what has completed.
    fn enter(&self) {
        let mut uring = self.uring.borrow_mut();
        let submission = uring.submission();
        let has_work = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if !has_work || self.broken.get().is_some() {
            return;
        }
        let Err(error) = uring.submit() else { return };
        drop(uring);
        match super::errno_of(error.raw_os_error()) {
            // Memory is short, or completions must be collected first: what is left goes with the next turn.
            Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::NOMEM => {}
            errno => self.fail(errno),
        }
    }

    /// Answers all operations with an error. Those that the kernel has taken it still carries out: they stay in flight until
    /// they have ended. The others never begin; their memory is kept, as nobody knows which they are.
    fn fail(&self, errno: Errno) {
        tracing::error!(%errno, "io_uring does not take operations any more");
        self.stuck.set(self.waiting.borrow().len() + self.uring.borrow_mut().submission().len());
        self.broken.set(Some(errno));
        let wakers: Vec<Waker> =
            self.entries.borrow_mut().iter_mut().filter_map(|(_, entry)| entry.waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
        self.idle.notify_all();
    }

    /// One turn: submits, collects, and answers a group. Says whether anything had completed.
    pub(super) fn turn(&self) -> bool {
        self.has_news.set(false);
        if self.broken.get().is_none() {
            self.push_waiting();
        }
        self.enter();
        let group = GROUP_MIN.max(self.in_flight.get() / GROUPS);
        let mut collected = 0;
        while collected < group {
            let Some(completion) = self.uring.borrow_mut().completion().next() else { break };
            let key = usize::try_from(completion.user_data()).expect("a key of the slab");
            self.completed(key, completion.result());
            collected += 1;
        }
        collected > 0
    }

    /// Ready when an operation has begun since the last turn or, with `poll`, when one has completed.
    pub(super) fn poll_news(&self, context: &mut Context<'_>, poll: Option<&mut PollState>) -> Poll<()> {
        if self.has_news.get() {
            return Poll::Ready(());
        }
        self.parked.replace(Some(context.waker().clone()));
        // An error would say that the executor ends.
        poll.map_or(Poll::Pending, |poll| self.pollable.poll_readable(context, poll).map(|_| ()))
    }

    fn completed(&self, key: usize, result: i32) {
        let mut entries = self.entries.borrow_mut();
        let entry = &mut entries[key];
        let outcome = match (entry.went_on(result), self.broken.get()) {
            (Some(outcome), _) => outcome,
            (None, Some(errno)) => Err(errno),
            (None, None) => {
                drop(entries);
                return self.push(key);
            }
        };
        entry.outcome = Some(outcome);
        let waker = entry.waker.take();
        let gone = if entry.is_watched { None } else { entries.try_remove(key) };
        drop(entries);
        drop(gone);
        self.in_flight.set(self.in_flight.get() - 1);
        if let Some(waker) = waker {
            waker.wake();
        }
        if self.is_idle() {
            self.idle.notify_all();
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Read(buffer) => buffer.len(),
            Work::Write(buffer) => buffer.len(),
            Work::Flush | Work::Discard(_) => 0,
        }
    }

    /// What is still to be done.
    fn submission(&mut self) -> squeue::Entry {
        let (fd, at, done) = (types::Fd(self.fd), self.at + self.done as u64, self.done);
        let rest = u32::try_from(self.bytes() - done).expect("an operation has at most 1 GiB");
        match &mut self.work {
            Work::Read(buffer) => {
                opcode::Read::new(fd, buffer.as_bytes_mut()[done..].as_mut_ptr(), rest).offset(at).build()
            }
            Work::Write(buffer) => opcode::Write::new(fd, buffer[done..].as_ptr(), rest).offset(at).build(),
            Work::Flush => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            Work::Discard(bytes) => opcode::Fallocate::new(fd, *bytes)
                .offset(at)
                .mode((FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE).bits().cast_signed())
                .build(),
        }
    }

    /// Takes what the kernel did. None: the rest is to be asked for.
    fn went_on(&mut self, result: i32) -> Option<Result<(), Errno>> {
        match usize::try_from(result) {
            Err(_) => match Errno::from_raw_os_error(result.wrapping_neg()) {
                Errno::INTR | Errno::AGAIN if self.again < AGAIN_MAX => {
                    self.again += 1;
                    None
                }
                errno => Some(Err(errno)),
            },
            Ok(_) if matches!(self.work, Work::Flush | Work::Discard(_)) => Some(Ok(())),
            Ok(0) => Some(Err(Errno::IO)),
            Ok(bytes) => {
                let next = whole_blocks(self.done + bytes, self.bytes());
                self.again = if next > self.done { 0 } else { self.again + 1 };
                self.done = next;
                if self.again > AGAIN_MAX {
                    return Some(Err(Errno::IO));
                }
                (self.done >= self.bytes()).then_some(Ok(()))
            }
        }
    }
}

/// An operation's end: its memory, or why it failed. Dropping it changes nothing.
pub(super) struct Operation {
    ring: Rc<Ring>,
    /// None once its end was told.
    key: Option<usize>,
}

impl Future for Operation {
    type Output = Result<Work, Errno>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut entries = self.ring.entries.borrow_mut();
        let entry = &mut entries[self.key.expect("nobody asks again after the end")];
        if entry.outcome.is_none() {
            if let Some(errno) = self.ring.broken.get() {
                return Poll::Ready(Err(errno));
            }
            let before = entry.waker.replace(context.waker().clone());
            drop(entries);
            // It may be the last that knows a task with operations of its own.
            drop(before);
            return Poll::Pending;
        }
        drop(entries);
        let this = self.get_mut();
        let ended = this.key.take().and_then(|key| this.ring.entries.borrow_mut().try_remove(key));
        let ended = ended.expect("looked at above");
        Poll::Ready(ended.outcome.expect("looked at above").map(|()| ended.work))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut entries = self.ring.entries.borrow_mut();
        entries[key].is_watched = false;
        let gone = if entries[key].outcome.is_some() { entries.try_remove(key) } else { None };
        drop(entries);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::limit;
    use futures::FutureExt;
    use glommio::LocalExecutorBuilder;
    use std::io::Write;

    fn inside<T>(main: impl Future<Output = T>) -> T {
        LocalExecutorBuilder::default().make().expect("an executor").run(main)
    }

    fn file(bytes: usize) -> std::fs::File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![7; bytes]).expect("written");
        file
    }

    fn read(ring: &Rc<Ring>, file: &std::fs::File, bytes: usize, urgent: bool) -> Operation {
        ring.begin(file.as_raw_fd(), 0, Work::Read(glommio::allocate_dma_buffer(bytes)), urgent)
    }

    fn entry(bytes: usize) -> Entry {
        Entry {
            fd: -1,
            at: 0,
            work: Work::Read(glommio::allocate_dma_buffer(bytes)),
            done: 0,
            again: 0,
            outcome: None,
            waker: None,
            is_watched: true,
            _ring: Ring::new().expect("a ring"),
        }
    }

    /// Of 64 that have completed a quarter is answered, then a quarter of the rest; in the order of completion, dropped ones too.
    #[test]
    fn a_convoy_is_broken_up() {
        let _limit = limit();
        inside(async {
            let (ring, file) = (Ring::new().expect("a ring"), file(4096));
            let mut reads: Vec<_> = (0..64).map(|_| read(&ring, &file, 4096, false)).collect();
            ring.uring.borrow_mut().submit_and_wait(64).expect("they complete");
            drop(reads.split_off(60));
            let mut left = vec![ring.in_flight.get()];
            while ring.turn() {
                left.push(ring.in_flight.get());
            }
            assert_eq!(left, [64, 48, 36, 27, 19, 11, 3, 0]);
            for read in reads {
                let Some(Ok(Work::Read(buffer))) = read.now_or_never() else {
                    panic!("a read that is answered")
                };
                assert!(buffer.as_bytes().iter().all(|byte| *byte == 7));
            }
            assert!(ring.is_idle() && ring.entries.borrow().is_empty(), "nothing is kept");
        });
    }

    #[test]
    fn only_what_is_urgent_goes_out_in_the_call() {
        let _limit = limit();
        inside(async {
            let (ring, file) = (Ring::new().expect("a ring"), file(4096));
            let queued = || ring.uring.borrow_mut().submission().len();
            drop(read(&ring, &file, 4096, false));
            assert_eq!(queued(), 1);
            drop(read(&ring, &file, 4096, true));
            assert_eq!(queued(), 0);
            ring.uring.borrow_mut().submit_and_wait(2).expect("they complete");
            assert!(ring.turn() && ring.is_idle() && ring.entries.borrow().is_empty());
        });
    }

    /// What the kernel has not taken must be asked for again, or a parked thread would wait for it for ever.
    #[test]
    fn what_is_not_submitted_is_known() {
        let _limit = limit();
        inside(async {
            let (ring, file) = (Ring::new().expect("a ring"), file(4096));
            assert!(!ring.has_queued());
            drop(read(&ring, &file, 4096, false));
            assert!(ring.has_queued());
            ring.turn();
            assert!(!ring.has_queued());
        });
    }

    /// More than the submission queue holds.
    #[test]
    fn a_full_queue_is_submitted() {
        let _limit = limit();
        inside(async {
            let (ring, file) = (Ring::new().expect("a ring"), file(4096));
            let reads: Vec<_> = (0..=2 * ENTRIES).map(|_| read(&ring, &file, 4096, false)).collect();
            ring.uring.borrow_mut().submit_and_wait(reads.len()).expect("they complete");
            while ring.turn() {}
            assert!(reads.into_iter().all(|read| matches!(read.now_or_never(), Some(Ok(_)))));
        });
    }

    #[test]
    fn what_is_done_in_part_is_gone_on_with() {
        let _limit = limit();
        inside(async {
            let mut entry = entry(16384);
            // The rest begins at a block: anywhere else a device with sectors of 4 KiB refuses it.
            for (result, done) in [(512, 0), (4096 + 512, 4096), (1024, 4096)] {
                assert_eq!((entry.went_on(result), entry.done), (None, done));
            }
            for _ in 1..AGAIN_MAX {
                assert_eq!(entry.went_on(-Errno::INTR.raw_os_error()), None);
            }
            assert_eq!((entry.done, entry.went_on(12288)), (4096, Some(Ok(()))));
        });
        inside(async {
            let (ring, file) = (Ring::new().expect("a ring"), file(6144));
            let reading = read(&ring, &file, 16384, true);
            // 6144 bytes, and then the last 2048 of them again and again.
            for _ in 0..=AGAIN_MAX + 1 {
                ring.uring.borrow_mut().submit_and_wait(1).expect("it completes");
                assert!(ring.turn());
            }
            assert!(matches!(reading.now_or_never(), Some(Err(Errno::IO))));
        });
    }

    #[test]
    fn an_operation_that_gets_nowhere_is_an_error() {
        let _limit = limit();
        inside(async {
            assert_eq!(entry(4096).went_on(0), Some(Err(Errno::IO)));
            let mut never = entry(4096);
            let ended = (0..=AGAIN_MAX).find_map(|_| never.went_on(-Errno::AGAIN.raw_os_error()));
            assert_eq!(ended, Some(Err(Errno::AGAIN)));
            assert_eq!(entry(4096).went_on(-Errno::NOSPC.raw_os_error()), Some(Err(Errno::NOSPC)));
            let mut flush = entry(4096);
            flush.work = Work::Flush;
            assert_eq!(flush.went_on(0), Some(Ok(())));
        });
    }

    /// A ring that fails answers everybody, now and later, and what the kernel may have is not freed.
    #[test]
    fn a_broken_ring_answers_and_keeps_what_it_has() {
        let _limit = limit();
        inside(async {
            let (ring, file) = (Ring::new().expect("a ring"), file(4096));
            let before = read(&ring, &file, 4096, false);
            ring.fail(Errno::BADF);
            assert!(matches!(before.now_or_never(), Some(Err(Errno::BADF))));
            let after = read(&ring, &file, 4096, true);
            assert!(matches!(after.now_or_never(), Some(Err(Errno::BADF))));
            ring.close();
            assert!(ring.is_closed(), "the kernel was never given either");
            assert_eq!(ring.entries.borrow().len(), 1, "and the one of before is kept");
        });
    }

    /// A broken ring used to count as idle whatever the kernel had, so that a close gave the lock back while writes of this
    /// handle were still on their way.
    #[test]
    fn a_broken_ring_is_busy_until_the_kernel_is_done() {
        let _limit = limit();
        inside(async {
            let ring = Ring::new().expect("a ring");
            let (reader, mut writer) = io::pipe().expect("a pipe");
            let work = Work::Read(glommio::allocate_dma_buffer(4096));
            let with_kernel = ring.begin(reader.as_raw_fd(), 0, work, true);
            let queued = read(&ring, &file(4096), 4096, false);
            ring.fail(Errno::BADF);
            assert!(matches!(with_kernel.now_or_never(), Some(Err(Errno::BADF))));
            assert!(matches!(queued.now_or_never(), Some(Err(Errno::BADF))));
            ring.close();
            assert!(!ring.is_idle() && !ring.is_closed());
            assert!(!ring.ended(Duration::from_millis(20)).await, "nothing was written to the pipe");
            assert_eq!(ring.entries.borrow().len(), 2, "what the kernel writes to is kept");
            writer.write_all(&[7; 4096]).expect("room");
            assert!(ring.ended(Duration::MAX).await && ring.is_closed());
            assert_eq!(ring.entries.borrow().len(), 1);
        });
    }
}
