//! A replay buffer of successful episodes (WebRL, 2411.02337, section 2.3; MiRA, 2603.19685, section 3.5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Result, files};

/// Relative tolerance at the edges of the perplexity band, because log-probabilities have single precision.
const ROUNDING: f64 = 1e-6;

/// Which episodes are kept and which of their pieces are replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayConfig {
    /// Pieces below this perplexity are not replayed, because the policy knows them already: 1/0.95 (WebRL, table 2).
    pub least_perplexity: f64,
    /// Pieces above this perplexity are not replayed, because they are too far from the policy: 1/0.5 (WebRL, table 2); MiRA's threshold
    /// varies, but is not published.
    pub most_perplexity: f64,
    /// The maximum number of replayed pieces, as a multiple of the number of current ones (WebRL, section 2.3).
    pub times_current: f64,
    /// The maximum number of successes kept per task; the newest are kept (WebRL's code keeps one).
    pub per_task: usize,
    /// The maximum number of successes kept in all; the newest are kept (WebRL's code keeps 100000).
    pub capacity: usize,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self { least_perplexity: 1.0 / 0.95, most_perplexity: 1.0 / 0.5, times_current: 2.0, per_task: 1, capacity: 100_000 }
    }
}

impl ReplayConfig {
    /// Returns true if a perplexity lies in the band, both ends included.
    pub fn in_band(&self, perplexity: f64) -> bool {
        perplexity >= self.least_perplexity * (1.0 - ROUNDING) && perplexity <= self.most_perplexity * (1.0 + ROUNDING)
    }

    fn check(&self) -> Result<()> {
        let (key, problem) = if !(self.least_perplexity >= 0.0 && self.least_perplexity <= self.most_perplexity) {
            ("most_perplexity", format!("the band {} to {} is empty", self.least_perplexity, self.most_perplexity))
        } else if !(self.times_current >= 0.0 && self.times_current.is_finite()) {
            ("times_current", format!("{} is not at least 0", self.times_current))
        } else if self.per_task == 0 || self.capacity == 0 {
            ("per_task", "neither it nor `capacity` can be 0; to go without replay set `times_current` to 0".into())
        } else {
            return Ok(());
        };
        Err(Error::Config { key, problem })
    }
}

/// Computes `exp(-mean logprob)` of an action's tokens; 1 if there are none.
pub fn perplexity(logprobs: &[f32]) -> f64 {
    let sum: f64 = logprobs.iter().map(|l| f64::from(*l)).sum();
    (-sum / logprobs.len().max(1) as f64).exp()
}

/// A successful episode that may be replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Success<Id> {
    id: Id,
    task: String,
    /// The perplexity of each piece under the policy that scored it last. A piece is an action (WebRL) or the whole episode (MiRA).
    perplexities: Vec<f64>,
}

/// The pieces of one successful episode that are replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed<'a, Id> {
    /// The episode's id.
    pub id: &'a Id,
    /// The indices of the pieces, ascending.
    pub pieces: Vec<usize>,
}

/// A buffer of successful episodes, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayBuffer<Id> {
    config: ReplayConfig,
    successes: Vec<Success<Id>>,
}

impl<Id: PartialEq> ReplayBuffer<Id> {
    /// Creates an empty buffer.
    ///
    /// # Errors
    /// The configuration is invalid.
    pub fn new(config: ReplayConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, successes: Vec::new() })
    }

    /// Returns the number of successes in the buffer.
    pub fn len(&self) -> usize {
        self.successes.len()
    }

    /// Returns true if the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.successes.is_empty()
    }

    /// Adds an episode with a verified outcome; only a success is kept, and it must be scored before it can be replayed.
    pub fn push(&mut self, id: Id, task: &str, success: bool) {
        if !success || self.successes.iter().any(|kept| kept.id == id) {
            return;
        }
        self.successes.push(Success { id, task: task.into(), perplexities: Vec::new() });
        self.trim();
    }

    /// Removes the oldest successes that exceed the limit per task or the limit in all.
    fn trim(&mut self) {
        let mut left_of_task: BTreeMap<&str, usize> = BTreeMap::new();
        let mut left_in_all = self.config.capacity;
        let mut keep: Vec<bool> = Vec::with_capacity(self.successes.len());
        for success in self.successes.iter().rev() {
            let left = left_of_task.entry(&success.task).or_insert(self.config.per_task);
            let fits = *left > 0 && left_in_all > 0;
            if fits {
                (*left, left_in_all) = (*left - 1, left_in_all - 1);
            }
            keep.push(fits);
        }
        let mut keep = keep.into_iter().rev();
        self.successes.retain(|_| keep.next().unwrap_or(true));
    }

    /// Scores every success again: `score` returns the perplexity of each of its pieces under the current policy. A success without pieces
    /// is not replayed.
    pub fn rescore<E>(&mut self, mut score: impl FnMut(&Id) -> std::result::Result<Vec<f64>, E>) -> std::result::Result<(), E> {
        for success in &mut self.successes {
            success.perplexities = score(&success.id)?;
        }
        Ok(())
    }

    /// Draws pieces in the band, at most `times_current` times the number of `current` ones, and returns them from the oldest episode to
    /// the newest; the same seed gives the same pieces.
    pub fn sample(&self, current: usize, seed: u64) -> Vec<Replayed<'_, Id>> {
        let in_band = |success: &Success<Id>| {
            let pieces = success.perplexities.iter().enumerate();
            pieces.filter(|(_, p)| self.config.in_band(**p)).map(|(piece, _)| piece).collect::<Vec<_>>()
        };
        let mut drawn: Vec<(usize, usize)> = self
            .successes
            .iter()
            .enumerate()
            .flat_map(|(at, success)| in_band(success).into_iter().map(move |piece| (at, piece)))
            .collect();
        drawn.shuffle(&mut StdRng::seed_from_u64(seed));
        drawn.truncate((self.config.times_current * current as f64) as usize);
        let mut by_episode: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (at, piece) in drawn {
            by_episode.entry(at).or_default().insert(piece);
        }
        by_episode.into_iter().map(|(at, pieces)| Replayed { id: &self.successes[at].id, pieces: pieces.into_iter().collect() }).collect()
    }
}

