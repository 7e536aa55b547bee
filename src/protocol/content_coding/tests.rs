use std::io::Read as _;

use proptest::prelude::*;

use super::*;

/// The body, decoded by the same libraries; an error if it has no end.
fn decoded(coding: Coding, coded: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(coded).read_to_end(&mut body)?,
        Coding::Brotli => ::brotli::Decompressor::new(coded, 4_096).read_to_end(&mut body)?,
        Coding::Zstd => return zstd_decoded(coded),
    };
    Ok(body)
}

fn zstd_decoded(coded: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut context = zstd_safe::DCtx::create();
    let mut body = Vec::new();
    let mut from = zstd_safe::InBuffer::around(coded);
    loop {
        let mut part = [0; 4_096];
        let mut to = zstd_safe::OutBuffer::around(&mut part[..]);
        let hint = context.decompress_stream(&mut to, &mut from);
        let hint = hint.map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
        let count = to.pos();
        body.extend_from_slice(&part[..count]);
        if hint == 0 && from.pos() == coded.len() {
            return Ok(body);
        }
        if count < part.len() && from.pos() == coded.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Goes on until an operation is done, with an output of `room` bytes at a time.
fn run(
    encoder: &mut Encoder,
    operation: Operation,
    mut input: &[u8],
    room: usize,
    out: &mut Vec<u8>,
) {
    let mut output = vec![0; room];
    loop {
        let step = encoder.step(operation, input, &mut output).unwrap();
        out.extend_from_slice(&output[..step.written]);
        input = &input[step.read..];
        if step.is_done {
            assert!(input.is_empty());
            return;
        }
        assert!(step.read > 0 || step.written > 0, "no progress");
    }
}

/// Text that compresses about as well as a page does.
fn text(length: usize) -> Vec<u8> {
    let mut seed = 7_u32;
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("<p>{}</p> ", seed >> 20).as_bytes());
    }
    text.truncate(length);
    text
}

#[test]
fn bodies_of_every_size_come_back_and_encoders_serve_again() {
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding).unwrap();
        assert_eq!(encoder.coding(), coding);
        for length in [0, 1, 2, 1_023, 1_024, 16_384, 131_071, 131_072, 131_073, 3_000_000] {
            let body = text(length);
            for declared in [Some(length as u64), None] {
                let mut coded = Vec::new();
                encoder.begin(declared).unwrap();
                for part in body.chunks(16_384) {
                    run(&mut encoder, Operation::Encode, part, 16_384, &mut coded);
                }
                run(&mut encoder, Operation::Finish, &[], 16_384, &mut coded);
                assert_eq!(decoded(coding, &coded).unwrap(), body, "{coding:?} {length}");
                assert!(length < 1_023 || coded.len() < length * 2 / 3, "{coding:?} {length}");
            }
        }
    }
}

#[test]
fn what_was_flushed_can_be_decoded_before_the_end_and_is_not_whole() {
    let body = text(100_000);
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding).unwrap();
        encoder.begin(None).unwrap();
        let mut coded = Vec::new();
        run(&mut encoder, Operation::Encode, &body, 1_000, &mut coded);
        run(&mut encoder, Operation::Flush, &[], 1_000, &mut coded);
        assert!(decoded(coding, &coded).is_err(), "{coding:?} looks whole without its end");
        run(&mut encoder, Operation::Finish, &[], 1_000, &mut coded);
        assert_eq!(decoded(coding, &coded).unwrap(), body, "{coding:?}");
    }
}

#[test]
fn a_body_that_was_given_up_leaves_nothing_in_the_next() {
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding).unwrap();
        encoder.begin(Some(1_000_000)).unwrap();
        run(&mut encoder, Operation::Encode, &text(300_000), 16_384, &mut Vec::new());
        encoder.begin(Some(5)).unwrap();
        let mut coded = Vec::new();
        run(&mut encoder, Operation::Encode, b"short", 16_384, &mut coded);
        run(&mut encoder, Operation::Finish, &[], 16_384, &mut coded);
        assert_eq!(decoded(coding, &coded).unwrap(), b"short", "{coding:?}");
    }
}

proptest! {
    #[test]
    fn any_body_in_any_parts_comes_back(
        parts in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..3_000), any::<bool>()),
            0..12,
        ),
        room in 32_usize..5_000,
    ) {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding).unwrap();
            encoder.begin(None).unwrap();
            let (mut coded, mut body) = (Vec::new(), Vec::new());
            for (part, flushes) in &parts {
                body.extend_from_slice(part);
                run(&mut encoder, Operation::Encode, part, room, &mut coded);
                if *flushes {
                    run(&mut encoder, Operation::Flush, &[], room, &mut coded);
                }
            }
            run(&mut encoder, Operation::Finish, &[], room, &mut coded);
            prop_assert_eq!(decoded(coding, &coded).unwrap(), body);
        }
    }
}
