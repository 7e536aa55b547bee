//! The fields of a response, put through the rules of its bucket. A bucket without such rules does
//! not come here.

use crate::{
    data_plane::exchange::{
        client::ResponseWriter,
        context::{Kind, OwnFields},
    },
    policy::site::{Site, cors::Grant},
    protocol::http1::{append_field, merge_list, retain_fields},
};

/// Fields that the rules for other origins make, whoever else sent some.
const CORS_PREFIX: &[u8] = b"access-control-";

const VARY: &[u8] = b"vary";

/// Puts the fields of a head through the rules of the bucket.
pub(super) fn apply(own: &OwnFields<'_>, site: &Site, response: &mut impl ResponseWriter) {
    let cors = site.cors.as_ref();
    let (lines, start) = response.field_lines();
    let mut vary = own.core.buffers.scratch();
    retain_fields(lines, start, |name, value| {
        if name.eq_ignore_ascii_case(VARY) {
            merge_list(value, &mut vary);
            return false;
        }
        !(cors.is_some() && is_of_cors(name))
    });
    if let Some(cors) = cors {
        let origins = own.request.into_iter().flat_map(|request| request.values(b"origin"));
        let grant: Grant<'_> = cors.grant(origins);
        match own.kind {
            Kind::Actual => cors.fields(grant).for_each(|field| append(field, lines)),
            Kind::Preflight => cors.preflight(grant).for_each(|field| append(field, lines)),
        }
        if cors.varies() {
            merge_list(b"Origin", &mut vary);
        }
        if own.kind == Kind::Preflight {
            let asked = b"Access-Control-Request-Method, Access-Control-Request-Headers";
            merge_list(asked, &mut vary);
        }
    }
    if !vary.is_empty() {
        append_field("Vary", &vary, lines);
    }
}

fn is_of_cors(name: &[u8]) -> bool {
    name.get(..CORS_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(CORS_PREFIX))
}

fn append((name, value): (&str, &str), lines: &mut Vec<u8>) {
    append_field(name, value.as_bytes(), lines);
}
