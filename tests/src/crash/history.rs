//! History: what was submitted to each pool, and which state each prefix of it makes.
//!
//! Number 0 of a pool: it does not exist. Number 1: it is empty. From there on each submission counts one, whether it
//! changes anything or not. The states are the reference model's; they share what they have in common.
//!
//! A submission that was told of a failed journal may have been carried out or not, and it is in the states as if it was.
//! One behind it that changes nothing may have seen the state without it, and proves nothing about it then: see
//! [`PoolHistory::submit`].

use super::engine::{Answer, Outcome, expected};
use super::program::Read;
use crate::model::{Bytes, Condition, Limits, Model, Object, ObjectId, Op, Pool, Why};

/// The states of a pool by number, from `first` on.
#[derive(Clone, Debug)]
pub(super) struct PoolHistory {
    pub(super) first: u64,
    pub(super) states: Vec<Option<Model>>,
    /// The newest number that nobody was told had failed: those behind it may not have been carried out.
    carried_out: u64,
}

/// One submission, in the order of the pool.
pub(super) struct Submission {
    pub(super) operations: Vec<(ObjectId, Op)>,
    /// None: it was not answered before the end, or nobody knows.
    pub(super) outcome: Option<Outcome>,
    /// It was told that the journal failed.
    pub(super) has_failed: bool,
}

/// What an answer to a submission says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Proof {
    /// This number is durable once it was answered: its own, or the newest that it saw.
    pub(super) durable: u64,
    /// What begins after it was answered sees no older state.
    pub(super) seen: u64,
}

