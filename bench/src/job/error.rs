//! Error: why a job file or a command line is rejected. One error names every option that cannot be accepted, each with
//! its section and line.

use std::fmt;
use std::sync::Arc;

/// Why a job file or a command line is rejected: all problems, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobError {
    /// Never empty.
    pub rejections: Vec<Rejection>,
}

impl fmt::Display for JobError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.rejections[..] {
            return write!(out, "{one}");
        }
        write!(out, "{} problems", self.rejections.len())?;
        for rejection in &self.rejections {
            write!(out, "\n  {rejection}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JobError {}

/// One problem and its location.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct Rejection {
    /// Where it is.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Problem,
}

/// Where an option or a section is given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// The included file; none for the job file itself.
    pub file: Option<Arc<str>>,
    /// The line, from 1; none on the command line.
    pub line: Option<usize>,
    /// The section's name; none above the first one.
    pub section: Option<Arc<str>>,
}

impl Origin {
    /// The command line.
    pub fn command_line() -> Self {
        Self::default()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(line) = self.line else { return out.write_str("command line") };
        if let Some(file) = &self.file {
            write!(out, "{file} ")?;
        }
        write!(out, "line {line}")?;
        if let Some(section) = &self.section {
            write!(out, " [{section}]")?;
        }
        Ok(())
    }
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A line that is neither a section nor an option.
    #[error("neither [section] nor option=value")]
    Malformed,
    /// An option above the first section.
    #[error("`{option}` is above the first [section]")]
    NoSection {
        /// Its name.
        option: String,
    },
    /// A name that is no option of fio's or ours.
    #[error("there is no option `{option}`")]
    Unknown {
        /// Its name.
        option: String,
    },
    /// An option of fio's that would change what is measured and has no counterpart here.
    #[error("{option}={value} is not supported: {why}")]
    Unsupported {
        /// Its name.
        option: String,
        /// Its value.
        value: String,
        /// Why not.
        why: &'static str,
    },
    /// An invalid value of an option.
    #[error("{option}: {why}")]
    Value {
        /// Its name.
        option: String,
        /// Why not.
        why: &'static str,
    },
    /// An environment variable that is not set.
    #[error("{option}: the environment variable {variable} is not set")]
    Variable {
        /// The option that refers to it.
        option: String,
        /// The variable.
        variable: String,
    },
    /// An included file that cannot be read.
    #[error("include {path}: {why}")]
    Include {
        /// As the job file names it.
        path: String,
        /// Why not.
        why: String,
    },
    /// The job's options contradict each other.
    #[error("job `{job}`: {why}")]
    Job {
        /// Its name.
        job: String,
        /// Why not.
        why: &'static str,
    },
    /// There is no job.
    #[error("there is no job: a job is a [section] other than [global]")]
    Empty,
}
