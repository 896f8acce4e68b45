//! The command line of the suites: each failure of a suite names the command that repeats it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program of the command line speaks there")]

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Suites and tools for testing Seabed.
#[derive(Parser)]
#[command(name = "seabed-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a directory tree with odd names, sizes, modes, times and links, the same for the same seed
    Tree(commands::tree::Tree),
    /// Kill the command line's process in the middle of an import, again and again, and compare what is there
    Kill(commands::kill::Kill),
    /// Turn over one bit of each byte of a closed store's image in turn: it is reported, or counts for nothing
    Flip(commands::flip::Flip),
    /// Crash the engine on the simulated machine, again and again, and hold what is left against the model
    Crash(commands::crash::Crash),
    /// Run seeds of the crash suite again, and shrink the program of one that fails
    Replay(commands::replay::Replay),
    /// Crash every sequence of up to three operations at every I/O boundary
    Exhaustive(commands::exhaustive::Exhaustive),
    /// Let each read, write and flush of a run fail in turn, in each way
    Faults(commands::faults::FaultLoops),
    /// Carry the same programs out on stores of other sizes: the same answers, the same objects
    Metamorphic(commands::metamorphic::Metamorphic),
    /// Switch on a defect in the code, each in turn, and let the suite that guards the place find it
    SeededBugs(commands::seeded_bugs::SeededBugs),
    /// Open stores of different sizes after their process was killed: time, bytes, records, memory
    Open(commands::open::Open),
    /// Import a tree, and copy it with cp and sync: both times, and their ratio
    Import(commands::import::Import),
    /// Write the golden images of the present format version again
    Golden(commands::golden::Golden),
    /// Write the inputs that the fuzz targets begin with
    Corpus(commands::corpus::Corpus),
    /// Write stamped blocks on real files, and break off: by kills, at every flush, by errors of the device
    Stamped(commands::stamped::Stamped),
    #[command(hide = true)]
    StampedChild(commands::stamped::Child),
    #[command(hide = true)]
    SeededHunt(commands::seeded_bugs::SeededHunt),
    #[command(hide = true)]
    OpenFill(commands::open::Child),
    #[command(hide = true)]
    OpenMeasure(commands::open::Child),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Tree(command) => command.run(),
        Command::Kill(command) => command.run(),
        Command::Flip(command) => command.run(),
        Command::Crash(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Exhaustive(command) => command.run(),
        Command::Faults(command) => command.run(),
        Command::Open(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Golden(command) => command.run(),
        Command::Corpus(command) => command.run(),
        Command::Metamorphic(command) => command.run(),
        Command::SeededBugs(command) => command.run(),
        Command::SeededHunt(command) => command.run(),
        Command::Stamped(command) => command.run(),
        Command::StampedChild(child) => child.run(),
        Command::OpenFill(child) => child.fill(),
        Command::OpenMeasure(child) => child.measure(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
