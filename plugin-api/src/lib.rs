//! The plugin ABI of vq-host and its safe Rust SDK.
