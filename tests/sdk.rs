//! Official clients, unmodified, against the real server process: one test per language.
//!
//! What is feared: that a client which works with every other server does not start, loses or alters
//! a message, spins, or does not survive a restart with ours. The suites are programs in the clients'
//! own languages under `tests/sdk/`; `tests/sdk/README.md` is the contract between them and this
//! driver, which installs them, starts the server, answers their requests and checks that every
//! case was really reported.

mod common;
#[path = "sdk/driver.rs"]
mod driver;

use anyhow::Result;

use common::{Server, ServerOptions, Stop};
use driver::{Suite, Transport, World, check};

#[test]
fn python_client_works() {
    check("python", &[""], Transport::Plaintext, open);
}

#[test]
fn node_client_works() {
    check("node", &[""], Transport::Plaintext, open);
}

#[test]
fn rust_client_works() {
    check("rust", &[""], Transport::Plaintext, open);
}

#[test]
fn java_clients_work_over_tls() {
    check("java", &["newest", "5.0.3"], Transport::Tls, open);
}

#[test]
fn go_client_works_over_tls() {
    check("go", &[""], Transport::Tls, open);
}

fn open(_: &Suite) -> Result<Server> {
    ServerOptions::default().env("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "1000").start()
}

impl World for Server {
    fn endpoint(&self) -> String {
        self.addresses().grpc.to_string()
    }

    fn admin(&mut self, arguments: &[&str]) -> Result<String> {
        Server::admin(self, arguments)
    }

    fn restart(&mut self, how: Stop) -> Result<()> {
        Server::restart(self, how).map(drop)
    }

    fn log_tail(&self, lines: usize) -> String {
        Server::log_tail(self, lines)
    }
}
