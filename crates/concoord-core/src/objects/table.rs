//! What is kept under keys, in order of insertion as in a `dict`, some of it only for as long as
//! a session lives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::kept::{Kept, Key};
use crate::call::SessionId;
use crate::object::Context;
use crate::value::Value;

/// Keys with something under each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table<T> {
    entries: BTreeMap<Kept, Entry<T>>,
    /// The ids of the keys, by the numbers of their entries.
    order: BTreeMap<u64, Kept>,
    /// The entries that belong to sessions.
    owned: BTreeSet<(SessionId, u64)>,
    inserted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<T> {
    number: u64,
    /// The key as it was given, where that is not its id.
    given: Option<Kept>,
    owner: Option<SessionId>,
    item: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let (entries, order) = (BTreeMap::new(), BTreeMap::new());
        Self { entries, order, owned: BTreeSet::new(), inserted: 0 }
    }
}

impl<T> Table<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&T> {
        self.entries.get(&key.id).map(|entry| &entry.item)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut T> {
        self.entries.get_mut(&key.id).map(|entry| &mut entry.item)
    }

    /// The number of the entry under that key, the same for as long as it is there, and no other's
    /// ever.
    pub(crate) fn number(&self, key: &Key) -> Option<u64> {
        self.entries.get(&key.id).map(|entry| entry.number)
    }

    /// What there is, in order of insertion.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Value, &T)> {
        self.numbered().map(|(_, key, item)| (key, item))
    }

    /// The same with the numbers of the entries.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, Value, &T)> {
        self.order.iter().filter_map(|(number, id)| {
            let entry = self.entries.get(id)?;
            Some((*number, entry.given.as_ref().unwrap_or(id).value(), &entry.item))
        })
    }

    /// The ids of the keys and what was given for them, in order of insertion.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&Kept, Value)> {
        self.order.values().zip(self.keys())
    }

    /// What there is, in no order but always the same.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Value, &mut T)> {
        self.entries
            .iter_mut()
            .map(|(id, entry)| (entry.given.as_ref().unwrap_or(id).value(), &mut entry.item))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Value> {
        self.iter().map(|(key, _)| key)
    }

    /// Puts something under a key, which keeps its place and its first spelling if it is there. It
    /// belongs to that session from now on, or to none. Returns what was there.
    pub(crate) fn put(
        &mut self,
        key: Key,
        item: T,
        owner: Option<SessionId>,
        context: &mut Context<'_>,
    ) -> Option<T> {
        let Some(entry) = self.entries.get_mut(&key.id) else {
            self.inserted += 1;
            let number = self.inserted;
            let given = (key.given != key.id).then_some(key.given);
            self.order.insert(number, key.id.clone());
            self.entries.insert(key.id, Entry { number, given, owner, item });
            self.belongs(number, owner, context);
            return None;
        };
        let number = entry.number;
        let before = std::mem::replace(&mut entry.item, item);
        let former = std::mem::replace(&mut entry.owner, owner);
        // Held before it is freed, so that a session which puts again is not let go in between.
        self.belongs(number, owner.filter(|_| owner != former), context);
        self.belongs_no_more(number, former.filter(|_| owner != former), context);
        Some(before)
    }

    /// Takes what is under a key.
    pub(crate) fn remove(&mut self, key: &Key, context: &mut Context<'_>) -> Option<T> {
        let entry = self.entries.remove(&key.id)?;
        self.order.remove(&entry.number);
        self.belongs_no_more(entry.number, entry.owner, context);
        Some(entry.item)
    }

    /// Takes the entry of that number.
    pub(crate) fn remove_number(
        &mut self,
        number: u64,
        context: &mut Context<'_>,
    ) -> Option<(Value, T)> {
        let (key, entry) = self.take(number)?;
        self.belongs_no_more(number, entry.owner, context);
        Some((key, entry.item))
    }

    /// Takes everything.
    pub(crate) fn clear(&mut self, context: &mut Context<'_>) {
        for (owner, _) in std::mem::take(&mut self.owned) {
            context.free(owner);
        }
        self.entries.clear();
        self.order.clear();
    }

    /// Takes what belongs to a session that is over, in order of insertion.
    pub(crate) fn lost(&mut self, session: SessionId) -> Vec<(u64, Value, T)> {
        let mut lost = Vec::new();
        while let Some(owned) = self.owned.range((session, 0)..=(session, u64::MAX)).next().copied()
        {
            self.owned.remove(&owned);
            let taken = self.take(owned.1);
            lost.extend(taken.map(|(key, entry)| (owned.1, key, entry.item)));
        }
        lost
    }

    fn take(&mut self, number: u64) -> Option<(Value, Entry<T>)> {
        let id = self.order.remove(&number)?;
        let entry = self.entries.remove(&id)?;
        Some((entry.given.as_ref().unwrap_or(&id).value(), entry))
    }

    fn belongs(&mut self, number: u64, owner: Option<SessionId>, context: &mut Context<'_>) {
        if let Some(owner) = owner {
            self.owned.insert((owner, number));
            context.hold(owner);
        }
    }

    fn belongs_no_more(
        &mut self,
        number: u64,
        owner: Option<SessionId>,
        context: &mut Context<'_>,
    ) {
        if let Some(owner) = owner {
            self.owned.remove(&(owner, number));
            context.free(owner);
        }
    }
}
