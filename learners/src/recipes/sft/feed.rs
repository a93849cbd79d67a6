//! Batches made ahead of the trainer, in a thread of their own; which batch comes when does not depend on how fast either is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::{SftConfig, Status};
use crate::{Batch, Sequence};

/// A prompt and what should follow it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// What is given.
    pub prompt: Vec<u32>,
    /// What should be said, with the token that ends it.
    pub completion: Vec<u32>,
    /// What kind of example this is, for the metrics.
    pub tag: String,
    /// Tokens of the completion that need not be learned, because a grammar forces them when it counts.
    pub forced: Range<usize>,
}

/// Something that makes examples without end.
pub trait ExampleSource: Send {
    /// Makes `count` examples of a difficulty between 0 (easiest) and 1; none at all ends the run.
    fn sample(&mut self, difficulty: f32, count: usize) -> Vec<Example>;

    /// Where it stands, for a run that goes on later.
    fn state(&self) -> serde_json::Value;

    /// Goes back to where it stood.
    fn restore(&mut self, state: &serde_json::Value);
}

/// One step's batch.
#[derive(Default)]
pub(super) struct Work {
    pub batch: Batch,
    /// The tag of each sequence.
    pub tags: Vec<String>,
    /// The difficulty that it was made at.
    pub difficulty: f32,
    /// Where the source stood when it was made.
    pub source: serde_json::Value,
}

/// Where a feed stands between two steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// Batches that the trainer has had.
    taken: u64,
    /// The difficulties of the batches that were asked for since.
    asked: VecDeque<f32>,
    /// Where the source stood after the last one taken.
    source: serde_json::Value,
}

/// The thread that makes batches; it ends when this is dropped.
pub(super) struct Feed {
    batches: Receiver<Work>,
    orders: Sender<f32>,
    position: Position,
}

impl Feed {
    /// Batches that are asked for before they are needed.
    const AHEAD: usize = 3;

    /// Starts the thread, at a position or from the beginning.
    pub fn start(mut source: Box<dyn ExampleSource>, config: &SftConfig, status: &Status, position: Option<Position>) -> Self {
        let position = match position {
            Some(position) => {
                source.restore(&position.source);
                position
            }
            None => Position { asked: [status.difficulty; Self::AHEAD].into(), source: source.state(), ..Position::default() },
        };
        let (sender, batches) = channel();
        let (orders, ordered) = channel();
        for difficulty in &position.asked {
            // The maker is not running yet; it will find these.
            let _ = orders.send(*difficulty);
        }
        let maker = Maker { source, config: config.clone(), made: position.taken };
        std::thread::spawn(move || maker.run(&ordered, &sender));
        Self { batches, orders, position }
    }

    /// The next batch; `None` when the source has ended.
    pub fn next(&mut self) -> Option<Work> {
        let mut work = self.batches.recv().ok()?;
        self.position.asked.pop_front();
        self.position.taken += 1;
        self.position.source = std::mem::take(&mut work.source);
        Some(work)
    }

    /// Asks for one more batch, of this difficulty.
    pub fn order(&mut self, difficulty: f32) {
        self.position.asked.push_back(difficulty);
        // A maker that has ended shows in `next`.
        let _ = self.orders.send(difficulty);
    }

    /// Where the feed stands.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

struct Maker {
    source: Box<dyn ExampleSource>,
    config: SftConfig,
    /// Batches made.
    made: u64,
}

impl Maker {
    /// Examples that are asked for at once.
    const ASK: usize = 16;

    fn run(mut self, ordered: &Receiver<f32>, sender: &Sender<Work>) {
        while let Ok(difficulty) = ordered.recv() {
            let Some(work) = self.batch(difficulty) else { return };
            if sender.send(work).is_err() {
                return;
            }
        }
    }

    /// Examples up to the number of tokens of one batch; `None` when there are no more.
    fn batch(&mut self, difficulty: f32) -> Option<Work> {
        let mut rng = StdRng::seed_from_u64(self.config.seed.wrapping_add(self.made));
        self.made += 1;
        let mut work = Work { difficulty, ..Work::default() };
        let mut tokens = 0;
        let mut too_long = 0;
        loop {
            let examples = self.source.sample(difficulty, Self::ASK);
            if examples.is_empty() || too_long > 1000 {
                return None;
            }
            for example in examples {
                let len = example.prompt.len() + example.completion.len();
                if len > self.config.max_tokens || example.completion.is_empty() || len < 2 {
                    too_long += 1;
                    continue;
                }
                if tokens + len > self.config.tokens_per_batch && !work.tags.is_empty() {
                    // The rest was made at this difficulty, which may have moved when the next batch begins.
                    work.source = self.source.state();
                    return Some(work);
                }
                tokens += len;
                work.batch.sequences.push(weigh(&example, &self.config, &mut rng));
                work.tags.push(example.tag);
            }
        }
    }
}

/// An example as it is trained: which tokens count, and how much.
pub fn weigh(example: &Example, config: &SftConfig, rng: &mut StdRng) -> Sequence {
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
        let mut weight =
            |len| weigh(&Example { prompt: vec![1], completion: vec![2; len], ..Default::default() }, &config, &mut rng).weights[1];
        assert_eq!((weight(4), weight(16), weight(64), weight(100)), (4.0, 2.0, 1.0, 1.0));
    }

    #[test]
    fn batches_fill_up_and_follow_the_difficulty() {
        let config = SftConfig { tokens_per_batch: 100, prompt_share: 1.0, ..Default::default() };
        let mut feed = Feed::start(Box::new(Counting), &config, &Status::default(), None);
        let work = feed.next().unwrap();
        assert_eq!(work.batch.sequences.len(), 6);
        let weights = &work.batch.sequences[0].weights;
        assert_eq!(weights[..10], [0.01; 10]);
        assert_eq!(weights[10..], [1.0, 1.0, 1.0, 0.0, 1.0]);
        feed.order(1.0);
        let harder = std::iter::repeat_with(|| feed.next().unwrap()).find(|w| w.difficulty == 1.0).unwrap();
        assert_eq!(feed.position().taken, 1 + Feed::AHEAD as u64, "exactly those asked for before come first");
        assert_eq!(harder.batch.sequences.len(), 2);
    }
}
