//! History: what was submitted to each pool, and which state each prefix of it makes.
//!
//! Number 0 of a pool: it does not exist. Number 1: it is empty. From there on each submission counts one, whether it
//! changes anything or not. The states are the reference model's; they share what they have in common.
//!
//! An answer has one explanation: the state behind all submissions before it. Who was told of a failed journal may have been
//! carried out or not, and is in the states as if it was: what stands behind it in its pool's line fails too, or is carried
//! out behind it.

use super::engine::{Answer, Outcome, expected};
use super::program::Read;
use crate::model::{Bytes, Condition, Limits, Model, Object, ObjectId, Op, Pool, Why};

/// The states of a pool by number, from `first` on.
#[derive(Clone, Debug)]
pub(super) struct PoolHistory {
    pub(super) first: u64,
    pub(super) states: Vec<Option<Model>>,
}

/// One submission, in the order of the pool.
pub(super) struct Submission {
    pub(super) operations: Vec<(ObjectId, Op)>,
    /// None: it was not answered before the end, or nobody knows.
    pub(super) outcome: Option<Outcome>,
}

/// A read that was answered.
pub(super) struct ReadRecord {
    pub(super) pool: usize,
    pub(super) read: Read,
    /// The newest number that was submitted when it was answered.
    pub(super) to: u64,
    pub(super) answer: Answer,
}

/// What an operation that changes nothing, or is refused, tells of an object that exists.
#[derive(PartialEq, Eq)]
enum Facet<'a> {
    Exists,
    Size(u64),
    Value(Option<&'a Bytes>),
}

fn facet<'a>(object: &'a Object, op: &Op) -> Facet<'a> {
    match op {
        Op::Write(..) | Op::Append(_) | Op::Zero(..) | Op::Truncate(_) | Op::Expect(Condition::Size(_)) => {
            Facet::Size(object.contents.size())
        }
        Op::RemoveAttribute(name) | Op::Expect(Condition::Attribute(name, _)) => {
            Facet::Value(object.attributes.get(name))
        }
        Op::Expect(Condition::Omap(key, _)) => Facet::Value(object.omap.get(key)),
        Op::Touch
        | Op::Create
        | Op::Remove
        | Op::SetAttributes(_)
        | Op::OmapInsert(_)
        | Op::OmapRemove(_)
        | Op::OmapRemoveRange(..)
        | Op::OmapClear
        | Op::OmapSetHeader(_)
        | Op::SetHint(_)
        | Op::Expect(Condition::Exists | Condition::Absent) => Facet::Exists,
    }
}

fn difference(ours: Option<&Object>, theirs: Option<&Object>) -> Option<String> {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return (ours.is_some() != theirs.is_some()).then(|| "should not be there".to_owned());
    };
    if ours == theirs {
        return None;
    }
    if ours.contents != theirs.contents {
        let (one, two) = (ours.contents.size(), theirs.contents.size());
        let (ours, theirs) = (ours.contents.read(0, one), theirs.contents.read(0, two));
        let at = ours.iter().zip(&theirs).position(|(one, two)| one != two).unwrap_or(0);
        let part = |bytes: &[u8]| format!("{:x?}", &bytes[at.min(bytes.len())..(at + 20).min(bytes.len())]);
        let (ours, theirs) = (part(&ours), part(&theirs));
        return Some(format!("has {two} bytes, should have {one}, from {at} on {theirs}, should be {ours}"));
    }
    let parts = [
        (ours.attributes != theirs.attributes, "attributes"),
        (ours.omap != theirs.omap, "omap"),
        (ours.omap_header != theirs.omap_header, "omap header"),
        (ours.hint != theirs.hint, "hint"),
    ];
    let parts: Vec<&str> = parts.iter().filter(|(differs, _)| *differs).map(|(_, part)| *part).collect();
    Some(format!("has other {}", parts.join(" and ")))
}

fn object<'a>(state: Option<&'a Model>, id: &ObjectId) -> Option<&'a Object> {
    state?.pool(1).ok()?.object(id).ok()
}

impl PoolHistory {
    /// A pool that was never made.
    pub(super) fn new() -> Self {
        Self { first: 0, states: vec![None] }
    }

    pub(super) fn last(&self) -> u64 {
        self.first + self.states.len() as u64 - 1
    }

