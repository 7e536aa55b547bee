use proptest::prelude::*;

use super::*;

fn url(text: &str) -> EndpointUrl {
    EndpointUrl::parse(text).unwrap()
}

#[test]
fn endpoints_are_parsed_into_scheme_host_and_port() {
    for (text, scheme, host, port, default_port, field) in [
        ("http://minio", Scheme::Http, "minio", 80, true, "minio"),
        (
            "https://minio.internal:9000",
            Scheme::Https,
            "minio.internal",
            9000,
            false,
            "minio.internal:9000",
        ),
        ("HTTPS://Minio.Internal/", Scheme::Https, "minio.internal", 443, true, "minio.internal"),
        ("https://minio:443", Scheme::Https, "minio", 443, true, "minio"),
        ("http://minio:443", Scheme::Http, "minio", 443, false, "minio:443"),
        ("http://10.0.0.7:80/", Scheme::Http, "10.0.0.7", 80, true, "10.0.0.7"),
        ("http://my_minio_1:9000", Scheme::Http, "my_minio_1", 9000, false, "my_minio_1:9000"),
        ("http://[::1]:9000", Scheme::Http, "::1", 9000, false, "[::1]:9000"),
        ("https://[2001:DB8:0:0::1]", Scheme::Https, "2001:db8::1", 443, true, "[2001:db8::1]"),
    ] {
        let parsed = url(text);
        let expected = EndpointUrl { scheme, host: host.to_owned(), port, default_port };
        assert_eq!(parsed, expected, "{text}");
        assert_eq!(parsed.host_field(), field, "{text}");
        assert_eq!(url(&parsed.to_string()), parsed, "{text}");
    }
}

#[test]
fn each_refusal_says_what_to_change() {
    let long_label = format!("http://{}", "a".repeat(64));
    let long_host = format!("http://{}", ["a".repeat(63).as_str(); 4].join("."));
    for (text, error) in [
        ("", EndpointError::Scheme),
        ("minio.internal:9000", EndpointError::Scheme),
        ("//minio", EndpointError::Scheme),
        ("s3://bucket", EndpointError::Scheme),
        (" http://minio", EndpointError::Scheme),
        ("http://user:pw@minio", EndpointError::UserInfo),
        ("http://user:p:w@minio:9000/x", EndpointError::UserInfo),
        ("http://minio/bucket", EndpointError::Path),
        ("http://minio//", EndpointError::Path),
        ("http://minio?x", EndpointError::QueryOrFragment),
        ("http://minio/#x", EndpointError::QueryOrFragment),
        ("http://", EndpointError::NoHost),
        ("http:///", EndpointError::NoHost),
        ("http://:9000", EndpointError::NoHost),
        ("http://[::1", EndpointError::BadIpv6),
        ("http://[::1]9000", EndpointError::BadIpv6),
        ("http://[fe80::1%25eth0]", EndpointError::BadIpv6),
        ("http://[10.0.0.1]", EndpointError::BadIpv6),
        ("http://2001:db8::1", EndpointError::BareIpv6),
        ("http://münio", EndpointError::NotAscii),
        ("http://mi nio", EndpointError::BadHost),
        ("http://minio ", EndpointError::BadHost),
        ("http://mi\r\nnio", EndpointError::BadHost),
        ("http://minio..internal", EndpointError::BadHost),
        ("http://minio.", EndpointError::BadHost),
        ("http://10.0.0.300", EndpointError::BadHost),
        ("http://1.2.3", EndpointError::BadHost),
        (&long_label, EndpointError::BadHost),
        (&long_host, EndpointError::BadHost),
        ("http://minio:", EndpointError::BadPort),
        ("http://minio:0", EndpointError::BadPort),
        ("http://minio:65536", EndpointError::BadPort),
        ("http://minio:+80", EndpointError::BadPort),
        ("http://minio:http", EndpointError::BadPort),
        ("http://[::1]:", EndpointError::BadPort),
        ("http://a:b:c", EndpointError::BadPort),
    ] {
        assert_eq!(EndpointUrl::parse(text), Err(error), "{text}");
        assert!(!error.to_string().is_empty());
    }
}

fn addressed(
    endpoint: Option<&str>,
    region: &str,
    bucket: &str,
    key_prefix: &str,
    addressing: Addressing,
) -> (String, String, String) {
    let endpoint = endpoint.map(url);
    let it = address(endpoint.as_ref(), region, bucket, key_prefix, addressing);
    let prefix = String::from_utf8(it.target_prefix).unwrap();
    (it.url.to_string(), it.host, prefix)
}

