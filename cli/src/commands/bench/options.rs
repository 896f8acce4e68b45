//! Options: those of a job on the command line, with fio's names, out of the list that reads job files too.

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};
use seabed_bench::job::{OPTIONS, Takes, UNUSED, UnusedSpec};

/// Whether the program has no option of that name itself.
fn is_free(name: &&str) -> bool {
    !["memory", "quiet", "verbose", "wait", "store", "html", "clients", "null", "name"].contains(name)
}

/// What was given, in the order of the list.
#[derive(Clone, Default)]
pub(super) struct JobOptions {
    pub(super) given: Vec<(String, String)>,
}

impl FromArgMatches for JobOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let unused = UNUSED.iter().flat_map(UnusedSpec::names).filter(is_free);
        let given = OPTIONS.iter().map(|spec| spec.name).chain(unused).filter_map(|name| {
            let value = matches.get_one::<String>(name)?;
            Some((name.to_owned(), value.clone()))
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
        let command =
            UNUSED.iter().flat_map(UnusedSpec::names).filter(is_free).fold(command, |command, name| {
                // fio's other options are accepted or rejected with their reason, as in a job file; help leaves them out.
                let arg = Arg::new(name).long(name).hide(true).num_args(0..=1).require_equals(true);
                command.arg(arg.default_missing_value(""))
            });
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
