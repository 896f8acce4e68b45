//! Clean: gives segments of node images free by writing the few images that live in them again, packed.
//!
//! A segment with one live image is not free. Images die leaf by leaf, so on a full device the segments of the node stream
//! come to hold one or two live images each, until there is no space for the images and checkpoints that removals need. When
//! a removal waits for space, or trimming found too little, a trim cycle therefore ends with this, before its checkpoint:
//! 1. The sealed segments of the node stream with the fewest live bytes are the candidates.
//! 2. Unless their counts alone tell that nothing can be gained, all trees are walked down to their leaves' pointers: which
//!    nodes have their images in a candidate, and which nodes above those have to be written again too.
//! 3. Of the candidates, the emptiest first, as many are taken as give more than they take.
//! 4. Their nodes are loaded and get new images, leaves first; the nodes above them follow in the checkpoint. When that is
//!    published, the segments are empty.
//!
//! Example: 11 segments with 24 live images of 4 KiB, six of which fit a segment: 4 segments are written, 11 come free.
//!
//! Progress: what is taken needs fewer segments than it frees; nothing is begun that does not find its space in the open
//! segment and in those that may be claimed. Those leave what the checkpoint and the journal need ([`Claimer::Compact`]), so a
//! cycle that cleans ends with a checkpoint. Where trimming has found no space for the leaves that it has to write, as many
//! segments as come free are enough: those leaves' changes are pending no more.
//!
//! Who brings bytes gains nothing by it: of what comes free it has to leave as much more as images may thin out again
//! ([`Slack`]). That there is always enough to write in is the argument of rule S6.
//!
//! A node that cannot be read stays where it is, and so does its segment.
//!
//! Crash: the old images stay until both slots name the new ones, as in every checkpoint.
//! Cost: reads of all inner nodes, at most, and one read and write per node that is moved; only when space is short.
//! Limits: segments of data are not cleaned. Of so many nodes as a share of the memory budget holds, no more is moved at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use seabed_btree::Stop as TreeStop;
use seabed_journal::CollectionId;
use seabed_journal::entry::SMALL_ENTRY_BYTES;
use seabed_types::{NodePtr, SegmentId, TreeKind};

use crate::Result;
use crate::io::streams::ImagePlaced;
use crate::maintain::packing::{Gain, Packing, Slack};
use crate::rows::view::Wanted;
use crate::shard::mounted::{Mounted, OpGuard};
use crate::space::segments::Claimer;

/// The share of the memory budget for what is known of nodes to be moved, and what is known of one.
const MEMORY_SHARE: usize = 16;
const NODE_BYTES_KNOWN: usize = 256;
/// So many nodes may be moved whatever the budget.
const NODES_MIN: usize = 64;

/// Of the lists of images so many bytes are keys.
const KEY_BYTES_USUAL: usize = 32;

/// A node whose image lies in a candidate.
struct Found {
    id: CollectionId,
    tree: TreeKind,
    level: u8,
    /// Where its interval begins.
    lower: Vec<u8>,
    ptr: NodePtr,
    /// The images of the nodes above it.
    above: Vec<NodePtr>,
}

/// One step of the walk over a tree's leaves.
struct Step {
    /// The leaf's image and those above it, the leaf first.
    way: Vec<NodePtr>,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
}

/// What became of a node that is to be moved.
enum Moved {
    /// It has a new image, or need not have one.
    Done,
    /// This must be in memory first.
    Absent(NodePtr),
    NoSpace,
}

impl Mounted {
    /// Moves images together, as far as that frees segments. `pending_gains`: as many segments as are written are enough.
    pub(crate) async fn compact_nodes(self: &Rc<Self>, pending_gains: bool) -> Result<()> {
        self.images_written().await?;
        let candidates = self.compaction_candidates();
        if !self.may_be_worth(&candidates, pending_gains) {
            return Ok(());
        }
        let mut found = self.find_nodes(&candidates).await?;
        for segment in self.worth_compacting(&candidates, &found, pending_gains) {
            seabed_types::reached!(NodesCleaned);
            for node in found.remove(&segment).into_iter().flatten() {
                if !self.move_node(&node).await? {
                    return Ok(());
                }
                self.images_in_bounds().await;
                self.look_at_io().await;
                if self.trim_must_end() {
                    return Err(self.ended_error());
                }
            }
        }
        Ok(())
    }

