//! Compare: two directory trees, byte for byte, with types, modes and times.

use std::fs::File;
use std::io::{self, Read};

use crate::beneath::{BeneathError, Parents, Relative, Tree};
use crate::commands::import::walk::walk;
use crate::identity::Identity;
use crate::names;
use crate::posix::{Kind, Posix};

const BUFFER_BYTES: usize = 128 << 10;

/// What was compared, and what differs.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) items: u64,
    pub(super) bytes: u64,
    /// One line each.
    pub(super) differences: Vec<String>,
}

/// Compares all that is in `source`, but for the directory `left_out`, with `copy`, and that `copy` has no more.
pub(super) fn compare(source: &Tree, left_out: Option<Identity>, copy: &Tree) -> Compared {
    let mut compared = Compared::default();
    let mut unreadable = Vec::new();
    walk(
        source,
        left_out,
        |name| {
            compared.items += 1;
            match compare_one(source, copy, &name) {
                Ok(Ok(bytes)) => compared.bytes += bytes,
                Ok(Err(what)) => compared.differences.push(format!("{}: {what}", names::quoted(&name))),
                Err(error) => compared.differences.push(format!("{}: {error}", names::quoted(&name))),
            }
            true
        },
        |_, what| unreadable.push(what),
    );
    compared.differences.append(&mut unreadable);
    walk(
        copy,
        None,
        |name| {
            let is_extra = Relative::parse(&name).is_ok_and(|path| {
                let place = source.place(&path, Parents::MustExist);
                place.is_ok_and(|place| matches!(place.stat(), Ok(None)))
            });
            if is_extra {
                compared.differences.push(format!("{}: was not in what was imported", names::quoted(&name)));
            }
            true
        },
        |_, what| unreadable.push(what),
    );
    compared.differences.append(&mut unreadable);
    compared
}

/// The bytes that were compared, or what differs.
fn compare_one(source: &Tree, copy: &Tree, name: &[u8]) -> Result<Result<u64, &'static str>, BeneathError> {
    let path = Relative::parse(name)?;
    let (a, b) = (source.place(&path, Parents::MustExist)?, copy.place(&path, Parents::MustExist)?);
    let (Some(stat_a), Some(stat_b)) = (a.stat()?, b.stat()?) else { return Ok(Err("is not there")) };
    let (posix_a, posix_b) = match (Posix::of(&stat_a), Posix::of(&stat_b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(what), _) | (_, Err(what)) => return Ok(Err(what)),
    };
    if posix_a.kind != posix_b.kind {
        return Ok(Err("has another type"));
    }
    if posix_a.mode != posix_b.mode {
        return Ok(Err("has another mode"));
    }
    if posix_a.mtime != posix_b.mtime {
        return Ok(Err("has another time"));
    }
    match posix_a.kind {
        Kind::Directory => Ok(Ok(0)),
        Kind::Symlink if a.read_link()? == b.read_link()? => Ok(Ok(0)),
        Kind::Symlink => Ok(Err("leads elsewhere")),
        Kind::File => {
            let same = same_bytes(&mut a.open_file()?, &mut b.open_file()?);
            let same = same.map_err(|error| BeneathError::Io { doing: "comparing", error })?;
            Ok(same.ok_or("has other bytes"))
        }
    }
}

/// How many bytes both have; none if they differ.
fn same_bytes(a: &mut File, b: &mut File) -> io::Result<Option<u64>> {
    let (mut of_a, mut of_b) = (Vec::with_capacity(BUFFER_BYTES), Vec::with_capacity(BUFFER_BYTES));
    let mut bytes = 0;
    loop {
        of_a.clear();
        of_b.clear();
        a.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut of_a)?;
        b.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut of_b)?;
        if of_a != of_b {
            return Ok(None);
        }
        if of_a.is_empty() {
            return Ok(Some(bytes));
        }
        bytes += of_a.len() as u64;
    }
}
