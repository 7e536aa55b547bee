//! Each kind of source: what it asks, what it understands, and what it says when it cannot.

use super::*;
use crate::{
    config::settings::{RoleSettings, SourceKind, SourceSettings},
    control_plane::providers::credentials::{
        document::Given,
        outside::{Chance, SourceProblem},
        source::fetch,
    },
    protocol::s3::EndpointUrl,
};

const ARN: &str = "arn:aws:iam::123456789012:role/reader";

fn source(kind: SourceKind) -> SourceSettings {
    SourceSettings { kind, ..SourceSettings::default_chain() }
}

fn key(given: &Given) -> &str {
    &given.credentials.access_key
}

/// The problem of a source, which must not show what is secret.
#[track_caller]
fn problem(kind: SourceKind, world: &World) -> SourceProblem {
    let problem = fetch(&source(kind), world).unwrap_err();
    assert!(!format!("{problem:?}").contains("CANARY"), "{problem}");
    problem
}

#[test]
fn the_environment_gives_permanent_and_temporary_keys() {
    let variables = [("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", CANARY)];
    let given = fetch(&source(SourceKind::Env), &World::new(&variables)).unwrap();
    assert_eq!((key(&given), given.ends), ("AK", None));
    assert!(!format!("{given:?}").contains(CANARY));
    let world = World::new(&[variables[0], variables[1], ("AWS_SESSION_TOKEN", "T")]);
    let given = fetch(&source(SourceKind::Env), &world).unwrap();
    assert_eq!(given.credentials.session_token.unwrap().expose(), b"T");

    let found = problem(SourceKind::Env, &World::new(&[]));
    assert_eq!(
        (found.chance, &*found.text),
        (Chance::NotConfigured, "AWS_ACCESS_KEY_ID is not set")
    );
    for half in variables {
        let found = problem(SourceKind::Env, &World::new(&[half]));
        assert_eq!(found.chance, Chance::Wrong);
    }
    let broken = [variables[0], ("AWS_SECRET_ACCESS_KEY", "CANARY\r\nx")];
    assert_eq!(problem(SourceKind::Env, &World::new(&broken)).chance, Chance::Wrong);
}

/// A metadata service that wants a token of its own, as version 2 does.
#[expect(clippy::unnecessary_wraps, reason = "what every service here returns")]
fn metadata(asked: &Asked) -> Result<(u16, String), FetchError> {
    let has_token = asked.text.contains("\r\nX-aws-ec2-metadata-token: the-token\r\n");
    let roles = "/latest/meta-data/iam/security-credentials/";
    match asked.url.split_once("169.254.169.254").unwrap().1 {
        "/latest/api/token" => {
            assert!(asked.text.starts_with("PUT "), "{asked:?}");
            assert!(asked.text.contains("\r\nX-aws-ec2-metadata-token-ttl-seconds: "), "{asked:?}");
            Ok((200, "the-token".to_owned()))
        }
        _ if !has_token => Ok((401, String::new())),
        target if target == roles => Ok((200, "the-role\n".to_owned())),
        target if target == format!("{roles}the-role") => Ok((200, document("ASIA", LATE))),
        _ => Ok((404, String::new())),
    }
}

#[test]
fn the_metadata_service_is_asked_in_version_2_only() {
    let world = World::new(&[]).responding(metadata);
    let given = fetch(&source(SourceKind::Imds), &world).unwrap();
    assert_eq!(key(&given), "ASIA");
    let asked = world.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.timeout == Duration::from_secs(1)));
    // One that knows no tokens is not asked for credentials.
    for (status, word) in [(404, "version 2"), (405, "version 2"), (403, "switched off")] {
        let world = World::new(&[]).responding(move |_| Ok((status, CANARY.to_owned())));
        let found = problem(SourceKind::Imds, &world);
        assert_eq!(world.asked().len(), 1);
        assert_eq!(found.chance, Chance::Wrong);
        assert!(found.text.contains(word), "{found}");
    }
}

