//! Pages: random edits against an ordered map, every byte damaged, splits and rebuilds at the edges of a page.

use fastrand::Rng;
use seabed_types::{Crc, Paddr, SegmentId};

use super::split::Split;
use super::*;

fn image_ptr(number: u32) -> NodePtr {
    NodePtr::image(Paddr::new(SegmentId(1 + number % 7), number), Crc(number))
}

fn put(page: &mut Page, key: &[u8], value: &[u8]) -> bool {
    let fits = page.put(page.search(key), key, value);
    assert_eq!(page.validate(), Ok(()));
    fits
}

fn leaf(node_bytes: usize, rows: &[(&[u8], &[u8])]) -> Page {
    let mut page = Page::new(node_bytes, 0);
    for (key, value) in rows {
        assert!(put(&mut page, key, value));
    }
    page
}

fn decoded(bytes: &[u8]) -> Result<Page, Malformed> {
    Page::decode(bytes.into())
}

/// The example of the module doc of `format.rs`, byte by byte.
#[test]
fn the_worked_example() {
    let mut page = leaf(4096, &[(b"apply", b"22"), (b"apple", b"1")]);
    let image = page.image();
    let mut expected = vec![0; 4096];
    let front: &[u8] = &[
        b'S', b'b', b'd', b'N', 1, 0, 2, 0, 4, 0, 9, 0, 0, 0, 12, 0, // header
        b'a', b'p', b'p', b'l', // prefix
        0, 0, 0, 0x65, 0xfc, 0x0f, 1, 0, // 'e', cell 4092
        0, 0, 0, 0x79, 0xf7, 0x0f, 1, 0, // 'y', cell 4087
    ];
    expected[..front.len()].copy_from_slice(front);
    expected[4087..].copy_from_slice(&[2, 0, b'y', b'2', b'2', 1, 0, b'e', b'1']);
    assert_eq!(image, expected);
    assert_eq!(
        decoded(image).map(|page| (page.key(1), page.value(1).to_vec())),
        Ok((b"apply".into(), b"22".into()))
    );
}

#[test]
fn search_finds_the_row_or_its_place() {
    let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"abcd", b"abcd\0", b"abcde", b"b"];
    for skipped in 0..=keys.len() {
        let mut page = Page::new(4096, 0);
        for (index, key) in keys.iter().enumerate().filter(|(index, _)| *index != skipped) {
            assert!(put(&mut page, key, &[7, u8::try_from(index).unwrap()]));
        }
        for _ in 0..2 {
            for (index, key) in keys.iter().enumerate() {
                let place = index - usize::from(index > skipped);
                let expected = if index == skipped { Err(place) } else { Ok(place) };
                assert_eq!(page.search(key), expected, "{key:?} without {skipped}");
            }
            page.image();
        }
    }
}

/// Rows of one object stand in slots that are alike, and are found by a guess among their cells: the guess may be right, or wrong
/// in either direction, and keys may begin with one another.
#[test]
fn search_guesses_among_rows_that_are_alike() {
    let mut rng = Rng::with_seed(5);
    for round in 0..300 {
        let mut keys = std::collections::BTreeSet::new();
        let alphabet: &[u8] = if round % 2 == 0 { &[0, 1, 255] } else { &[7, 8, 9, 200] };
        for number in 0..rng.usize(2..120) {
            let mut key =
                [b"hash-one"[..].to_vec(), b"hash".to_vec(), b"other".to_vec()][rng.usize(..3)].clone();
            match round % 3 {
                // Without a gap, crowded, or anyhow.
                0 => key.extend(u16::try_from(number).expect("few").to_be_bytes()),
                1 => key.extend(u32::try_from(number * number * number).expect("few").to_be_bytes()),
                _ => key.extend((0..rng.usize(..12)).map(|_| alphabet[rng.usize(..alphabet.len())])),
            }
            keys.insert(key);
        }
        let mut page = Page::new(16_384, 0);
        for key in &keys {
            assert!(put(&mut page, key, b"value"));
        }
        let keys: Vec<_> = keys.into_iter().collect();
        for key in &keys {
            let near = [0, 1, 128, 255].map(|byte| [&key[..], &[byte]].concat());
            for probe in near.iter().chain([key, &key[..key.len() - 1].to_vec()]) {
                assert_eq!(page.search(probe), keys.binary_search(probe), "{probe:?} among {keys:?}");
            }
        }
    }
}

