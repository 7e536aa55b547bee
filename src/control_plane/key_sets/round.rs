//! One renewal of a key set, as questions and answers: which URL is asked, and what is made of each
//! response. It does no I/O and reads no clock.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    control_plane::http_client::Response,
    policy::auth::{KeySet, KeySource, SetPlace},
    protocol::url::HttpUrl,
};

/// Longest validator that is kept, in bytes. One that is longer costs a transfer, no more.
const VALIDATOR_BYTES_MAX: usize = 1_024;

/// Validators of a response (RFC 9110 section 8.8), sent with the next request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<Vec<u8>>,
    pub(super) last_modified: Option<Vec<u8>>,
}

/// A response, as far as a round looks at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) validators: Validators,
    /// Time for which it says that it is fresh.
    pub(super) fresh: Option<Duration>,
}

impl Answer {
    pub(super) fn of(response: Response) -> Self {
        let validator = |name: &'static [u8]| {
            response
                .field(name)
                .filter(|value| {
                    value.len() <= VALIDATOR_BYTES_MAX && value.iter().copied().all(is_sent)
                })
                .map(<[u8]>::to_vec)
        };
        let validators =
            Validators { etag: validator(b"etag"), last_modified: validator(b"last-modified") };
        let fresh = freshness(response.field(b"cache-control"), response.field(b"age"));
        Self { status: response.status, validators, fresh, body: response.body }
    }
}

/// Returns true for the bytes that requests of the control plane may hold. An entity tag may hold
/// others too (RFC 9110 section 8.8.3); one that does is not sent back.
const fn is_sent(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// The time that `max-age` leaves (RFC 9111 sections 5.2.2.1 and 4.2.3); none where the response
/// names none, or does not want to be kept.
fn freshness(cache_control: Option<&[u8]>, age: Option<&[u8]>) -> Option<Duration> {
    let text = str::from_utf8(cache_control?).ok()?.to_ascii_lowercase();
    let mut max_age = None;
    for directive in text.split(',').map(str::trim) {
        if directive == "no-store" || directive == "no-cache" {
            return None;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            max_age = seconds.trim_matches('"').parse::<u64>().ok();
        }
    }
    let age = age.and_then(|age| str::from_utf8(age).ok()?.trim().parse::<u64>().ok());
    Some(Duration::from_secs(max_age?.saturating_sub(age.unwrap_or_default())))
}

/// The set of a source from an earlier round, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Where the set came from.
    url: HttpUrl,
    validators: Validators,
    /// SHA-256 of the set as it came.
    digest: [u8; 32],
    pub(super) keys: Arc<KeySet>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) url: HttpUrl,
    /// Those of the set that is there.
    pub(super) validators: Validators,
}

/// The next step of a round.
#[derive(Debug)]
pub(super) enum Next {
    /// A further question.
    Ask(Ask),
    /// The set is still the provider's.
    Unchanged { fresh: Option<Duration> },
    /// There is another set, of which some keys may not be used.
    Renewed { known: Known, unused: Vec<String>, fresh: Option<Duration> },
}

/// A renewal under way.
#[derive(Debug)]
pub(super) struct Round<'r> {
    source: &'r KeySource,
    known: Option<&'r Known>,
    /// Place of the set, once it is known.
    set: Option<HttpUrl>,
}

impl<'r> Round<'r> {
    /// Begins a round.
    pub(super) fn begin(source: &'r KeySource, known: Option<&'r Known>) -> (Self, Ask) {
        let mut round = Self { source, known, set: None };
        let ask = match &source.place {
            SetPlace::Url(url) => round.ask_for_set(url.clone()),
            SetPlace::Discovery { document, .. } => {
                Ask { url: document.clone(), validators: Validators::default() }
            }
        };
        (round, ask)
    }

    fn ask_for_set(&mut self, url: HttpUrl) -> Ask {
        let known = self.known.filter(|known| known.url == url);
        let validators = known.map(|known| known.validators.clone()).unwrap_or_default();
        self.set = Some(url.clone());
        Ask { url, validators }
    }

    /// Takes the answer to the last question.
    ///
    /// # Errors
    /// A sentence for the operator, without anything of the response's body.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<Next, String> {
        let Some(url) = self.set.clone() else {
            check_status(answer.status)?;
            let url = self.source.set_url(&answer.body)?;
            return Ok(Next::Ask(self.ask_for_set(url)));
        };
        let known = self.known.filter(|known| known.url == url);
        let fresh = answer.fresh;
        let was_conditional = known.is_some_and(|known| known.validators != Validators::default());
        if answer.status == 304 && was_conditional {
            return Ok(Next::Unchanged { fresh });
        }
        check_status(answer.status)?;
        let mut found = [0; 32];
        found.copy_from_slice(digest(&SHA256, &answer.body).as_ref());
        // The same keys are the same set, so that no cached token is forgotten.
        let (keys, unused) = if let Some(known) = known.filter(|known| known.digest == found) {
            (Arc::clone(&known.keys), Vec::new())
        } else {
            let (keys, unused) = self.source.read_set(&answer.body)?;
            (Arc::new(keys), unused)
        };
        let known = Known { url, validators: answer.validators, digest: found, keys };
        Ok(Next::Renewed { known, unused, fresh })
    }
}

fn check_status(status: u16) -> Result<(), String> {
    match status {
        200 => Ok(()),
        300..400 => Err(format!(
            "the response is a redirect ({status}), and none is followed; write the address that \
             it leads to"
        )),
        _ => Err(format!("the response has status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_strictly_and_age_is_taken_off() {
        let seconds = |cache_control: &str, age: Option<&str>| {
            freshness(Some(cache_control.as_bytes()), age.map(str::as_bytes))
                .map(|fresh| fresh.as_secs())
        };
        assert_eq!(seconds("max-age=600", None), Some(600));
        assert_eq!(seconds("public, Max-Age=600, must-revalidate", Some("100")), Some(500));
        assert_eq!(seconds("max-age=600", Some("1000")), Some(0));
        assert_eq!(seconds("max-age=600", Some("x")), Some(600));
        for none in ["", "public", "max-age", "max-age=x", "max-age=-1", "s-maxage=9"] {
            assert_eq!(seconds(none, None), None, "{none}");
        }
        assert_eq!(seconds("max-age=600, no-store", None), None);
        assert_eq!(seconds("no-cache, max-age=600", None), None);
        assert_eq!(freshness(None, Some(b"1")), None);
        assert_eq!(freshness(Some(b"max-age=\xff"), None), None);
        assert_eq!(seconds(&format!("max-age={}", u64::MAX), None), Some(u64::MAX));
    }
}
