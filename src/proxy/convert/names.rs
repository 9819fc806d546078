//! Names out of resources. A resource without a namespace takes the one of the caller's headers: some clients send it only there.

use crate::model::name::{GroupName, TopicName};
use crate::proxy::caller::Caller;
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;

/// Namespace and name of a resource; an absent resource has a blank name.
fn parts<'a>(caller: &'a Caller, resource: Option<&'a v2::Resource>) -> (&'a str, &'a str) {
    let Some(resource) = resource else { return (&caller.namespace, "") };
    let namespace =
        if resource.resource_namespace.is_empty() { &caller.namespace } else { &resource.resource_namespace };
    (namespace, &resource.name)
}

/// The topic that a resource names.
///
/// # Errors
/// `ILLEGAL_TOPIC`.
pub fn topic(caller: &Caller, resource: Option<&v2::Resource>) -> Result<TopicName, Refusal> {
    let (namespace, name) = parts(caller, resource);
    TopicName::new(namespace, name).map_err(|error| Refusal::illegal_topic(&error))
}

/// The consumer group that a resource names.
///
/// # Errors
/// `ILLEGAL_CONSUMER_GROUP`.
pub fn group(caller: &Caller, resource: Option<&v2::Resource>) -> Result<GroupName, Refusal> {
    let (namespace, name) = parts(caller, resource);
    GroupName::new(namespace, name).map_err(|error| Refusal::illegal_group(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rocketmq::Code;

    fn resource(namespace: &str, name: &str) -> v2::Resource {
        v2::Resource { resource_namespace: namespace.into(), name: name.into() }
    }

    #[test]
    #[allow(clippy::field_reassign_with_default)] // one field is private
    fn the_resource_outranks_the_header_and_an_empty_one_takes_it() {
        let mut caller = Caller::default();
        caller.namespace = "header".into();
        let of = |namespace: &str| topic(&caller, Some(&resource(namespace, "t"))).unwrap().namespace().to_owned();
        assert_eq!(of("own"), "own");
        assert_eq!(of(""), "header");
    }

    #[test]
    fn absent_and_system_names_have_their_codes() {
        let caller = Caller::default();
        assert_eq!(topic(&caller, None).unwrap_err().code, Code::IllegalTopic);
        assert_eq!(topic(&caller, Some(&resource("", "TBW102"))).unwrap_err().code, Code::IllegalTopic);
        assert_eq!(group(&caller, Some(&resource("", "CID_RMQ_SYS_X"))).unwrap_err().code, Code::IllegalConsumerGroup);
        assert_eq!(group(&caller, Some(&resource("a b", "g"))).unwrap_err().code, Code::IllegalConsumerGroup);
        assert!(topic(&caller, Some(&resource("", "%DLQ%g"))).is_ok());
    }
}
