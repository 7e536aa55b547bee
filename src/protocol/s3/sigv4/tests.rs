use super::*;

/// The credentials and the time of the examples in the AWS documentation.
const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const MAY_24_2013: u64 = 1_369_353_600;

const EMPTY_SHA256: &str = empty_sha256!();

fn text(hash: &[u8]) -> String {
    String::from_utf8(hash_digits(hash).to_vec()).unwrap()
}

fn input() -> SigningInput<'static> {
    SigningInput {
        method: "GET",
        host: "examplebucket.s3.amazonaws.com",
        target: b"/test.txt",
        query_bytes: 0,
        access_key: ACCESS_KEY,
        session_token: None,
    }
}

fn canonical_request(date: &AmzDate, input: &SigningInput<'_>) -> String {
    let mut out = Vec::new();
    append_canonical_request(&PerSecond::of("", date, input), input, &mut out);
    String::from_utf8(out).unwrap()
}

/// Signed by a key of the day that has signed before.
fn signed_again(
    key: &mut DayKey,
    recent: &mut RecentSignatures,
    signer: Signer,
    date: &AmzDate,
    input: &SigningInput<'_>,
) -> String {
    let mut out = b"GET / HTTP/1.1\r\n".to_vec();
    key.sign(recent, signer, date, input).append_to(&mut out);
    String::from_utf8(out).unwrap()
}

fn signed(key: &SigningKey, date: &AmzDate, input: &SigningInput<'_>) -> String {
    let mut scratch = b"left over".to_vec();
    let mut out = b"GET / HTTP/1.1\r\n".to_vec();
    append_signed_headers(key, date, input, &mut scratch, &mut out);
    String::from_utf8(out).unwrap()
}

