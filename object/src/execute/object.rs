//! Object: the state of one object while a transaction works on it.
//!
//! It begins as the onode in its row, which is copied only when something in it changes, and an overlay of the bodies rows
//! that were touched. What the tree has for the object's present family (`had`) is kept apart from what the object is
//! now: a part that had no rows when the transaction began needs no look-ups, and an object that the transaction made
//! needs none at all. Removing an object throws its overlay away: the rows of its family are left to the grave.
//!
//! The extents of a small object stand in its onode: they are row 0 of the overlay like any other, and at the end it is seen
//! whether they stay there (`finish`).
//!
//! Invariants: 1. A row that the transaction changes is in the overlay. 2. A family that the transaction allotted
//! has no rows in the tree, but for one whose data was laid ahead ([`Laid`](crate::Laid)).

use seabed_types::TreeKind;

use super::overlay::Overlay;
use super::pairs::ValueEdit;
use super::{Env, Halt};
use crate::ROW_BYTES;
use crate::edit::ExtentsEdit;
use crate::extents::Extents;
use crate::id::ObjectId;
use crate::key::{self, KeyBuf, Member};
use crate::onode::{EXTENTS_BYTES_MAX, Onode, OnodeRef, Pairs, Parts};
use crate::refusal::Refused;

pub(crate) struct Object<'r> {
    pub(super) index: usize,
    pub(super) id: &'r ObjectId,
    /// Its key in the names tree.
    pub(super) key: KeyBuf,
    /// Its row as the tree has it.
    pub(super) before: Option<Before<'r>>,
    pub(super) state: State<'r>,
    /// Which parts had rows of its present family when the transaction began.
    pub(super) had: Parts,
    /// No extents row of its present family lay behind this when the transaction began.
    pub(super) had_bytes: u64,
    pub(super) extents: Overlay<u64, Box<ExtentsEdit>>,
    /// By their keys.
    pub(super) values: Overlay<KeyBuf, ValueEdit<'r>>,
    /// What was removed and leaves rows behind.
    pub(super) grave: Option<Member>,
    /// The grave of the family that it was made of, which goes, and the bytes of its value.
    pub(super) adopted: Option<(Member, usize)>,
    /// Data that was laid ahead was used.
    used_laid: bool,
    /// What the onode in its row points to was removed.
    pub(super) drops_extents: bool,
}

/// A names row as the tree has it.
pub(super) struct Before<'r> {
    pub(super) value: &'r [u8],
    pub(super) size: u64,
    /// The extents that it ends with; empty if there are none.
    pub(super) extents: Extents,
    /// Bytes of those.
    pub(super) extents_len: usize,
}

