//! Fitted building blocks of vector quantizers.
#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
pub mod testing;
