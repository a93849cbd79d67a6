//! Batches that a thread prepares ahead of the trainer. The sequence of batches does not depend on the speed of either thread.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::config::SftConfig;
use super::status::Status;
use crate::example::Example;
use crate::{Batch, Sequence};

/// An endless source of training examples.
pub trait ExampleSource: Send {
    /// Makes `count` examples of a difficulty between 0 (easiest) and 1; an empty list ends the run.
    fn sample(&mut self, difficulty: f32, count: usize) -> Vec<Example>;

    /// Returns the state of the source, so that a run can be resumed.
    fn state(&self) -> serde_json::Value;

    /// Restores a state that [`Self::state`] returned.
    fn restore(&mut self, state: &serde_json::Value);
}

/// The batch of one step.
#[derive(Default)]
pub(super) struct TrainingBatch {
    pub batch: Batch,
    /// The tag of each sequence.
    pub tags: Vec<String>,
    /// The difficulty at which the examples were made.
    pub difficulty: f32,
    /// The state of the source after the batch was made.
    pub source: serde_json::Value,
}

/// The position of a feed between two steps, for a checkpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct FeedPosition {
    /// The number of batches that the trainer has taken.
    taken: u64,
    /// The difficulties of the batches that were requested and not yet taken.
    #[serde(rename = "asked")]
    requested: VecDeque<f32>,
    /// The state of the source after the last batch that was taken.
    source: serde_json::Value,
}

/// A thread that makes batches on request; the thread ends when the feed is dropped.
pub(super) struct BatchFeed {
    batches: Receiver<TrainingBatch>,
    requests: Sender<f32>,
    position: FeedPosition,
}

impl BatchFeed {
    /// The number of batches that are requested before they are needed.
    const AHEAD: usize = 3;

    /// Starts the thread at the given position, or at the beginning.
    pub fn start(mut source: Box<dyn ExampleSource>, config: &SftConfig, status: &Status, position: Option<FeedPosition>) -> Self {
        let position = match position {
            Some(position) => {
                source.restore(&position.source);
                position
            }
            None => FeedPosition { requested: [status.difficulty; Self::AHEAD].into(), source: source.state(), ..FeedPosition::default() },
        };
        let (sender, batches) = channel();
        let (requests, requested) = channel();
        for difficulty in &position.requested {
            // The receiver still exists, so sending cannot fail.
            let _ = requests.send(*difficulty);
        }
        let maker = BatchMaker { source, config: config.clone(), made: position.taken };
        std::thread::spawn(move || maker.run(&requested, &sender));
        Self { batches, requests, position }
    }

    /// Returns the next batch; `None` if the source has ended.
    pub fn next(&mut self) -> Option<TrainingBatch> {
        let mut item = self.batches.recv().ok()?;
        self.position.requested.pop_front();
        self.position.taken += 1;
        self.position.source = std::mem::take(&mut item.source);
        Some(item)
    }

    /// Requests one more batch of this difficulty.
    pub fn request(&mut self, difficulty: f32) {
        self.position.requested.push_back(difficulty);
        // If the thread has ended, `next` reports it.
        let _ = self.requests.send(difficulty);
    }

    /// Returns the position of the feed.
    pub fn position(&self) -> &FeedPosition {
        &self.position
    }
}

/// The thread's side of a feed, which makes the batches.
struct BatchMaker {
    source: Box<dyn ExampleSource>,
    config: SftConfig,
    /// The number of batches made so far.
    made: u64,
}

impl BatchMaker {
    /// The number of examples requested from the source at once.
    const SAMPLE: usize = 16;

    fn run(mut self, requested: &Receiver<f32>, sender: &Sender<TrainingBatch>) {
        while let Ok(difficulty) = requested.recv() {
            let Some(item) = self.batch(difficulty) else { return };
            if sender.send(item).is_err() {
                return;
            }
        }
    }

    /// Collects examples up to the maximum number of tokens of one batch; `None` if the source has ended.
    fn batch(&mut self, difficulty: f32) -> Option<TrainingBatch> {
        let mut rng = StdRng::seed_from_u64(self.config.seed.wrapping_add(self.made));
        self.made += 1;
        let mut item = TrainingBatch { difficulty, ..TrainingBatch::default() };
        let mut tokens = 0;
        let mut too_long = 0;
        loop {
            let examples = self.source.sample(difficulty, Self::SAMPLE);
            if examples.is_empty() || too_long > 1000 {
                return None;
            }
            for example in examples {
                let len = example.prompt.len() + example.completion.len();
                if len > self.config.max_tokens || example.completion.is_empty() || len < 2 {
                    too_long += 1;
                    continue;
                }
                if tokens + len > self.config.tokens_per_batch && !item.tags.is_empty() {
                    // The remaining examples are dropped, because the next batch may have another difficulty.
                    item.source = self.source.state();
                    return Some(item);
                }
                tokens += len;
                item.batch.sequences.push(weighted_sequence(&example, &self.config, &mut rng));
                item.tags.push(example.tag);
            }
        }
    }
}

/// Turns an example into a sequence with the weight of every token in the loss.
pub fn weighted_sequence(example: &Example, config: &SftConfig, rng: &mut StdRng) -> Sequence {
    let SftConfig { prompt_weight, prompt_share, short_boost, .. } = *config;
    let mut tokens = example.prompt.clone();
    tokens.extend_from_slice(&example.completion);
    let mut weights: Vec<f32> =
        (0..example.prompt.len()).map(|_| if rng.random::<f32>() < prompt_share { prompt_weight / prompt_share } else { 0.0 }).collect();
    let boost = (64.0 / example.completion.len() as f32).max(1.0).powf(short_boost);
    weights.resize(tokens.len(), boost);
    weights[example.prompt.len()..][example.forced.clone()].fill(0.0);
    Sequence { tokens, weights, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl ExampleSource for Counting {
        fn state(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        fn restore(&mut self, _: &serde_json::Value) {}

        fn sample(&mut self, difficulty: f32, count: usize) -> Vec<Example> {
            let long = if difficulty > 0.5 { 30 } else { 10 };
            vec![Example { prompt: vec![1; long], completion: vec![2; 5], tag: "t".into(), forced: 3..4 }; count]
        }
    }

    #[test]
    fn short_completions_weigh_more() {
        let config = SftConfig { short_boost: 0.5, ..Default::default() };
        let mut rng = StdRng::seed_from_u64(1);
        let mut weight = |len| {
            weighted_sequence(&Example { prompt: vec![1], completion: vec![2; len], ..Default::default() }, &config, &mut rng).weights[1]
        };
        assert_eq!((weight(4), weight(16), weight(64), weight(100)), (4.0, 2.0, 1.0, 1.0));
    }

    #[test]
    fn batches_fill_up_and_follow_the_difficulty() {
        let config = SftConfig { tokens_per_batch: 100, prompt_share: 1.0, ..Default::default() };
        let mut feed = BatchFeed::start(Box::new(Counting), &config, &Status::default(), None);
        let item = feed.next().unwrap();
        assert_eq!(item.batch.sequences.len(), 6);
        let weights = &item.batch.sequences[0].weights;
        assert_eq!(weights[..10], [0.01; 10]);
        assert_eq!(weights[10..], [1.0, 1.0, 1.0, 0.0, 1.0]);
        feed.request(1.0);
        let harder = std::iter::repeat_with(|| feed.next().unwrap()).find(|item| item.difficulty == 1.0).unwrap();
        assert_eq!(feed.position().taken, 1 + BatchFeed::AHEAD as u64, "exactly the batches requested before come first");
        assert_eq!(harder.batch.sequences.len(), 2);
    }
}
