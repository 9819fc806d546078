//! The operator's services of the brokers, and how they are asked.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::merge::Reply;
use crate::model::cluster::Shard;
use crate::runtime::clock::Clock;
use crate::trust::Trust;
use crate::wire::admin::admin_client::AdminClient;

/// Largest answer of a broker: the lag of a group on thousands of topics is some megabytes.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Addresses that are kept connected; brokers come back under others.
const CHANNELS_MAX: usize = 1_024;

pub(super) type Client = AdminClient<InterceptedService<Channel, Stamp>>;

/// Adds to each call what the peer asks for.
#[derive(Clone, Debug)]
pub(super) struct Stamp(Trust);

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.0.stamp(&mut request);
        Ok(request)
    }
}

/// Connections to the internal ports of brokers, made when they are first needed.
pub(super) struct Peers {
    trust: Trust,
    clock: Clock,
    channels: Mutex<HashMap<Arc<str>, Channel>>,
}

impl Peers {
    pub(super) fn new(trust: Trust, clock: Clock) -> Self {
        Self { trust, clock, channels: Mutex::new(HashMap::new()) }
    }

    fn client(&self, address: &Arc<str>) -> Result<Client, Status> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = self.trust.endpoint(address).map_err(|error| Status::unavailable(error.to_string()))?;
                if channels.len() >= CHANNELS_MAX {
                    channels.clear();
                }
                let channel = endpoint.connect_lazy();
                channels.insert(address.clone(), channel.clone());
                channel
            }
        };
        let client = AdminClient::with_interceptor(channel, Stamp(self.trust.clone()));
        Ok(client.max_decoding_message_size(ANSWER_MAX))
    }

    /// Asks one broker.
    pub(super) async fn ask_one<T, F, Fut>(&self, shard: &Shard, limit: Duration, call: F) -> Result<T, Status>
    where
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let client = self.client(&shard.address)?;
        let answer = tokio::select! {
            biased;
            answer = call(client) => answer.map(Response::into_inner),
            () = self.clock.sleep(limit) => Err(Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs()))),
        };
        if answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable) {
            // Dialled anew next time, with the certificates of then.
            self.channels.lock().remove(&shard.address);
        }
        answer
    }

    /// Asks brokers at the same time; answers in their order.
    pub(super) async fn ask<T, F, Fut>(&self, shards: &[Arc<Shard>], limit: Duration, call: F) -> Vec<Reply<T>>
    where
        F: Fn(Client, Arc<Shard>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let asked = shards.iter().map(async |shard| {
            let answer = self.ask_one(shard, limit, |client| call(client, shard.clone())).await;
            Reply { broker: shard.name.clone(), answer }
        });
        join_all(asked).await
    }
}
