//! Compiles `proto/` without an installed `protoc`, and keeps the descriptors for reflection and for the wire contract test.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 3] =
    ["apache/rocketmq/v2/service.proto", "apache/rocketmq/v2/admin.proto", "bolide/admin/v1/admin.proto"];
/// Between the roles of a cluster alone: no client's reflection shows them.
const INTERNAL: [&str; 2] = ["bolide/broker/v1/broker.proto", "bolide/route/v1/route.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");

    let descriptors = protox::compile(FILES, ["proto"])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);

    // Comments are for the generated documentation; a client that asks reflection has no use for them.
    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    std::fs::write(out_dir.join("descriptor.bin"), bare.encode_to_vec())?;

    tonic_prost_build::configure()
        // The body stays a slice of the receive buffer instead of being copied.
        .bytes(".apache.rocketmq.v2.Message.body")
        // Written by hand so that a stored message is spliced into the answer instead of being decoded and encoded again.
        .extern_path(".apache.rocketmq.v2.ReceiveMessageResponse", "crate::wire_receive::ReceiveMessageResponse")
        .compile_fds(descriptors)?;
    tonic_prost_build::configure()
        // Bodies stay slices of the buffer that they arrived in.
        .bytes(".bolide.broker.v1")
        // The same bytes go to every member of a cluster.
        .bytes(".bolide.route.v1.WatchEvent.changes")
        .compile_fds(protox::compile(INTERNAL, ["proto"])?)?;
    Ok(())
}