impl Submission {
    /// Keeps what can be said of it where a fault was planned.
    pub(super) fn failed(&mut self, outcome: Outcome) {
        self.outcome = outcome.of_fault();
        self.has_failed = self.outcome.is_none();
    }
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
        Self { first: 0, states: vec![None], carried_out: 0 }
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
        self.carried_out = self.last();
    }

    /// Carries out a submission, and compares what the engine said of it.
    ///
    /// What changes something proves itself, and all before it. What changes nothing, or is refused, proves the newest number
    /// that changed what it looked at. It looked at the state before it, or, where that begins with submissions that were
    /// told of a failed journal, at one without them: the weakest proof that explains the answer counts.
    pub(super) fn submit(&mut self, submission: &Submission) -> Result<Proof, String> {
        let number = self.last() + 1;
        let (state, said) = self.carry_out(number - 1, submission).ok_or("submitted to no pool")?;
        let Some(outcome) = &submission.outcome else {
            self.states.push(Some(state));
            if !submission.has_failed {
                self.carried_out = number;
            }
            return Ok(Proof { durable: number, seen: number });
        };
        let proofs = (self.carried_out..number).filter_map(|base| {
            let (after, said) = self.carry_out(base, submission)?;
            let is_before = base == number - 1;
            let looked_at = |change: &(ObjectId, Op)| self.last_change(change, base);
            let durable = match &said {
                _ if said != *outcome => return None,
                // The line is in order: what was carried out comes behind all that was.
                Outcome::Done if self.at(base) != Some(&after) => is_before.then_some(number)?,
                Outcome::Done => submission.operations.iter().map(looked_at).max().unwrap_or(0),
                Outcome::Refused(_, Why::Invalid) | Outcome::NoRoom | Outcome::Failed(_) => 0,
                Outcome::Refused(op, _) => looked_at(&submission.operations[*op]),
            };
            Some(Proof { durable, seen: if is_before { number } else { base } })
        });
        let weakest = proofs
            .reduce(|one, two| Proof { durable: one.durable.min(two.durable), seen: one.seen.min(two.seen) });
        let proof = weakest.ok_or_else(|| {
            format!("number {number}: {outcome:?}, expected {said:?}: {:?}", submission.operations)
        })?;
        self.states.push(Some(state));
        if proof.durable == number {
            self.carried_out = number;
        }
        Ok(proof)
    }

    /// What a submission makes of the state `base`, and what is said of it.
    fn carry_out(&self, base: u64, submission: &Submission) -> Option<(Model, Outcome)> {
        let mut state = self.at(base)?.clone();
        if submission.outcome == Some(Outcome::NoRoom) {
            return Some((state, Outcome::NoRoom));
        }
        let said = match state.submit(1, &submission.operations) {
            Ok(()) => Outcome::Done,
            Err(refusal) => Outcome::Refused(refusal.op, refusal.why),
        };
        Some((state, said))
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
        let same = |number: &u64| match (self.at(*number), dumped) {
            (None, None) => true,
            (Some(state), Some(dumped)) => state
                .pool(1)
                .is_ok_and(|pool| pool.objects().eq(dumped.iter().map(|(id, object)| (id, object)))),
            _ => false,
        };
        (lower.max(self.first)..=self.last()).find(same)
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
        Self { first: self.first, states: self.states[..count].to_vec(), carried_out: number }
    }

    /// The same with its newest state only: nothing can fall back behind it any more.
    pub(super) fn newest(&self) -> Self {
        let states = self.states.last().cloned().into_iter().collect();
        Self { first: self.last(), states, carried_out: self.last() }
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
    use crate::model::Hint;

    fn id() -> ObjectId {
        ObjectId::new("object")
    }

    fn told(outcome: Option<Outcome>, op: Op) -> Submission {
        let has_failed = outcome.is_none();
        Submission { operations: vec![(id(), op)], outcome, has_failed }
    }

    fn pool() -> PoolHistory {
        let mut history = PoolHistory::new();
        history.create(Limits::default());
        history
    }

    fn proof(history: &mut PoolHistory, submission: &Submission) -> Proof {
        history.submit(submission).expect("explained")
    }

    /// `faults --seed 31` and `--seed 39`: a write failed for ever, and the store was fenced. A truncation to nothing of an
    /// object that was empty without the writes that had failed was answered, rightly. It was taken for one that cuts off
    /// what they wrote, and so for the proof that they are durable.
    #[test]
    fn what_changes_nothing_proves_nothing_about_what_failed() {
        let mut history = pool();
        let write = Op::Write(0, Bytes::from(&b"bytes"[..]));
        let made = proof(&mut history, &told(Some(Outcome::Done), Op::Touch));
        assert_eq!(made, Proof { durable: 2, seen: 2 });
        proof(&mut history, &told(None, write.clone()));
        proof(&mut history, &told(None, write));
        let truncated = proof(&mut history, &told(Some(Outcome::Done), Op::Truncate(0)));
        assert_eq!(truncated, Proof { durable: 2, seen: 2 });
        // Nor does a refusal that only explains itself without them.
        let exists = proof(&mut history, &told(Some(Outcome::Refused(0, Why::AlreadyExists)), Op::Create));
        assert_eq!(exists.durable, 2);
    }

    #[test]
    fn what_was_carried_out_proves_all_before_it() {
        let mut history = pool();
        let write = Op::Write(0, Bytes::from(&b"bytes"[..]));
        proof(&mut history, &told(Some(Outcome::Done), Op::Touch));
        proof(&mut history, &told(None, write));
        let hinted = proof(&mut history, &told(Some(Outcome::Done), Op::SetHint(Hint::default())));
        assert_eq!(hinted.durable, 2, "no change: no hint is set to none");
        // It changes something with and without what failed, so it was carried out behind it.
        let append = Op::Append(Bytes::from(&b"more"[..]));
        let appended = proof(&mut history, &told(Some(Outcome::Done), append));
        assert_eq!(appended, Proof { durable: 5, seen: 5 });
        // What failed before it is there, so a truncation to nothing changes something.
        let truncated = proof(&mut history, &told(Some(Outcome::Done), Op::Truncate(0)));
        assert_eq!(truncated, Proof { durable: 6, seen: 6 });
    }

    /// Without a failure an answer has one explanation.
    #[test]
    fn what_nobody_answered_is_in_the_line() {
        let mut history = pool();
        proof(&mut history, &told(Some(Outcome::Done), Op::Touch));
        let unanswered = Submission { has_failed: false, ..told(None, Op::Write(0, Bytes::from(&b"b"[..]))) };
        proof(&mut history, &unanswered);
        let truncated = proof(&mut history, &told(Some(Outcome::Done), Op::Truncate(0)));
        assert_eq!(truncated, Proof { durable: 4, seen: 4 });
        let absent = told(Some(Outcome::Refused(0, Why::NotFound)), Op::Expect(Condition::Exists));
        history.submit(&absent).expect_err("it is there");
    }
}
