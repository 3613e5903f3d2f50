//! What a method makes of known rows and a known seed, as digests. Whoever starts processes compares
//! them between two: what depends on the clock or on where memory lies differs there.

use super::cell::{Cell, Plan};
use super::lab::Lab;
use super::{Hear, Log, Subject, descriptor};
use crate::handle::Method;
use crate::params::Config;

/// Digests of what the first configuration of a check makes.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// Of the saved model, where the method offers one.
    model: Option<u64>,
    /// Of the codes of rows that it was not fitted on.
    codes: u64,
    /// Of these codes decoded.
    decoded: u64,
}

impl Print {
    pub(super) fn of(cell: &Cell<'_>) -> Self {
        let model = cell.instance.save().ok().flatten();
        Print {
            model: model.map(digest),
            codes: digest(cell.codes.iter().copied()),
            decoded: digest(cell.decoded.iter().flat_map(|value| value.to_le_bytes())),
        }
    }

    /// The first function whose answer differs from `other`'s, and how; `None` where all are equal.
    pub fn difference(&self, other: &Print) -> Option<(&'static str, &'static str)> {
        if self.model != other.model {
            Some(("fit", "the saved model is another"))
        } else if self.codes != other.codes {
            Some(("compress", "codes are others"))
        } else if self.decoded != other.decoded {
            Some(("decompress", "equal codes decode to other rows"))
        } else {
            None
        }
    }
}

/// The print of `method`, with the parameters of `fixed`; `None` where there is nothing to print, as
/// the method breaks rules that [`super::check_method`] names.
pub fn print(method: &Method, fixed: &Config, hear: Hear) -> Option<Print> {
    let observer: &mut dyn FnMut(super::Event<'_>) = &mut |_| ();
    let mut log = Log::new(&method.about().id, observer);
    let (config, space) = descriptor::foothold(method, fixed)?;
    let lab = Lab::new(hear);
    let subject = Subject { method, lab: &lab, fixed, config, space };
    let cell = Cell::build(&subject, &Plan::deep(&subject), &mut log)?;
    Some(Print::of(&cell))
}

/// FNV-1a (Fowler, Noll & Vo) of 64 bits: no secret, nobody gains by a collision.
fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_published_ones() {
        assert_eq!(digest(*b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(*b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(digest(*b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_difference_is_told_by_the_function_that_made_it() {
        let print = Print { model: Some(1), codes: 2, decoded: 3 };
        let function = |other| print.difference(&other).map(|(function, _)| function);
        assert_eq!(function(print), None);
        assert_eq!(function(Print { model: None, ..print }), Some("fit"));
        assert_eq!(function(Print { codes: 0, decoded: 0, ..print }), Some("compress"));
        assert_eq!(function(Print { decoded: 0, ..print }), Some("decompress"));
    }
}
