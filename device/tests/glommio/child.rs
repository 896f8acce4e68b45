//! Child: this test binary again, as a process of its own with a part to play.
//!
//! A child says a line on its standard output for each thing that happened, and ends when its standard input does.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;

use seabed_device::glommio_host::{GlommioHost, HostOptions};
use seabed_device::{Class, Durability, Host, Machine, WriteOpts};

use crate::limit::limit;
use crate::suite::on_one_thread;

const PART: &str = "SEABED_TEST_PART";
const PATH: &str = "SEABED_TEST_PATH";
const MARK: &str = "child: ";

/// A part of a child.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// Opens the device and holds it. Says `open`.
    Hold,
    /// Writes without end, many at a time. Says `written` after each of the first hundred writes.
    Write,
    /// Reads in turn, one after the other. Says `read` after each 100, until its input ends.
    Read,
}

/// A running child; killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(part: Part, path: &Path) -> Self {
        let part = match part {
            Part::Hold => "hold",
            Part::Write => "write",
            Part::Read => "read",
        };
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "child::plays_its_part", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next thing it says.
    pub(crate) fn says(&mut self) -> String {
        loop {
            let mut line = String::new();
            let bytes = self.output.read_line(&mut line).expect("a line");
            assert!(bytes > 0, "the child ended");
            // The test harness says things too, also on the same line.
            if let Some((_, said)) = line.split_once(MARK) {
                return said.trim_end().to_owned();
            }
        }
    }

    /// Kills it, and waits until it is gone but for what the kernel still does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Tells it to end.
    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.input.take());
        // It must not wait for a reader of what it says.
        std::io::copy(&mut self.output, &mut std::io::sink()).expect("drained");
        self.child.wait().expect("wait")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{MARK}{what}").expect("the parent reads");
    output.flush().expect("the parent reads");
}

fn wait_for_the_end() {
    std::io::stdin().read_to_end(&mut Vec::new()).expect("an end");
}

/// Does nothing but in a child.
#[test]
fn plays_its_part() {
    let (Some(part), Some(path)) = (std::env::var_os(PART), std::env::var_os(PATH)) else { return };
    let _limit = limit();
    let host = GlommioHost::open(path, HostOptions::default()).expect("open");
    match part.to_str() {
        Some("hold") => {
            say("open");
            wait_for_the_end();
        }
        Some("write") => {
            let main = |machine| Box::pin(write(machine)) as _;
            let join = host.start(1, Arc::new(main)).expect("start");
            wait_for_the_end();
            drop(join);
        }
        Some("read") => {
            let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let seen = Arc::clone(&is_over);
            std::thread::spawn(move || {
                wait_for_the_end();
                is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            on_one_thread(&host, move |machine| {
                let seen = Arc::clone(&seen);
                async move {
                    while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                        for block in 0..100 {
                            let read = machine.device.read(block * 4096, 4096, Class::Foreground).await;
                            read.expect("a read");
                        }
                        say("read");
                    }
                }
            })
            .expect("no panic");
        }
        other => panic!("no such part: {other:?}"),
    }
}

/// 16 writers of 128 KiB each, over and over.
async fn write(machine: Machine) {
    let opts = WriteOpts { durability: Durability::Cached, class: Class::Foreground, stream: 0 };
    let said = Rc::new(std::cell::Cell::new(0));
    let writers = (0..16u64).map(|writer| {
        let (machine, said) = (machine.clone(), Rc::clone(&said));
        async move {
            for round in 0u64.. {
                let mut buffer = machine.device.alloc(128 << 10);
                buffer.fill(u8::try_from(round % 251).expect("small"));
                machine.device.write(writer * (128 << 10), Rc::new(buffer), opts).await.expect("a write");
                if said.get() < 100 {
                    said.set(said.get() + 1);
                    say("written");
                }
            }
        }
    });
    futures::future::join_all(writers).await;
}
