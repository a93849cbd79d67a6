//! Collecting from a user's own recorded tasks: recorded episodes with a verified outcome are used, and no task is played.

use std::path::Path;

use milepost_learners::files;
use milepost_learners::rewards::compose;
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{EpisodeStore, Verdicts};

use super::SuiteStages;
use super::collected::{COLLECTED, Collected};
use super::collecting::step_rewards;
use crate::error::Result;
use crate::recorded;

impl SuiteStages<'_> {
    /// Collects the user's own verified episodes of the generation in service; episodes with the same goal and start address form a group. Their
    /// rewards come from the outcome and the recorded steps alone ([`RewardConfig::needs_the_suite`]).
    ///
    /// [`RewardConfig::needs_the_suite`]: milepost_learners::rewards::RewardConfig::needs_the_suite
    pub(super) async fn collect_own_episodes(&self, round: usize, directory: &Path) -> Result<(usize, usize)> {
        let query = TrainingQuery { generation: Some(self.serving()), from_suite: Some(false), ..TrainingQuery::default() };
        let rewards = self.phase(round)?.rewards;
        let (mut lines, mut counts) = (String::new(), (0, 0));
        for (index, id) in self.store.trainable(&query).await?.into_iter().enumerate() {
            let Some(episode) = self.store.load(&id).await? else { continue };
            let reward = compose(&episode, &Verdicts::default(), &rewards);
            let solved = episode.success == Some(true);
            let (rewards, whole) = step_rewards(&reward, &episode);
            let one = Collected {
                index,
                id,
                template: "own".into(),
                group: recorded::task_name(&episode.task),
                solved,
                progress: Vec::new(),
                rewards,
                whole,
                terms: reward.terms,
            };
            lines.push_str(&(serde_json::to_string(&one)? + "\n"));
            counts = (counts.0 + 1, counts.1 + usize::from(solved));
        }
        files::replace(&directory.join(COLLECTED), lines.as_bytes())?;
        Ok(counts)
    }
}
