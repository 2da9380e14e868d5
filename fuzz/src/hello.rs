//! The first thing that a stranger says, and what a replica answers.

use bytes::BytesMut;
use concoord_core::limits::HELLO_BYTES_MAX;
use concoord_core::replica::{Config, Event, Replica};
use concoord_core::view::ReplicaId;
use concoord_core::wire::{
    Hello, PREAMBLE, PeerHello, PeerMessage, Purpose, Welcome, read_message, take_frame,
    write_frame,
};

use super::input::Input;
use super::recovery::{config, hosting, live, member};

/// Any bytes, or any bytes in a frame, make a hello that is answered, or none; and a replica that
/// dials takes any answer. It goes on after all that.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let phase = input.byte();
    match input.below(3) {
        0 => {
            let mut arrived = BytesMut::from(input.rest());
            if arrived.starts_with(&PREAMBLE) {
                drop(arrived.split_to(PREAMBLE.len()));
            }
            if let Ok(Some(hello)) = take_frame(&mut arrived, HELLO_BYTES_MAX) {
                greeted(phase, &hello);
            }
        }
        1 => greeted(phase, input.rest()),
        _ => welcomed(phase, input.rest()),
    }
}

/// One that listens for its old cluster, one that joins, or one that is a member.
fn replica(phase: u8) -> (Replica, u32) {
    let joins = Config { bootstrap: vec![member(9, false).address], ..config(1, false) };
    let (config, ticks) = match phase % 3 {
        0 => (config(1, false), 2),
        1 => (joins, 2),
        _ => (config(1, false), 100),
    };
    let mut replica = Replica::new(config, hosting());
    live(&mut replica, 0, ticks, |_| {});
    (replica, ticks)
}

fn greeted(phase: u8, bytes: &[u8]) {
    match read_message::<Hello>(bytes) {
        Ok(Hello::Peer(hello)) => {
            let (mut replica, ticks) = replica(phase);
            answer(&mut replica, &hello);
            // The same one, and one that is right but for what it is.
            let like_us = PeerHello { class: replica.hello(Purpose::Greet).class, ..hello };
            let like_us = PeerHello { runtime: String::new(), ..like_us };
            if let Welcome::Peer { .. } = answer(&mut replica, &like_us) {
                let id = like_us.member.id;
                replica.step(Event::PeerReached(id));
                replica.step(Event::Message(id, PeerMessage::Join(like_us.member)));
                replica.step(Event::PeerLost(id));
            }
            live(&mut replica, ticks, ticks + 20, |_| {});
        }
        Ok(Hello::Client(_)) | Err(_) => {}
    }
}

/// Who asked must be able to read the answer.
fn answer(replica: &mut Replica, hello: &PeerHello) -> Welcome {
    let welcome = replica.greet_peer(hello);
    let mut frame = BytesMut::new();
    write_frame(&welcome, &mut frame);
    let body = take_frame(&mut frame, HELLO_BYTES_MAX).expect("it fits").expect("it is whole");
    assert_eq!(read_message::<Welcome>(&body), Ok(welcome.clone()));
    welcome
}

fn welcomed(phase: u8, bytes: &[u8]) {
    let Ok(welcome) = read_message::<Welcome>(bytes) else { return };
    let (mut replica, ticks) = replica(phase);
    replica.step(Event::Welcomed(member(9, false).address, welcome.clone()));
    if let Welcome::Removed(view) = welcome {
        replica.step(Event::Message(ReplicaId(9), PeerMessage::Removed(view)));
    }
    live(&mut replica, ticks, ticks + 20, |_| {});
}
