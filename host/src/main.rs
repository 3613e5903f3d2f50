//! The `vq-host` binary.

fn main() {}