#[test]
fn the_metadata_service_has_two_tries_for_each_request() {
    let world = World::new(&[]);
    let found = problem(SourceKind::Imds, &world);
    assert_eq!(world.asked().len(), 2);
    assert_eq!(found.chance, Chance::MayPass);
    assert!(found.text.contains("connecting took too long"), "{found}");
    // Each request fails once.
    let world = World::new(&[]);
    let failed = Mutex::new(std::collections::HashSet::new());
    let world = world.responding(move |asked| {
        if failed.lock().unwrap().insert(asked.url.clone()) {
            return Ok((500, String::new()));
        }
        metadata(asked)
    });
    assert_eq!(key(&fetch(&source(SourceKind::Imds), &world).unwrap()), "ASIA");
    assert_eq!(world.asked().len(), 6);
}

#[test]
fn the_metadata_service_may_be_elsewhere_or_off() {
    let world = World::new(&[("AWS_EC2_METADATA_DISABLED", "TRUE")]).responding(metadata);
    let found = problem(SourceKind::Imds, &world);
    assert_eq!(found.chance, Chance::NotConfigured);
    assert!(world.asked().is_empty());
    let address = |variables: &[(&str, &str)], endpoint: Option<&str>| {
        let world = World::new(variables);
        let endpoint = endpoint.map(str::to_owned);
        let _ = fetch(&SourceSettings { endpoint, ..source(SourceKind::Imds) }, &world);
        world.asked()[0].url.clone()
    };
    let mode = [("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")];
    let variable = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds.test:1338/")];
    assert_eq!(address(&mode, None), "http://[fd00:ec2::254]/latest/api/token");
    assert_eq!(address(&variable, None), "http://imds.test:1338/latest/api/token");
    assert_eq!(address(&variable, Some("http://a:1")), "http://a:1/latest/api/token");
}

#[test]
fn a_metadata_service_that_gives_garbage_is_told() {
    for (target, body) in [
        ("/latest/api/token", "CANARY\r\nX: y"),
        ("security-credentials/", "CANARY/../x"),
        ("security-credentials/", ""),
        ("/the-role", CANARY),
        ("/the-role", "{}"),
        ("/the-role", r#"{"Code":"Failed","Message":"CANARY"}"#),
    ] {
        let world = World::new(&[]).responding(move |asked| {
            if asked.url.ends_with(target) { Ok((200, body.to_owned())) } else { metadata(asked) }
        });
        let found = problem(SourceKind::Imds, &world);
        assert_eq!(found.chance, Chance::MayPass, "{found}");
        assert!(found.text.starts_with("the instance metadata service at "), "{found}");
    }
    // One that sends without end.
    let world = World::new(&[]).responding(|_| Err(FetchError::TooLarge(65_536)));
    let found = problem(SourceKind::Imds, &world);
    assert!(found.text.contains("more than 65536 bytes"), "{found}");
}

#[test]
fn containers_have_a_uri_and_a_token_that_is_read_each_time() {
    let container = |asked: &Asked| {
        let token = asked.text.split("Authorization: ").nth(1).map(|rest| rest.split('\r').next());
        Ok((200, document(token.flatten().unwrap_or("none"), LATE)))
    };
    let relative = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x");
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    let fetched = |world: &World| fetch(&source(SourceKind::Container), world).unwrap();
    let world = World::new(&[relative, full]).responding(container);
    assert_eq!(key(&fetched(&world)), "none");
    assert_eq!(world.asked()[0].url, "http://169.254.170.2/v2/credentials/x");
    let world = World::new(&[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "in-variable")]);
    let world = world.responding(container);
    assert_eq!(key(&fetched(&world)), "in-variable");
    assert_eq!(world.asked()[0].url, "http://169.254.170.23/v1/credentials");
    let of_file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token");
    let world = World::new(&[full, of_file, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "in-variable")]);
    let world = world.responding(container).file("/token", "first\n");
    assert_eq!(key(&fetched(&world)), "first");
    world.write("/token", "second");
    assert_eq!(key(&fetched(&world)), "second");
    // A token with a line break would be a field of its own.
    world.write("/token", "CANARY\r\nX: y");
    assert_eq!(problem(SourceKind::Container, &world).chance, Chance::Wrong);
    world.files.lock().unwrap().clear();
    let found = problem(SourceKind::Container, &world);
    assert!(found.text.contains("the file /token does not exist"), "{found}");
}

