//! Disk: bytes in memory into which records, headers and slots are written.

use seabed_device::memory::MemoryDevice;
use seabed_segment::{
    Identity, Layout, Listed, OpenSegment, RecordBuilder, RecordHeader, RecordPlace, SegmentHeader,
    StreamKind, Superblock,
};
use seabed_types::{Epoch, Incarnation, Lsn, Paddr, SegmentId, ShardId, Uuid};

pub const IDENTITY: Identity = Identity { uuid: Uuid([3; 16]), secret: [5; 16] };

#[derive(Clone)]
pub struct Disk {
    pub layout: Layout,
    pub bytes: Vec<u8>,
}

impl Disk {
    /// A store of `shards` shards with superblocks and nothing else.
    pub fn new(shards: u16) -> Self {
        let device_bytes = (3 << 20) * u64::from(shards);
        let layout = Layout { device_bytes, segment_bytes: 64 << 10, node_bytes: 4096, shards };
        layout.check().expect("sizes that a store can have");
        let superblock = Superblock::new(IDENTITY, layout, 256 << 10);
        let bytes = vec![0; usize::try_from(device_bytes).expect("it fits the memory")];
        let mut disk = Self { layout, bytes };
        for (copy, at) in (0..).zip(Superblock::places(device_bytes)) {
            disk.write_at(at, &superblock.encode(copy));
        }
        disk
    }

    pub fn write_at(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).expect("within the disk");
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn write(&mut self, at: Paddr, bytes: &[u8]) {
        self.write_at(self.layout.device_offset(at), bytes);
    }

    pub fn read(&self, at: Paddr, bytes: usize) -> &[u8] {
        let at = usize::try_from(self.layout.device_offset(at)).expect("within the disk");
        &self.bytes[at..at + bytes]
    }

    pub fn flip(&mut self, at: Paddr) {
        let byte = self.read(at, 1)[0];
        self.write(at, &[byte ^ 0x10]);
    }

    /// Writes the header of a segment and opens it.
    pub fn open(
        &mut self,
        shard: ShardId,
        segment: SegmentId,
        incarnation: Incarnation,
        stream: StreamKind,
    ) -> OpenSegment {
        let header =
            SegmentHeader { segment, incarnation, shard, stream, epoch: Epoch(1), age: 0, first_lsn: Lsn(0) };
        let (block, crc) = header.encode(&IDENTITY);
        self.write(Paddr::new(segment, 0), &block);
        OpenSegment::new(&self.layout, segment, incarnation, stream, crc)
    }

    pub fn record(&self, at: Paddr) -> RecordBuilder {
        RecordBuilder::new(MemoryDevice::new(Vec::new()), at, self.layout.record_bytes_max(), 8192)
    }

    /// Closes and writes a record.
    pub fn close(&mut self, record: RecordBuilder, place: RecordPlace) -> RecordHeader {
        let (bytes, header) = record.close(&IDENTITY, place);
        self.write(header.at, &bytes);
        header
    }

    /// Appends a record of another stream than the journal, which lists `all`.
    pub fn append(
        &mut self,
        shard: ShardId,
        open: &mut OpenSegment,
        mut record: RecordBuilder,
        all: &[Listed],
    ) {
        for listed in all {
            listed.encode(record.entries());
            open.list(listed);
        }
        let place = RecordPlace {
            shard,
            stream: open.stream,
            epoch: Epoch(1),
            incarnation: open.incarnation,
            number: open.records(),
            previous: open.header_crc,
        };
        let header = self.close(record, place);
        open.appended(header.record_bytes as usize);
    }

    /// Writes inventory and seal.
    pub fn seal(&mut self, open: &OpenSegment) {
        for (offset, bytes) in open.seal(&IDENTITY).expect("an inventory that is whole") {
            self.write(Paddr::new(open.segment, offset), &bytes);
        }
    }
}
