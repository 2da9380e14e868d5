//! Frames, and the messages in them: of every type, as anybody may send them.

use std::fmt::Debug;

use bytes::{BufMut, BytesMut};
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::wire::{
    Answer, FromWorker, HEADER_BYTES, Hello, PeerMessage, Received, Request, ToWorker, Transfer,
    Welcome, announced, read_message, take_frame, write_frame,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::Input;

/// Frames come out as they went in, however they are cut, and none beyond the limit; a message
/// that can be read is the same when it is written and read again.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(11) {
        0 => stream(&mut input),
        1 => framed(&mut input),
        2 => message::<Hello>(input.rest()),
        3 => message::<Welcome>(input.rest()),
        4 => message::<Request>(input.rest()),
        5 => message::<Answer>(input.rest()),
        6 => message::<PeerMessage>(input.rest()),
        7 => message::<Transfer>(input.rest()),
        8 => message::<Received>(input.rest()),
        9 => message::<ToWorker>(input.rest()),
        _ => message::<FromWorker>(input.rest()),
    }
}

/// Bytes as they come: all of them at once, or in two parts.
fn stream(input: &mut Input<'_>) {
    let (limit, cut) = (input.below(2000), input.below(2000));
    let whole = input.rest();
    let at_once = take_all(&mut BytesMut::from(whole), limit);
    let (first, second) = whole.split_at(cut.min(whole.len()));
    let mut arriving = BytesMut::from(first);
    let (mut parts, mut failed) = take_all(&mut arriving, limit);
    if !failed {
        arriving.put_slice(second);
        let (rest, end) = take_all(&mut arriving, limit);
        parts.extend(rest);
        failed = end;
    }
    assert_eq!((parts, failed), at_once);
}

/// The frames that are whole, and whether what follows them is none.
fn take_all(from: &mut BytesMut, limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    loop {
        let (announced, before) = (announced(from), from.len());
        match take_frame(from, limit) {
            Ok(Some(frame)) => {
                assert_eq!(announced, Some(frame.len()));
                assert!(frame.len() <= limit);
                assert_eq!(before - from.len(), HEADER_BYTES + frame.len());
                frames.push(frame.to_vec());
            }
            Ok(None) => {
                let waits = announced.is_none_or(|bytes| HEADER_BYTES + bytes > before);
                assert!(waits && announced.is_none_or(|bytes| bytes <= limit));
                return (frames, false);
            }
            Err(_) => return (frames, true),
        }
    }
}

/// A frame as it is written, and then damaged.
fn framed(input: &mut Input<'_>) {
    let (at, flip, limit) = (input.below(0x1_0000), input.byte(), input.below(2000));
    let sent = input.rest();
    let mut frame = BytesMut::new();
    write_frame(&sent, &mut frame);
    let body = frame.len() - HEADER_BYTES;
    let taken = take_frame(&mut frame.clone(), limit);
    assert_eq!(taken.is_ok(), body <= limit);
    if let Ok(taken) = taken {
        let taken = taken.expect("it is whole");
        assert_eq!(read_message::<&[u8]>(&taken), Ok(sent));
    }
    let at = at % frame.len();
    frame[at] ^= flip;
    let damaged = take_frame(&mut frame, FRAME_BYTES_MAX);
    assert!(flip == 0 || !matches!(damaged, Ok(Some(_))), "one flipped byte is seen");
}

fn message<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = read_message::<M>(bytes) else { return };
    let mut frame = BytesMut::new();
    write_frame(&message, &mut frame);
    assert!(frame.len() - HEADER_BYTES <= bytes.len(), "nothing is made out of nothing");
    let body = take_frame(&mut frame, FRAME_BYTES_MAX).expect("it was just written");
    let again = read_message::<M>(&body.expect("it is whole")).expect("it was just written");
    assert_eq!(again, message);
}
