//! Buffers that a caller lends for a plugin to fill, which show what was left unwritten and what was
//! written beside them.

use super::CallError;

/// A buffer between guard zones, for a plugin to fill.
#[derive(Debug)]
pub struct Guarded<T> {
    values: Vec<T>,
    zone: usize,
    len: usize,
    canary: T,
}

impl<T: Copy + PartialEq> Guarded<T> {
    fn with_canary(canary: T) -> Self {
        // One page: an overrun by a row is caught by comparison, a larger one mostly too.
        let zone = 4096 / size_of::<T>();
        Guarded { values: vec![canary; 2 * zone], zone, len: 0, canary }
    }

    /// Room for `len` values, each the canary, so that what is not written shows.
    ///
    /// The filling takes time; whoever times a call lends before the clock starts, and may lend
    /// the same values to any number of calls.
    pub fn lend(&mut self, len: usize) -> &mut [T] {
        self.len = len;
        self.values.clear();
        self.values.resize(len + 2 * self.zone, self.canary);
        &mut self.values[self.zone..self.zone + len]
    }

    /// The values that `function` made of what was lent.
    ///
    /// # Errors
    /// Something beside them was written.
    pub fn finish(&self, function: &'static str) -> Result<&[T], CallError> {
        let (head, rest) = self.values.split_at(self.zone);
        if head.iter().chain(&rest[self.len..]).any(|v| *v != self.canary) {
            return Err(CallError::broke(function, "wrote outside its output"));
        }
        Ok(self.values())
    }

    /// What an untouched element holds.
    pub fn canary(&self) -> T {
        self.canary
    }

    /// The values as the last call left them.
    pub fn values(&self) -> &[T] {
        &self.values[self.zone..self.zone + self.len]
    }
}

impl Guarded<u8> {
    /// An empty buffer for codes.
    pub fn codes() -> Self {
        Self::with_canary(0xA5)
    }
}

impl Guarded<f32> {
    /// An empty buffer for rows and estimates. The canary is a number no method returns.
    pub fn rows() -> Self {
        Self::with_canary(f32::from_bits(0x7E57_C0DE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lent_as_canaries_and_come_back_as_written() {
        let mut buffer = Guarded::rows();
        let canary = buffer.canary();
        let room = buffer.lend(3);
        assert_eq!(room, [canary; 3]);
        room[1] = 2.0;
        assert_eq!(buffer.finish("decompress").unwrap(), [canary, 2.0, canary]);
        assert_eq!(buffer.lend(2), [canary; 2]);
        assert_eq!(buffer.lend(0), []);
    }

    #[test]
    fn a_write_beside_what_was_lent_is_told_with_the_functions_name() {
        for at in [4095, 4096 + 10] {
            let mut buffer = Guarded::codes();
            buffer.lend(10);
            buffer.values[at] = 0;
            let error = buffer.finish("compress").unwrap_err();
            assert_eq!(error.to_string(), "compress wrote outside its output");
        }
    }
}