/// "Example: GET Object". It signs `range` as well, which we never do, so its canonical request
/// is written out here; everything that follows from it is ours.
#[test]
fn the_get_object_example_of_the_aws_documentation_gives_its_signature() {
    let canonical_request = format!(
        "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n\
         x-amz-content-sha256:{EMPTY_SHA256}\nx-amz-date:20130524T000000Z\n\n\
         host;range;x-amz-content-sha256;x-amz-date\n{EMPTY_SHA256}"
    );
    let canonical_hash = digest::digest(&digest::SHA256, canonical_request.as_bytes());
    let date = AmzDate::from_unix(MAY_24_2013);
    let key = SigningKey::derive(SECRET, &date, "us-east-1");
    let shared = PerSecond::of(&key.scope, &date, &input());
    let mut string_to_sign = Vec::new();
    append_string_to_sign(shared.to_sign(), canonical_hash.as_ref(), &mut string_to_sign);
    assert_eq!(
        String::from_utf8(string_to_sign.clone()).unwrap(),
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n\
         7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    );
    assert_eq!(
        text(hmac::sign(&key.key, &string_to_sign).as_ref()),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
}

#[test]
fn the_canonical_request_has_the_documented_lines() {
    let date = AmzDate::from_unix(MAY_24_2013);
    assert_eq!(
        canonical_request(&date, &input()),
        format!(
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\n\
             x-amz-content-sha256:{EMPTY_SHA256}\nx-amz-date:20130524T000000Z\n\n\
             host;x-amz-content-sha256;x-amz-date\n{EMPTY_SHA256}"
        )
    );
}

/// "Example: GET Bucket (List Objects)".
#[test]
fn the_list_objects_example_of_the_aws_documentation_gives_its_signature() {
    let date = AmzDate::from_unix(MAY_24_2013);
    let mut target = b"/?".to_vec();
    let query = b"max-keys=2&prefix=J";
    crate::protocol::s3::append_query(&mut [("prefix", b"J"), ("max-keys", b"2")], &mut target);
    assert!(target.ends_with(query));
    let input = SigningInput { target: &target, query_bytes: query.len(), ..input() };
    assert_eq!(
        canonical_request(&date, &input),
        format!(
            "GET\n/\nmax-keys=2&prefix=J\nhost:examplebucket.s3.amazonaws.com\n\
             x-amz-content-sha256:{EMPTY_SHA256}\nx-amz-date:20130524T000000Z\n\n\
             host;x-amz-content-sha256;x-amz-date\n{EMPTY_SHA256}"
        )
    );
    let key = SigningKey::derive(SECRET, &date, "us-east-1");
    let signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    assert!(signed(&key, &date, &input).contains(signature));
}

#[test]
fn both_ways_to_sign_give_the_same_signature() {
    for seconds in [MAY_24_2013, MAY_24_2013, MAY_24_2013 + 1] {
        let date = AmzDate::from_unix(seconds);
        let mut key = SigningKey::derive(SECRET, &date, "us-east-1");
        assert_eq!(key.kept.is_some(), kept::has_sha_instructions());
        let mut signed_by = |kept| {
            key.kept = kept;
            [input(), SigningInput { session_token: Some(b"T0K"), ..input() }]
                .map(|input| signed(&key, &date, &input))
        };
        let bytes = SigningKey::derive_bytes("s3", SECRET, &date, "us-east-1");
        let kept = Kept::new(bytes.as_ref().try_into().unwrap());
        assert_eq!(signed_by(Some(kept)), signed_by(None));
    }
}

#[test]
fn the_empty_body_has_that_hash() {
    assert_eq!(text(digest::digest(&digest::SHA256, b"").as_ref()), EMPTY_SHA256);
}

#[test]
fn the_fields_are_appended_whole_lines_after_what_is_there() {
    let date = AmzDate::from_unix(MAY_24_2013);
    let key = SigningKey::derive(SECRET, &date, "us-east-1");
    let head = signed(&key, &date, &input());
    let lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], "GET / HTTP/1.1");
    assert_eq!(lines[1], "x-amz-date: 20130524T000000Z");
    assert_eq!(lines[2], format!("x-amz-content-sha256: {EMPTY_SHA256}"));
    let signature = lines[3]
        .strip_prefix(
            "authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/\
             aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=",
        )
        .unwrap();
    assert_eq!(signature.len(), 64);
    assert_eq!(lines[4], "");

    let with_token = signed(&key, &date, &SigningInput { session_token: Some(b"T0K"), ..input() });
    assert!(with_token.contains("\r\nx-amz-security-token: T0K\r\nauthorization: "));
    assert!(
        with_token
            .contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, ")
    );
    assert!(!with_token.contains(signature), "the token has to be part of what is signed");
}

#[test]
fn a_daily_key_is_right_on_both_sides_of_midnight_and_back() {
    let before = AmzDate::from_unix(MAY_24_2013 - 1);
    let after = AmzDate::from_unix(MAY_24_2013);
    assert_ne!(before.date(), after.date());
    let mut daily = DailyKey::default();
    // A clock that is set back must not be served with the key of tomorrow either.
    for date in [before, before, after, after, before, after] {
        let derived = SigningKey::derive(SECRET, &date, "us-east-1");
        let expected = signed(&derived, &date, &input());
        let day = daily.get(0, SECRET, &date, "us-east-1");
        assert!(day.key.is_for(&date));
        for _ in 0..2 {
            let recent = &mut RecentSignatures::default();
            let got = signed_again(day, recent, Signer::default(), &date, &input());
            assert_eq!(got, expected);
        }
    }
}

#[test]
fn credentials_of_another_number_never_meet_an_old_key() {
    let date = AmzDate::from_unix(MAY_24_2013);
    let mut daily = DailyKey::default();
    let mut recent = RecentSignatures::default();
    let (one, two) = ((1, b"one".as_slice()), (2, b"two".as_slice()));
    for (serial, secret) in [one, two, two, one, one] {
        let token = [b"token ", secret].concat();
        let input = SigningInput { session_token: Some(&token), ..input() };
        let expected = signed(&SigningKey::derive(secret, &date, "us-east-1"), &date, &input);
        let day = daily.get(serial, secret, &date, "us-east-1");
        let signer = Signer { bucket: 0, serial };
        assert_eq!(signed_again(day, &mut recent, signer, &date, &input), expected);
    }
}

