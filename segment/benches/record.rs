//! Record: copying data into a record and summing it, chunk by chunk.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use seabed_device::memory::MemoryDevice;
use seabed_segment::{Identity, RecordBuilder, RecordPlace, StreamKind, Summing};
use seabed_types::{Crc, Epoch, Incarnation, Paddr, SegmentId, ShardId, Uuid};

/// Bytes of a record of a busy store.
const RECORD_BYTES: usize = 512 << 10;
const PIECES: [usize; 4] = [512, 4 << 10, 64 << 10, 256 << 10];

fn main() {
    divan::main();
}

fn builder() -> RecordBuilder {
    RecordBuilder::new(
        MemoryDevice::new(Vec::new()),
        Paddr::new(SegmentId(3), 4096),
        2 * RECORD_BYTES,
        RECORD_BYTES + 4096,
    )
}

/// A whole record of such pieces, closed.
#[divan::bench(args = PIECES)]
fn fill_and_close(bencher: Bencher<'_, '_>, piece_bytes: usize) {
    let piece = vec![0x5e; piece_bytes];
    let identity = Identity { uuid: Uuid([1; 16]), secret: [2; 16] };
    let place = RecordPlace {
        shard: ShardId(0),
        stream: StreamKind::Journal,
        epoch: Epoch(4),
        incarnation: Incarnation(5),
        number: 6,
        previous: Crc(7),
    };
    bencher.counter(BytesCount::new(RECORD_BYTES)).with_inputs(builder).bench_local_values(|mut record| {
        for _ in 0..RECORD_BYTES / piece_bytes {
            black_box(record.place(&[&piece], Summing::Chunks));
        }
        record.close(&identity, place)
    });
}

/// The sum alone, for comparison.
#[divan::bench(args = PIECES)]
fn crc(bencher: Bencher<'_, '_>, bytes: usize) {
    let piece = vec![0x5e; bytes];
    bencher.counter(BytesCount::new(bytes)).bench(|| Crc::of(black_box(&piece)));
}

/// Joining the sum of a chunk to that of what stands before it.
#[divan::bench]
fn crc_then(bencher: Bencher<'_, '_>) {
    bencher.bench(|| black_box(Crc(1)).then(black_box(Crc(2)), 4096));
}
