//! The objects that come ready-made, by the name that `-o` takes.

use crate::object::Object;

pub mod counter;

/// A new object of that class; `None` if it is none of ours.
#[must_use]
pub fn stock(class: &str) -> Option<Box<dyn Object>> {
    match class {
        counter::CLASS => Some(Box::new(counter::Counter::default())),
        _ => None,
    }
}

/// The names that [`stock`] knows.
pub const STOCK: [&str; 1] = [counter::CLASS];
