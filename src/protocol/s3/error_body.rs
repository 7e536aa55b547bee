//! S3 error documents, as far as the proxy reads them.

use crate::model::limits::ERROR_BODY_BYTES_MAX;

/// Longest `<Code>` that is accepted, in bytes; the longest of AWS has 60.
const CODE_BYTES_MAX: usize = 128;

/// The `<Code>` of an S3 error document: `<Error><Code>NoSuchKey</Code>...</Error>`, with or
/// without an XML declaration, namespaces, comments and white space, and also where
/// `<ErrorResponse>` wraps the `<Error>`, as STS and some servers do.
///
/// Only the element at that place counts, so that text inside a message cannot pose as a code.
/// Anything else gives `None`. At most [`ERROR_BODY_BYTES_MAX`] bytes are read; a document that
/// is cut off behind the code is good enough.
/// Source: Amazon S3 API Reference, "REST error responses".
pub fn error_code(body: &[u8]) -> Option<&str> {
    let mut rest = &body[..body.len().min(ERROR_BODY_BYTES_MAX)];
    // Elements on the way to the code that are open, and the number of others inside them.
    let mut in_error = false;
    let mut in_wrapper = false;
    let mut foreign = 0_usize;
    loop {
        let at = memchr::memchr(b'<', rest)?;
        rest = &rest[at + 1..];
        if let Some(end) = end_of_non_element(rest) {
            rest = &rest[memchr::memmem::find(rest, end)? + end.len()..];
            continue;
        }
        let (tag, after) = split_tag(rest)?;
        rest = after;
        if tag.first() == Some(&b'/') {
            // The error or its wrapper ends without a code.
            foreign = foreign.checked_sub(1)?;
            continue;
        }
        let empty = tag.last() == Some(&b'/');
        match local_name(tag) {
            b"Code" if in_error && foreign == 0 => return if empty { None } else { text(rest) },
            b"Error" if !in_error && foreign == 0 && !empty => in_error = true,
            b"ErrorResponse" if !in_error && !in_wrapper && !empty => in_wrapper = true,
            // A document that is about something else.
            _ if !in_error && !in_wrapper => return None,
            _ if !empty => foreign += 1,
            _ => {}
        }
    }
}

/// End mark of the declaration, comment, CDATA section or document type that `rest` (after the
/// `<`) starts with, if it is one.
fn end_of_non_element(rest: &[u8]) -> Option<&'static [u8]> {
    if rest.starts_with(b"?") {
        Some(b"?>")
    } else if rest.starts_with(b"!--") {
        Some(b"-->")
    } else if rest.starts_with(b"![CDATA[") {
        Some(b"]]>")
    } else if rest.starts_with(b"!") {
        Some(b">")
    } else {
        None
    }
}

