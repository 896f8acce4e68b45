//! Reader: makes jobs of sections and their options, and collects what is wrong and what is ignored.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{JobError, Origin, Problem, Rejection};
use super::file::{self, Line, Section};
use super::options::OPTIONS;
use super::surroundings::{Nothing, Surroundings};
use super::unused::{self, Ignored};
use super::{Job, Jobs, expand};

/// An option as given, without looking at it.
type Given = (String, String);

impl Jobs {
    /// Reads a job file that refers to nothing but itself; `also` are the command line's options, which come last.
    pub fn parse(text: &str, also: &[Given]) -> Result<Self, JobError> {
        Self::read(text, also, &Nothing)
    }

    /// Reads a job file; `also` are the command line's options, which come last.
    ///
    /// Errors: all problems of the file and the command line in one.
    pub fn read(text: &str, also: &[Given], around: &dyn Surroundings) -> Result<Self, JobError> {
        let mut rejections = Vec::new();
        let sections = file::sections(text, around, &mut rejections);
        let mut reader = Reader { around, rejections, ignored: Vec::new() };
        let mut global = Job::new("global");
        let mut jobs = Vec::new();
        for section in &sections {
            if section.is_global {
                reader.apply(&mut global, section);
                continue;
            }
            let name = section.name.to_string();
            let mut job = Job { name, given: Vec::new(), ..global.clone() };
            reader.apply(&mut job, section);
            jobs.push((section.origin.clone(), job));
        }
        if jobs.is_empty() && reader.rejections.is_empty() {
            let origin = Origin { line: Some(text.lines().count().max(1)), ..Origin::default() };
            reader.reject(origin, Problem::Empty);
        }
        let lines: Vec<_> = also.iter().map(Line::of_command_line).collect();
        for (index, (_, job)) in jobs.iter_mut().enumerate() {
            reader.apply_command_line(job, &lines, index == 0);
        }
        let global = global.given.into_iter().chain(also.iter().cloned()).collect();
        reader.finish(global, jobs)
    }

    /// One job of the command line's options.
    pub fn of_command_line(name: &str, given: &[Given], around: &dyn Surroundings) -> Result<Self, JobError> {
        let mut reader = Reader { around, rejections: Vec::new(), ignored: Vec::new() };
        let mut job = Job::new(name);
        let lines: Vec<_> = given.iter().map(Line::of_command_line).collect();
        reader.apply_command_line(&mut job, &lines, true);
        job.given = given.to_vec();
        reader.finish(Vec::new(), vec![(Origin::command_line(), job)])
    }
}

/// Collects what is wrong and what is ignored while options are applied.
struct Reader<'a> {
    around: &'a dyn Surroundings,
    rejections: Vec<Rejection>,
    ignored: Vec<Ignored>,
}

impl Reader<'_> {
    fn apply(&mut self, job: &mut Job, section: &Section) {
        // The units of sizes hold for the whole section, wherever they are given in it.
        let (units, others): (Vec<_>, Vec<_>) =
            section.lines.iter().partition(|line| line.option == "kb_base");
        for line in units.into_iter().chain(others) {
            match &line.option[..] {
                "name" if section.is_global => self.ignore(line, "a job has the name of its section"),
                "name" => line.value.clone_into(&mut job.name),
                _ => self.set(job, line),
            }
        }
    }

    /// Applies the command line's options, which reports name once for all jobs.
    fn apply_command_line(&mut self, job: &mut Job, lines: &[Line], is_first: bool) {
        let of_section = job.given.clone();
        let before = (self.rejections.len(), self.ignored.len());
        let (units, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.option == "kb_base");
        for line in units.into_iter().chain(others) {
            self.set(job, line);
        }
        if !is_first {
            // They were named with the first job.
            self.rejections.truncate(before.0);
            self.ignored.truncate(before.1);
        }
        job.given = of_section;
    }

    fn set(&mut self, job: &mut Job, line: &Line) {
        let option = line.option.clone();
        let found = OPTIONS.iter().find(|spec| spec.name == option || spec.aliases.contains(&&option[..]));
        let Some(spec) = found else { return self.set_unused(line) };
        let value = match expand::expand(&line.value, self.around) {
            Ok(value) => value,
            Err(expand::Unexpanded::Variable(variable)) => {
                return self.reject(line.origin.clone(), Problem::Variable { option, variable });
            }
            Err(expand::Unexpanded::Expression) => {
                let why = "not an expression of whole numbers";
                return self.reject(line.origin.clone(), Problem::Value { option, why });
            }
        };
        match (spec.set)(job, &value) {
            Ok(()) => {
                job.given.push((option, value));
                if let Some(why) = unused::note(spec.name, &line.value) {
                    self.ignore(line, why);
                }
            }
            Err(why) => self.reject(line.origin.clone(), Problem::Value { option, why }),
        }
    }

    fn set_unused(&mut self, line: &Line) {
        let (option, value) = (line.option.clone(), line.value.clone());
        match unused::look(&option, &value) {
            None => self.reject(line.origin.clone(), Problem::Unknown { option }),
            Some(Ok(why)) => self.ignore(line, why),
            Some(Err(why)) => self.reject(line.origin.clone(), Problem::Unsupported { option, value, why }),
        }
    }

    fn ignore(&mut self, line: &Line, why: &'static str) {
        let (origin, option, value) = (line.origin.clone(), line.option.clone(), line.value.clone());
        self.ignored.push(Ignored { origin, option, value, why });
    }

    fn reject(&mut self, origin: Origin, problem: Problem) {
        self.rejections.push(Rejection { origin, problem });
    }

    /// Looks at each job as a whole, unless a problem with an option would be the cause of what is found.
    fn finish(mut self, global: Vec<Given>, mut jobs: Vec<(Origin, Job)>) -> Result<Jobs, JobError> {
        let is_applied = self.rejections.iter().all(|rejection| {
            matches!(
                rejection.problem,
                Problem::Unsupported { .. } | Problem::Unknown { .. } | Problem::Empty
            )
        });
        let mut names = BTreeSet::new();
        let mut before: BTreeMap<String, u32> = BTreeMap::new();
        for (origin, job) in &mut jobs {
            if let (true, Err(why)) = (is_applied, job.check()) {
                let problem = Problem::Job { job: job.name.clone(), why };
                self.reject(origin.clone(), problem);
            }
            let awaited = job.waits_for.as_ref().map(|name| before.get(name).copied().unwrap_or(0));
            if let (true, Some(why)) = (is_applied, awaited.and_then(why_not_awaited)) {
                let problem = Problem::Job { job: job.name.clone(), why };
                self.reject(origin.clone(), problem);
            }
            *before.entry(job.name.clone()).or_default() += 1;
            job.file_name.clone_from(&job.name);
            for number in 2u32.. {
                if names.insert(job.file_name.clone()) {
                    break;
                }
                job.file_name = format!("{}#{number}", job.name);
            }
        }
        if !self.rejections.is_empty() {
            return Err(JobError { rejections: self.rejections });
        }
        Ok(Jobs { global, jobs: jobs.into_iter().map(|(_, job)| job).collect(), ignored: self.ignored })
    }
}

/// Why a job cannot wait for jobs of a name of which there are so many before it.
fn why_not_awaited(jobs: u32) -> Option<&'static str> {
    match jobs {
        0 => Some("wait_for names no job before it"),
        1 => None,
        _ => Some("wait_for names more than one job"),
    }
}
