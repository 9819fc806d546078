//! Makes sure that the topic of a benchmark exists.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::bench::client::{Identity, Target, expect_ok, resource};
use crate::cli::connect;
use crate::cli::failure::Failure;
use crate::wire::admin;
use crate::wire::rocketmq::{Code, QueryRouteRequest};

/// Asks for the route of `topic`, and creates it through the admin address when there is none.
///
/// # Errors
/// The server cannot be reached, or the topic is missing and cannot be created.
pub fn ensure(target: &Target, topic: &str, address: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = target.connect().await?;
        let request = QueryRouteRequest { topic: Some(resource(topic)), endpoints: None };
        let request = Identity::new(0).request(request, Duration::from_secs(5));
        let status = client.query_route(request).await?.into_inner().status;
        if status.as_ref().is_none_or(|status| status.code != Code::TopicNotFound as i32) {
            return expect_ok(status.as_ref());
        }
        let created = create(topic, address).await;
        created.with_context(|| {
            format!(
                "topic {topic} does not exist on {}; create it with: bolide admin topic create {topic}",
                target.endpoint
            )
        })
    })
}

async fn create(topic: &str, address: &str) -> Result<()> {
    let mut client = connect::admin(address).await?;
    let topic = admin::Topic { name: topic.to_owned(), ..admin::Topic::default() };
    match client.create_topic(admin::CreateTopicRequest { topic: Some(topic) }).await {
        Ok(_) => Ok(()),
        Err(status) => bail!("{}", Failure::from(status).at(address)),
    }
}
