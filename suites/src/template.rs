//! Task templates: levels, splits, and the list of all that are bundled.

use std::str::FromStr;

use milepost_runtime::{Error, Source, Split};

use crate::instance::Instance;
use crate::seeded::Rng;

/// How many actions the oracle needs, the closing `answer` not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Up to 4.
    Easy,
    /// 5 to 12.
    Medium,
    /// 13 to 40.
    Long,
}

impl Level {
    /// All levels.
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Long];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }

    /// Least and most actions.
    pub fn actions(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Easy => 1..=4,
            Self::Medium => 5..=12,
            Self::Long => 13..=40,
        }
    }
}

impl FromStr for Level {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| Error::BadInput(format!("there is no level {name:?}; the levels are easy, medium or long")))
    }
}

/// The split of a seed.
pub fn split_of(seed: u64) -> Split {
    match seed {
        0..9_000 => Split::Train,
        9_000..10_000 => Split::Validation,
        _ => Split::Test,
    }
}

/// The seeds of a split.
pub fn seeds(split: Split) -> std::ops::Range<u64> {
    match split {
        Split::Train => 0..9_000,
        Split::Validation => 9_000..10_000,
        Split::Test => 10_000..u64::MAX,
    }
}

/// A bundled site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SiteKind {
    /// Search, product pages, cart, checkout.
    Shop,
    /// Login, tickets, comments.
    HelpDesk,
    /// Tables, edit forms, bulk actions, room bookings.
    Records,
}

impl SiteKind {
    /// All sites.
    pub const ALL: [Self; 3] = [Self::Shop, Self::HelpDesk, Self::Records];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::HelpDesk => "helpdesk",
            Self::Records => "records",
        }
    }
}

impl FromStr for SiteKind {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|site| site.name() == name)
            .ok_or_else(|| Error::BadInput(format!("there is no site {name:?}; the sites are shop, helpdesk and records")))
    }
}

/// A kind of task; a seed makes an [`Instance`] of it.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Unique id.
    pub id: &'static str,
    /// Where it plays.
    pub site: SiteKind,
    /// How long it is.
    pub level: Level,
    /// Kept out of all training and gating.
    pub held_out: bool,
    /// Most seeds force a revision of the plan in mid-course.
    pub revises: bool,
    /// It ends in an answer that must be found.
    pub answers: bool,
    /// It needs the `fetch` tool.
    pub fetches: bool,
    pub(crate) build: fn(&mut Rng) -> Instance,
}

impl Template {
    pub(crate) const fn new(id: &'static str, site: SiteKind, level: Level, build: fn(&mut Rng) -> Instance) -> Self {
        Self { id, site, level, held_out: false, revises: false, answers: false, fetches: false, build }
    }

    pub(crate) const fn held_out(self) -> Self {
        Self { held_out: true, ..self }
    }

    pub(crate) const fn revises(self) -> Self {
        Self { revises: true, ..self }
    }

    pub(crate) const fn answers(self) -> Self {
        Self { answers: true, ..self }
    }

    pub(crate) const fn fetches(self) -> Self {
        Self { fetches: true, ..self }
    }

    /// What a task of this seed may be used for.
    pub fn source(&self, seed: u64) -> Source {
        Source { template: self.id.into(), seed, split: split_of(seed), held_out: self.held_out }
    }

    /// The instance of a seed; the same on every platform.
    pub fn instantiate(&self, seed: u64) -> Instance {
        (self.build)(&mut Rng::new(self.id, seed)).made_from(*self, seed)
    }
}

/// All templates of the bundled suite, by level, then site.
pub fn bundled() -> &'static [Template] {
    static ALL: std::sync::LazyLock<Vec<Template>> = std::sync::LazyLock::new(|| {
        let mut all: Vec<Template> =
            [crate::shop::TEMPLATES, crate::helpdesk::TEMPLATES, crate::records::TEMPLATES].into_iter().flatten().copied().collect();
        all.sort_by_key(|template| template.level);
        all
    });
    &ALL
}

/// The template with this id.
pub fn template(id: &str) -> Option<&'static Template> {
    bundled().iter().find(|template| template.id == id)
}