/// Splits what follows a `<` into the tag's inside and what comes after its `>`.
fn split_tag(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut quote = None;
    for (at, &byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some((&rest[..at], &rest[at + 1..])),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The name of a tag without its namespace prefix and attributes.
fn local_name(tag: &[u8]) -> &[u8] {
    let end = tag.iter().position(|b| b.is_ascii_whitespace() || *b == b'/').unwrap_or(tag.len());
    let name = &tag[..end];
    match memchr::memrchr(b':', name) {
        Some(colon) => &name[colon + 1..],
        None => name,
    }
}

fn text(rest: &[u8]) -> Option<&str> {
    let end = memchr::memchr(b'<', rest)?;
    let code = rest[..end].trim_ascii();
    let sane = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if code.is_empty() || code.len() > CODE_BYTES_MAX || !code.iter().all(sane) {
        return None;
    }
    str::from_utf8(code).ok()
}

/// Complaint of an S3 server about the proxy's own credentials.
///
/// A client can do nothing about any of them, and the error document holds the key id or even the
/// canonical request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialProblem {
    /// The signature does not fit: usually a wrong secret key.
    Signature,
    /// The key id is unknown, disabled, or its account cannot use the service.
    KeyId,
    /// The session token is expired, malformed or not the key's.
    Token,
    /// The proxy's clock and the server's are too far apart.
    Clock,
    /// The server does not accept the credential scope: usually a wrong region.
    Scope,
}

impl CredentialProblem {
    /// Returns true if other credentials of the same source may be good: these have ended early, or
    /// are good no more.
    pub const fn may_pass_with_others(self) -> bool {
        matches!(self, Self::KeyId | Self::Token)
    }
}

/// Codes that are about the proxy's own credentials, by the descriptions in the Amazon S3 API
/// Reference, "List of error codes", and those of other servers where they differ.
///
/// Absent on purpose:
/// - `AccessDenied`, `AllAccessDisabled`, `InvalidPayer`, `UnauthorizedAccess`: about the resource;
///   credentials that are good may still not be allowed to read it, and the client may be told;
/// - `PermanentRedirect`, `TemporaryRedirect`, `IncorrectEndpoint`, `EndpointNotFound`: about
///   where the bucket lives;
/// - `InvalidRequest`, `InvalidArgument`: too general to say whose fault it is;
/// - `TokenCodeInvalidError` (multi-factor devices) and `InvalidIdentityToken` (STS): never in
///   the response to a read.
const CREDENTIAL_CODES: [(&str, CredentialProblem); 24] = [
    // 403; its body holds the canonical request, the string to sign and the key id.
    ("SignatureDoesNotMatch", CredentialProblem::Signature),
    // 400 and 403; the same from other services and servers.
    ("InvalidSignature", CredentialProblem::Signature),
    ("InvalidSignatureException", CredentialProblem::Signature),
    ("IncompleteSignature", CredentialProblem::Signature),
    // 400; the server wants another signature version.
    ("UnsupportedSignature", CredentialProblem::Signature),
    // 400; the hash is of the proxy's own empty body, no client can have caused it.
    ("XAmzContentSHA256Mismatch", CredentialProblem::Signature),
    // 403; its body holds the key id.
    ("InvalidAccessKeyId", CredentialProblem::KeyId),
    // 403; the account of the key has no S3. s3s says it of an unknown key id.
    ("NotSignedUp", CredentialProblem::KeyId),
    // 403; something is wrong with the account of the key.
    ("AccountProblem", CredentialProblem::KeyId),
    // 403; the credentials as a whole are not valid.
    ("InvalidSecurity", CredentialProblem::KeyId),
    // 403; the names of other AWS services, which gateways in front of S3 use.
    ("InvalidClientTokenId", CredentialProblem::KeyId),
    ("UnrecognizedClientException", CredentialProblem::KeyId),
    // 403; not signed: an anonymous bucket that wants a signature after all.
    ("MissingAuthenticationToken", CredentialProblem::KeyId),
    // 400; signed where only anonymous requests are taken.
    ("CredentialsNotSupported", CredentialProblem::KeyId),
    // 400 at AWS, 403 elsewhere; its body holds the token.
    ("ExpiredToken", CredentialProblem::Token),
    ("InvalidToken", CredentialProblem::Token),
    // 403; MinIO's name for an invalid token.
    ("InvalidTokenId", CredentialProblem::Token),
    // 400; the token has to be refreshed.
    ("TokenRefreshRequired", CredentialProblem::Token),
    // 403; its body holds both times.
    ("RequestTimeTooSkewed", CredentialProblem::Clock),
    // 400 and 403; the name of other AWS services for the same.
    ("RequestExpired", CredentialProblem::Clock),
    // 400; the region or the date of the credential scope is wrong.
    ("AuthorizationHeaderMalformed", CredentialProblem::Scope),
    // 400; MinIO uses it for the header too, and the proxy never sends a query.
    ("AuthorizationQueryParametersError", CredentialProblem::Scope),
    // 400; a field that the signature needs is missing. The proxy sends all of them.
    ("MissingSecurityHeader", CredentialProblem::Scope),
    // 400; MinIO's name for a region that is not its own.
    ("InvalidRegion", CredentialProblem::Scope),
];

/// The complaint of an error code, if it is about the proxy's own credentials.
pub fn credential_problem(code: &str) -> Option<CredentialProblem> {
    CREDENTIAL_CODES.iter().find(|(known, _)| *known == code).map(|&(_, problem)| problem)
}

/// Returns true for a status with which the codes above come. The body has to be read before
/// anything is sent on.
pub const fn may_be_credentials_error(status: u16) -> bool {
    matches!(status, 400 | 401 | 403)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_is_found_in_the_documents_of_real_servers() {
        for body in [
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>a</Key></Error>",
            "<Error><Code>NoSuchKey</Code></Error>",
            "\u{feff}<?xml version='1.0'?><Error xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  <Code>\n NoSuchKey </Code>\n</Error>",
            "<s3:Error xmlns:s3='x>y'><s3:Code >NoSuchKey</s3:Code></s3:Error>",
            "<!-- <Error><Code>Wrong</Code> --><Error><Message>m</Message><Empty/><Code>NoSuchKey</Code></Error>",
            "<Error><Message><![CDATA[<Code>Wrong</Code>]]></Message><Code>NoSuchKey</Code></Error>",
            "<Error><Detail><Code>Wrong</Code></Detail><Code>NoSuchKey</Code></Error>",
            "<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchKey</Code></Error></ErrorResponse>",
            "<ErrorResponse><RequestId>1</RequestId><Error><Code>NoSuchKey</Code></Error></ErrorResponse>",
            "<!DOCTYPE x><Error><Code>NoSuchKey</Code><Message>cut o",
        ] {
            assert_eq!(error_code(body.as_bytes()), Some("NoSuchKey"), "{body}");
        }
    }

    #[test]
    fn what_is_not_an_error_document_has_no_code() {
        let long = format!("<Error><Code>{}</Code></Error>", "a".repeat(CODE_BYTES_MAX + 1));
        let late = format!("<Error>{}<Code>A</Code></Error>", " ".repeat(ERROR_BODY_BYTES_MAX));
        for body in [
            "",
            "NoSuchKey",
            "<",
            "<Error",
            "<Error>",
            "<Error/><Code>A</Code>",
            "<Error></Error><Code>A</Code>",
            "<Error><Code>",
            "<Error><Code>A",
            "<Error><Code/></Error>",
            "<Error><Code></Code></Error>",
            "<Error><Code>A B</Code></Error>",
            "<Error><Code>é</Code></Error>",
            "<Error><Codex>A</Codex></Error>",
            "<Error><!-- <Code>A</Code>",
            "<Code>A</Code>",
            "<html><body><Error><Code>A</Code></Error></body></html>",
            "<ErrorResponse><Code>A</Code></ErrorResponse>",
            "<ErrorResponse><x><Error><Code>A</Code></Error></x></ErrorResponse>",
            "{\"Code\":\"A\"}",
            &long,
            &late,
        ] {
            assert_eq!(error_code(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn codes_about_our_credentials_are_told_from_those_about_the_object() {
        for (code, problem) in [
            ("SignatureDoesNotMatch", CredentialProblem::Signature),
            ("InvalidAccessKeyId", CredentialProblem::KeyId),
            ("NotSignedUp", CredentialProblem::KeyId),
            ("InvalidSecurity", CredentialProblem::KeyId),
            ("ExpiredToken", CredentialProblem::Token),
            ("InvalidToken", CredentialProblem::Token),
            ("TokenRefreshRequired", CredentialProblem::Token),
            ("RequestTimeTooSkewed", CredentialProblem::Clock),
            ("AuthorizationHeaderMalformed", CredentialProblem::Scope),
            ("MissingSecurityHeader", CredentialProblem::Scope),
        ] {
            assert_eq!(credential_problem(code), Some(problem), "{code}");
        }
        for code in [
            "AccessDenied",
            "AllAccessDisabled",
            "NoSuchKey",
            "NoSuchBucket",
            "PermanentRedirect",
            "IncorrectEndpoint",
            "InvalidRange",
            "PreconditionFailed",
            "InvalidRequest",
            "SlowDown",
            "KeyTooLongError",
            "InvalidObjectState",
            "signaturedoesnotmatch",
            "",
        ] {
            assert_eq!(credential_problem(code), None, "{code}");
        }
        assert!([400, 401, 403].into_iter().all(may_be_credentials_error));
        assert!(
            ![200, 206, 301, 304, 404, 412, 416, 500, 503]
                .into_iter()
                .any(may_be_credentials_error)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = error_code(&body);
        }

        #[test]
        fn no_markup_makes_it_panic_or_invent_a_code(
            body in "(<|>|/|Error|Code|ErrorResponse|<Error>|<Code>|</|-->|<!--|<!\\[CDATA\\[|\\]\\]>|\"|'|=| |A){0,30}"
        ) {
            if let Some(code) = error_code(body.as_bytes()) {
                prop_assert!(body.contains(code) && !code.is_empty());
            }
        }

        #[test]
        fn a_cut_document_gives_the_same_code_or_none(cut in 0usize..200) {
            let body = b"<?xml version=\"1.0\"?><Error><Message>m</Message><Code>ExpiredToken</Code><Token-0>x</Token-0></Error>";
            let code = error_code(&body[..cut.min(body.len())]);
            prop_assert!(matches!(code, None | Some("ExpiredToken")));
        }
    }
}
