use std::process::ExitCode;

use mimalloc::MiMalloc;

// 20 to 25 % more unary calls a second than with the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Fails only when a provider is installed already, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    bolide::cli::run()
}
