//! Shrink: the smallest program of a seed that still breaks the same rule.
//!
//! The steps that the clients of the seed's first run took are written down and run as a program. Then parts of it are left
//! out, halves first, single steps last, as long as what is left breaks the rule too. Another program meets other moments
//! of the crash suite, so each is tried with a few ways to draw these.
//!
//! Cost: some hundred runs of the seed. Not here: panics, which end a program that was built to abort.

use super::program::{Plan, Program};
use super::suite::{drawn_program, run_plan};
use super::{Broken, Rule};

/// How many ways to draw crashes are tried for each program.
const DRAWS: u64 = 3;
/// How many programs are tried at most.
const TRIALS: usize = 400;

/// A failure and the smallest program that shows it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// How the seed failed.
    pub broken: Broken,
    /// Steps of the seed's program.
    pub steps: usize,
    /// Steps that are left, one a line: client, pool, step; none if the program by itself does not fail.
    pub left: Vec<String>,
}

/// Runs a seed; if it breaks a rule, shrinks its program.
pub fn replay(seed: u64, states: u64) -> Option<Shrunk> {
    let plan = Plan::of_crash(seed);
    let broken = run_plan(seed, 0, &plan, states).err()?;
    let program = drawn_program();
    let steps = program.iter().map(Vec::len).sum();
    let fails = |program: &Program| breaks(seed, states, &plan, program, broken.rule);
    let left = if fails(&program) { shrunk(program, TRIALS, fails) } else { Program::new() };
    let lines = left.iter().enumerate().flat_map(|(client, steps)| {
        steps
            .iter()
            .map(move |(pool, step)| format!("client {client}, pool {pool}: {}", brief(&format!("{step:?}"))))
    });
    Some(Shrunk { broken, steps, left: lines.collect() })
}

fn breaks(seed: u64, states: u64, plan: &Plan, program: &Program, rule: Rule) -> bool {
    let plan = Plan { program: Some(std::sync::Arc::new(program.clone())), ..plan.clone() };
    (0..DRAWS).any(|draw| run_plan(seed, draw, &plan, states).is_err_and(|broken| broken.rule == rule))
}

fn brief(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The smallest program found, in at most so many trials, that `fails` still answers yes to.
fn shrunk<T: Clone>(
    mut program: Vec<Vec<T>>,
    trials: usize,
    fails: impl Fn(&Vec<Vec<T>>) -> bool,
) -> Vec<Vec<T>> {
    let count = |program: &Vec<Vec<T>>| program.iter().map(Vec::len).sum::<usize>();
    let mut left = trials;
    let mut part = count(&program).div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < count(&program) && left > 0 {
            left -= 1;
            let without = without(&program, start..start + part);
            if fails(&without) {
                program = without;
            } else {
                start += part;
            }
        }
        if part == 1 || left == 0 {
            return program;
        }
        part = part.div_ceil(2);
    }
}

/// The program without these steps, counted through all clients.
fn without<T: Clone>(program: &[Vec<T>], gone: std::ops::Range<usize>) -> Vec<Vec<T>> {
    let mut number = 0;
    let mut keep = |_: &T| {
        number += 1;
        !gone.contains(&(number - 1))
    };
    program.iter().map(|steps| steps.iter().filter(|step| keep(step)).cloned().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_goes() {
        let program: Vec<Vec<u32>> = vec![(0..40).collect(), (40..70).collect(), Vec::new()];
        let needs = [3, 39, 41, 69];
        let fails = |program: &Vec<Vec<u32>>| {
            needs.iter().all(|need| program.iter().flatten().any(|step| step == need))
        };
        assert_eq!(shrunk(program.clone(), 1000, fails), vec![vec![3, 39], vec![41, 69], vec![]]);
        assert_eq!(shrunk(program.clone(), 0, fails), program, "no trials");
        assert_eq!(shrunk(program, 1000, |_| true), vec![Vec::<u32>::new(); 3]);
    }
}