#[test]
fn a_prefix_shrinks_and_grows() {
    let mut page = leaf(4096, &[(b"prefix/1", b"1"), (b"prefix/2", b"2"), (b"prefix/3", b"3")]);
    assert_eq!(page.prefix(), b"", "while there is room nothing is built anew");
    page.image();
    assert_eq!(page.prefix(), b"prefix/");
    assert!(put(&mut page, b"prefix", b"0"));
    assert_eq!(page.prefix(), b"prefix");
    assert!(put(&mut page, b"q", b"9"));
    assert_eq!(page.prefix(), b"");
    let keys: Vec<Vec<u8>> = (0..page.len()).map(|index| page.key(index)).collect();
    assert_eq!(keys, [&b"prefix"[..], b"prefix/1", b"prefix/2", b"prefix/3", b"q"]);
}

#[test]
fn a_value_of_the_same_length_is_replaced_in_place() {
    let mut page = leaf(4096, &[(b"a", b"11"), (b"b", b"22")]);
    page.image();
    let before = page.bytes().to_vec();
    assert!(put(&mut page, b"a", b"33"));
    let changed = before.iter().zip(page.bytes()).filter(|(a, b)| a != b).count();
    assert_eq!(changed, 2);
    assert!(page.compacted, "it still has the form of an image");
    assert!(put(&mut page, b"a", b"4") && put(&mut page, b"b", b"55555"));
    assert_eq!((page.value(0), page.value(1)), (&b"4"[..], &b"55555"[..]));
    assert_eq!(page.free_bytes(), 4096 - 16 - 2 * 8 - (2 + 1 + 1) - (2 + 1 + 5), "garbage counts as free");
}

/// Garbage is taken back when a row would not fit without it.
#[test]
fn a_full_page_takes_back_its_garbage() {
    let mut page = Page::new(4096, 0);
    let mut count = 0u32;
    while put(&mut page, &count.to_be_bytes(), &[1; 100]) {
        count += 1;
    }
    for index in (0..page.len()).rev().step_by(2) {
        page.remove(index);
        assert_eq!(page.validate(), Ok(()));
    }
    let half = page.len();
    while put(&mut page, &count.to_be_bytes(), &[2; 100]) {
        count += 1;
    }
    assert!(page.len() >= 2 * half - 1);
    assert!(page.free_bytes() < 120);
}

#[test]
fn the_first_child_has_no_key() {
    let mut page = Page::new(4096, 3);
    assert!(page.put_child(0, &[], image_ptr(0)));
    for (index, key) in [&b"kb"[..], b"kd", b"kf"].into_iter().enumerate() {
        assert!(page.put_child(index + 1, key, image_ptr(u32::try_from(index).unwrap() + 1)));
    }
    for _ in 0..2 {
        let found: Vec<usize> =
            [&b""[..], b"a", b"kb", b"kc", b"kd", b"ke", b"kf", b"z"].map(|key| page.child_index(key)).into();
        assert_eq!(found, [0, 0, 1, 1, 2, 2, 3, 3]);
        let below: Vec<usize> =
            [&b""[..], b"kb", b"kc", b"kd", b"z"].map(|key| page.child_index_below(key)).into();
        assert_eq!(below, [0, 0, 1, 1, 3]);
        let again = decoded(page.image()).unwrap();
        assert_eq!(again.bytes(), page.bytes());
        assert_eq!(page.prefix(), b"k");
    }
    page.remove(0);
    assert_eq!(page.validate(), Ok(()));
    assert_eq!((page.child(0), page.key(0)), (image_ptr(1), Vec::new()));
    assert_eq!([&b""[..], b"kc", b"kd", b"kf"].map(|key| page.child_index(key)), [0, 0, 1, 2]);
    page.remove(2);
    page.remove(1);
    assert_eq!(page.len(), 1);
    assert_eq!(page.child_index(b"x"), 0);
    assert_eq!(decoded(page.image()).map(|page| page.prefix().len()), Ok(0));
}

