//! `bench cleaner-sim`: what cleaning costs on synthetic loads, by policy. No store is made or opened.

use clap::Args;
use seabed_bench::cleaner_sim::{self, Load, Options};

use crate::args::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Steps;
use crate::sizes::{self, human};

#[derive(Args)]
pub(super) struct CleanerSimArgs {
    /// Live data; 17 bytes of memory for each 4 KiB
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = sizes::parse)]
    data: u64,
    /// Segment sizes
    #[arg(long, value_delimiter = ',', default_value = "512K", value_name = "LIST", value_parser = sizes::parse)]
    segment_size: Vec<u64>,
    /// Live data over capacity
    #[arg(long, value_delimiter = ',', default_value = "0.7,0.8,0.9,0.95", value_name = "LIST")]
    fill: Vec<f64>,
    /// Only these loads: uniform, zipf:POWER, HOT/REST as 90/10, shifting, sequential, static
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    load: Vec<Load>,
    /// Seed of the loads and of the choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CleanerSimArgs, global: &Global) -> Outcome<Exit> {
    let options = Options {
        data_bytes: args.data,
        segment_bytes: args.segment_size.clone(),
        fills: args.fill.clone(),
        loads: if args.load.is_empty() { Load::ALL.to_vec() } else { args.load.clone() },
        seed: args.seed,
    };
    options.check().map_err(|error| Failure::usage(error.to_string()))?;
    let interrupt = Interrupt::install()?;
    let steps = Steps::new(global);
    let (mut done, all) = (0, options.runs());
    steps.at("runs", done, Some(all));
    let rows = cleaner_sim::run(
        &options,
        || interrupt.is_set(),
        || {
            done += 1;
            steps.at("runs", done, Some(all));
        },
    );
    steps.end();
    let rows = rows.map_err(|error| Failure::usage(error.to_string()))?;
    let mut output = Output::report();
    if args.json {
        output.json(&cleaner_sim::as_json(&options, &rows))?;
    } else {
        output.text(&cleaner_sim::as_text(&rows, human))?;
        output.line(
            "chunks written per chunk that users write; in brackets: copies per write in the worst moment",
        )?;
    }
    output.finish()?;
    Ok(interrupt.exit().unwrap_or(Exit::Done))
}
