use super::*;

fn question() -> Question {
    Question { name: Name::parse("Counter.Example").unwrap(), kind: Type::Srv }
}

/// An answer to the question, up to its records, of which there are so many.
fn head(answers: u16) -> Vec<u8> {
    let mut bytes = encode(7, &question(), false);
    bytes[2] = 0x80;
    bytes[6..8].copy_from_slice(&answers.to_be_bytes());
    bytes
}

/// A record whose name is that of the question.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let fields = [kind, CLASS_IN, 0, 5].map(u16::to_be_bytes).concat();
    [&[0xc0, 12], &fields[..], &length, data].concat()
}

#[test]
fn a_question_is_as_the_rfc_has_it() {
    let expected = [
        &[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1][..],
        b"\x07counter\x07example\0",
        &[0, 33, 0, 1],
        &[0, 0, 41, 1232u16.to_be_bytes()[0], 1232u16.to_be_bytes()[1], 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(encode(7, &question(), true), expected.concat());
}

#[test]
fn records_are_read_through_pointers() {
    let target = [&[0, 10, 0, 100, 0x36, 0xb0, 2][..], b"r1", &[0xc0, 12]].concat();
    let bytes = [head(2), record(33, &target), record(16, b"\x04text")].concat();
    let response = decode(&bytes, 7, &question()).unwrap();
    let service = Data::Service {
        priority: 10,
        weight: 100,
        port: 14000,
        target: Name::parse("r1.counter.example"),
    };
    assert_eq!(response.answers, [(Name::parse("counter.example"), service)]);
    assert_eq!((response.code, response.truncated), (0, false));
}

#[test]
fn what_answers_another_question_is_no_answer() {
    let bytes = head(0);
    assert!(decode(&bytes, 7, &question()).is_some());
    assert!(decode(&bytes, 8, &question()).is_none(), "another id");
    for (place, what) in [(2, "a question"), (13, "another name"), (30, "another type")] {
        let mut other = bytes.clone();
        other[place] ^= if place == 2 { 0x80 } else { 1 };
        assert!(decode(&other, 7, &question()).is_none(), "{what}");
    }
}

#[test]
fn the_case_of_a_name_does_not_matter() {
    let mut bytes = head(0);
    bytes[13] = b'C';
    assert!(decode(&bytes, 7, &question()).is_some());
}

#[test]
fn a_name_that_points_at_itself_or_forward_is_refused() {
    let start = u8::try_from(head(1).len()).unwrap();
    for pointer in [start, start + 1, start + 20, 0xff] {
        let bytes = [head(1), vec![0xc0, pointer, 0, 1, 0, 1, 0, 0, 0, 5, 0, 0]].concat();
        assert_eq!(decode(&bytes, 7, &question()), None, "{pointer}");
    }
}

#[test]
fn what_says_to_be_more_than_it_is_takes_no_memory() {
    for end in 0..head(1).len() {
        let mut cut = head(u16::MAX);
        cut.truncate(end);
        assert_eq!(decode(&cut, 7, &question()), None);
    }
    let many = [head(u16::MAX), record(1, &[127, 0, 0, 1]).repeat(4000)].concat();
    assert_eq!(decode(&many, 7, &question()), None, "it ends before its records do");
    let mut full = many;
    full[6..8].copy_from_slice(&4000u16.to_be_bytes());
    assert_eq!(decode(&full, 7, &question()).unwrap().answers.len(), RECORDS_MAX);
}

/// Whatever comes, reading it ends and nothing panics.
#[test]
fn arbitrary_bytes_do_no_harm() {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let target = [&[0, 10, 0, 100, 0x36, 0xb0, 2][..], b"r1", &[0xc0, 12]].concat();
    let sound = [head(3), record(33, &target), record(5, &[0xc0, 12]), record(28, &[1; 16])];
    let sound = sound.concat();
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        for _ in 0..=next() % 3 {
            let place = 12 + usize::try_from(next()).unwrap() % (bytes.len() - 12);
            bytes[place] = (next() & 0xff) as u8;
        }
        bytes.truncate(bytes.len() - usize::try_from(next() % 2 * (next() % 40)).unwrap());
        read += usize::from(decode(&bytes, 7, &question()).is_some());
    }
    assert!(read > 100, "some are only other records: {read}");
}
