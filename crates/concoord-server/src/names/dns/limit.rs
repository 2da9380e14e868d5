//! How many answers go to one network: an address may be forged, and then somebody is flooded with
//! what he never asked for.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Answers a second to one network: resolvers ask once per TTL.
const PER_SECOND: u32 = 200;

/// Answers that it may have at once.
const AT_ONCE: u32 = 400;

/// Networks that are told apart: 64 KiB of memory. More of them share what one has.
const NETWORKS: usize = 8192;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer,
    /// Say that it is to be asked by TCP, where addresses are not forged.
    Truncate,
    Drop,
}

/// What each network has left.
pub(super) struct Limit {
    left: Box<[Left]>,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Left {
    /// Milliseconds, since the same moment as ever.
    at: u32,
    /// Thousandths of an answer.
    thousandths: u32,
}

impl Limit {
    pub(super) fn new() -> Self {
        let full = Left { at: 0, thousandths: AT_ONCE * 1000 };
        // Nobody who does not know the key can have others share what he uses up.
        Self { left: vec![full; NETWORKS].into(), hasher: RandomState::new() }
    }

    /// Judges a packet from there, `now` milliseconds after some moment.
    pub(super) fn judge(&mut self, from: IpAddr, now: u64) -> Verdict {
        let from = from.to_canonical();
        // Nobody forges that from outside: the kernel drops it.
        if from.is_loopback() {
            return Verdict::Answer;
        }
        let hash = self.hasher.hash_one(network(from));
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let Some(left) = self.left.get_mut(hash as usize % NETWORKS) else {
            return Verdict::Answer;
        };
        #[expect(clippy::cast_possible_truncation, reason = "differences count, which go round")]
        let now = now as u32;
        let gained = now.wrapping_sub(left.at).saturating_mul(PER_SECOND);
        left.at = now;
        left.thousandths = left.thousandths.saturating_add(gained).min(AT_ONCE * 1000);
        if left.thousandths >= 1000 {
            left.thousandths -= 1000;
            return Verdict::Answer;
        }
        // Every other one, so that who is really there comes through.
        if now & 1 == 0 { Verdict::Truncate } else { Verdict::Drop }
    }
}

/// What one party has: forged addresses of a network hurt all of it.
fn network(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        // A /56, with a bit that tells it from the above.
        IpAddr::V6(ip) => (1 << 63) | u64::try_from(u128::from(ip) >> 72).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_answers_a_second_and_others_have_theirs() {
        let mut limit = Limit::new();
        let answers = |limit: &mut Limit, ip: &str, now| {
            let ip = ip.parse().unwrap();
            (0..2000).filter(|_| limit.judge(ip, now) == Verdict::Answer).count()
        };
        assert_eq!(answers(&mut limit, "192.0.2.1", 0), 400);
        assert_eq!(answers(&mut limit, "192.0.2.77", 0), 0, "the same network");
        assert_eq!(answers(&mut limit, "192.0.2.1", 1000), 200);
        assert_eq!(answers(&mut limit, "192.0.2.1", 60_000), 400);
        assert_eq!(answers(&mut limit, "2001:db8::1", 60_000), 400);
        assert_eq!(answers(&mut limit, "2001:db8:0:ff::1", 60_000), 0, "the same network");
        assert_eq!(answers(&mut limit, "127.0.0.1", 60_000), 2000);
        assert_eq!(answers(&mut limit, "::ffff:127.0.0.1", 60_000), 2000);
    }

    #[test]
    fn who_is_limited_is_now_and_then_told_to_come_by_tcp() {
        let mut limit = Limit::new();
        let ip = "192.0.2.1".parse().unwrap();
        (0..400).for_each(|_| assert_eq!(limit.judge(ip, 0), Verdict::Answer));
        let verdicts: Vec<_> = (0..4).map(|now| limit.judge(ip, now)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Truncate).count(), 2);
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Drop).count(), 2);
    }
}
