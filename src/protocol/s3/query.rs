//! Queries of requests to S3, in the one form that is both sent and signed.

use crate::protocol::s3::key::encode_value;

/// Appends the canonical query of these parameters to `out`, without a `?`: in the order of their
/// names, each with `=`, values URI-encoded once. Nothing for none.
///
/// Names are those of this program: unreserved characters only, each at most once, so that their
/// order does not depend on their encoding.
///
/// Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request", the
/// canonical query string.
pub fn append_query(parameters: &mut [(&'static str, &[u8])], out: &mut Vec<u8>) {
    parameters.sort_unstable_by_key(|(name, _)| *name);
    debug_assert!(parameters.is_sorted_by(|(one, _), (next, _)| one < next), "a name twice");
    let start = out.len();
    for (name, value) in parameters {
        if out.len() > start {
            out.push(b'&');
        }
        let name_at = out.len();
        encode_value(name.as_bytes(), out);
        debug_assert_eq!(&out[name_at..], name.as_bytes(), "a name that has to be encoded");
        out.push(b'=');
        encode_value(value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(parameters: &[(&'static str, &str)]) -> String {
        let mut parameters: Vec<_> =
            parameters.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let mut out = b"/bucket?".to_vec();
        append_query(&mut parameters, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("/bucket?").unwrap().to_owned()
    }

    #[test]
    fn names_are_sorted_and_values_are_encoded_once() {
        for (parameters, expected) in [
            (&[][..], ""),
            (&[("versionId", "abc")], "versionId=abc"),
            (&[("delimiter", "/"), ("list-type", "2")], "delimiter=%2F&list-type=2"),
            (&[("prefix", ""), ("list-type", "2")], "list-type=2&prefix="),
            (
                &[("versionId", "a+b/c=="), ("partNumber", "7")],
                "partNumber=7&versionId=a%2Bb%2Fc%3D%3D",
            ),
            (
                &[("response-content-disposition", "attachment; filename=\"\u{516b} 1%.txt\"")],
                "response-content-disposition=attachment%3B%20filename%3D%22%E5%85%AB%201%25.txt%22",
            ),
        ] {
            assert_eq!(query(parameters), expected);
        }
    }
}
