//! Endings: which jobs of those that run at the same time have ended, and which have to end because another has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::job::{ExitWhat, Job};

/// See the module.
pub(crate) struct Endings {
    /// Copies of each job that have not ended.
    running: Vec<AtomicUsize>,
    /// Where each job that is waited for is, by the job that waits.
    awaited: Vec<Option<usize>>,
    /// The reporting group of each job, and whether it has to end.
    groups: Vec<usize>,
    over: Vec<AtomicBool>,
    /// Whether the first job that ends ends others.
    exits_all: bool,
    ends_run: AtomicBool,
}

impl Endings {
    /// Of jobs that run at the same time, each with its reporting group.
    pub(crate) fn new<'a>(jobs: impl Iterator<Item = (&'a Job, usize)> + Clone, exits_all: bool) -> Self {
        let jobs: Vec<_> = jobs.collect();
        let place = |name: &str| jobs.iter().position(|(job, _)| job.name == name);
        Self {
            running: jobs.iter().map(|(job, _)| AtomicUsize::new(job.copies as usize)).collect(),
            // A job that ran before these has ended.
            awaited: jobs.iter().map(|(job, _)| job.waits_for.as_deref().and_then(place)).collect(),
            groups: jobs.iter().map(|(_, group)| *group).collect(),
            over: jobs.iter().map(|_| AtomicBool::new(false)).collect(),
            exits_all,
            ends_run: AtomicBool::new(false),
        }
    }

    /// Whether the job that a job waits for has ended.
    pub(crate) fn may_begin(&self, job: usize) -> bool {
        self.awaited[job].is_none_or(|awaited| self.running[awaited].load(Ordering::Acquire) == 0)
    }

    /// Whether a job has to end.
    pub(crate) fn is_over(&self, job: usize) -> bool {
        self.over[job].load(Ordering::Relaxed)
    }

    /// Whether no further jobs are to run.
    pub(crate) fn ends_run(&self) -> bool {
        self.ends_run.load(Ordering::Relaxed)
    }

    /// A copy of a job has ended.
    pub(crate) fn end(&self, job: usize, what: ExitWhat) {
        self.running[job].fetch_sub(1, Ordering::AcqRel);
        if !self.exits_all {
            return;
        }
        for (over, group) in self.over.iter().zip(&self.groups) {
            if what != ExitWhat::Group || *group == self.groups[job] {
                over.store(true, Ordering::Relaxed);
            }
        }
        self.ends_run.fetch_or(what == ExitWhat::All, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Jobs;

    fn endings(exits_all: bool) -> Endings {
        let text = "[a]\nsize=1m\nnumjobs=2\n[b]\nsize=1m\nwait_for=a\n[c]\nsize=1m\n";
        let jobs = Jobs::parse(text, &[]).expect("jobs").jobs;
        Endings::new(jobs.iter().zip([0, 0, 1]), exits_all)
    }

    #[test]
    fn a_job_waits_for_all_copies_of_another() {
        let endings = endings(false);
        assert!(endings.may_begin(0) && !endings.may_begin(1) && endings.may_begin(2));
        endings.end(0, ExitWhat::Group);
        assert!(!endings.may_begin(1));
        endings.end(0, ExitWhat::Group);
        assert!(endings.may_begin(1) && !endings.is_over(1));
    }

    #[test]
    fn the_first_that_ends_ends_others() {
        for (what, over, ends_run) in [
            (ExitWhat::Group, [true, true, false], false),
            (ExitWhat::Stonewall, [true; 3], false),
            (ExitWhat::All, [true; 3], true),
        ] {
            let endings = endings(true);
            assert!(!endings.is_over(0));
            endings.end(1, what);
            assert_eq!([0, 1, 2].map(|job| endings.is_over(job)), over);
            assert_eq!(endings.ends_run(), ends_run);
        }
    }
}
