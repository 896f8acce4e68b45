//! File: a job file's lines: sections and their options, comments and includes resolved, values not yet read.
//!
//! Lines are read as fio reads them: what follows a `;` or `#` is a comment, also after a value; a section whose name
//! begins with `global` holds defaults; `include FILE` within a section is replaced by the options of that file, which
//! has no sections of its own.
//!
//! Limits: includes are 16 deep, all files together have 100,000 lines.

use std::sync::Arc;

use super::error::{Origin, Problem, Rejection};
use super::surroundings::Surroundings;

const DEPTH_MAX: usize = 16;
const LINES_MAX: usize = 100_000;

/// An option as given.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) origin: Origin,
    pub(super) option: String,
    pub(super) value: String,
}

impl Line {
    pub(super) fn of_command_line(given: &(String, String)) -> Self {
        Self { origin: Origin::command_line(), option: given.0.clone(), value: given.1.clone() }
    }
}

/// A section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) origin: Origin,
    pub(super) name: Arc<str>,
    pub(super) is_global: bool,
    pub(super) lines: Vec<Line>,
}

/// The sections of a job file, in their order. Problems are added to `rejections`.
pub(super) fn sections(
    text: &str,
    around: &dyn Surroundings,
    rejections: &mut Vec<Rejection>,
) -> Vec<Section> {
    let mut reader = Reader { around, rejections, sections: Vec::new(), lines: 0 };
    reader.read(text, None, 0);
    reader.sections
}

struct Reader<'a> {
    around: &'a dyn Surroundings,
    rejections: &'a mut Vec<Rejection>,
    sections: Vec<Section>,
    lines: usize,
}

impl Reader<'_> {
    fn read(&mut self, text: &str, file: Option<&Arc<str>>, depth: usize) {
        for (index, line) in text.lines().enumerate() {
            let line = line.split([';', '#']).next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let section = self.sections.last().map(|section| Arc::clone(&section.name));
            let origin = Origin { file: file.cloned(), line: Some(index + 1), section };
            self.lines += 1;
            if self.lines > LINES_MAX {
                let why = "there are more than 100,000 lines".to_owned();
                self.reject(origin, Problem::Include { path: String::new(), why });
                return;
            }
            if let Some(section) = line.strip_prefix('[') {
                self.begin(section, origin);
            } else if let Some(path) = included(line) {
                self.include(path, origin, depth);
            } else {
                self.option(line, origin);
            }
        }
    }

    fn begin(&mut self, rest: &str, origin: Origin) {
        let name = rest.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
        let (Some(name), None) = (name, &origin.file) else {
            return self.reject(origin, Problem::Malformed);
        };
        let name: Arc<str> = name.into();
        let origin = Origin { section: Some(Arc::clone(&name)), ..origin };
        let is_global = name.starts_with("global");
        self.sections.push(Section { origin, name, is_global, lines: Vec::new() });
    }

    fn include(&mut self, path: &str, origin: Origin, depth: usize) {
        let problem =
            |why: &dyn std::fmt::Display| Problem::Include { path: path.to_owned(), why: why.to_string() };
        if self.sections.is_empty() {
            return self.reject(origin, Problem::NoSection { option: "include".to_owned() });
        }
        if depth == DEPTH_MAX {
            return self.reject(origin, problem(&"includes are too deep"));
        }
        match self.around.include(path) {
            Ok(text) => self.read(&text, Some(&path.into()), depth + 1),
            Err(error) => self.reject(origin, problem(&error)),
        }
    }

    fn option(&mut self, line: &str, origin: Origin) {
        let (option, value) = line.split_once('=').unwrap_or((line, ""));
        let (option, value) = (option.trim().to_owned(), value.trim().to_owned());
        match self.sections.last_mut() {
            Some(section) => section.lines.push(Line { origin, option, value }),
            None => self.reject(origin, Problem::NoSection { option }),
        }
    }

    fn reject(&mut self, origin: Origin, problem: Problem) {
        self.rejections.push(Rejection { origin, problem });
    }
}

/// The path of an `include PATH` line.
fn included(line: &str) -> Option<&str> {
    let path = line.strip_prefix("include")?;
    path.starts_with([' ', '\t', '=']).then(|| path[1..].trim())
}