    /// The segments of the node stream that have the fewest live images, with how many each has to lose to be empty, as far as
    /// memory goes.
    fn compaction_candidates(&self) -> BTreeMap<SegmentId, usize> {
        let node_bytes = self.layout.node_bytes as usize;
        let streams = self.streams.borrow();
        let fresh: BTreeSet<SegmentId> = streams.unpublished.iter().map(|image| image.at.segment).collect();
        let mut dead: BTreeMap<SegmentId, usize> = BTreeMap::new();
        for image in &streams.dead {
            *dead.entry(image.at.segment).or_default() += 1;
        }
        let mut segments: Vec<(usize, SegmentId)> = self
            .table
            .sealed_of_nodes()
            .into_iter()
            .filter(|(segment, _)| !fresh.contains(segment))
            .map(|(segment, live)| {
                let images = usize::try_from(live).unwrap_or(usize::MAX).div_ceil(node_bytes);
                (images.saturating_sub(dead.get(&segment).copied().unwrap_or(0)), segment)
            })
            .filter(|(images, _)| *images > 0)
            .collect();
        segments.sort_unstable();
        let mut room = (self.options.memory_bytes / MEMORY_SHARE / NODE_BYTES_KNOWN).max(NODES_MIN);
        let fitting = segments.into_iter().take_while(|(images, _)| {
            let fits = *images <= room;
            room = room.saturating_sub(*images);
            fits
        });
        fitting.map(|(images, segment)| (segment, images)).collect()
    }

    /// The nodes whose images lie in candidates, by segment, leaves before inner nodes. A tree of which a node cannot be read
    /// is left at that node.
    async fn find_nodes(
        self: &Rc<Self>,
        candidates: &BTreeMap<SegmentId, usize>,
    ) -> Result<BTreeMap<SegmentId, Vec<Found>>> {
        let mut found: BTreeMap<SegmentId, Vec<Found>> = BTreeMap::new();
        let ids: Vec<CollectionId> = self.rows.borrow().collections.keys().copied().collect();
        for (id, tree) in ids.into_iter().flat_map(|id| TreeKind::ALL.map(|tree| (id, tree))) {
            let (mut key, mut before) = (Vec::new(), Vec::new());
            while let Some(Step { way, lower, upper }) = self.walk_step(id, tree, &key).await? {
                for (level, ptr) in (0..).zip(&way) {
                    let segment = ptr.at.segment;
                    // A node above several leaves is met with the first of them, which begins where it does.
                    if !ptr.is_image() || !candidates.contains_key(&segment) || before.contains(ptr) {
                        continue;
                    }
                    let above = way.iter().skip(usize::from(level) + 1).filter(|ptr| ptr.is_image());
                    let (above, lower, ptr) = (above.copied().collect(), lower.clone(), *ptr);
                    found.entry(segment).or_default().push(Found { id, tree, level, lower, ptr, above });
                }
                before = way;
                match upper {
                    Some(upper) => key = upper,
                    None => break,
                }
                if self.trim_must_end() {
                    return Err(self.ended_error());
                }
                self.look_at_io().await;
            }
        }
        for nodes in found.values_mut() {
            nodes.sort_by_key(|node| node.level);
        }
        Ok(found)
    }

