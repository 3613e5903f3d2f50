//! What a table says of a row beside its numbers: signs, and a line that explains each.

use serde::Serialize;

/// What limits a configuration's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Marks {
    /// Its numbers were not shown to come from the stored bytes alone.
    pub unproven: bool,
    /// It learns, and nobody knows how much it keeps of what it learned.
    pub unweighed: bool,
    /// It learned from rows that it is measured on.
    pub learned_from_base: bool,
    /// Its times are of another machine than most.
    pub elsewhere: bool,
    /// Another one of no larger size is as good, as far as the queries can tell.
    pub tied: bool,
}

/// A sign, whether it is set, and what it means.
pub(super) type Sign = (&'static str, fn(Marks) -> bool, &'static str);

/// The sign of each mark and what it means.
pub(super) const SIGNS: [Sign; 5] = [
    ("?", |of| of.unproven, "unproven: the numbers may come from elsewhere than the stored bytes"),
    ("~", |of| of.unweighed, "learned a model of unknown size"),
    ("*", |of| of.learned_from_base, "learned from rows that it is measured on"),
    ("@", |of| of.elsewhere, "measured on another machine than most: its times do not compare"),
    ("=", |of| of.tied, "tied in recall with a code of no larger size"),
];

impl Marks {
    /// False for what may stand in a table and never at its head.
    pub fn may_lead(self) -> bool {
        !self.unproven && !self.unweighed
    }

    /// The signs that apply.
    pub(super) fn signs(self) -> String {
        SIGNS.iter().filter(|(_, applies, _)| applies(self)).map(|(sign, ..)| *sign).collect()
    }

    /// `name` with the signs that apply.
    pub(super) fn on(self, name: &str) -> String {
        let signs = self.signs();
        if signs.is_empty() { name.to_owned() } else { format!("{name} {signs}") }
    }

    /// What the signs among `all` mean, one clause each.
    pub(super) fn legend(all: &[Self]) -> Vec<String> {
        let used = |applies: fn(Self) -> bool| all.iter().any(|marks| applies(*marks));
        let used = SIGNS.iter().filter(|(_, applies, _)| used(*applies));
        used.map(|(sign, _, meaning)| format!("{sign} {meaning}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signs_that_are_used_are_explained() {
        let none = Marks::default();
        let both = Marks { unproven: true, tied: true, ..none };
        assert_eq!((none.on("a"), both.on("a")), ("a".to_owned(), "a ?=".to_owned()));
        assert!(none.may_lead() && !both.may_lead());
        assert!(Marks { learned_from_base: true, tied: true, ..none }.may_lead());
        assert_eq!(Marks::legend(&[none]), Vec::<String>::new());
        let legend = Marks::legend(&[none, both]);
        assert!(legend.len() == 2 && legend[0].starts_with("? unproven"), "{legend:?}");
    }
}