#[test]
fn a_remembered_signature_gives_the_same_fields() {
    let mut recent = RecentSignatures::default();
    for second in [0, 0, 1, 1, 0] {
        let date = AmzDate::from_unix(MAY_24_2013 + second);
        let day = |secret: &[u8]| {
            let key = SigningKey::derive(secret, &date, "us-east-1");
            DayKey { key, per_second: PerSecond::default() }
        };
        for method in ["GET", "HEAD"] {
            for session_token in [None, Some(b"T0K".as_slice())] {
                // Another token is another bucket's, another generation's, or has another number.
                let signer = Signer { bucket: 0, serial: u64::from(session_token.is_some()) };
                let input = SigningInput { method, session_token, ..input() };
                let mut got =
                    |key: &mut DayKey| signed_again(key, &mut recent, signer, &date, &input);
                let mut key = day(SECRET);
                let expected = signed(&key.key, &date, &input);
                assert_eq!((got(&mut key), got(&mut key)), (expected.clone(), expected.clone()));
                // Were it made again, it would be another one.
                assert_eq!(got(&mut day(b"other")), expected);
            }
        }
    }
}

#[test]
fn what_requests_of_a_second_have_in_common_is_never_of_another_second() {
    let mut daily = DailyKey::default();
    // The first second of all is one like any other, for a clock that was never set.
    for second in [0, 0, 1, 2, 1, 0] {
        let date = AmzDate::from_unix(second);
        let expected = signed(&SigningKey::derive(SECRET, &date, "us-east-1"), &date, &input());
        let day = daily.get(0, SECRET, &date, "us-east-1");
        let recent = &mut RecentSignatures::default();
        let got = signed_again(day, recent, Signer::default(), &date, &input());
        assert_eq!(got, expected, "second {second}");
    }
}

#[test]
fn keys_differ_by_secret_day_and_region() {
    let date = AmzDate::from_unix(MAY_24_2013);
    let tomorrow = AmzDate::from_unix(MAY_24_2013 + 86_400);
    let raw = |secret: &[u8], date: &AmzDate, region: &str| {
        text(hmac::sign(&SigningKey::derive(secret, date, region).key, b"x").as_ref())
    };
    let one = raw(SECRET, &date, "us-east-1");
    assert_eq!(raw(SECRET, &date, "us-east-1"), one);
    assert_ne!(raw(b"other", &date, "us-east-1"), one);
    assert_ne!(raw(SECRET, &tomorrow, "us-east-1"), one);
    assert_ne!(raw(SECRET, &date, "us-east-2"), one);
}

#[test]
fn debug_shows_no_key_and_no_token() {
    let date = AmzDate::from_unix(MAY_24_2013);
    let mut daily = DailyKey::default();
    let day = daily.get(0, SECRET, &date, "us-east-1");
    let with_token = SigningInput { session_token: Some(b"T0K"), ..input() };
    let recent = &mut RecentSignatures::default();
    let fields = format!("{:?}", day.sign(recent, Signer::default(), &date, &with_token));
    assert_eq!(fields, "SignedFields { .. }");
    let shown = format!("{day:?}");
    assert_eq!(
        shown,
        "DayKey { key: SigningKey { scope: \"20130524/us-east-1/s3/aws4_request\", .. }, \
         per_second: PerSecond { date: Some(20130524T000000Z), .. } }"
    );
    let shown = format!("{with_token:?}");
    assert!(!shown.contains("T0K") && !shown.contains(ACCESS_KEY), "{shown}");
}
