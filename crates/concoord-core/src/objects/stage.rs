//! One object without a cluster, for tests: calls of several sessions, a clock, what it leads to.
//!
//! It does with an object's deeds what a replica does, and insists on what an object promises.

use std::collections::BTreeMap;

use crate::call::{CallId, Caller, SessionId};
use crate::object::{Context, Deed, Moment, Object, Reply};
use crate::value::{Arguments, Exception, Value};

pub(crate) type Ended = Result<Value, Exception>;

pub(crate) struct Stage<O> {
    pub(crate) object: O,
    moment: Moment,
    sequence: u64,
    /// Until when each parked call waits.
    parked: BTreeMap<CallId, Option<u64>>,
    bells: BTreeMap<u64, u64>,
    held: BTreeMap<SessionId, u64>,
    /// What became of parked calls, in order.
    pub(crate) ended: Vec<(CallId, Ended)>,
    pub(crate) told: Vec<Value>,
}

/// A caller of the first thread of a session.
pub(crate) const fn caller(session: u64) -> Caller {
    Caller { session: SessionId(session), thread: 0 }
}

/// A caller of that thread of a session.
pub(crate) const fn thread(session: u64, thread: u64) -> Caller {
    Caller { session: SessionId(session), thread }
}

impl<O: Object> Stage<O> {
    pub(crate) fn new(object: O) -> Self {
        Self {
            object,
            moment: Moment { time_ms: 1_800_000_000_000, ..Moment::default() },
            sequence: 0,
            parked: BTreeMap::new(),
            bells: BTreeMap::new(),
            held: BTreeMap::new(),
            ended: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Calls; `Err` with the call's id if it is parked.
    pub(crate) fn call(
        &mut self,
        caller: Caller,
        method: &str,
        positional: Vec<Value>,
    ) -> Result<Ended, CallId> {
        let arguments = Arguments { positional, keyword: vec![] };
        self.sequence += 1;
        let call = CallId { session: caller.session, sequence: self.sequence };
        let before = self.object.snapshot();
        let made = self.step(call, caller.thread, |object, context| {
            if object.interface().is_read_only(method) {
                return object.read(method, &arguments).map(Reply::Value);
            }
            object.apply(method, &arguments, context)
        });
        match made {
            Ok(Reply::Value(value)) => Ok(Ok(value)),
            Ok(Reply::Parked { until }) => {
                // A call may park and be answered in the same step.
                if !self.ended.iter().any(|(ended, _)| *ended == call) {
                    self.parked.insert(call, until);
                }
                Err(call)
            }
            Err(exception) => {
                assert_eq!(
                    before,
                    self.object.snapshot(),
                    "{method} raised and changed the object"
                );
                Ok(Err(exception))
            }
        }
    }

    /// Calls a method that returns at once.
    pub(crate) fn returns(
        &mut self,
        caller: Caller,
        method: &str,
        positional: Vec<Value>,
    ) -> Value {
        self.call(caller, method, positional)
            .unwrap_or_else(|call| panic!("{method} waits as {call:?}"))
            .unwrap_or_else(|exception| panic!("{method} raised {exception:?}"))
    }

    /// Calls a method that raises at once; the exception's name and first argument.
    pub(crate) fn raises(
        &mut self,
        caller: Caller,
        method: &str,
        positional: Vec<Value>,
    ) -> (String, String) {
        let exception = self.call(caller, method, positional).unwrap().unwrap_err();
        let Some(Value::Str(words)) = exception.args.first() else {
            return (exception.name, String::new());
        };
        (exception.name, words.clone())
    }

    /// Calls a method that waits.
    pub(crate) fn waits(&mut self, caller: Caller, method: &str, positional: Vec<Value>) -> CallId {
        match self.call(caller, method, positional) {
            Err(call) => call,
            Ok(ended) => panic!("{method} does not wait: {ended:?}"),
        }
    }

    /// What has become of a call that was parked.
    pub(crate) fn end_of(&self, call: CallId) -> Option<&Ended> {
        self.ended.iter().find(|(ended, _)| *ended == call).map(|(_, result)| result)
    }

    /// Lets time pass: deadlines and bells in their order.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.moment.clock_ms + ms;
        loop {
            let deadline = self.parked.iter().filter_map(|(call, until)| Some(((*until)?, *call)));
            let deadline = deadline.min();
            let bell = self.bells.iter().map(|(bell, at)| (*at, *bell)).min();
            let next = deadline.map(|(at, _)| at).into_iter().chain(bell.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.moment.clock_ms = self.moment.clock_ms.max(next);
            if let Some((_, bell)) = bell.filter(|(at, _)| *at == next) {
                self.bells.remove(&bell);
                self.step(CallId::default(), 0, |object, context| object.ring(bell, context));
            } else if let Some((_, call)) = deadline {
                self.parked.remove(&call);
                let result = self.step(call, 0, |object, context| object.timed_out(call, context));
                self.ended.push((call, result));
            }
        }
        self.moment.clock_ms = end;
    }

    /// Gives a parked call up.
    pub(crate) fn cancel(&mut self, call: CallId) {
        assert!(self.parked.remove(&call).is_some(), "it is not parked");
        self.step(call, 0, |object, context| object.cancelled(call, context));
    }

    /// Ends a session.
    pub(crate) fn lose(&mut self, session: u64) {
        let session = SessionId(session);
        let parked: Vec<CallId> =
            self.parked.keys().filter(|call| call.session == session).copied().collect();
        for call in parked {
            // To give up one of them may answer another.
            if self.parked.contains_key(&call) {
                self.cancel(call);
            }
        }
        if self.held.remove(&session).is_some() {
            let call = CallId { session, sequence: 0 };
            self.step(call, 0, |object, context| object.lost(session, context));
        }
    }

    fn step<T>(
        &mut self,
        call: CallId,
        thread: u64,
        step: impl FnOnce(&mut O, &mut Context<'_>) -> T,
    ) -> T {
        self.moment.index += 1;
        self.moment.step += 1;
        let mut deeds = Vec::new();
        let mut context = Context::new(self.moment, call, thread, &mut deeds);
        let made = step(&mut self.object, &mut context);
        self.moment.step = context.last_step();
        for deed in deeds {
            self.take(call, deed);
        }
        self.survives_a_snapshot();
        made
    }

    fn take(&mut self, by: CallId, deed: Deed) {
        match deed {
            Deed::Answer(call, result) => {
                let was_parked = self.parked.remove(&call).is_some();
                assert!(was_parked || call == by, "{call:?} is answered and is not parked");
                self.ended.push((call, result));
            }
            Deed::Hold(session) => *self.held.entry(session).or_default() += 1,
            Deed::Free(session) => {
                let held = self.held.get_mut(&session).expect("what is freed was held");
                *held -= 1;
                if *held == 0 {
                    self.held.remove(&session);
                }
            }
            Deed::Bell(bell, at) => {
                self.bells.insert(bell, at);
            }
            Deed::Hush(bell) => {
                self.bells.remove(&bell);
            }
            Deed::Tell(change) => self.told.push(change),
        }
    }

    /// After each step: what is restored from a snapshot is the same object.
    fn survives_a_snapshot(&mut self) {
        let snapshot = self.object.snapshot();
        self.object.restore(&snapshot).expect("an object reads what it wrote");
        assert_eq!(self.object.snapshot(), snapshot, "a snapshot comes back as it went");
    }

    /// How often sessions hold something here.
    pub(crate) fn holds(&self, session: u64) -> u64 {
        self.held.get(&SessionId(session)).copied().unwrap_or(0)
    }
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// The next number, less than that.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        // A linear congruence; its upper bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}
