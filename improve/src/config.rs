//! Section `improve` of the configuration: the tasks that a round plays, how it learns from them, and the gate.

mod phase;
mod recipe;

use std::path::PathBuf;

use milepost_learners::policy::PolicyConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use phase::TrainingPhase;
pub use recipe::Recipe;

use crate::gate::GateConfig;
use crate::phases::PhaseConfig;

/// The trajectories that the recipe `single_turn` learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expert {
    /// Trajectories of the suite's oracle.
    #[default]
    Oracle,
    /// Verified successes in the store that alone are the shortest of their task; `--suite own` always uses them.
    Recorded,
}

/// How the recipe `single_turn` starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Imitation {
    /// The number of rounds that imitate the expert, each on other tasks, before the model is sampled in the expert's states.
    pub rounds: usize,
    /// The learning rate of these rounds; `null` takes that of the update. A likelihood tolerates a higher learning rate than ratios do.
    pub lr: Option<f64>,
}

impl Default for Imitation {
    fn default() -> Self {
        Self { rounds: 1, lr: None }
    }
}

/// The settings of section `improve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImproveConfig {
    /// The directory in which runs keep their state; `null` is `improve/` beside the episodes.
    pub directory: Option<PathBuf>,
    /// The recipe by which a round learns.
    pub recipe: Recipe,
    /// PilotRL's stages by round; the last entry is for all later rounds. An entry with several stages mixes their rewards.
    pub stages: Vec<Vec<u8>>,
    /// The trajectories that `single_turn` learns from.
    pub expert: Expert,
    /// How `single_turn` starts.
    pub imitation: Imitation,
    /// How MiRA chooses the tasks of its next round.
    pub phases: PhaseConfig,
    /// The levels of the suite that are played, in training and in the gate.
    pub levels: Vec<String>,
    /// The templates of these levels that are played; empty means all.
    pub templates: Vec<String>,
    /// The number of tasks per round.
    pub tasks: usize,
    /// The number of episodes per task; they are compared with each other.
    pub group: usize,
    /// For `single_turn`: the number of samples in a state where one of the first `group` samples differs from the expert's action; a state where
    /// the model is certain gets one sample. 0 draws `group` samples everywhere.
    pub in_doubt: usize,
    /// Whether the first episode of a task is played greedily, and the others only if that one fails.
    pub greedy_first: bool,
    /// The sampling temperature of training episodes; validation is greedy.
    pub temperature: f32,
    /// The number of episodes at once; on a CPU the engine may compute only one call at a time.
    pub workers: usize,
    /// The number of test tasks on which each generation is measured again at the end; 0 means none.
    pub remeasure: usize,
    /// The seed of the choice of tasks and of all sampling.
    pub seed: u64,
    /// The niceness of the training process, 0 to 19.
    pub nice: i32,
    /// The maximum memory of the training process in GiB; `null` sets no limit.
    pub memory_gib: Option<u64>,
    /// Keys that override those of the recipe's rewards.
    pub rewards: serde_json::Map<String, Value>,
    /// The constants of the update.
    pub update: PolicyConfig,
    /// The gate that a candidate has to pass.
    pub gate: GateConfig,
}

impl Default for ImproveConfig {
    fn default() -> Self {
        Self {
            directory: None,
            recipe: Recipe::default(),
            stages: vec![vec![1], vec![2], vec![3]],
            expert: Expert::default(),
            imitation: Imitation::default(),
            phases: PhaseConfig::default(),
            levels: vec!["medium".into(), "long".into()],
            templates: Vec::new(),
            tasks: 16,
            group: 8,
            in_doubt: 0,
            greedy_first: false,
            temperature: 1.0,
            workers: 2,
            remeasure: 200,
            seed: 1,
            nice: 10,
            memory_gib: None,
            rewards: serde_json::Map::new(),
            update: PolicyConfig::default(),
            gate: GateConfig::default(),
        }
    }
}