/// Rows of the greatest size in every place and order, and with prefixes that help or do harm.
#[test]
fn rows_of_the_greatest_size_can_be_split() {
    let mut rng = Rng::with_seed(5);
    let mut splits = 0;
    for round in 0..3_000 {
        let node_bytes = [4096, 8192, 16384, 65536][round % 4];
        let level = u8::from(rng.u8(..4) == 0);
        let (key_max, value_max) = (format::key_bytes_max(node_bytes), format::value_bytes_max(node_bytes));
        let mut page = Page::new(node_bytes, level);
        let same = rng.usize(..key_max);
        if level > 0 {
            assert!(page.put_child(0, &[], image_ptr(1)));
        }
        loop {
            let mut key =
                vec![b'k'; if rng.bool() { key_max } else { rng.usize(same.min(key_max - 2)..key_max) }];
            let at = if rng.u8(..8) == 0 { rng.usize(..=same) } else { same };
            if let Some(byte) = key.get_mut(at) {
                *byte = rng.u8(..);
            }
            let value = if level > 0 {
                image_ptr(3).to_bytes().to_vec()
            } else {
                vec![9; if rng.bool() { value_max } else { rng.usize(..=value_max) }]
            };
            let found = page.search(&key);
            if level > 0 && found.is_ok() {
                continue;
            }
            if page.put(found, &key, &value) {
                continue;
            }
            let mut expected: Vec<(Vec<u8>, Vec<u8>)> =
                (0..page.len()).map(|index| (page.key(index), page.value(index).to_vec())).collect();
            match found {
                Ok(index) => expected[index].1 = value.clone(),
                Err(index) => expected.insert(index, (key.clone(), value.clone())),
            }
            let Split { separator, right, edited_right } = page.split(found, &key, &value);
            assert_eq!((page.validate(), right.validate()), (Ok(()), Ok(())));
            let halves = [&page, &right]
                .map(|half| (0..half.len()).map(|index| (half.key(index), half.value(index).to_vec())));
            let mut got: Vec<_> = halves.into_iter().flatten().collect();
            if level > 0 {
                got[page.len()].0 = separator.to_vec();
            }
            assert_eq!(got, expected);
            assert!(!page.is_empty() && !right.is_empty());
            assert_eq!(edited_right, key.as_slice() >= separator.as_slice());
            assert!(page.compare_key(page.len() - 1, &separator).is_lt());
            assert!(separator.len() <= key_max);
            splits += 1;
            break;
        }
    }
    assert_eq!(splits, 3_000);
}

/// A new key that shares nothing with a long prefix cannot join the rows, but the page can be split all the same.
#[test]
fn a_key_outside_of_a_long_prefix_stands_alone() {
    for outside in [b"a", b"z"] {
        for level in [0, 1] {
            let mut page = Page::new(4096, level);
            let mut number = 0u32;
            loop {
                let key = if number == 0 && level > 0 {
                    Vec::new()
                } else {
                    [vec![b'k'; 1000], number.to_be_bytes().to_vec()].concat()
                };
                if !page.put(Err(page.len()), &key, &image_ptr(number).to_bytes()) {
                    break;
                }
                number += 1;
            }
            let found = page.search(outside);
            let split = page.split(found, outside, &image_ptr(0).to_bytes());
            assert_eq!((page.validate(), split.right.validate()), (Ok(()), Ok(())));
            assert_eq!(page.len().min(split.right.len()), 1);
            assert!(page.len().max(split.right.len()) > 90);
        }
    }
}

