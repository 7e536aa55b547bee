//! `docs/SITES.md`: each example is loaded, and the questions of the table below it are asked.

use crate::{
    page,
    support::{
        proxy::{Launch, Proxy},
        raw_client::Client,
        s3_server::S3Server,
    },
};

/// The endpoint of the examples, in whose place the test's own stands.
const ENDPOINT: &str = "http://minio.internal:9000";

/// An example and the questions below it.
struct Example {
    yaml: String,
    questions: Vec<Question>,
}

/// A row of a table.
struct Question {
    host: String,
    method: String,
    path: String,
    /// A field of the request, as a name and a value.
    with: Option<(String, String)>,
    /// What the table says of the response: a status, and the bucket or the code.
    expected: String,
    /// A field of the response.
    field: Option<(String, String)>,
}

impl Question {
    fn of(row: &str) -> Self {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", host, request, with, expected, field, ""] = cells[..] else { panic!("{row}") };
        let text = |cell: &str| cell.trim_matches('`').to_owned();
        let pair = |cell: &str| {
            let (name, value) = cell.trim_matches('`').split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        let request = text(request);
        let (method, path) = request.split_once(' ').unwrap();
        Self {
            host: text(host),
            method: method.to_owned(),
            path: path.to_owned(),
            with: pair(with),
            expected: expected.to_owned(),
            field: pair(field),
        }
    }
}

fn examples(page: &str) -> Vec<Example> {
    let blocks = page.split("```yaml\n").skip(1);
    let examples = blocks.map(|block| {
        let (yaml, after) = block.split_once("```").unwrap();
        let rows = after.lines().filter(|line| line.starts_with("| `"));
        Example { yaml: yaml.to_owned(), questions: rows.map(Question::of).collect() }
    });
    examples.collect()
}

/// The proxy with the example's file, in front of a server in place of its endpoint.
fn start(yaml: &str, server: &S3Server) -> Proxy {
    let mut launch = Launch::new();
    for variable in yaml.split("${").skip(1).map(|rest| rest.split('}').next().unwrap()) {
        // One account per prefix, so that a bucket with the keys of another would be noticed.
        let (account, _) = variable.split_once('_').unwrap();
        let value = if variable.ends_with("SECRET_KEY") {
            format!("the-secret-key-of-{account}")
        } else {
            format!("AKID{account}")
        };
        launch = launch.environment(variable, &value);
    }
    assert!(!yaml.starts_with("server:"), "the test writes the server section");
    let yaml = yaml.replace(ENDPOINT, &server.url());
    let server = "server: { address: 127.0.0.1, port: 0, threads: 1 }\n";
    launch.config_text(&format!("{server}{yaml}")).start()
}

#[test]
fn every_example_answers_as_its_table_says() {
    let page = page("docs/SITES.md");
    let examples = examples(&page);
    assert!(examples.len() >= 4, "only {} examples", examples.len());
    for Example { yaml, questions } in examples {
        let accounts = ["ALPHA", "BETA", "DOWNLOADS", "SITE", "APP"];
        let keys =
            accounts.map(|name| (format!("AKID{name}"), format!("the-secret-key-of-{name}")));
        let keys: Vec<_> = keys.iter().map(|(id, key)| (id.as_str(), key.as_str())).collect();
        let server = S3Server::start(&keys);
        for bucket in yaml.split("bucket: ").skip(1).map(|rest| rest.lines().next().unwrap()) {
            let keys =
                ["index.html", "guide/index.html", "404.html", "page.html", "style.css", "a.pdf"];
            for key in keys {
                server.put(bucket, key, format!("{key} of {bucket}"));
            }
        }
        let proxy = start(&yaml, &server);
        assert!(questions.len() >= 4, "{yaml}");
        for Question { host, method, path, with, expected, field } in questions {
            let mut fields = vec![("Host", host.as_str())];
            fields.extend(with.as_ref().map(|(name, value)| (name.as_str(), value.as_str())));
            if method == "OPTIONS" {
                fields.push(("Access-Control-Request-Method", "GET"));
            }
            let response = Client::connect(proxy.address()).request(&method, &path, &fields);
            let shown = format!("{method} {host}{path} {with:?}: {response:?}\n{yaml}");
            let (status, rest) = expected.split_once(' ').unwrap_or((&expected, ""));
            assert_eq!(response.status.to_string(), status, "{shown}");
            match rest.split('`').nth(1) {
                None => {}
                Some(bucket) if rest.starts_with("from ") => {
                    assert!(response.text().ends_with(&format!(" of {bucket}")), "{shown}");
                }
                Some(code) => assert_eq!(response.code(), code, "{shown}"),
            }
            if let Some((name, value)) = field {
                assert_eq!(response.header(&name), Some(value.as_str()), "{shown}");
            }
        }
    }
}