impl<Id: PartialEq + Serialize + DeserializeOwned> ReplayBuffer<Id> {
    /// Writes one line of JSON per success.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let lines = self.successes.iter().map(|success| Ok(serde_json::to_string(success)? + "\n"));
        let text: String = lines.collect::<serde_json::Result<_>>().map_err(Error::json(path))?;
        files::replace(path, text.as_bytes())
    }

    /// Reads a file that [`Self::save`] wrote, and applies this configuration to it, which may differ from the one it was written with.
    ///
    /// # Errors
    /// The configuration is invalid, or the file cannot be read.
    pub fn load(path: &Path, config: ReplayConfig) -> Result<Self> {
        config.check()?;
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let successes = text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>().map_err(Error::json(path))?;
        let mut buffer = Self { config, successes };
        buffer.trim();
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(config: ReplayConfig) -> ReplayBuffer<String> {
        ReplayBuffer::new(config).unwrap()
    }

    fn ids(sample: &[Replayed<'_, String>]) -> Vec<String> {
        sample.iter().map(|replayed| replayed.id.clone()).collect()
    }

    /// The band of the paper, computed by hand.
    #[test]
    fn the_perplexity_band() {
        for (probability, want) in [(0.96, false), (0.95, true), (0.7, true), (0.5, true), (0.49, false)] {
            let logprobs = [f64::ln(probability) as f32; 3];
            assert_eq!(ReplayConfig::default().in_band(perplexity(&logprobs)), want, "{probability}");
        }
        assert!((perplexity(&[-1.0, -3.0]) - 2.0_f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn only_the_newest_successes_of_a_task_are_kept() {
        let mut replay = buffer(ReplayConfig { per_task: 2, capacity: 3, ..Default::default() });
        for (id, task, success) in
            [("a", "x", true), ("b", "x", false), ("c", "x", true), ("c", "x", true), ("d", "x", true), ("e", "y", true), ("f", "z", true)]
        {
            replay.push(id.into(), task, success);
        }
        replay.rescore(|_| Ok::<_, ()>(vec![1.5])).unwrap();
        assert_eq!(ids(&replay.sample(9, 0)), ["d", "e", "f"]);
    }

    #[test]
    fn pieces_in_the_band_are_drawn_up_to_the_cap_and_the_same_for_a_seed() {
        let mut replay = buffer(ReplayConfig::default());
        for n in 0..20 {
            replay.push(format!("e{n}"), &format!("task {n}"), true);
        }
        assert!(replay.sample(5, 0).is_empty(), "nothing is scored yet");
        replay.rescore(|id| Ok::<_, ()>(if id == "e3" { vec![] } else { vec![1.01, 1.3, 5.0, 1.9] })).unwrap();
        let pieces = |current, seed| replay.sample(current, seed).iter().map(|r| r.pieces.clone()).collect::<Vec<_>>();
        assert_eq!(pieces(100, 1), vec![vec![1, 3]; 19]);
        assert_eq!(pieces(5, 1).concat().len(), 10);
        assert!(pieces(5, 1).concat().iter().all(|piece| [1, 3].contains(piece)));
        assert_eq!(replay.sample(5, 1), replay.sample(5, 1));
        assert_ne!(replay.sample(5, 1), replay.sample(5, 2));
        assert!(replay.sample(0, 1).is_empty());
    }

    #[test]
    fn a_buffer_that_was_saved_and_loaded_is_equal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replay.jsonl");
        let mut before = buffer(ReplayConfig { per_task: 2, ..Default::default() });
        before.push("a".into(), "x", true);
        before.push("b".into(), "x", true);
        before.rescore(|_| Ok::<_, ()>(vec![1.1, 1.2])).unwrap();
        before.save(&path).unwrap();
        assert_eq!(ReplayBuffer::load(&path, before.config.clone()).unwrap(), before);
        assert_eq!(ids(&ReplayBuffer::load(&path, ReplayConfig::default()).unwrap().sample(1, 0)), ["b"]);
        assert!(ReplayBuffer::<String>::load(&path, ReplayConfig { most_perplexity: 1.0, ..Default::default() }).is_err());
    }
}
