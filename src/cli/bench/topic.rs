//! Makes sure that the topic of a benchmark exists.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::bench::client::{Identity, Target, expect_ok, resource};
use crate::cli::connect::{self, AtArgs};
use crate::cli::failure::Failure;
use crate::wire::admin;
use crate::wire::rocketmq::{Code, QueryRouteRequest};

/// Asks for the route of `topic`, and creates it through the admin address when there is none.
///
/// # Errors
/// The server cannot be reached, or the topic is missing and cannot be created.
pub fn ensure(target: &Target, topic: &str, at: &AtArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = target.connect().await?;
        let request = QueryRouteRequest { topic: Some(resource(topic)), endpoints: None };
        let request = Identity::new(0).request(request, Duration::from_secs(5));
        let status = client.query_route(request).await?.into_inner().status;
        if status.as_ref().is_none_or(|status| status.code != Code::TopicNotFound as i32) {
            return expect_ok(status.as_ref());
        }
        let created = create(topic, at).await;
        created.with_context(|| {
            format!(
                "topic {topic} does not exist on {}; create it with: bolide admin topic create {topic}",
                target.endpoint
            )
        })
    })
}

/// Asks for the route of `topic`, and creates it as a topic of `topic_type` when there is none.
///
/// # Errors
/// The server cannot be reached, or the topic is missing and cannot be created.
pub fn ensure_typed(target: &Target, topic: &str, topic_type: admin::TopicType, at: &AtArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_missing = runtime.block_on(async {
        let mut client = target.connect().await?;
        let request = QueryRouteRequest { topic: Some(resource(topic)), endpoints: None };
        let request = Identity::new(0).request(request, Duration::from_secs(5));
        let status = client.query_route(request).await?.into_inner().status;
        anyhow::Ok(status.is_some_and(|status| status.code == Code::TopicNotFound as i32))
    })?;
    if is_missing { create_typed(topic, topic_type, 0, at) } else { Ok(()) }
}

/// Creates a topic for one run. `queues` 0: as many as the server finds usual.
///
/// # Errors
/// The admin address cannot be reached, or the server refuses.
pub fn create_typed(topic: &str, topic_type: admin::TopicType, queues: u32, at: &AtArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let topic = admin::Topic { name: topic.to_owned(), r#type: topic_type.into(), queues, ..admin::Topic::default() };
    runtime.block_on(create_as(topic, at))
}

async fn create(topic: &str, at: &AtArgs) -> Result<()> {
    create_as(admin::Topic { name: topic.to_owned(), ..admin::Topic::default() }, at).await
}

async fn create_as(topic: admin::Topic, at: &AtArgs) -> Result<()> {
    let mut client = connect::admin(&at.address, &at.trust).await?;
    match client.create_topic(admin::CreateTopicRequest { topic: Some(topic) }).await {
        Ok(_) => Ok(()),
        Err(status) => bail!("{}", Failure::from(status).at(&at.address)),
    }
}