pub(super) enum State<'r> {
    /// Its row is not in memory.
    Unknown,
    Absent,
    Seen(OnodeRef<'r>),
    Changed(Box<Onode<'r>>),
}

impl<'r> Object<'r> {
    pub(crate) fn open(env: &mut Env<'r>, index: usize) -> Result<Self, Halt> {
        let id = &env.txn.objects()[index];
        id.check()?;
        let key = key::names(id);
        env.limits.check_names_key(&key)?;
        let was_absent = std::mem::take(&mut env.absent);
        let value = env.row(TreeKind::Names, &key);
        let is_absent = env.absent;
        env.absent |= was_absent;
        let onode = value?.map(|value| Ok::<_, Halt>((value, OnodeRef::decode(value)?))).transpose()?;
        let extents = onode.map(|(_, onode)| onode.extents()).transpose()?.flatten();
        let mut object = Self {
            index,
            id,
            key,
            before: onode.map(|(value, onode)| Before {
                value,
                size: onode.size,
                extents: extents.unwrap_or(Extents::EMPTY),
                extents_len: onode.extents.len(),
            }),
            state: if is_absent { State::Unknown } else { State::Absent },
            had: Parts::default(),
            had_bytes: 0,
            extents: Overlay::default(),
            values: Overlay::default(),
            grave: None,
            adopted: None,
            used_laid: false,
            drops_extents: false,
        };
        if let Some((_, onode)) = onode {
            (object.had, object.had_bytes) = (onode.parts, onode.size);
            object.state = State::Seen(onode);
        }
        Ok(object)
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.state, State::Unknown)
    }

    pub(super) fn exists(&self) -> bool {
        matches!(self.state, State::Seen(_) | State::Changed(_))
    }

    pub(super) fn must_exist(&self) -> Result<(), Halt> {
        if self.exists() { Ok(()) } else { Err(Refused::NotFound.into()) }
    }

    /// The object's bytes; it exists.
    pub(super) fn size(&self) -> u64 {
        match &self.state {
            State::Seen(onode) => onode.size,
            State::Changed(onode) => onode.size,
            State::Unknown | State::Absent => unreachable!("asked of objects that exist"),
        }
    }

    /// Which parts are rows; it exists.
    pub(super) fn parts(&self) -> Parts {
        match &self.state {
            State::Seen(onode) => onode.parts,
            State::Changed(onode) => onode.parts,
            State::Unknown | State::Absent => unreachable!("asked of objects that exist"),
        }
    }

    /// What its rows in the bodies tree are found by; it exists.
    pub(super) fn member(&self) -> Member {
        let (family, number) = match &self.state {
            State::Seen(onode) => (onode.family, onode.number),
            State::Changed(onode) => (onode.family, onode.number),
            State::Unknown | State::Absent => unreachable!("asked of objects that exist"),
        };
        Member { hash: self.id.hash, family, number }
    }

    /// Its onode, to be changed; it exists.
    pub(super) fn change(&mut self) -> &mut Onode<'r> {
        if let State::Seen(onode) = &self.state {
            self.state = State::Changed(Box::new(onode.to_onode()));
        }
        match &mut self.state {
            State::Changed(onode) => onode,
            State::Unknown | State::Absent | State::Seen(_) => unreachable!("asked of objects that exist"),
        }
    }

    /// Makes the object if it does not exist.
    pub(super) fn make(&mut self, env: &mut Env<'r>) -> Result<(), Halt> {
        if self.exists() {
            return Ok(());
        }
        let Some(laid) = env.laid(self.index).filter(|_| !self.used_laid) else {
            self.state = State::Changed(Box::new(Onode::new(env.allot(self.index))));
            return Ok(());
        };
        env.limits.check_size(Some(laid.size))?;
        let member = Member { hash: self.id.hash, family: laid.family, number: 0 };
        match env.row(TreeKind::Graves, &key::graves(member))? {
            Some(value) => self.adopted = Some((member, value.len())),
            None if env.absent => {}
            None => return Err(Halt::Stale),
        }
        self.used_laid = true;
        let mut onode = Onode::new(laid.family);
        if laid.end > 0 {
            onode.parts = Parts::DATA.with(Parts::EVER);
            onode.size = laid.size;
        }
        (self.had, self.had_bytes) = (onode.parts, laid.end);
        self.state = State::Changed(Box::new(onode));
        Ok(())
    }

    /// Removes the object if it exists.
    pub(super) fn remove(&mut self) {
        if !self.exists() {
            return;
        }
        // A family that was adopted has a grave already, which stays then.
        if self.adopted.take().is_none() && self.had.has(Parts::EVER) {
            self.grave = Some(self.member());
        }
        self.drops_extents |= self.had.has(Parts::EXTENTS);
        self.state = State::Absent;
        (self.had, self.had_bytes) = (Parts::default(), 0);
        self.extents = Overlay::default();
        self.values = Overlay::default();
    }

    /// Moves the largest inline part out until the onode, if it has changed, fits its row.
    pub(super) fn settle(&mut self, env: &mut Env<'r>) -> Result<(), Halt> {
        loop {
            let State::Changed(onode) = &self.state else { return Ok(()) };
            let (bytes_max, row_max) = (onode.head_bytes_max(), env.limits.row_value_bytes_max());
            if onode.parts.has(Parts::EXTENTS) {
                let head_max = env.limits.extents_head_max();
                let is_long = bytes_max > head_max && onode.head_bytes() > head_max;
                if is_long || onode.size > ROW_BYTES {
                    self.move_extents_out(env)?;
                    continue;
                }
                if bytes_max + EXTENTS_BYTES_MAX <= row_max {
                    return Ok(());
                }
            } else if bytes_max <= row_max {
                return Ok(());
            }
            if onode.encoded_bytes() <= row_max {
                return Ok(());
            }
            let parts = [
                (onode.data.len(), Parts::DATA),
                (onode.attributes.bytes, Parts::ATTRIBUTES),
                (onode.omap.bytes, Parts::OMAP),
                (onode.header.len(), Parts::HEADER),
            ];
            let (bytes, part) = parts.into_iter().max_by_key(|(bytes, _)| *bytes).expect("four of them");
            assert!(bytes > 0, "an onode without inline parts fits an eighth of the smallest node");
            match part {
                Parts::DATA => self.move_data_out(env)?,
                Parts::HEADER => self.move_header_out(env)?,
                _ => self.move_pairs_out(env, part)?,
            }
        }
    }

    /// The attributes or the omap, to be changed.
    pub(super) fn change_pairs(&mut self, part: Parts) -> &mut Pairs<'r> {
        let onode = self.change();
        if part == Parts::ATTRIBUTES { &mut onode.attributes } else { &mut onode.omap }
    }
}
