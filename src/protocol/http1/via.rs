//! `Via` in requests: the instances that a request came through, so that one that comes back is
//! recognised (RFC 9110 section 7.6.3).
//!
//! A client's `Via` is not passed on as it is. Only the pseudonyms of other instances of this proxy
//! are, which are made of hexadecimal digits: without them a circle of two instances would go on
//! for ever, each seeing only the other.

use super::fields::list_members;
use super::message::Version;
use crate::protocol::text::{append::append_all, hex};

/// Name of this proxy in the `Via` of responses, and the beginning of every [`Pseudonym`].
pub const PROXY_NAME: &str = "yatagarasu";

/// Instances that a request may have come through. Nobody chains so many; without a bound a circle
/// of clients' making could fill the head of a request.
const INSTANCES_MAX: usize = 8;

const PSEUDONYM_BYTES: usize = PROXY_NAME.len() + 1 + hex::U64_DIGITS;

/// Name of one instance, a running process, in the `Via` of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pseudonym([u8; PSEUDONYM_BYTES]);

/// A request that this instance has sent itself, or that more instances have passed on than can be
/// meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looped;

impl Pseudonym {
    /// The pseudonym with this number, which should be random.
    pub fn new(number: u64) -> Self {
        let mut bytes = [b'-'; PSEUDONYM_BYTES];
        let (name, rest) = bytes.split_at_mut(PROXY_NAME.len());
        name.copy_from_slice(PROXY_NAME.as_bytes());
        if let Some(digits) = rest.last_chunk_mut() {
            *digits = hex::lower_u64(number);
        }
        Self(bytes)
    }

    /// Looks for this instance in the values of a request's `Via` fields.
    ///
    /// # Errors
    /// [`Looped`] if it is there, or if there are too many others.
    pub fn check<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> Result<(), Looped> {
        let mut others = 0;
        for (_, instance) in instances(values) {
            others += 1;
            if instance == self.0 || others > INSTANCES_MAX {
                return Err(Looped);
            }
        }
        Ok(())
    }

    /// Appends the `Via` line of a request that came in this version, behind the other instances
    /// that the values of its own `Via` fields name.
    pub fn append_via<'v>(
        &self,
        received: Version,
        values: Option<impl Iterator<Item = &'v [u8]>>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"Via: ");
        if let Some(values) = values {
            append_others(values, out);
        }
        append_all(&[received.in_via(), &self.0, b"\r\n"], out);
    }
}

/// Appends the other instances, each with a comma behind it.
#[inline(never)]
fn append_others<'v>(values: impl Iterator<Item = &'v [u8]>, out: &mut Vec<u8>) {
    for (version, instance) in instances(values) {
        append_all(&[version.in_via(), instance, b", "], out);
    }
}

/// The members that are pseudonyms of instances, each with the version before it.
fn instances<'v>(
    values: impl Iterator<Item = &'v [u8]>,
) -> impl Iterator<Item = (Version, &'v [u8])> {
    values.flat_map(list_members).filter_map(|member| {
        let (version, instance) = [Version::Http11, Version::Http2, Version::Http10]
            .into_iter()
            .find_map(|version| Some((version, member.strip_prefix(version.in_via())?)))?;
        is_pseudonym(instance).then_some((version, instance))
    })
}

fn is_pseudonym(name: &[u8]) -> bool {
    let digits = name
        .strip_prefix(PROXY_NAME.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"-"))
        .and_then(|rest| <&[u8; hex::U64_DIGITS]>::try_from(rest).ok());
    digits
        .is_some_and(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: Pseudonym, values: &[&str]) -> Result<(), Looped> {
        own.check(values.iter().map(|value| value.as_bytes()))
    }

    fn line(own: Pseudonym, received: Version, values: &[&str]) -> String {
        let mut out = Vec::new();
        own.append_via(received, Some(values.iter().map(|value| value.as_bytes())), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_instance_recognises_itself_only() {
        let own = Pseudonym::new(0xab);
        for values in [
            &["1.1 yatagarasu-00000000000000ab"][..],
            &["1.0 nginx, 1.1 yatagarasu-00000000000000ab , 1.1 x"],
            &["1.1 nginx", "1.0 yatagarasu-00000000000000ab"],
            &["2 yatagarasu-00000000000000ab"],
        ] {
            assert_eq!(check(own, values), Err(Looped), "{values:?}");
        }
        for values in [
            &[][..],
            &[""],
            &["1.1 yatagarasu"],
            &["1.1 yatagarasu-00000000000000ac"],
            &["yatagarasu-00000000000000ab"],
            &["1.1 yatagarasu-00000000000000abc"],
            &["1.1 (yatagarasu-00000000000000ab)"],
        ] {
            assert_eq!(check(own, values), Ok(()), "{values:?}");
        }
    }

    #[test]
    fn a_chain_is_bounded() {
        let own = Pseudonym::new(1);
        let chain = |length: u64| {
            let members: Vec<_> = (2..2 + length)
                .map(|number| format!("1.1 {}", String::from_utf8_lossy(&Pseudonym::new(number).0)))
                .collect();
            check(own, &[&members.join(", ")])
        };
        assert_eq!((chain(8), chain(9)), (Ok(()), Err(Looped)));
    }

    #[test]
    fn only_instances_are_passed_on_and_this_one_comes_last() {
        let own = Pseudonym::new(1);
        assert_eq!(
            line(
                own,
                Version::Http10,
                &["1.1 cache.example, 1.0 yatagarasu-0000000000000002", "x"]
            ),
            "Via: 1.0 yatagarasu-0000000000000002, 1.0 yatagarasu-0000000000000001\r\n"
        );
        assert_eq!(
            line(own, Version::Http2, &["2 yatagarasu-0000000000000002"]),
            "Via: 2 yatagarasu-0000000000000002, 2 yatagarasu-0000000000000001\r\n"
        );
        assert_eq!(
            line(own, Version::Http11, &["1.1 yatagarasu-000000000000000G", "1.1 yatagarasu"]),
            "Via: 1.1 yatagarasu-0000000000000001\r\n"
        );
    }
}