#[test]
fn a_token_is_never_sent_in_plain_to_another_host() {
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CANARY);
    for uri in ["http://evil.example/x", "http://10.0.0.1/x", "ftp://127.0.0.1/", "nonsense"] {
        let world = World::new(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri), token]);
        let found = problem(SourceKind::Container, &world);
        assert_eq!(found.chance, Chance::Wrong, "{uri}");
        assert!(world.asked().is_empty(), "{uri}");
    }
    // What looks like a path cannot lead to another host.
    let world = World::new(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/x"), token]);
    let _ = fetch(&source(SourceKind::Container), &world);
    assert!(world.asked().iter().all(|asked| asked.url.starts_with("http://169.254.170.2/")));
    let found = problem(SourceKind::Container, &World::new(&[]));
    assert_eq!(found.chance, Chance::NotConfigured);
}

#[test]
fn a_container_service_that_refuses_is_told_by_its_code() {
    let uri = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x");
    let body = r#"{"code":"AccessDenied","message":"CANARY"}"#;
    for (status, tries) in [(400, 1), (500, 2)] {
        let world = World::new(&[uri]).responding(move |_| Ok((status, body.to_owned())));
        let found = problem(SourceKind::Container, &world);
        assert!(found.text.ends_with(&format!("responds with {status} (AccessDenied)")), "{found}");
        assert_eq!(world.asked().len(), tries);
    }
}

#[test]
fn a_web_identity_token_is_exchanged_at_the_regional_endpoint() {
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_ROLE_ARN", ARN),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ROLE_SESSION_NAME", "pod-1"),
    ];
    let world = World::new(&variables).file("/token", "the.jwt.text\n");
    let world = world.responding(|_| Ok((200, sts_response("ASIA"))));
    let given = fetch(&source(SourceKind::WebIdentity), &world).unwrap();
    assert_eq!(key(&given), "ASIA");
    let asked = &world.asked()[0];
    assert_eq!(asked.url, "https://sts.eu-west-1.amazonaws.com/");
    assert!(asked.text.starts_with("POST / HTTP/1.1\r\n"));
    assert!(!asked.text.contains("authorization"), "nothing to sign with");
    let body = asked.text.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(
        body,
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
         &RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Freader&RoleSessionName=pod-1\
         &WebIdentityToken=the.jwt.text"
    );
    // Read anew, because it is replaced before it ends.
    world.write("/token", "another");
    fetch(&source(SourceKind::WebIdentity), &world).unwrap();
    assert!(world.asked()[1].text.ends_with("WebIdentityToken=another"));

    let found = problem(SourceKind::WebIdentity, &World::new(&[]));
    assert_eq!(found.chance, Chance::NotConfigured);
    let found = problem(SourceKind::WebIdentity, &World::new(&variables[..1]));
    assert_eq!(found.text, "AWS_ROLE_ARN is not set beside AWS_WEB_IDENTITY_TOKEN_FILE");
    let found = problem(SourceKind::WebIdentity, &World::new(&variables));
    assert_eq!(found.text, "the token file /token does not exist");
    let world = World::new(&variables).file("/token", " \n");
    assert!(problem(SourceKind::WebIdentity, &world).text.ends_with("is empty"));
}

#[test]
fn sts_that_refuses_is_told_by_its_code() {
    let variables = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", ARN)];
    let error = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{CANARY}\
             </Message></Error></ErrorResponse>"
        )
    };
    for (status, body, chance, word) in [
        (
            403,
            error("AccessDenied"),
            Chance::Wrong,
            "refuses AssumeRoleWithWebIdentity (AccessDenied)",
        ),
        (400, error("ExpiredTokenException"), Chance::Wrong, "(ExpiredTokenException)"),
        (400, error("IDPCommunicationError"), Chance::MayPass, "(IDPCommunicationError)"),
        (400, error("CANARY 1"), Chance::Wrong, "with 400 without a readable code"),
        (503, CANARY.to_owned(), Chance::MayPass, "with 503 without a readable code"),
        (200, CANARY.to_owned(), Chance::MayPass, "has no Credentials"),
        (200, sts_response("A K"), Chance::Wrong, "an access key id must not have"),
    ] {
        let world = World::new(&variables).file("/token", CANARY);
        let world = world.responding(move |_| Ok((status, body.clone())));
        let found = problem(SourceKind::WebIdentity, &world);
        assert_eq!(found.chance, chance, "{found}");
        assert!(found.text.contains(word), "{found}");
    }
}

