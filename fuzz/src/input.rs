//! Decisions out of the fuzzer's bytes.

/// Bytes that are used up; zeros follow them.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> u64 {
        u64::from_le_bytes([0; 8].map(|_: u8| self.byte()))
    }

    /// Less than `bound`, which is 65 536 at most; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let roll = match bound {
            0..=0x100 => usize::from(self.byte()),
            _ => usize::from(u16::from_le_bytes([self.byte(), self.byte()])),
        };
        roll % bound.max(1)
    }

    /// A small number most of the time, any one at others.
    pub(crate) fn any_number(&mut self) -> u64 {
        match self.byte() {
            255 => self.number(),
            small => small.into(),
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}
