//! The thread of a client that dials, keeps its session alive and looks for unasked answers.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;

use super::shared::{Inbox, SLICE, Shared, Socket, State, read_once};
use crate::bootstrap::Bootstrap;
use crate::error::why_unconnected;
use crate::names;
use crate::route::Dial;

/// How often the keeper looks for unasked answers while nobody waits. It does not sleep in a
/// read: the reply to a lone call would then wake it rather than the caller.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes that one read takes.
const READ_BYTES: usize = 64 << 10;

/// The keeper: everything that nobody waits for.
pub(super) fn keep(shared: &Arc<Shared>, bootstrap: &Bootstrap) {
    let mut state = shared.lock();
    while !state.closed {
        let now = shared.now();
        state.session.wake(now);
        shared.mind_later(&mut state, now);
        shared.settle(&mut state, now);
        state = match state.session.dial(now) {
            Dial::LookUp => {
                drop(state);
                look_up(shared, bootstrap);
                shared.lock()
            }
            Dial::Connect { address, within } => {
                drop(state);
                let connected = connect(address, within);
                let mut state = shared.lock();
                shared.connected(&mut state, connected);
                state
            }
            Dial::At(at) => shared.sleep(state, at.saturating_sub(now)),
            Dial::Nothing => shared.look(state, now),
        };
    }
}

impl Shared {
    fn connected(&self, state: &mut State, connected: std::io::Result<TcpStream>) {
        let now = self.now();
        if state.closed {
            return;
        }
        match connected {
            Ok(stream) => {
                state.session.dialled(now);
                let inbox = Inbox { bytes: BytesMut::new(), room: vec![0; READ_BYTES] };
                let link = state.session.link_number();
                state.socket = Some(Socket { link, stream: Arc::new(stream), inbox });
                state.hand_on();
            }
            Err(error) => state.session.lost(now, why_unconnected(&error)),
        }
        self.settle(state, now);
    }

    /// Looks for unasked answers, then rests.
    fn look<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        now: Duration,
    ) -> MutexGuard<'a, State> {
        let wake_at = state.session.wake_at().into_iter().chain(state.later.look_at()).min();
        let wake = wake_at.map_or(LOOK, |at| at.saturating_sub(now).min(LOOK));
        if state.reading || state.socket.is_none() {
            return self.sleep(state, wake);
        }
        if state.followers.is_empty() && (state.session.is_owed() || !state.later.is_empty()) {
            return read_once(self, state).0;
        }
        self.drain(&mut state);
        if state.session.is_linked() && !state.closed { self.sleep(state, wake) } else { state }
    }

    /// Reads what has arrived, without waiting. No other thread uses the socket meanwhile: to
    /// write takes the lock, and nobody reads.
    fn drain(&self, state: &mut State) {
        let Some(socket) = state.socket.as_mut() else { return };
        let (link, stream) = (socket.link, Arc::clone(&socket.stream));
        let mut inbox = std::mem::take(&mut socket.inbox);
        let read = stream.set_nonblocking(true).and_then(|()| (&*stream).read(&mut inbox.room));
        let read = stream.set_nonblocking(false).and(read);
        let now = self.now();
        state.read(now, link, inbox, read);
        self.settle(state, now);
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        // Even where something is due at once others get their turn.
        let time = time.max(Duration::from_millis(1));
        self.keeper.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Begins to look the names up. Whoever is done finds the client closed, perhaps, or this process
/// at its end: nobody waits for it.
fn look_up(shared: &Arc<Shared>, bootstrap: &Bootstrap) {
    let shared = Arc::downgrade(shared);
    names::look_up_all(bootstrap, &move |nth, found| {
        let Some(shared) = shared.upgrade() else { return };
        let mut state = shared.lock();
        state.session.looked_up(nth, found.map_err(|error| error.to_string()));
        shared.keeper.notify_one();
    });
}

fn connect(address: SocketAddr, within: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, within)?;
    // Where nobody listens, a port of the ephemeral range can by chance reach itself.
    if stream.local_addr()? == address {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLICE))?;
    stream.set_write_timeout(Some(SLICE))?;
    Ok(stream)
}
