//! The fields of a response, put through the rules of its bucket. A bucket without such rules does
//! not come here.

use crate::{
    data_plane::exchange::{
        client::ResponseWriter,
        context::{Kind, OwnFields},
    },
    policy::site::{Site, cors::Grant, headers::Response},
    protocol::http1::{append_field, first_value, merge_list, retain_fields},
};

/// Beginning of the fields that the rules for other origins make, whoever else sent some.
const OF_CORS: &[u8] = b"access-control-";

/// Beginnings of the fields that only S3 and its likes send.
const OF_S3: [&[u8]; 4] = [b"x-amz-", b"x-goog-", b"x-minio-", b"x-rgw-"];

/// Other fields that tell where an object comes from. A redirect of S3 leads to the bucket itself.
const OF_ORIGINS: [&[u8]; 2] = [b"server", b"location"];

const VARY: &[u8] = b"vary";

/// Puts the fields of a head through the rules of the bucket.
pub(super) fn apply(own: &OwnFields<'_>, site: &Site, response: &mut impl ResponseWriter) {
    let cors = site.cors.as_ref();
    let headers = site.headers.as_deref();
    let (lines, start) = response.field_lines();
    let (object, is_of_s3) = match own.kind {
        Kind::OfS3(object) => (object, true),
        Kind::Own | Kind::Preflight => (None, false),
    };
    let mut content_type = own.core.buffers.scratch();
    if headers.is_some() {
        let written = lines.get(start..).and_then(|lines| first_value(lines, b"content-type"));
        content_type.extend_from_slice(written.unwrap_or_default());
    }
    let about = Response {
        key: object.map(|object| object.key),
        content_type: Some(&*content_type).filter(|value| !value.is_empty()).map(Vec::as_slice),
        is_not_modified: object.is_some_and(|object| object.is_not_modified),
        is_tls: own.is_tls,
    };
    let mut vary = own.core.buffers.scratch();
    retain_fields(lines, start, |name, value| {
        let is_replaced = cors.is_some() && begins(name, OF_CORS);
        let is_hidden = site.hide_s3 && is_of_s3 && tells_of_s3(name);
        let is_kept = headers.is_none_or(|headers| headers.keeps(name, &about));
        if is_replaced || is_hidden || !is_kept {
            return false;
        }
        if name.eq_ignore_ascii_case(VARY) {
            merge_list(value, &mut vary);
            return false;
        }
        true
    });
    if let Some(headers) = headers {
        for (name, value) in headers.fields(&about) {
            if cors.is_none() || !begins(name.as_bytes(), OF_CORS) {
                append((name, value), lines);
            }
        }
        headers.vary(&about).for_each(|value| merge_list(value.as_bytes(), &mut vary));
    }
    merge_list(own.vary, &mut vary);
    if let Some(cors) = cors {
        let origins = own.request.into_iter().flat_map(|request| request.values(b"origin"));
        let grant: Grant<'_> = cors.grant(origins);
        if cors.varies() {
            merge_list(b"Origin", &mut vary);
        }
        if matches!(own.kind, Kind::Preflight) {
            cors.preflight(grant).for_each(|field| append(field, lines));
            let asked = b"Access-Control-Request-Method, Access-Control-Request-Headers";
            merge_list(asked, &mut vary);
        } else {
            cors.fields(grant).for_each(|field| append(field, lines));
        }
    }
    if !vary.is_empty() {
        append_field("Vary", &vary, lines);
    }
}

fn tells_of_s3(name: &[u8]) -> bool {
    OF_S3.iter().any(|beginning| begins(name, beginning))
        || OF_ORIGINS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn begins(name: &[u8], beginning: &[u8]) -> bool {
    name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn append((name, value): (&str, &str), lines: &mut Vec<u8>) {
    append_field(name, value.as_bytes(), lines);
}
