//! Generated protobuf types and gRPC services, nothing by hand.
//!
//! They stop at the borders that `tests/house.rs` names; everything behind works with `model` types.

/// `apache.rocketmq.v2`: what the official clients speak.
#[allow(clippy::all, missing_docs, rustdoc::all, unreachable_pub, unused_qualifications)]
pub mod rocketmq {
    tonic::include_proto!("apache.rocketmq.v2");
}

/// `bolide.admin.v1`: what `bolide admin` speaks.
#[allow(clippy::all, missing_docs, rustdoc::all, unreachable_pub, unused_qualifications)]
pub mod admin {
    tonic::include_proto!("bolide.admin.v1");
}

/// `bolide.broker.v1`: what proxies speak with the broker of a shard.
#[allow(clippy::all, missing_docs, rustdoc::all, unreachable_pub, unused_qualifications)]
pub mod broker {
    tonic::include_proto!("bolide.broker.v1");
}

/// `bolide.route.v1`: what the roles of a cluster say to the route service.
#[allow(clippy::all, missing_docs, rustdoc::all, unreachable_pub, unused_qualifications)]
pub mod route {
    tonic::include_proto!("bolide.route.v1");
}

/// Every file that clients may know with its imports, as an encoded `google.protobuf.FileDescriptorSet`: what gRPC reflection serves.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
