//! Options: those of a job on the command line, with fio's names, out of the list that reads job files too.

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};
use seabed_bench::job::{OPTIONS, Takes};

/// What was given, in the order of the list.
#[derive(Clone, Default)]
pub(super) struct JobOptions {
    pub(super) given: Vec<(String, String)>,
}

impl FromArgMatches for JobOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = OPTIONS.iter().filter_map(|spec| {
            let value = matches.get_one::<String>(spec.name)?;
            Some((spec.name.to_owned(), value.clone()))
        });
        Ok(Self { given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for JobOptions {
    fn augment_args(command: Command) -> Command {
        OPTIONS.iter().fold(command, |command, spec| {
            let arg = Arg::new(spec.name)
                .long(spec.name)
                .visible_aliases(spec.aliases)
                .help(spec.help)
                .help_heading("Options of jobs, as in a job file; here they are for all jobs");
            command.arg(match spec.takes {
                Takes::Flag => {
                    arg.num_args(0..=1).require_equals(true).default_missing_value("1").value_name("0|1")
                }
                Takes::Value(name) => arg.value_name(name),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