#[test]
fn a_role_is_assumed_on_top_of_any_source() {
    let variables = [("AWS_ACCESS_KEY_ID", "AKBASE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let role = RoleSettings {
        role_arn: ARN.to_owned(),
        external_id: Some("an/id".to_owned()),
        session_name: "yatagarasu".to_owned(),
        duration: 900,
        region: Some("cn-north-1".to_owned()),
        sts_endpoint: None,
    };
    let settings = |role: &RoleSettings| SourceSettings {
        assume_role: Some(role.clone()),
        ..source(SourceKind::Env)
    };
    let world = World::new(&variables).responding(|_| Ok((200, sts_response("ASIA"))));
    assert_eq!(key(&fetch(&settings(&role), &world).unwrap()), "ASIA");
    let asked = &world.asked()[0];
    assert_eq!(asked.url, "https://sts.cn-north-1.amazonaws.com.cn/");
    assert!(asked.text.contains("Credential=AKBASE/20150830/cn-north-1/sts/aws4_request, "));
    assert!(asked.text.contains("\r\nHost: sts.cn-north-1.amazonaws.com.cn\r\n"));
    assert!(asked.text.ends_with("&DurationSeconds=900&ExternalId=an%2Fid"), "{}", asked.text);

    // The endpoint of the configuration, that of the environment, and the region of the latter.
    let variable = ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:4566");
    let world = World::new(&[variables[0], variables[1], variable, ("AWS_DEFAULT_REGION", "r-1")]);
    let world = world.responding(|_| Ok((200, sts_response("ASIA"))));
    let plain = RoleSettings { region: None, ..role.clone() };
    fetch(&settings(&plain), &world).unwrap();
    let endpoint = EndpointUrl::parse("http://sts.test:8080").unwrap();
    fetch(&settings(&RoleSettings { sts_endpoint: Some(endpoint), ..plain }), &world).unwrap();
    let asked = world.asked();
    assert_eq!(asked[0].url, "http://127.0.0.1:4566/");
    assert!(asked[0].text.contains("/20150830/r-1/sts/"), "{}", asked[0].text);
    assert_eq!(asked[1].url, "http://sts.test:8080/");
    // Without anything to sign with nobody is asked.
    let world = World::new(&[]);
    assert!(fetch(&settings(&role), &world).is_err());
    assert!(world.asked().is_empty());
}

/// A world with these shared files in their usual place.
fn with_files(config: &str, credentials: &str) -> World {
    World::new(&[("HOME", "/h/u")])
        .file("/h/u/.aws/config", config)
        .file("/h/u/.aws/credentials", credentials)
        .responding(|_| Ok((200, sts_response("ASIA"))))
}

fn profile(name: &str) -> SourceSettings {
    SourceSettings { profile: Some(name.to_owned()), ..source(SourceKind::Profile) }
}

#[test]
fn a_profile_holds_keys() {
    let world = with_files(
        "[default]\naws_access_key_id=FROMCONFIG\naws_secret_access_key=s\n[profile two]\n\
         aws_access_key_id=TWO\naws_secret_access_key=s\naws_session_token=t\n",
        "[default]\naws_access_key_id=FROMCREDENTIALS\n",
    );
    assert_eq!(key(&fetch(&source(SourceKind::Profile), &world).unwrap()), "FROMCREDENTIALS");
    let given = fetch(&profile("two"), &world).unwrap();
    assert_eq!((key(&given), given.credentials.session_token.is_some()), ("TWO", true));
    let mut world = with_files("", "[three]\naws_access_key_id=THREE\naws_secret_access_key=s\n");
    world.variables.insert("AWS_PROFILE".to_owned(), "three".to_owned());
    assert_eq!(key(&fetch(&source(SourceKind::Profile), &world).unwrap()), "THREE");
    // Elsewhere.
    let world = World::new(&[("AWS_SHARED_CREDENTIALS_FILE", "/c"), ("AWS_CONFIG_FILE", "~/x")])
        .file("/c", "[default]\naws_access_key_id=C\naws_secret_access_key=s");
    assert_eq!(key(&fetch(&source(SourceKind::Profile), &world).unwrap()), "C");
}

#[test]
fn a_profile_leads_to_a_role() {
    let world = with_files(
        &format!(
            "[profile role]\nrole_arn={ARN}\nsource_profile=middle\nexternal_id=ext\n\
             role_session_name=me\nduration_seconds=1800\nregion=eu-west-1\n\
             [profile middle]\nrole_arn={ARN}-middle\nsource_profile=keys\n\
             [profile own]\nrole_arn={ARN}\nsource_profile=own\naws_access_key_id=OWN\n\
             aws_secret_access_key=s\n\
             [profile token]\nrole_arn={ARN}\nweb_identity_token_file=/token\n\
             [profile env]\nrole_arn={ARN}\ncredential_source=Environment\n"
        ),
        "[keys]\naws_access_key_id=KEYS\naws_secret_access_key=s\n",
    )
    .file("/token", "jwt");
    fetch(&profile("role"), &world).unwrap();
    let asked = world.asked();
    assert_eq!(asked.len(), 2, "the middle role first");
    assert!(asked[0].text.contains("Credential=KEYS/"), "{}", asked[0].text);
    assert!(asked[0].text.contains("reader-middle"), "{}", asked[0].text);
    assert!(asked[1].text.contains("Credential=ASIA/"), "{}", asked[1].text);
    assert_eq!(asked[1].url, "https://sts.eu-west-1.amazonaws.com/");
    assert!(
        asked[1].text.ends_with("RoleSessionName=me&DurationSeconds=1800&ExternalId=ext"),
        "{}",
        asked[1].text
    );
    fetch(&profile("own"), &world).unwrap();
    assert!(world.asked()[2].text.contains("Credential=OWN/"));
    fetch(&profile("token"), &world).unwrap();
    assert!(world.asked()[3].text.contains("WebIdentityToken=jwt"));
    assert_eq!(fetch(&profile("env"), &world).unwrap_err().text, "AWS_ACCESS_KEY_ID is not set");
}

#[test]
fn a_profile_that_cannot_be_used_says_why() {
    let config = format!(
        "[profile a]\nrole_arn={ARN}\nsource_profile=b\n[profile b]\nrole_arn={ARN}\nsource_profile=a\n\
         [profile process]\ncredential_process=/bin/CANARY\n[profile sso]\nsso_session=CANARY\n\
         [profile old-sso]\nsso_start_url=CANARY\n\
         [profile mfa]\nrole_arn={ARN}\nsource_profile=x\nmfa_serial=CANARY\n\
         [profile lost]\nrole_arn={ARN}\nsource_profile=nobody\n[profile bare]\nrole_arn={ARN}\n\
         [profile both]\nrole_arn={ARN}\nsource_profile=a\ncredential_source=Environment\n\
         [profile other]\nrole_arn={ARN}\ncredential_source=CANARY\n[profile arn]\nrole_arn=CANARY\n\
         [profile half]\naws_access_key_id=AK\n[profile empty]\nregion=r\n\
         [profile long]\nrole_arn={ARN}\nsource_profile=x\nduration_seconds=1\n\
         [profile self]\nrole_arn={ARN}\nsource_profile=self\n"
    );
    let world = with_files(&config, "");
    for (name, word) in [
        ("a", "source_profile leads in a circle: a -> b -> a"),
        ("self", "source_profile leads in a circle: self -> self"),
        ("process", "credential_process is not supported, because"),
        ("sso", "SSO is not supported, because"),
        ("old-sso", "SSO is not supported, because"),
        ("mfa", "mfa_serial is not supported, because"),
        ("lost", "the shared files have no profile 'nobody'"),
        ("nobody", "the shared files have no profile 'nobody'"),
        ("bare", "role_arn needs source_profile"),
        ("both", "keep one of them"),
        ("other", "credential_source must be"),
        ("arn", "role_arn is not the ARN of a role"),
        ("half", "belong together"),
        ("empty", "holds neither keys nor a role"),
        ("long", "duration_seconds must be from 900"),
    ] {
        let found = fetch(&profile(name), &world).unwrap_err();
        assert_eq!(found.chance, Chance::Wrong, "{name}: {found}");
        assert!(found.text.contains(word), "{name}: {found}");
        assert!(!found.text.contains("CANARY"), "{name}: {found}");
    }
    assert!(world.asked().is_empty());
    let found = problem(SourceKind::Profile, &World::new(&[("HOME", "/h")]));
    assert_eq!(found.chance, Chance::NotConfigured);
    assert!(found.text.contains("/h/.aws/credentials does not exist"), "{found}");
    let found = problem(SourceKind::Profile, &World::new(&[]));
    assert!(found.text.contains("neither AWS_CONFIG_FILE nor HOME is set"), "{found}");
    let world = World::new(&[("HOME", "/h")]).file("/h/.aws/config", b"\xff".to_vec());
    assert!(problem(SourceKind::Profile, &world).text.ends_with("is not text"));
}

#[test]
fn the_default_chain_takes_the_first_source_that_is_configured() {
    let all = [
        ("AWS_ACCESS_KEY_ID", "ENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("HOME", "/h"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_ROLE_ARN", ARN),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
    ];
    let world = |variables: &[(&str, &str)]| {
        World::new(variables).file("/token", "jwt").responding(|asked| match &*asked.url {
            url if url.starts_with("https://sts.") => Ok((200, sts_response("TOKEN"))),
            "http://169.254.170.2/x" => Ok((200, document("CONTAINER", LATE))),
            _ => metadata(asked),
        })
    };
    let chain =
        |world: &World| key(&fetch(&source(SourceKind::Default), world).unwrap()).to_owned();
    let keys = "[default]\naws_access_key_id=FILES\naws_secret_access_key=s";
    assert_eq!(chain(&world(&all).file("/h/.aws/credentials", keys)), "ENV");
    assert_eq!(chain(&world(&all[2..]).file("/h/.aws/credentials", keys)), "FILES");
    assert_eq!(chain(&world(&all[2..]).file("/h/.aws/config", "[default]\nregion=r")), "TOKEN");
    assert_eq!(chain(&world(&all[5..])), "CONTAINER");
    assert_eq!(chain(&world(&[])), "ASIA");
    assert_eq!(chain(&world(&[("HOME", "/dev/null")])), "ASIA");
    // The SDKs of AWS pass over the files of somebody else too.
    assert_eq!(chain(&world(&[("HOME", "/theirs")])), "ASIA");
    let found = problem(SourceKind::Profile, &world(&[("HOME", "/theirs")]));
    assert!(found.text.contains("/theirs/.aws/credentials may not be read"), "{found}");
}

/// The next source may have other permissions than the one that is meant.
#[test]
fn the_default_chain_does_not_pass_over_a_source_that_fails() {
    let world = World::new(&[("AWS_ACCESS_KEY_ID", "AK")]).responding(metadata);
    let found = problem(SourceKind::Default, &world);
    assert!(found.text.starts_with("env: AWS_SECRET_ACCESS_KEY is not set"), "{found}");
    let world = World::new(&[("AWS_PROFILE", "nobody"), ("HOME", "/h")]).responding(metadata);
    let found = problem(SourceKind::Default, &world);
    assert!(found.text.starts_with("profile: the shared files have no profile"), "{found}");
    let found = problem(SourceKind::Default, &World::new(&[("HOME", "/broken")]));
    assert_eq!(found.text, "profile: /broken/.aws/config cannot be read: Input/output error");
    let world = World::new(&[("AWS_PROFILE", "mine"), ("HOME", "/theirs")]).responding(metadata);
    let found = problem(SourceKind::Default, &world);
    assert!(found.text.contains("/theirs/.aws/config may not be read"), "{found}");
    let world =
        World::new(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")]).responding(|asked| {
            if asked.url.contains("170.2") { Ok((404, String::new())) } else { metadata(asked) }
        });
    let found = problem(SourceKind::Default, &world);
    assert!(found.text.starts_with("container: the container service at"), "{found}");
    // Where nothing is configured the message names all.
    let found = problem(SourceKind::Default, &World::new(&[]));
    assert_eq!(found.chance, Chance::MayPass);
    for word in [
        "env: AWS_ACCESS_KEY_ID is not set; profile: ",
        "; web_identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set; container: AWS_CONTAINER_",
        "; imds: the instance metadata service at http://169.254.169.254",
    ] {
        assert!(found.text.contains(word), "{word}: {found}");
    }
}
