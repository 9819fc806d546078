//! The client's objects with the settings of this suite.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::error::ClientError;
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{Message, MessageBuilder, MessageView};
use rocketmq::model::transaction::TransactionResolution;
use rocketmq::{Producer, SimpleConsumer};

use crate::driver::Driver;

/// Little more than the server's shortest poll: the client's deadline for the call is the same, and
/// the answer has to come before it.
const POLL: Duration = Duration::from_secs(6);
pub const LONG_LEASE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

fn client_option(driver: &Driver) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(driver.endpoint.as_str());
    option.set_enable_tls(driver.tls);
    option
}

pub async fn producer(driver: &Driver, topics: &[&str]) -> Result<Producer> {
    let mut option = ProducerOption::default();
    option.set_topics(topics.to_vec());
    let mut producer = Producer::new(option, client_option(driver))?;
    producer.start().await?;
    Ok(producer)
}

/// A producer that can be asked about its transactions.
pub async fn transaction_producer(
    driver: &Driver,
    topic: &str,
    checker: impl Fn(String, MessageView) -> TransactionResolution + Send + Sync + 'static,
) -> Result<Producer> {
    let mut option = ProducerOption::default();
    option.set_topics(vec![topic]);
    let mut producer = Producer::new_transaction_producer(option, client_option(driver), Box::new(checker))?;
    producer.start().await?;
    Ok(producer)
}

/// A simple consumer of one topic, and the topic's name with it: the client asks for it each time.
pub struct Consumer {
    inner: SimpleConsumer,
    topic: String,
    filter: FilterExpression,
}

impl Consumer {
    pub async fn new(driver: &Driver, group: &str, topic: &str, tags: &str) -> Result<Consumer> {
        let mut option = client_option(driver);
        option.set_long_polling_timeout(POLL);
        Consumer::with(option, group, topic, FilterExpression::new(FilterType::Tag, tags)).await
    }

    /// With any filter.
    pub async fn filtered(driver: &Driver, group: &str, topic: &str, filter: FilterExpression) -> Result<Consumer> {
        let mut option = client_option(driver);
        option.set_long_polling_timeout(POLL);
        Consumer::with(option, group, topic, filter).await
    }

    /// With the client's own poll of 40 s, which is its deadline as well.
    pub async fn patient(driver: &Driver, group: &str, topic: &str) -> Result<Consumer> {
        let filter = FilterExpression::new(FilterType::Tag, "*");
        Consumer::with(client_option(driver), group, topic, filter).await
    }

    async fn with(client: ClientOption, group: &str, topic: &str, filter: FilterExpression) -> Result<Consumer> {
        let mut option = SimpleConsumerOption::default();
        option.set_topics(vec![topic]);
        option.set_consumer_group(group);
        let mut inner = SimpleConsumer::new(option, client)?;
        inner.start().await?;
        Ok(Consumer { inner, topic: topic.to_owned(), filter })
    }

    pub async fn receive(&self, lease: Duration) -> Result<Vec<MessageView>, ClientError> {
        self.inner.receive_with(&self.topic, &self.filter, 32, lease).await
    }

    pub async fn ack(&self, message: &MessageView) -> Result<(), ClientError> {
        self.inner.ack(message).await
    }

    /// The name of the status code that an ack was refused with, `None` if it was not.
    pub async fn refusal(&self, message: &MessageView) -> Option<String> {
        let error = self.ack(message).await.err()?;
        let code = error.context().iter().find(|(name, _)| *name == "code");
        Some(code.map_or_else(|| error.to_string(), |(_, code)| code.clone()))
    }

    /// Receives until all wanted message ids have been seen; returns what came, by id. Acks nothing.
    pub async fn receive_all(
        &self,
        wanted: &BTreeSet<String>,
        lease: Duration,
    ) -> Result<BTreeMap<String, MessageView>> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = BTreeMap::new();
        while !wanted.iter().all(|id| found.contains_key(id)) {
            ensure!(Instant::now() < deadline, "{} of {} messages came in {PATIENCE:?}", found.len(), wanted.len());
            for message in self.receive(lease).await? {
                let id = message.message_id().to_owned();
                ensure!(!found.contains_key(&id), "twice: {id}");
                found.insert(id, message);
            }
        }
        Ok(found)
    }

    pub async fn receive_one(&self, id: &str, lease: Duration) -> Result<MessageView> {
        let mut found = self.receive_all(&[id.to_owned()].into(), lease).await?;
        ensure!(found.len() == 1, "others came too: {:?}", found.keys());
        Ok(found.remove(id).expect("receive_all found it"))
    }

    pub async fn assert_nothing_left(&self) -> Result<()> {
        let left = self.receive(LONG_LEASE).await?;
        let ids: Vec<&str> = left.iter().map(MessageView::message_id).collect();
        ensure!(ids.is_empty(), "delivered again: {ids:?}");
        Ok(())
    }

    pub async fn shutdown(self) -> Result<()> {
        Ok(self.inner.shutdown().await?)
    }
}

pub fn message(topic: &str, body: &[u8]) -> Result<impl Message + use<>> {
    let built = MessageBuilder::builder().set_topic(topic).set_body(body.to_vec()).build()?;
    Ok(built)
}

pub fn tagged(topic: &str, body: &[u8], tag: &str) -> Result<impl Message + use<>> {
    let built = MessageBuilder::builder().set_topic(topic).set_body(body.to_vec()).set_tag(tag).build()?;
    Ok(built)
}

/// Sends one message and returns its id.
pub async fn send(producer: &Producer, topic: &str, body: &[u8]) -> Result<String> {
    let receipt = producer.send(message(topic, body)?).await?;
    Ok(receipt.message_id().to_owned())
}
