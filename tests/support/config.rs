//! Configuration files for tests.

use serde_json::{Map, Value, json};

use super::{scripted_origin::refused_address, token::JWT_SECRET};

/// Access key that test buckets sign with unless they say otherwise.
pub(crate) const ACCESS_KEY: &str = "AKIDENDTOENDTEST";

/// Its secret.
pub(crate) const SECRET_KEY: &str = "end-to-end-secret-key-never-shown";

/// Environment variable that gives every configuration a `server.io`, so that the whole suite can
/// be run once with `epoll`.
const IO_VARIABLE: &str = "YATAGARASU_TEST_IO";

/// Time for cores to acknowledge a reload, far beyond what a busy machine makes them need.
const RELOAD_SECONDS: u32 = 600;

/// A configuration under construction: a free port on the loopback address and one worker, so
/// that connection pools (which are per core) are predictable.
#[derive(Clone, Debug)]
pub(crate) struct Config(Value);

impl Config {
    /// Without buckets.
    pub(crate) fn new() -> Self {
        let config = Self(json!({
            "server": { "address": "127.0.0.1", "port": 0, "threads": 1 },
            "admin": { "reload_timeout": RELOAD_SECONDS },
            "buckets": [],
        }));
        match std::env::var(IO_VARIABLE) {
            Ok(io) => config.set("server.io", io),
            Err(_) => config,
        }
    }

    /// With one bucket `products` under `/products` at this endpoint.
    pub(crate) fn products(endpoint: impl Into<String>) -> Self {
        Self::new().bucket("products", endpoint)
    }

    /// With one bucket whose endpoint refuses connections, for tests that ask for no object.
    pub(crate) fn unreachable() -> Self {
        Self::products(format!("http://{}", refused_address()))
    }

    /// Adds a bucket under `/name` with the usual credentials.
    #[must_use]
    pub(crate) fn bucket(self, name: &str, endpoint: impl Into<String>) -> Self {
        self.bucket_with_keys(name, endpoint, ACCESS_KEY, SECRET_KEY)
    }

    /// Adds a bucket under `/name`.
    #[must_use]
    pub(crate) fn bucket_with_keys(
        mut self,
        name: &str,
        endpoint: impl Into<String>,
        access_key: &str,
        secret_key: &str,
    ) -> Self {
        let bucket = json!({
            "name": name,
            "path_prefix": format!("/{name}"),
            "s3": {
                "bucket": name,
                "region": "us-east-1",
                "endpoint": endpoint.into(),
                "access_key": access_key,
                "secret_key": secret_key,
            },
        });
        self.0["buckets"].as_array_mut().unwrap().push(bucket);
        self
    }

    /// Sets the value at a dotted path, in which numbers are indexes, making what is missing.
    #[must_use]
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.0;
        for step in path.split('.') {
            place = if let Ok(index) = step.parse::<usize>() {
                &mut place[index]
            } else {
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                &mut place[step]
            };
        }
        *place = value.into();
        self
    }

    /// Adds a jwt section with [`JWT_SECRET`]; every bucket so far says whether it asks for a
    /// token.
    #[must_use]
    pub(crate) fn with_jwt(mut self, protected: &[&str]) -> Self {
        self.0["jwt"] = json!({ "enabled": true, "algorithm": "HS256", "secret": JWT_SECRET });
        for bucket in self.0["buckets"].as_array_mut().unwrap() {
            let enabled = protected.iter().any(|name| bucket["name"] == *name);
            bucket["auth"] = json!({ "enabled": enabled });
        }
        self
    }

    /// Moves the built-in endpoints to a listener of their own, on a free port.
    #[must_use]
    pub(crate) fn with_admin_listener(self) -> Self {
        self.set("admin.listen", "127.0.0.1:0")
    }

    /// Adds a TLS listener on a free port, which shows a certificate of the files `site.pem` and
    /// `site.key`.
    #[must_use]
    pub(crate) fn with_tls(self) -> Self {
        let pair = json!({ "cert_file": "site.pem", "key_file": "site.key" });
        self.set("server.tls", json!({ "port": 0, "certificates": [pair] }))
    }

    /// Whether there is a TLS listener to wait for.
    pub(crate) fn has_tls_listener(&self) -> bool {
        !self.0["server"]["tls"].is_null()
    }

    /// Whether there is an admin listener to wait for.
    pub(crate) fn has_admin_listener(&self) -> bool {
        self.0["admin"]["listen"].as_str().is_some_and(|listen| !listen.is_empty())
    }

    /// The file's text.
    pub(crate) fn to_yaml(&self) -> String {
        serde_yaml::to_string(&self.0).unwrap()
    }
}