#[test]
fn ascending_keys_leave_full_pages() {
    let mut page = Page::new(4096, 0);
    let mut number = 0u32;
    loop {
        number += 1;
        let (key, value) = (number.to_be_bytes(), [3; 40]);
        if !page.put(Err(page.len()), &key, &value) {
            let split = page.split(Err(page.len()), &key, &value);
            assert_eq!(split.right.len(), 1);
            assert!(page.free_bytes() < 60);
            assert!(split.separator.len() <= 4);
            break;
        }
    }
}

/// The count of a run stays at its largest number. One more was added to it at a split: with overflow checks a panic after
/// 65,535 ascending rows, without them a page split in halves. Found by a schedule that fills a store with rows.
#[test]
fn a_run_of_any_length_leaves_full_pages() {
    let mut page = Page::new(4096, 0);
    let mut number = 0u32;
    loop {
        number += 1;
        let (key, value) = (number.to_be_bytes(), [3; 40]);
        page.run.count = u16::MAX;
        if !page.put(Err(page.len()), &key, &value) {
            assert_eq!(page.split(Err(page.len()), &key, &value).right.len(), 1);
            break;
        }
    }
}

#[test]
fn any_order_else_leaves_halves() {
    let mut rng = Rng::with_seed(1);
    let mut page = Page::new(16384, 0);
    loop {
        let key = rng.u128(..).to_be_bytes();
        let found = page.search(&key);
        if !page.put(found, &key, &[3; 40]) {
            let split = page.split(found, &key, &[3; 40]);
            let bytes = [page.used_bytes(), split.right.used_bytes()];
            assert!(bytes.iter().all(|bytes| (16384 * 3 / 8..16384 * 5 / 8).contains(bytes)), "{bytes:?}");
            assert!(split.separator.len() <= 2, "a short separator is worth a little imbalance");
            break;
        }
    }
}

/// Uses everything that a page offers; for pages from bytes that may be anything.
fn exercise(page: &Page) {
    let probes: [&[u8]; 4] = [b"", b"m", &[255; 20], page.prefix()];
    for probe in probes {
        let (Ok(index) | Err(index)) = page.search(probe);
        assert!(index <= page.len());
        if page.level() > 0 {
            assert!(page.child_index(probe) < page.len());
            assert!(page.child_index_below(probe) < page.len());
        }
    }
    for index in 0..page.len() {
        let key = page.key(index);
        if page.level() == 0 || index > 0 {
            assert_eq!(page.search(&key), Ok(index));
        }
        assert!(page.value(index).len() <= page.node_bytes());
    }
    assert!(page.used_bytes() + page.free_bytes() == page.node_bytes());
    assert_eq!(page.validate(), Ok(()));
    let mut changed = page.clone();
    if changed.level() == 0 {
        let _ = put(&mut changed, b"new", &[1; 100]);
    } else {
        changed.set_child(0, image_ptr(1));
    }
    if changed.len() > 1 {
        changed.remove(changed.len() / 2);
    }
    let rows = changed.len();
    assert_eq!(decoded(changed.image()).map(|page| page.len()), Ok(rows));
}

fn some_page(rng: &mut Rng) -> Page {
    let level = u8::from(rng.bool());
    let mut page = Page::new(4096, level);
    if level > 0 {
        assert!(page.put_child(0, &[], image_ptr(1)));
    }
    for _ in 0..rng.usize(..60) {
        let mut key = vec![b'p'; rng.usize(..10)];
        key.extend((0..rng.usize(..6)).map(|_| rng.u8(..3)));
        let value = vec![rng.u8(..); rng.usize(..40)];
        let found = page.search(&key);
        if level == 0 {
            let _ = page.put(found, &key, &value);
        } else if found.is_err() {
            let _ = page.put(found, &key, &image_ptr(2).to_bytes());
        }
    }
    page.image();
    page
}

