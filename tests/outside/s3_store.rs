//! An S3 server (s3s-fs) in a process of its own, for tests in other languages. It verifies
//! signatures and session tokens, with keys that it is told.
//!
//! It prints its URL, then obeys lines of standard input until that ends, and prints `ok` after
//! each: `put BUCKET KEY CONTENT`, `accept ACCESS_KEY SECRET_KEY SESSION_TOKEN`. A session lasts an
//! hour.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of tests that ends when something is wrong"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

use support::s3_server::S3Server;

fn main() {
    let s3 = S3Server::start(&[]);
    tell(&s3.url());
    for line in io::stdin().lock().lines() {
        let command = line.unwrap();
        match command.split(' ').collect::<Vec<_>>()[..] {
            ["put", bucket, key, content] => s3.put(bucket, key, content),
            ["accept", access_key, secret_key, session_token] => {
                let life = Duration::from_hours(1);
                s3.key_ring().accept_session(access_key, secret_key, session_token, life);
            }
            _ => panic!("not a command: {command}"),
        }
        tell("ok");
    }
}

fn tell(text: &str) {
    println!("{text}");
    io::stdout().flush().unwrap();
}
