//! Replay of successes (WebRL, 2411.02337, section 2.3; MiRA, 2603.19685, section 3.5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Result, files};

/// Room at the edges of the band for log-probabilities in single precision.
const ROUNDING: f64 = 1e-6;

/// What is kept and what is replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayConfig {
    /// Pieces under this perplexity are known already: 1/0.95 (WebRL, table 2).
    pub least_perplexity: f64,
    /// Pieces over this perplexity are too far off: 1/0.5 (WebRL, table 2); MiRA's threshold moves, but is not published.
    pub most_perplexity: f64,
    /// Replayed pieces are at most so many times the current ones (WebRL, section 2.3).
    pub times_current: f64,
    /// Successes kept of a task; the newest stay (WebRL's code keeps one).
    pub per_task: usize,
    /// Successes kept in all; the newest stay (WebRL's code has 100000).
    pub capacity: usize,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self { least_perplexity: 1.0 / 0.95, most_perplexity: 1.0 / 0.5, times_current: 2.0, per_task: 1, capacity: 100_000 }
    }
}

impl ReplayConfig {
    /// Whether a perplexity lies in the band, both ends included.
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

/// `exp(-mean logprob)` of an action's tokens; 1 for none.
pub fn perplexity(logprobs: &[f32]) -> f64 {
    let sum: f64 = logprobs.iter().map(|l| f64::from(*l)).sum();
    (-sum / logprobs.len().max(1) as f64).exp()
}

/// A success that may be replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<Id> {
    id: Id,
    task: String,
    /// The perplexity of each piece under the actor that scored last: an action a piece (WebRL), or the whole episode as one (MiRA).
    perplexities: Vec<f64>,
}

/// What is replayed of one success.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed<'a, Id> {
    /// Which episode.
    pub id: &'a Id,
    /// Which of its pieces, ascending.
    pub pieces: Vec<usize>,
}

/// The successes, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay<Id> {
    config: ReplayConfig,
    kept: Vec<Kept<Id>>,
}

impl<Id: PartialEq> Replay<Id> {
    /// An empty memory.
    pub fn new(config: ReplayConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, kept: Vec::new() })
    }

    /// Successes held.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes in an episode whose outcome was verified; only a success is kept. It is replayed once it is scored.
    pub fn push(&mut self, id: Id, task: &str, success: bool) {
        if !success || self.kept.iter().any(|kept| kept.id == id) {
            return;
        }
        self.kept.push(Kept { id, task: task.into(), perplexities: Vec::new() });
        self.trim();
    }

    /// Lets the newest stay, of each task and in all.
    fn trim(&mut self) {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        let mut room = self.config.capacity;
        let mut stays: Vec<bool> = Vec::with_capacity(self.kept.len());
        for kept in self.kept.iter().rev() {
            let left = left.entry(&kept.task).or_insert(self.config.per_task);
            let stay = *left > 0 && room > 0;
            if stay {
                (*left, room) = (*left - 1, room - 1);
            }
            stays.push(stay);
        }
        let mut stays = stays.into_iter().rev();
        self.kept.retain(|_| stays.next().unwrap_or(true));
    }

    /// Scores every success again: `score` gives the perplexity of each of its pieces under the current actor. A success without pieces
    /// is not replayed.
    pub fn rescore<E>(&mut self, mut score: impl FnMut(&Id) -> std::result::Result<Vec<f64>, E>) -> std::result::Result<(), E> {
        for kept in &mut self.kept {
            kept.perplexities = score(&kept.id)?;
        }
        Ok(())
    }

    /// Draws pieces in the band, at most `times_current` times the `current` ones, from oldest to newest; the same for the same seed.
    pub fn sample(&self, current: usize, seed: u64) -> Vec<Replayed<'_, Id>> {
        let fits = |kept: &Kept<Id>| {
            let pieces = kept.perplexities.iter().enumerate();
            pieces.filter(|(_, p)| self.config.in_band(**p)).map(|(piece, _)| piece).collect::<Vec<_>>()
        };
        let mut drawn: Vec<(usize, usize)> =
            self.kept.iter().enumerate().flat_map(|(at, kept)| fits(kept).into_iter().map(move |piece| (at, piece))).collect();
        drawn.shuffle(&mut StdRng::seed_from_u64(seed));
        drawn.truncate((self.config.times_current * current as f64) as usize);
        let mut by_episode: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (at, piece) in drawn {
            by_episode.entry(at).or_default().insert(piece);
        }
        by_episode.into_iter().map(|(at, pieces)| Replayed { id: &self.kept[at].id, pieces: pieces.into_iter().collect() }).collect()
    }
}

impl<Id: PartialEq + Serialize + DeserializeOwned> Replay<Id> {
    /// Writes one line of JSON a success.
    pub fn save(&self, path: &Path) -> Result<()> {
        let lines = self.kept.iter().map(|kept| Ok(serde_json::to_string(kept)? + "\n"));
        let text: String = lines.collect::<serde_json::Result<_>>().map_err(Error::json(path))?;
        files::replace(path, text.as_bytes())
    }

    /// Reads what [`Replay::save`] wrote, under a configuration that may be another.
    pub fn load(path: &Path, config: ReplayConfig) -> Result<Self> {
        config.check()?;
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let kept = text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>().map_err(Error::json(path))?;
        let mut replay = Self { config, kept };
        replay.trim();
        Ok(replay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(config: ReplayConfig) -> Replay<String> {
        Replay::new(config).unwrap()
    }

    fn ids(sample: &[Replayed<'_, String>]) -> Vec<String> {
        sample.iter().map(|replayed| replayed.id.clone()).collect()
    }

    /// The band as the paper has it, worked by hand.
    #[test]
    fn the_perplexity_band() {
        for (probability, want) in [(0.96, false), (0.95, true), (0.7, true), (0.5, true), (0.49, false)] {
            let logprobs = [f64::ln(probability) as f32; 3];
            assert_eq!(ReplayConfig::default().in_band(perplexity(&logprobs)), want, "{probability}");
        }
        assert!((perplexity(&[-1.0, -3.0]) - 2.0_f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn only_the_newest_successes_of_a_task_stay() {
        let mut replay = replay(ReplayConfig { per_task: 2, capacity: 3, ..Default::default() });
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
        let mut replay = replay(ReplayConfig::default());
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
    fn it_survives_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replay.jsonl");
        let mut before = replay(ReplayConfig { per_task: 2, ..Default::default() });
        before.push("a".into(), "x", true);
        before.push("b".into(), "x", true);
        before.rescore(|_| Ok::<_, ()>(vec![1.1, 1.2])).unwrap();
        before.save(&path).unwrap();
        assert_eq!(Replay::load(&path, before.config.clone()).unwrap(), before);
        assert_eq!(ids(&Replay::load(&path, ReplayConfig::default()).unwrap().sample(1, 0)), ["b"]);
        assert!(Replay::<String>::load(&path, ReplayConfig { most_perplexity: 1.0, ..Default::default() }).is_err());
    }
}