/// Bytes that are hit where it matters: the header, slots and cells, with values that come near to what they should be.
#[test]
fn no_bytes_make_it_panic() {
    let mut rng = Rng::with_seed(3);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let page = some_page(&mut rng);
        let mut bytes = page.bytes().to_vec();
        for _ in 0..rng.usize(1..4) {
            let near_front = 16 + page.prefix().len() + page.len() * SLOT_BYTES;
            let at = match rng.u8(..4) {
                0 => rng.usize(..16),
                1 => rng.usize(..near_front),
                2 => 4096 - 1 - rng.usize(..page.heap_bytes().max(1)),
                _ => rng.usize(..4096),
            };
            match rng.u8(..4) {
                0 => bytes[at] ^= 1 << rng.u8(..8),
                1 => bytes[at] = rng.u8(..),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                _ => bytes.swap(at, rng.usize(..4096)),
            }
        }
        match decoded(&bytes) {
            Ok(page) => {
                taken += 1;
                exercise(&page);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 1_000 && refused > 10_000, "{taken} {refused}");
    for _ in 0..2_000 {
        let mut bytes = vec![0; [0, 1, 16, 4095, 4096, 4096, 8192, 131_072][rng.usize(..8)]];
        rng.fill(&mut bytes);
        assert!(decoded(&bytes).is_err());
        if let Some(front) = bytes.first_chunk_mut::<6>() {
            *front = [b'S', b'b', b'd', b'N', 1, 0];
        }
        if let Ok(page) = decoded(&bytes) {
            exercise(&page);
        }
    }
}

/// Each rule of the format, broken alone.
#[test]
fn each_rule_is_checked() {
    let good = leaf(4096, &[(b"apple", b"1"), (b"apply", b"22")]).image().to_vec();
    let broken: [(&[(usize, u8)], &str); 20] = [
        (&[(0, b'X')], "node magic"),
        (&[(4, 2)], "node format"),
        (&[(5, 251)], "node level"),
        (&[(5, 1)], "node child size"),
        (&[(5, 1), (6, 0)], "node without children"),
        (&[(6, 3)], "node cell out of range"),
        (&[(7, 16)], "node slots run into the cells"),
        (&[(9, 5)], "node prefix size"),
        (&[(10, 10)], "node heap size"),
        (&[(12, 1)], "node garbage"),
        (&[(14, 13)], "node size"),
        (&[(15, 1)], "node reserved byte"),
        (&[(23, 0x66)], "node head"),
        (&[(24, 0xf7)], "node cells do not touch"),
        (&[(27, 4)], "node cell out of range"),
        (&[(11, 15), (25, 8), (27, 5)], "node key too long"),
        (&[(31, b'd'), (4089, b'd')], "node keys do not ascend"),
        (&[(31, b'e'), (4089, b'e')], "node keys do not ascend"),
        (&[(36, 1)], "node free bytes not zero"),
        (&[(4087, 9)], "node value"),
    ];
    assert!(decoded(&good).is_ok());
    for (changes, what) in broken {
        let mut bytes = good.clone();
        for (at, byte) in changes {
            bytes[*at] = *byte;
        }
        assert_eq!(decoded(&bytes).map_err(|malformed| malformed.what).err(), Some(what), "{changes:?}");
    }
    let mut bytes = leaf(4096, &[]).image().to_vec();
    bytes[8] = 1;
    assert_eq!(decoded(&bytes).map_err(|malformed| malformed.what).err(), Some("node prefix without a key"));
    let mut child = Page::new(4096, 1);
    assert!(child.put_child(0, &[], image_ptr(1)));
    let mut bytes = child.image().to_vec();
    bytes[4096 - 12..4096 - 8].fill(0);
    assert_eq!(decoded(&bytes).map_err(|malformed| malformed.what).err(), Some("node child has no image"));
}
