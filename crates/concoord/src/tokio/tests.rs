//! Against a scripted replica in a thread of its own.

use std::future::poll_fn;
use std::task::Poll;
use std::thread;

use concoord_core::wire::{Answer, Request};

use super::*;
use crate::script::{SESSION, Script};
use crate::{Undo, UndoWhen};

async fn increment(client: &Client) -> Result<Value, Error> {
    client.call("increment", &Arguments::default()).await
}

async fn connect(address: SocketAddr) -> Client {
    let options = Options { timeout: Duration::from_secs(20), ..Options::default() };
    Client::connect(&address.to_string(), options).await.unwrap()
}

#[::tokio::test]
async fn many_calls_share_a_connection_and_closing_says_goodbye() {
    let replica = Script::new();
    let address = replica.address;
    let served = thread::spawn(move || replica.welcome().serve());
    let client = connect(address).await;
    let calls: Vec<_> = (0..500)
        .map(|_| {
            let client = client.clone();
            ::tokio::spawn(async move { increment(&client).await })
        })
        .collect();
    let mut numbers = Vec::new();
    for call in calls {
        let result = call.await.unwrap();
        let Ok(Value::Int(number)) = result else { panic!("{result:?}") };
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
    client.close().await;
    assert_eq!(served.join().unwrap(), Some(SESSION));
    assert_eq!(increment(&client).await, Err(Error::Closed));
}

#[::tokio::test]
async fn a_call_whose_reply_was_lost_is_sent_again_under_its_number() {
    let replica = Script::new();
    let address = replica.address;
    let script = thread::spawn(move || {
        let mut guest = replica.open();
        let call = guest.call();
        drop(guest);
        let mut guest = replica.welcome();
        let again = guest.call();
        assert_eq!(again, call);
        guest.reply(&again);
        guest.serve()
    });
    let client = connect(address).await;
    assert_eq!(increment(&client).await, Ok(Value::Int(1)));
    drop(client);
    while !script.is_finished() {
        ::tokio::task::yield_now().await;
    }
    assert_eq!(script.join().unwrap(), Some(SESSION), "dropping says goodbye too");
}

#[::tokio::test]
async fn a_call_that_is_dropped_or_times_out_is_acknowledged() {
    let replica = Script::new();
    let address = replica.address;
    let script = thread::spawn(move || {
        let mut guest = replica.open();
        let first = guest.call();
        guest.reply(&first);
        let (dropped, late) = (guest.call(), guest.call());
        let next = guest.call();
        assert_eq!((next.sequence, next.acked), (4, 2));
        guest.reply(&dropped);
        guest.reply(&late);
        guest.reply(&next);
        let last = guest.call();
        assert_eq!((last.sequence, last.acked), (5, 5));
        guest.reply(&last);
        guest.serve()
    });
    let client = connect(address).await;
    let arguments = Arguments::default();
    assert_eq!(increment(&client).await, Ok(Value::Int(1)));
    let short = Duration::from_millis(100);
    assert!(timeout(short, client.call("slow", &arguments)).await.is_err());
    let error = client.call_with("slow", &arguments, short).await.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(increment(&client).await, Ok(Value::Int(4)));
    assert_eq!(increment(&client).await, Ok(Value::Int(5)));
    client.close().await;
    script.join().unwrap();
}

#[::tokio::test]
async fn what_a_call_got_whose_future_is_dropped_just_then_is_given_back() {
    let replica = Script::new();
    let address = replica.address;
    let script = thread::spawn(move || {
        let mut guest = replica.open();
        for _ in 0..2 {
            let acquire = guest.call();
            guest.reply(&acquire);
            let other = guest.call();
            guest.reply(&other);
            let back = guest.call();
            let token = back.guard.as_ref().map(|guard| guard.token);
            assert_eq!((back.method.as_str(), token), ("release", Some(acquire.sequence)));
            guest.reply(&back);
        }
        guest.serve()
    });
    let client = connect(address).await;
    let (arguments, long) = (Arguments::default(), Duration::from_secs(20));
    let undo = Undo { method: "release".into(), takes_reply: false, when: UndoWhen::GotToken };
    let manner = Manner { undo: Some(undo), ..Manner::default() };
    for round in [0, 3] {
        let mut acquire = Box::pin(client.call_as(&manner, "acquire", &arguments, long));
        assert!(poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx).is_pending())).await);
        // Both replies are there, and nobody has looked at the first.
        assert_eq!(increment(&client).await, Ok(Value::Int(round + 2)));
        drop(acquire);
    }
    assert_eq!(increment(&client).await, Ok(Value::Int(7)));
    client.close().await;
    script.join().unwrap();
}

#[::tokio::test]
async fn a_follower_is_left_for_the_leader() {
    let (follower, leader) = (Script::new(), Script::new());
    let address = follower.address;
    thread::spawn(move || {
        follower.accept().welcome(leader.address, &[leader.address], 10_000);
        leader.open().serve()
    });
    assert_eq!(increment(&connect(address).await).await, Ok(Value::Int(1)));
}

#[::tokio::test]
async fn unreachable_names_each_address() {
    let options = Options { timeout: Duration::from_millis(200), ..Options::default() };
    let error = Client::connect("127.0.0.1:1, 127.0.0.1:2", options).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1: nobody listens there; 127.0.0.1:2: nobody"), "{text}");
}

#[::tokio::test]
async fn an_idle_client_keeps_its_session() {
    let replica = Script::new();
    let address = replica.address;
    let script = thread::spawn(move || {
        let mut guest = replica.accept();
        guest.welcome(replica.address, &[replica.address], 300);
        assert_eq!(guest.hear(), Some(Request::Open));
        guest.say(&Answer::Opened(SESSION));
        let call = guest.call();
        guest.reply(&call);
        for _ in 0..3 {
            assert_eq!(guest.hear(), Some(Request::KeepAlive(SESSION)));
            guest.say(&Answer::Alive(SESSION));
        }
    });
    let client = connect(address).await;
    assert_eq!(increment(&client).await, Ok(Value::Int(1)));
    ::tokio::task::spawn_blocking(move || script.join()).await.unwrap().unwrap();
}
