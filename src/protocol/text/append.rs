//! Text put together from pieces.

/// Appends the pieces, one behind the other.
///
/// One piece of code for all lines of all heads: each `extend_from_slice` would otherwise be
/// inlined with its own check for room, and a request runs through dozens of them once.
#[inline(never)]
pub fn append_all(pieces: &[&[u8]], out: &mut Vec<u8>) {
    out.reserve(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stand_behind_what_was_there() {
        let mut out = b"a".to_vec();
        append_all(&[b"bc", b"", b"d"], &mut out);
        append_all(&[], &mut out);
        assert_eq!(out, b"abcd");
    }
}
