//! Batches made ahead of the trainer, in a thread of their own.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{SftConfig, Status};
use crate::{Batch, Sequence};

/// A prompt and what should follow it.
#[derive(Clone, Debug, Default, PartialEq)]
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
}

/// One step's batch.
#[derive(Default)]
pub(super) struct Work {
    pub batch: Batch,
    /// The tag of each sequence.
    pub tags: Vec<String>,
    /// The difficulty that it was made at.
    pub difficulty: f32,
}

/// The thread that makes batches; it ends when this is dropped.
pub(super) struct Feed {
    batches: Receiver<Work>,
    difficulty: Arc<AtomicU32>,
}

impl Feed {
    /// Batches that may wait.
    const AHEAD: usize = 2;

    /// Starts the thread at the status's difficulty.
    pub fn start(source: Box<dyn ExampleSource>, config: &SftConfig, status: &Status) -> Self {
        let difficulty = Arc::new(AtomicU32::new(status.difficulty.to_bits()));
        let (sender, batches) = sync_channel(Self::AHEAD);
        let maker = Maker {
            source,
            config: config.clone(),
            rng: StdRng::seed_from_u64(config.seed.wrapping_add(status.step)),
            difficulty: difficulty.clone(),
            left: Vec::new(),
        };
        std::thread::spawn(move || maker.run(&sender));
        Self { batches, difficulty }
    }

    /// The next batch; `None` when the source has ended.
    pub fn next(&self) -> Option<Work> {
        self.batches.recv().ok()
    }

    /// Sets the difficulty of batches that are not made yet.
    pub fn set_difficulty(&self, difficulty: f32) {
        self.difficulty.store(difficulty.to_bits(), Ordering::Relaxed);
    }
}

struct Maker {
    source: Box<dyn ExampleSource>,
    config: SftConfig,
    rng: StdRng,
    difficulty: Arc<AtomicU32>,
    /// Examples that the latest batch had no room for, last first.
    left: Vec<Example>,
}

impl Maker {
    /// Examples that are asked for at once.
    const ASK: usize = 16;

    fn run(mut self, sender: &SyncSender<Work>) {
        while let Some(work) = self.batch() {
            if sender.send(work).is_err() {
                return;
            }
        }
    }

    /// Examples up to the number of tokens of one batch; `None` when there are no more.
    fn batch(&mut self) -> Option<Work> {
        let difficulty = f32::from_bits(self.difficulty.load(Ordering::Relaxed));
        let mut work = Work { difficulty, ..Work::default() };
        let mut tokens = 0;
        let mut too_long = 0;
        loop {
            let Some(example) = self.left.pop() else {
                self.left = self.source.sample(difficulty, Self::ASK);
                self.left.reverse();
                if self.left.is_empty() || too_long > 1000 {
                    return None;
                }
                continue;
            };
            let len = example.prompt.len() + example.completion.len();
            if len > self.config.max_tokens || example.completion.is_empty() || len < 2 {
                too_long += 1;
                continue;
            }
            if tokens + len > self.config.tokens_per_batch && !work.tags.is_empty() {
                // What is left was made at this difficulty, which may have moved when the next batch begins.
                self.left.clear();
                return Some(work);
            }
            tokens += len;
            work.batch.sequences.push(weigh(&example, &self.config, &mut self.rng));
            work.tags.push(example.tag);
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
        let feed = Feed::start(Box::new(Counting), &config, &Status::default());
        let work = feed.next().unwrap();
        assert_eq!(work.batch.sequences.len(), 6);
        let weights = &work.batch.sequences[0].weights;
        assert_eq!(weights[..10], [0.01; 10]);
        assert_eq!(weights[10..], [1.0, 1.0, 1.0, 0.0, 1.0]);
        feed.set_difficulty(1.0);
        let harder = std::iter::repeat_with(|| feed.next().unwrap()).find(|w| w.difficulty == 1.0).unwrap();
        assert_eq!(harder.batch.sequences.len(), 2);
    }
}
