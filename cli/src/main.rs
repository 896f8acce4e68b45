//! `seabed`: the command line of the object store.
//!
//! Each command is a file of `commands/`, takes its arguments as a type and ends with an [`exit::Exit`] or a
//! [`exit::Failure`]; this file only brings them together. What is shared: `session` (an open store), `names` and
//! `sizes` (bytes from and to people), `posix` (files as objects), `beneath` (files that stay in their directory),
//! `exit` (all codes), `outfile` (files that take their place when they are whole), `identity` (what must not be the
//! store).
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr)]

mod args;
mod beneath;
mod buffers;
mod cleanup;
mod commands;
mod exit;
mod identity;
mod image;
mod interrupt;
mod names;
mod outfile;
mod output;
mod posix;
mod progress;
mod report;
mod run;
mod session;
mod sizes;
mod sparse;
mod stderr;
mod threads;

use std::io::Write;
use std::panic;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::{
    attr, bench, check, clean, completions, demo, dump, export, format, get, import, info, list, omap, pool,
    put, remove, salvage, scrub, stat, stats,
};
use exit::{Exit, Failure, Outcome};

/// A shard's thread allocates some ten times for a transaction and gives back what many of them had at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    interrupt::fail_oversize_writes();
    clean_up_after_panics();
    let exit = match Cli::try_parse() {
        Ok(cli) => dispatch(cli),
        Err(error) => explain(&error),
    };
    let exit = exit.unwrap_or_else(|failure| {
        failure.report();
        failure.exit
    });
    ExitCode::from(exit.code())
}

/// A panic that aborts drops nothing.
fn clean_up_after_panics() {
    if cfg!(panic = "abort") {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            report(panic);
            cleanup::run();
        }));
    }
}

/// Writes what was asked for with --help or --version to stdout, or what is wrong with the arguments to stderr.
fn explain(error: &clap::Error) -> Outcome<Exit> {
    let written = error.print();
    if error.use_stderr() {
        return Ok(Exit::Usage);
    }
    written.and_then(|()| std::io::stdout().flush()).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Done)
}

fn dispatch(cli: Cli) -> Outcome<Exit> {
    let global = &cli.global;
    match cli.command {
        Command::Format(args) => format::run(&args, global),
        Command::Info(args) => info::run(&args, global),
        Command::Check(args) => check::run(&args, global),
        Command::Scrub(args) => scrub::run(&args, global),
        Command::Clean(args) => clean::run(&args, global),
        Command::Salvage(args) => salvage::run(&args, global),
        Command::Dump(args) => dump::run(&args, global),
        Command::Put(args) => put::run(&args, global),
        Command::Get(args) => get::run(&args, global),
        Command::Rm(args) => remove::run(&args, global),
        Command::Ls(args) => list::run(&args, global),
        Command::Stat(args) => stat::run(&args, global),
        Command::Stats(args) => stats::run(&args, global),
        Command::Attr(command) => attr::run(&command, global),
        Command::Omap(command) => omap::run(&command, global),
        Command::Pool(command) => pool::run(&command, global),
        Command::Import(args) => import::run(&args, global),
        Command::Export(args) => export::run(&args, global),
        Command::Demo(args) => demo::run(&args, global),
        Command::Bench(args) => bench::run(&args, global),
        Command::Completions(args) => completions::run(&args),
    }
}
