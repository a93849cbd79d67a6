//! Task templates, with their levels and the splits of their seeds.

use std::str::FromStr;

use milepost_runtime::{Error, Source, Split};

use crate::instance::{Build, Instance};

/// A level of difficulty: the number of actions that the oracle needs, without the closing `answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// 1 to 4 actions.
    Easy,
    /// 5 to 12 actions.
    Medium,
    /// 13 to 40 actions.
    Long,
}

impl Level {
    /// All levels.
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Long];

    /// Returns the level's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }

    /// Returns the minimum and maximum number of actions.
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

/// Returns the split that a seed belongs to.
pub fn split_of(seed: u64) -> Split {
    match seed {
        0..9_000 => Split::Train,
        9_000..10_000 => Split::Validation,
        _ => Split::Test,
    }
}

/// Returns the seeds of a split.
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

    /// Returns the site's name.
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

/// A kind of task, from which a seed makes an [`Instance`].
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// The unique id.
    pub id: &'static str,
    /// The site of the task.
    pub site: SiteKind,
    /// The level of difficulty.
    pub level: Level,
    /// Whether its instances are kept out of all training and gating.
    pub held_out: bool,
    /// Whether most of its seeds force a revision of the plan during the episode.
    pub revises: bool,
    /// Whether its goal asks for an answer that must be found.
    pub answers: bool,
    /// Whether it needs the `fetch` tool.
    pub fetches: bool,
    pub(crate) build: Build,
}

impl Template {
    pub(crate) const fn new(id: &'static str, site: SiteKind, level: Level, build: Build) -> Self {
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

    /// Returns the template, seed and split of the task of this seed, which decide what the task may be used for.
    pub fn source(&self, seed: u64) -> Source {
        Source { template: self.id.into(), seed, split: split_of(seed), held_out: self.held_out }
    }

    /// Makes the instance of a seed; it is the same on every platform.
    pub fn instantiate(&self, seed: u64) -> Instance {
        Instance::make(self.build, self.source(seed))
    }
}