    /// The leaf at a key and the nodes above it, which are loaded for that. None: there is none, or one cannot be read.
    async fn walk_step(
        self: &Rc<Self>,
        id: CollectionId,
        tree: TreeKind,
        key: &[u8],
    ) -> Result<Option<Step>> {
        let mut guard = OpGuard::new(self);
        loop {
            let step = {
                let rows = self.rows.borrow();
                let Ok(of) = rows.tree(id, tree) else { return Ok(None) };
                let step = || -> std::result::Result<Option<Step>, TreeStop> {
                    let Some(leaf) = of.leaf_of(&rows.cache, key)? else { return Ok(None) };
                    let mut way = vec![leaf.ptr];
                    for level in 1.. {
                        match of.node_at(&rows.cache, level, &leaf.lower)? {
                            Some(ptr) => way.push(ptr),
                            None => break,
                        }
                    }
                    Ok(Some(Step { way, lower: leaf.lower, upper: leaf.upper }))
                };
                step()
            };
            match step {
                Ok(step) => return Ok(step),
                Err(TreeStop::Absent(ptr)) => {
                    if let Err(error) = self.load(id, vec![Wanted::Node(tree, ptr)], &mut guard).await {
                        self.journal()?.healthy()?;
                        tracing::warn!(%error, "nodes below one that cannot be read stay where they are");
                        return Ok(None);
                    }
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// How images are packed, if the longest key in a list has `key_bytes`.
    fn packing(&self, key_bytes: usize) -> Packing {
        Packing {
            node_bytes: self.layout.node_bytes as usize,
            listed: SMALL_ENTRY_BYTES + key_bytes,
            record_bytes_max: self.layout.record_bytes_max(),
            segment_bytes: self.layout.segment_bytes as usize,
        }
    }

    /// How many segments must stay free, with the images that there are now.
    pub(crate) fn slack(&self) -> Slack {
        let (segments, bytes) = self.table.images();
        let images = usize::try_from(bytes).unwrap_or(usize::MAX) / self.layout.node_bytes as usize;
        Slack::of(images, segments, self.packing(KEY_BYTES_USUAL).images_of_segment())
    }

    /// What moving images takes and gives, if the longest key in a list has `key_bytes`.
    fn gain(&self, key_bytes: usize, pending_gains: bool) -> Gain {
        let packing = self.packing(key_bytes);
        Gain {
            room: packing.images_in(self.streams.borrow().nodes_room()),
            each: packing.images_of_segment(),
            most: self.table.free_count().saturating_sub(self.reserve_against(Claimer::Compact)),
            in_memory: self.rows.borrow().cache.memory_nodes(),
            pending_gains,
        }
    }

    /// Whether emptying some of the candidates may give more than it takes, even if keys were short and no node above had to be
    /// written. If not there is no need to look for their nodes, for which all inner nodes are read.
    fn may_be_worth(&self, candidates: &BTreeMap<SegmentId, usize>, pending_gains: bool) -> bool {
        let gain = self.gain(0, pending_gains);
        let mut counts: Vec<usize> = candidates.values().copied().collect();
        counts.sort_unstable();
        let mut sum = 0;
        (1..).zip(counts).any(|(segments, images)| {
            sum += images;
            !gain.is_too_much(sum) && gain.is_worth(segments, sum)
        })
    }

    /// Which candidates to empty, the emptiest first: such that what is written, in them and above, needs fewer segments than
    /// come free, and no more than there are.
    fn worth_compacting(
        &self,
        candidates: &BTreeMap<SegmentId, usize>,
        found: &BTreeMap<SegmentId, Vec<Found>>,
        pending_gains: bool,
    ) -> Vec<SegmentId> {
        let listed = found.values().flatten().map(|node| node.lower.len()).max().unwrap_or(0);
        let gain = self.gain(listed, pending_gains);
        // Of a candidate all nodes must be known, or it would not become empty.
        let mut whole: Vec<(usize, SegmentId)> = found
            .iter()
            .filter(|(segment, nodes)| candidates.get(segment).is_some_and(|images| nodes.len() >= *images))
            .map(|(segment, nodes)| (nodes.len(), *segment))
            .collect();
        whole.sort_unstable();
        let mut written: BTreeSet<NodePtr> = BTreeSet::new();
        let mut best = 0;
        for (index, (_, segment)) in whole.iter().enumerate() {
            for node in found.get(segment).into_iter().flatten() {
                written.insert(node.ptr);
                written.extend(&node.above);
            }
            if gain.is_too_much(written.len()) {
                break;
            }
            if gain.is_worth(index + 1, written.len()) {
                best = index + 1;
            }
        }
        whole.into_iter().take(best).map(|(_, segment)| segment).collect()
    }

    /// Gives a node a new image, unless it has another than was found by now. False: there is no space.
    async fn move_node(self: &Rc<Self>, node: &Found) -> Result<bool> {
        let mut guard = OpGuard::new(self);
        loop {
            match self.place_found(node) {
                Moved::Done => return Ok(true),
                Moved::NoSpace => return Ok(false),
                Moved::Absent(ptr) => {
                    if !self.load_to_move(node, ptr, &mut guard).await? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn place_found(self: &Rc<Self>, node: &Found) -> Moved {
        let Found { id, tree, level, lower, ptr, .. } = node;
        let upper = {
            let rows = self.rows.borrow();
            let Ok(of) = rows.tree(*id, *tree) else { return Moved::Done };
            match of.node_at(&rows.cache, *level, lower) {
                Ok(Some(now)) if now == *ptr => {}
                Err(TreeStop::Absent(absent)) => return Moved::Absent(absent),
                Ok(_) | Err(_) => return Moved::Done,
            }
            if !rows.cache.has(*ptr) {
                return Moved::Absent(*ptr);
            }
            if of.finds(&rows.cache, *level, lower, *ptr) != Ok(true) {
                // Keys outside of what the node above gives.
                return Moved::Done;
            }
            match of.leaf_of(&rows.cache, lower) {
                Ok(Some(leaf)) if *level == 0 => leaf.upper,
                _ => None,
            }
        };
        let bounds = (*level, lower.as_slice(), upper.as_deref());
        match self.place_image(*id, *tree, bounds, *ptr, Claimer::Compact) {
            ImagePlaced::Yes | ImagePlaced::Gone => Moved::Done,
            ImagePlaced::NoSpace => Moved::NoSpace,
        }
    }

    /// Loads what is needed to move a node. False: it cannot be read.
    async fn load_to_move(self: &Rc<Self>, node: &Found, ptr: NodePtr, guard: &mut OpGuard) -> Result<bool> {
        let loaded = self.load(node.id, vec![Wanted::Node(node.tree, ptr)], guard).await;
        if let Err(error) = &loaded {
            self.journal()?.healthy()?;
            tracing::warn!(%error, "a node that cannot be read stays where it is");
        }
        Ok(loaded.is_ok())
    }
}
