//! Compiles the messages of Hadoop, and those that our containers find, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["hadoop/common.proto", "hadoop/yarn.proto", "millstream/container.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    // The order of maps is then that of their keys, so that the same content is the same bytes.
    let mut config = prost_build::Config::new();
    // What holds secrets is shown by our own hand.
    config
        .btree_map(["."])
        .skip_debug([".millstream.yarn.v1.Master", ".millstream.yarn.v1.Worker"]);
    config.compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
