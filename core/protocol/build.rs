//! Compiles the `.proto` files without an installed protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(
        ["millstream/job_graph.proto", "millstream/host.proto", "millstream/cluster.proto"],
        ["proto"],
    )?;
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        // It holds secrets; see `src/secrets.rs`.
        .skip_debug(["millstream.host.v1.Begin", "millstream.host.v1.Credentials"])
        .compile_fds(files)?;
    Ok(())
}
