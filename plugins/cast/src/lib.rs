//! Number formats as quantizers.