    pub(super) fn at(&self, number: u64) -> Option<&Model> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.states.get(index)?.as_ref()
    }

    /// The pool was made.
    pub(super) fn create(&mut self, limits: Limits) {
        let mut model = Model::new(limits);
        model.create_pool("pool").expect("a good name");
        self.states.push(Some(model));
    }

    /// Carries out a submission, and compares what the engine said of it. Gives what is durable once it was answered.
    ///
    /// What changes something proves itself, and all before it. What changes nothing, or is refused, proves the newest number
    /// that changed what it looked at.
    pub(super) fn submit(&mut self, submission: &Submission) -> Result<u64, String> {
        let number = self.last() + 1;
        let mut state = self.states.last().cloned().flatten().ok_or("submitted to no pool")?;
        let operations = &submission.operations;
        let said = if submission.outcome == Some(Outcome::NoRoom) {
            Outcome::NoRoom
        } else {
            match state.submit(1, operations) {
                Ok(()) => Outcome::Done,
                Err(refusal) => Outcome::Refused(refusal.op, refusal.why),
            }
        };
        if let Some(outcome) = submission.outcome.as_ref().filter(|outcome| **outcome != said) {
            return Err(format!("number {number}: {outcome:?}, expected {said:?}: {operations:?}"));
        }
        self.states.push(Some(state));
        let looked_at = |operation: &(ObjectId, Op)| self.last_change(operation, number);
        Ok(match said {
            Outcome::Done if self.at(number) != self.at(number - 1) => number,
            Outcome::Done => operations.iter().map(looked_at).max().unwrap_or(0),
            Outcome::Refused(_, Why::Invalid) | Outcome::NoRoom | Outcome::Failed(_) => 0,
            Outcome::Refused(op, _) => looked_at(&operations[op]),
        })
    }

    /// The newest number, `number` at most, that changed what an operation looks at.
    fn last_change(&self, (id, op): &(ObjectId, Op), number: u64) -> u64 {
        let looked_at = |number: u64| object(self.at(number), id).map(|object| facet(object, op));
        let changed = |number: &u64| looked_at(*number) != looked_at(*number - 1);
        (self.first + 1..=number).rev().find(changed).unwrap_or(0)
    }

    /// The oldest number that an answer shows, which had to see `from` at least; none: it is wrong.
    pub(super) fn explains(&self, record: &ReadRecord, from: u64) -> Option<u64> {
        let fits = |number: &u64| expected(self.at(*number), &record.read).as_ref() == Some(&record.answer);
        let shown = (from.max(self.first)..=record.to.min(self.last())).find(fits)?;
        // What came between, and changed nothing of the answer, was not shown by it.
        (self.first..=shown).rev().take_while(fits).last()
    }

    /// The oldest number from `lower` on whose state this is.
    pub(super) fn find(&self, lower: u64, dumped: Option<&[(ObjectId, Object)]>) -> Option<u64> {
        self.numbers_of(lower, dumped).next()
    }

    /// As [`Self::find`], the newest one. Which of equal states a mount recovered nobody can see; until it has ended a crash may
    /// leave each state that lies between them.
    pub(super) fn find_newest(&self, lower: u64, dumped: Option<&[(ObjectId, Object)]>) -> Option<u64> {
        self.numbers_of(lower, dumped).last()
    }

    fn numbers_of<'a>(
        &'a self,
        lower: u64,
        dumped: Option<&'a [(ObjectId, Object)]>,
    ) -> impl Iterator<Item = u64> + 'a {
        let same = move |number: &u64| match (self.at(*number), dumped) {
            (None, None) => true,
            (Some(state), Some(dumped)) => state
                .pool(1)
                .is_ok_and(|pool| pool.objects().eq(dumped.iter().map(|(id, object)| (id, object)))),
            _ => false,
        };
        (lower.max(self.first)..=self.last()).filter(same)
    }

    /// The oldest number from `lower` on whose state is that of `number`.
    pub(super) fn find_same(&self, lower: u64, number: u64) -> Option<u64> {
        if number >= lower {
            return Some(number);
        }
        let state = self.at(number);
        (lower.max(self.first)..=self.last()).find(|other| self.at(*other) == state)
    }

    /// How a state that is none of ours differs from the one that it is most like, from `lower` on.
    pub(super) fn closest(&self, lower: u64, dumped: Option<&[(ObjectId, Object)]>) -> String {
        let dumped = dumped.unwrap_or_default();
        let differences = |number: u64| {
            let pool = self.at(number).and_then(|state| state.pool(1).ok());
            let ours = |id: &ObjectId| pool.and_then(|pool| pool.object(id).ok());
            let mut found: Vec<String> = dumped
                .iter()
                .filter_map(|(id, theirs)| Some(format!("{id:?} {}", difference(ours(id), Some(theirs))?)))
                .collect();
            let missing = pool.into_iter().flat_map(Pool::objects);
            let missing = missing.filter(|(id, _)| !dumped.iter().any(|(other, _)| other == *id));
            found.extend(missing.map(|(id, _)| format!("{id:?} is missing")));
            (found.len(), number, found)
        };
        let best = (lower.max(self.first)..=self.last()).map(differences).min();
        best.map_or_else(String::new, |(_, number, found)| format!("from {number}: {}", found.join(", ")))
    }

    /// The same up to `number`.
    pub(super) fn until(&self, number: u64) -> Self {
        let count = usize::try_from(number - self.first).expect("within") + 1;
        Self { first: self.first, states: self.states[..count].to_vec() }
    }

    /// The same with its newest state only: nothing can fall back behind it any more.
    pub(super) fn newest(&self) -> Self {
        Self { first: self.last(), states: self.states.last().cloned().into_iter().collect() }
    }

    /// How many objects the newest state has.
    pub(super) fn objects(&self) -> usize {
        let newest = self.states.last().and_then(Option::as_ref);
        newest.and_then(|state| state.pool(1).ok()).map_or(0, Pool::object_count)
    }

    /// Objects and their bytes, as usage counts them.
    pub(super) fn usage(&self, number: u64) -> (i64, i64) {
        let Some(Ok(pool)) = self.at(number).map(|state| state.pool(1)) else { return (0, 0) };
        let stored: u64 = pool.objects().map(|(_, object)| object.contents.size()).sum();
        ((pool.object_count() as u64).cast_signed(), stored.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outcome: Option<Outcome>, op: Op) -> Submission {
        Submission { operations: vec![(ObjectId::new("object"), op)], outcome }
    }

    fn pool() -> PoolHistory {
        let mut history = PoolHistory::new();
        history.create(Limits::default());
        history.submit(&told(Some(Outcome::Done), Op::Touch)).expect("there was nothing");
        history
    }

    fn written() -> Op {
        Op::Write(0, Bytes::from(&b"bytes"[..]))
    }

    /// What nobody was told of, because it failed with the journal or was not answered before the end, is in its place in
    /// the line: what is answered behind it was carried out behind it, and proves it to be durable.
    #[test]
    fn what_was_carried_out_proves_all_before_it() {
        let mut history = pool();
        assert_eq!(history.submit(&told(None, written())), Ok(3));
        assert_eq!(history.submit(&told(Some(Outcome::Done), Op::Truncate(0))), Ok(4));
        assert_eq!(
            history.submit(&told(Some(Outcome::Done), Op::Truncate(0))),
            Ok(4),
            "it saw the one before"
        );
    }

    /// `faults --seed 31` and `--seed 39`, when the engine answered what waited behind a write without it.
    #[test]
    fn an_answer_without_what_it_waited_behind_is_wrong() {
        let mut history = pool();
        history.submit(&told(Some(Outcome::Done), Op::Remove)).expect("it is there");
        history.submit(&told(None, written())).expect("nobody knows");
        let absent = told(Some(Outcome::Refused(0, Why::NotFound)), Op::Expect(Condition::Exists));
        history.submit(&absent).expect_err("it is there, or the line is broken");
    }

    #[test]
    fn what_changes_nothing_proves_what_it_looked_at() {
        let mut history = pool();
        history.submit(&told(None, written())).expect("nobody knows");
        let exists = told(Some(Outcome::Refused(0, Why::AlreadyExists)), Op::Create);
        assert_eq!(history.submit(&exists), Ok(2));
        assert_eq!(history.submit(&told(Some(Outcome::NoRoom), written())), Ok(0));
    }
}