#[test]
fn auto_is_virtual_for_aws_and_path_for_an_endpoint_or_a_dotted_name() {
    use Addressing::{Auto, Path, Virtual};
    let minio = Some("https://minio.internal:9000");
    for (endpoint, region, bucket, addressing, to, host, prefix) in [
        (
            None,
            "us-east-1",
            "b-1",
            Auto,
            "https://b-1.s3.us-east-1.amazonaws.com",
            "b-1.s3.us-east-1.amazonaws.com",
            "/",
        ),
        (
            None,
            "eu-west-1",
            "b.1",
            Auto,
            "https://s3.eu-west-1.amazonaws.com",
            "s3.eu-west-1.amazonaws.com",
            "/b.1/",
        ),
        (
            None,
            "eu-west-1",
            "b-1",
            Path,
            "https://s3.eu-west-1.amazonaws.com",
            "s3.eu-west-1.amazonaws.com",
            "/b-1/",
        ),
        (
            None,
            "cn-north-1",
            "b-1",
            Virtual,
            "https://b-1.s3.cn-north-1.amazonaws.com.cn",
            "b-1.s3.cn-north-1.amazonaws.com.cn",
            "/",
        ),
        (
            None,
            "eusc-de-east-1",
            "b-1",
            Path,
            "https://s3.eusc-de-east-1.amazonaws.eu",
            "s3.eusc-de-east-1.amazonaws.eu",
            "/b-1/",
        ),
        (
            None,
            "us-gov-west-1",
            "b-1",
            Auto,
            "https://b-1.s3.us-gov-west-1.amazonaws.com",
            "b-1.s3.us-gov-west-1.amazonaws.com",
            "/",
        ),
        (
            minio,
            "us-east-1",
            "b-1",
            Auto,
            "https://minio.internal:9000",
            "minio.internal:9000",
            "/b-1/",
        ),
        (
            minio,
            "us-east-1",
            "b-1",
            Path,
            "https://minio.internal:9000",
            "minio.internal:9000",
            "/b-1/",
        ),
        (
            minio,
            "us-east-1",
            "b-1",
            Virtual,
            "https://b-1.minio.internal:9000",
            "b-1.minio.internal:9000",
            "/",
        ),
        (Some("http://10.0.0.1:80"), "x", "b-1", Virtual, "http://10.0.0.1", "10.0.0.1", "/b-1/"),
        (Some("http://[::1]:9000"), "x", "b-1", Auto, "http://[::1]:9000", "[::1]:9000", "/b-1/"),
    ] {
        let expected = (to.to_owned(), host.to_owned(), prefix.to_owned());
        assert_eq!(addressed(endpoint, region, bucket, "", addressing), expected);
    }
}

#[test]
fn the_key_prefix_is_encoded_and_put_before_the_key_as_it_is() {
    let of = |prefix, addressing| addressed(Some("http://m"), "r", "b-1", prefix, addressing).2;
    assert_eq!(of("a b/+", Addressing::Path), "/b-1/a%20b/%2B");
    assert_eq!(of("tenant/", Addressing::Virtual), "/tenant/");
    assert_eq!(of("/", Addressing::Virtual), "//");
}

#[test]
fn addressing_that_cannot_work_is_refused_with_advice() {
    let ip = url("https://10.0.0.1");
    let name = url("https://minio");
    assert!(check_addressing(Some(&ip), "b-1", Addressing::Virtual).is_err());
    assert!(check_addressing(None, "b.1", Addressing::Virtual).is_err());
    for addressing in [Addressing::Auto, Addressing::Path] {
        assert_eq!(check_addressing(Some(&ip), "b.1", addressing), Ok(()));
        assert_eq!(check_addressing(None, "b.1", addressing), Ok(()));
    }
    assert_eq!(check_addressing(Some(&name), "b.1", Addressing::Virtual), Ok(()));
    assert_eq!(check_addressing(None, "b-1", Addressing::Virtual), Ok(()));
}

proptest! {
    #[test]
    fn what_parses_can_stand_in_a_host_field(text in "https?://[\\PC]{0,20}(:[0-9]{0,6})?/?") {
        if let Ok(parsed) = EndpointUrl::parse(&text) {
            let field = parsed.host_field();
            prop_assert!(field.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b)));
            prop_assert_eq!(EndpointUrl::parse(&parsed.to_string()), Ok(parsed));
        }
    }
}
