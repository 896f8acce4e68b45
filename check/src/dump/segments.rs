//! Segments: the state of each, from its own two ends and from what the checkpoints and logs say.

use std::collections::BTreeMap;
use std::fmt;

use seabed_segment::{SealBlock, SegmentHeader, StreamKind};
use seabed_types::{Incarnation, Paddr, SegmentId, ShardId};

use super::source;
use crate::report::{Counts, Findings};
use crate::{CheckError, Image, front, log, segments};

/// The state of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentDump {
    /// Which.
    pub segment: SegmentId,
    /// Its newest use that a checkpoint or log names: which, for what, by whom.
    pub claim: Option<(Incarnation, StreamKind, ShardId)>,
    /// Live bytes by the counts of all shards.
    pub live: i64,
    /// Whether a journal's window needs it.
    pub is_in_window: bool,
    /// Its header, if it has a valid one.
    pub header: Option<SegmentHeader>,
    /// Its seal, if it has a valid one.
    pub seal: Option<SealBlock>,
}

/// All segments that the image has.
pub fn segments(image: &dyn Image) -> Result<Vec<SegmentDump>, CheckError> {
    let source = source(image)?;
    let (mut findings, mut counts) = (Findings::new(0), Counts::default());
    let mut live: BTreeMap<SegmentId, i64> = BTreeMap::new();
    let mut claims = BTreeMap::new();
    let mut windows = BTreeMap::new();
    for shard in (0..source.layout.shards).map(ShardId) {
        let front = front::front(&source, shard, &mut findings, &mut counts);
        let Some(base) = front.base else { continue };
        let log = log::read(&source, &base, &mut findings, &mut counts);
        let of_body = base.body.segments.iter().map(|state| (state.segment, state.live));
        for (segment, change) in of_body.chain(log.live) {
            let live = live.entry(segment).or_default();
            *live = live.wrapping_add(change);
        }
        for (segment, claim) in log.claims {
            let known = claims.entry(segment).or_insert(claim);
            if known.incarnation < claim.incarnation {
                *known = claim;
            }
        }
        windows.extend(log.segments);
    }
    let dump = |segment| {
        let (header, seal) = segments::ends(&source, segment);
        SegmentDump {
            segment,
            claim: claims.get(&segment).map(|claim| (claim.incarnation, claim.stream, claim.shard)),
            live: live.get(&segment).copied().unwrap_or_default(),
            is_in_window: windows.contains_key(&segment),
            header: header.map(|(header, _)| header),
            seal,
        }
    };
    let layout = &source.layout;
    let is_there = |segment: &SegmentId| layout.device_offset(Paddr::new(*segment, 0)) < image.bytes();
    Ok(layout.segments().take_while(is_there).map(dump).collect())
}

impl fmt::Display for SegmentDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}: ", self.segment)?;
        match self.claim {
            Some((incarnation, stream, shard)) => {
                write!(f, "{stream} of shard {shard}, incarnation {incarnation}, {} live bytes", self.live)?;
            }
            None => f.write_str("never claimed")?,
        }
        if self.is_in_window {
            f.write_str(", in the window")?;
        }
        match self.header {
            Some(header) => write!(
                f,
                "; header: {} of shard {}, incarnation {}, epoch {}, age {}, first record {}",
                header.stream, header.shard, header.incarnation, header.epoch, header.age, header.first_lsn,
            )?,
            None => f.write_str("; no header")?,
        }
        match self.seal {
            Some(seal) => write!(
                f,
                "; seal: incarnation {}, {} entries at {:#x}",
                seal.incarnation, seal.inventory_count, seal.inventory_offset,
            ),
            None => f.write_str("; no seal"),
        }
    }
}
