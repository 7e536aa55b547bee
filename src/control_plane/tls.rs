//! TLS for clients, from settings: what the listener serves with, and what is worth a warning.

use std::sync::Arc;

use crate::{
    config::{
        Problem, Problems,
        settings::{ServerSettings, TlsSettings},
    },
    system::tls::{ServerCertificate, ServerPolicy, TicketKeys, TlsServer},
};

/// Time before the end of a certificate from which it is worth a warning, in seconds: a week, or a
/// fifth of its validity where that is less. Who renews a certificate does it at a third.
const ENDS_SOON_SECONDS: i64 = 7 * 86_400;

/// The part of the validity of a certificate that ends soon.
const ENDS_SOON_PART: i64 = 5;

/// The server of these settings; none without `server.tls`. `of_process` seals tickets where no
/// file of keys is named.
///
/// # Errors
/// What the certificates and the CA cannot be made into a server for.
pub fn server(
    settings: &ServerSettings,
    of_process: &TicketKeys,
) -> Result<Option<TlsServer>, Problems> {
    let Some(tls) = &settings.tls else { return Ok(None) };
    let certificates: Vec<_> =
        tls.certificates.iter().map(|pair| Arc::clone(&pair.certificate)).collect();
    let policy = ServerPolicy {
        min_version: tls.min_version,
        client_ca: tls.client_ca.as_ref().map(|ca| &*ca.bundle.pem),
        http2: settings.http2.enabled,
        tickets: tls.ticket_keys.as_ref().map_or(of_process, |file| &file.keys),
    };
    TlsServer::new(&policy, &certificates)
        .map(Some)
        .map_err(|message| Problem::of_key("server.tls.client_ca_file", message).into())
}

/// The server of settings that follow others; none where it would be the same.
///
/// # Errors
/// As [`server`].
pub fn successor(
    running: &ServerSettings,
    new: &ServerSettings,
    of_process: &TicketKeys,
) -> Result<Option<TlsServer>, Problems> {
    if is_served_alike(running, new) { Ok(None) } else { server(new, of_process) }
}

/// Makes a server only to see whether it can be made.
///
/// # Errors
/// As [`server`].
pub fn check(settings: &ServerSettings) -> Result<(), Problems> {
    if settings.tls.is_none() {
        return Ok(());
    }
    let tickets = TicketKeys::of_process().map_err(Problem::of_file)?;
    server(settings, &tickets).map(|_| ())
}

fn is_served_alike(running: &ServerSettings, new: &ServerSettings) -> bool {
    let contents = |tls: &TlsSettings| {
        let certificates = tls.certificates.iter().map(|pair| Arc::clone(&pair.certificate));
        let ca = tls.client_ca.as_ref().map(|ca| ca.bundle.clone());
        let tickets = tls.ticket_keys.as_ref().map(|file| file.keys.clone());
        (tls.min_version, ca, tickets, certificates.collect::<Vec<_>>())
    };
    running.http2.enabled == new.http2.enabled
        && running.tls.as_ref().map(contents) == new.tls.as_ref().map(contents)
}

/// Warnings about certificates at a time in seconds since 1970.
pub fn warnings(settings: &ServerSettings, now: u64) -> Vec<Problem> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let pairs = settings.tls.iter().flat_map(|tls| tls.certificates.iter().enumerate());
    pairs
        .filter_map(|(index, pair)| {
            let message = warning(&pair.certificate, now)?;
            let path = format!("server.tls.certificates[{index}].cert_file");
            Some(Problem::of_key(path, message))
        })
        .collect()
}

fn warning(certificate: &ServerCertificate, now: i64) -> Option<String> {
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    let name = certificate.name();
    let soon = ENDS_SOON_SECONDS.min(end.saturating_sub(begin) / ENDS_SOON_PART);
    if now > end {
        let since = span(now - end);
        return Some(format!(
            "the certificate of {name} ended {since} ago, so clients refuse it; renew it"
        ));
    }
    if now < begin {
        let left = span(begin - now);
        return Some(format!(
            "the certificate of {name} is not valid before {left} from now, so clients refuse it; \
             set the clock of this machine, or write the certificate that is valid now"
        ));
    }
    let left = end - now;
    (left < soon).then(|| format!("the certificate of {name} ends in {}; renew it", span(left)))
}

fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    const DAY: i64 = 86_400;

    /// Valid for 365 days of 2026.
    fn certificate() -> ServerCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let leaf = params.self_signed(&key).unwrap().pem();
        ServerCertificate::from_pem(leaf.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_outside_its_validity_or_near_its_end_is_worth_a_warning() {
        let certificate = certificate();
        let (begin, end) = (certificate.not_before(), certificate.not_after());
        for (now, expected) in [
            (begin - 3 * DAY, Some("is not valid before 3 days from now")),
            (begin - 1, Some("is not valid before 1 seconds from now")),
            (begin, None),
            (end - 7 * DAY, None),
            (end - 7 * DAY + 1, Some("ends in 6 days; renew it")),
            (end - 7_199, Some("ends in 119 minutes")),
            (end, Some("ends in 0 seconds")),
            (end + 1, Some("ended 1 seconds ago")),
            (end + 49 * 3_600, Some("ended 2 days ago")),
        ] {
            let found = warning(&certificate, now);
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            let words = expected.unwrap_or_default();
            assert!(found.unwrap_or_default().contains(words), "{words}");
        }
    }

    #[test]
    fn a_short_certificate_ends_soon_when_a_fifth_is_left() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 6);
        let leaf = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let short = ServerCertificate::from_pem(leaf.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(warning(&short, short.not_after() - DAY), None);
        assert!(warning(&short, short.not_after() - DAY + 1).is_some());
    }
}
