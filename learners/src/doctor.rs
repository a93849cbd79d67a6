//! Diagnosis of a training set-up before training: whether every tensor gets a gradient, and whether only the right tokens are trained.

mod finding;
pub mod policy;

use serde::Serialize;

pub use finding::{Bounds, Finding, Level};

use crate::adapter::{Adapter, LoraInit};
use crate::example::Example;
use crate::model::{Packed, Workspace};
use crate::{Model, Result, Sequence};

/// The result of a diagnosis.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diagnosis {
    /// The number of trained tensors.
    pub tensors: usize,
    /// The names of the tensors whose gradient is zero everywhere.
    pub silent: Vec<String>,
    /// The names of the tensors whose gradient is not finite.
    pub not_finite: Vec<String>,
    /// The norm of the whole gradient of the loss, which is averaged over the weights.
    pub grad_norm: f64,
    /// The mean negative log-probability of the completions' tokens, in nats: an estimate of the policy's entropy on its own data.
    pub nats_per_token: f64,
    /// The number of examples in the diagnosis.
    pub examples: usize,
    /// The fraction of the total weight that tokens of prompts have.
    pub prompt_share_of_weight: f64,
    /// Descriptions of the problems that were found; empty if there are none.
    pub problems: Vec<String>,
}

impl Diagnosis {
    /// Returns whether training may start, because no problem was found.
    pub fn healthy(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Diagnoses a model with one batch of examples and the sequences that they are trained as. The `B` of an adapter is initialised at random here,
/// so that `A` has a gradient.
///
/// # Errors
/// The configuration of the adapter is invalid.
pub fn diagnose(mut model: Model, examples: &[Example], sequences: &[Sequence]) -> Result<Diagnosis> {
    if let Some(adapter) = &model.adapter {
        model.adapter = Some(Adapter::fresh(adapter.config.clone(), &model.config, 1, LoraInit::Random)?);
    }
    let mut diagnosis = audit(examples, sequences);
    let mut grads = vec![0.0; model.trained().len()];
    let (mut packed, mut workspace) = (Packed::default(), Workspace::default());
    let (mut nats, mut tokens, mut weight) = (0.0, 0usize, 0.0f64);
    for (index, sequence) in sequences.iter().enumerate() {
        packed.clear();
        packed.push(index, sequence);
        model.forward_backward(&packed, &mut workspace, &mut grads);
        for (score, w) in workspace.scores.iter().zip(&packed.weights) {
            weight += f64::from(w.abs());
            if *w >= 1.0 {
                (nats, tokens) = (nats - f64::from(score.logprob), tokens + 1);
            }
        }
    }
    diagnosis.nats_per_token = nats / tokens.max(1) as f64;
    let squares: f64 = grads.iter().map(|g| f64::from(*g).powi(2)).sum();
    diagnosis.grad_norm = squares.sqrt() / weight.max(f64::MIN_POSITIVE);
    for tensor in model.trained_tensors() {
        let gradient = &grads[tensor.range.clone()];
        diagnosis.tensors += 1;
        if gradient.iter().any(|g| !g.is_finite()) {
            diagnosis.not_finite.push(tensor.name.clone());
        } else if gradient.iter().all(|g| *g == 0.0) {
            diagnosis.silent.push(tensor.name.clone());
        }
    }
    for (names, what) in [(&diagnosis.silent, "receive no gradient"), (&diagnosis.not_finite, "receive a gradient that is not finite")] {
        if let Some(first) = names.first() {
            diagnosis.problems.push(format!("{} tensors {what}, the first is {first}", names.len()));
        }
    }
    Ok(diagnosis)
}

/// Checks the weights of the sequences: tokens of prompts must have a weight under 1 and at most half of the total weight, and tokens and weights
/// must have the same length.
fn audit(examples: &[Example], sequences: &[Sequence]) -> Diagnosis {
    let mut diagnosis = Diagnosis { examples: examples.len(), ..Default::default() };
    let (mut prompt_weight, mut total_weight) = (0.0f64, 0.0f64);
    for (index, (example, sequence)) in examples.iter().zip(sequences).enumerate() {
        let (prompt, completion) = sequence.weights.split_at(example.prompt.len().min(sequence.weights.len()));
        if completion.len() != example.completion.len() || sequence.tokens.len() != sequence.weights.len() {
            diagnosis.problems.push(format!("example {index}: tokens and weights do not line up"));
        }
        if prompt.iter().any(|w| w.abs() >= 1.0) {
            diagnosis.problems.push(format!("example {index}: a token of the prompt is trained like one of the completion"));
        }
        prompt_weight += prompt.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        total_weight += sequence.weights.iter().map(|w| f64::from(w.abs())).sum::<f64>();
    }
    diagnosis.prompt_share_of_weight = prompt_weight / total_weight.max(f64::MIN_POSITIVE);
    if diagnosis.prompt_share_of_weight > 0.5 {
        diagnosis.problems.push(format!("{:.0} % of the weight lies on prompts", 100.0 * diagnosis.prompt_share_of_weight));
    }
    diagnosis
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;
    use crate::adapter::LoraConfig;

    fn examples() -> (Vec<Example>, Vec<Sequence>) {
        let examples: Vec<Example> = (0..4u32)
            .map(|seed| Example { prompt: vec![2 + seed, 5, 6, 7], completion: vec![8, 9 + seed, 3], ..Default::default() })
            .collect();
        let sequences = examples.iter().map(|e| Sequence {
            tokens: [&e.prompt[..], &e.completion].concat(),
            weights: vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
            ..Default::default()
        });
        let sequences = sequences.collect();
        (examples, sequences)
    }

    fn model() -> Model {
        let config = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, ..ModelConfig::seed(32, 0, 1) };
        Model::random(config, 5).unwrap()
    }

    #[test]
    fn every_factor_of_an_adapter_is_seen_to_learn() {
        let (examples, sequences) = examples();
        let mut adapted = model();
        let lora = LoraConfig { rank: 4, ..Default::default() };
        adapted.adapter = Some(Adapter::fresh(lora, &adapted.config, 1, LoraInit::Zero).unwrap());
        let diagnosis = diagnose(adapted, &examples, &sequences).unwrap();
        assert!(diagnosis.healthy() && diagnosis.tensors == 2 * 7 * 2 && diagnosis.grad_norm > 0.0, "{diagnosis:?}");
    }

    #[test]
    fn a_dead_tensor_and_a_trained_prompt_are_named() {
        let (examples, mut sequences) = examples();
        let mut dead = model();
        let norm = dead.params.layout.tensors.iter().find(|t| t.name.ends_with("layers.1.input_layernorm.weight")).unwrap().range.clone();
        dead.params.data[norm].fill(0.0);
        assert!(diagnose(dead, &examples, &sequences).unwrap().problems[0].contains("no gradient"));
        sequences[1].weights[2] = 1.0;
        let problems = diagnose(model(), &examples, &sequences).unwrap().problems;
        assert!(problems[0].contains("example 1") && problems[0].contains("prompt"), "{problems:?}");
        let mut broken = model();
        broken.params.data[0] = f32::NAN;
        broken.params.data[64 * 8] = f32::NAN;
        assert!(!diagnose(broken, &examples, &sequences).unwrap().not_finite.is_empty());
    }
}
