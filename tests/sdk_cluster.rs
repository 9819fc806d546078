//! The same suites of official clients as in `sdk.rs`, unchanged, against a cluster: one route service, two brokers, two
//! proxies behind a load balancer: a plain one, which gives each new connection to the next proxy, or one that knows HTTP/2 and
//! gives each call to the next.
//!
//! What is feared: that a client notices that it does not talk to one process. A receipt, a transaction, a recall handle or a
//! setting that only one proxy knows; a queue of the other broker that nobody asks; a restart of one of the five processes
//! that loses what the whole keeps.

mod common;
#[path = "sdk/driver.rs"]
mod driver;

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use common::Stop;
use common::balancer::Balancer;
use common::cluster::{Cluster, ClusterOptions, Member};
use driver::{Suite, Transport, World, check};

const BROKERS: usize = 2;
const PROXIES: usize = 2;

#[test]
fn python_client_works_in_a_cluster() {
    check("python", &[""], Transport::Plaintext, Spread::connections);
}

#[test]
fn python_client_works_when_no_two_of_its_calls_meet_the_same_proxy() {
    check("python", &[""], Transport::Plaintext, Spread::calls);
}

#[test]
fn node_client_works_in_a_cluster() {
    check("node", &[""], Transport::Plaintext, Spread::connections);
}

#[test]
fn rust_client_works_in_a_cluster() {
    check("rust", &[""], Transport::Plaintext, Spread::connections);
}

#[test]
fn java_client_works_in_a_cluster_over_tls() {
    check("java", &["newest"], Transport::Tls, Spread::connections);
}

#[test]
fn go_client_works_in_a_cluster_over_tls() {
    check("go", &[""], Transport::Tls, Spread::connections);
}

/// A cluster and what spreads the clients over its proxies.
struct Spread {
    cluster: Cluster,
    balancer: Balancer,
    /// What stands between several addresses, where the client can be told those of the proxies as well.
    between: Option<&'static str>,
}

impl Spread {
    fn connections(suite: &Suite) -> Result<Self> {
        Self::open(suite, Balancer::of_connections)
    }

    fn calls(suite: &Suite) -> Result<Self> {
        Self::open(suite, Balancer::of_calls)
    }

    fn open(suite: &Suite, balancer: fn(Vec<SocketAddr>) -> Result<Balancer>) -> Result<Self> {
        let cluster =
            ClusterOptions::default().env("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "1000").start(BROKERS, PROXIES)?;
        let balancer = balancer((0..PROXIES).map(|proxy| cluster.grpc(proxy)).collect())?;
        let between = match suite.language {
            "java" => Some(";"),
            // The others send all of several addresses as one `:authority`, which no HTTP/2 server takes.
            _ => None,
        };
        Ok(Self { cluster, balancer, between })
    }
}

impl World for Spread {
    fn endpoint(&self) -> String {
        let balancer = self.balancer.address().to_string();
        match self.between {
            Some(between) => {
                let proxies = (0..PROXIES).rev().map(|proxy| self.cluster.grpc(proxy).to_string());
                std::iter::once(balancer).chain(proxies).collect::<Vec<_>>().join(between)
            }
            None => balancer,
        }
    }

    fn admin(&mut self, arguments: &[&str]) -> Result<String> {
        self.cluster.admin(arguments)
    }

    /// One process after the other, the next when the cluster is whole again.
    fn restart(&mut self, how: Stop) -> Result<()> {
        let proxies = (0..PROXIES).map(Member::Proxy);
        let brokers = (0..BROKERS).map(Member::Broker);
        for member in proxies.chain(brokers).chain([Member::Route]) {
            match how {
                Stop::Kill => self.cluster.kill9(member)?,
                Stop::Term => {
                    let status = self.cluster.sigterm(member)?;
                    ensure!(status.success(), "after SIGTERM {} ended with {status}", member.name());
                }
            }
            self.cluster.start_member(member)?;
            self.cluster.wait_all_ready()?;
        }
        Ok(())
    }

    fn log_tail(&self, lines: usize) -> String {
        let members = self.cluster.members();
        let tails = members.into_iter().map(|member| {
            format!("--- {}\n{}", member.name(), self.cluster.log_tail(member, lines / (1 + BROKERS + PROXIES)))
        });
        tails.collect::<Vec<_>>().join("\n")
    }

    fn verdict(&mut self) -> Result<()> {
        let served = self.balancer.served();
        ensure!(served.iter().all(|&count| count > 0), "the clients were not spread over the proxies: {served:?}");
        Ok(())
    }
}
