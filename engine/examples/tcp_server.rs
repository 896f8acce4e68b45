//! TCP server: a key-value server on one thread: glommio's sockets and the store on the same executor.
//!
//! The protocol is one line per request: `PUT key value` answers `OK` when the value is durable, `GET key` answers `VALUE` and
//! the value, or `NONE`; anything else, and every failure, answers `ERROR` and why. Keys have no spaces.
//!
//! The example starts the server on a free port of 127.0.0.1, talks to it from other threads, and ends. Run it with
//! `cargo run --release -p seabed --example tcp_server`.
#![expect(clippy::print_stdout, reason = "an example speaks")]

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncBufReader};
use seabed::device::glommio::net::{TcpListener, TcpStream};
use seabed::device::glommio::{self, LocalExecutorBuilder};
use seabed::{Error, FormatOptions, LocalPool, OpenOptions, Store, embed};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Clients of the test, and what each of them puts.
const CLIENTS: usize = 8;
const PUTS: usize = 50;
/// The longest request, so that a client cannot fill the memory.
const LINE_BYTES_MAX: u64 = 64 << 10;

async fn answer(pool: &LocalPool, request: &str) -> Result<String, Error> {
    let mut words = request.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("PUT"), Some(key), Some(value)) => {
            pool.put(key, value.as_bytes().to_vec()).await?;
            Ok("OK".to_owned())
        }
        (Some("GET"), Some(key), None) => match pool.get(key).await {
            Ok(value) => Ok(format!("VALUE {}", String::from_utf8_lossy(&value))),
            Err(Error::NotFound) => Ok("NONE".to_owned()),
            Err(error) => Err(error),
        },
        _ => Ok("ERROR unknown request".to_owned()),
    }
}

/// Serves one connection until it ends.
async fn serve(stream: TcpStream, pool: LocalPool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = AsyncBufReader::new(stream);
    loop {
        let mut line = String::new();
        (&mut stream).take(LINE_BYTES_MAX).read_line(&mut line).await?;
        let Some(request) = line.strip_suffix('\n') else { return Ok(()) };
        let answer = answer(&pool, request).await.unwrap_or_else(|error| format!("ERROR {error}"));
        stream.get_mut().write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

/// Accepts as many connections as the test has clients, and ends when all of them have ended.
async fn listen(pool: LocalPool, at: mpsc::Sender<SocketAddr>) -> Result<u64, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(std::io::Error::from)?;
    at.send(listener.local_addr().map_err(std::io::Error::from)?)?;
    let served = Rc::new(Cell::new(0));
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        let stream = listener.accept().await.map_err(std::io::Error::from)?;
        let (pool, served) = (pool.clone(), Rc::clone(&served));
        let serve = async move {
            let result = serve(stream, pool).await;
            served.set(served.get() + 1);
            result
        };
        connections.push(glommio::spawn_local(serve).detach());
    }
    for connection in connections {
        connection.await.ok_or("a connection was cancelled")??;
    }
    Ok(served.get())
}

fn client(at: SocketAddr, number: usize) -> Result<(), Failure> {
    let mut stream = BufReader::new(Client::connect(at)?);
    let mut ask = |request: String| -> Result<String, Failure> {
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    for put in 0..PUTS {
        let answer = ask(format!("PUT {number}/{put} value {put} of {number}\n"))?;
        assert_eq!(answer, "OK");
    }
    assert_eq!(ask(format!("GET {number}/7\n"))?, format!("VALUE value 7 of {number}"));
    assert_eq!(ask("GET nothing\n".to_owned())?, "NONE");
    assert!(ask("REMOVE everything\n".to_owned())?.starts_with("ERROR"));
    Ok(())
}

fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("server.img");
    Store::format(&path, FormatOptions { size: Some(64 << 20), ..FormatOptions::default() })?;

    let (at, address) = mpsc::channel();
    let server = LocalExecutorBuilder::default()
        .preempt_timer(Duration::from_millis(25))
        .spawn(move || async move {
            let store = embed::open(&path, OpenOptions::default()).await?;
            let served = listen(store.pool_or_create("keys").await?, at).await;
            let objects = store.usage().objects;
            store.close().await?;
            Ok::<_, Failure>((served?, objects))
        })
        .map_err(std::io::Error::from)?;
    let address = address.recv()?;
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| std::thread::spawn(move || client(address, number))).collect();
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    let (served, objects) = server.join().map_err(std::io::Error::from)??;
    assert_eq!(served, CLIENTS as u64);
    println!("{served} connections were served, {objects} objects are stored");
    Ok(())
}
