//! Probes that are stored with an adapter: requests with the log-probabilities that a server must compute, to prove that it serves the model that
//! was trained.

use std::path::Path;

pub use milepost_runtime::{Probes, ScoreRequest};

use crate::example::Example;
use crate::model::{Packed, Workspace};
use crate::{Error, Model, Precision, Result, Sequence, files};

/// The name of the file in an adapter's directory.
pub const FILE: &str = "probes.json";

/// The maximum number of requests that [`requests`] returns.
const MAX_PROBES: usize = 16;

/// Returns requests for the first examples that fit in `max_tokens`, at most 16 and without duplicates.
pub fn requests(examples: &[Example], max_tokens: usize) -> Vec<ScoreRequest> {
    let mut requests: Vec<ScoreRequest> = Vec::new();
    for example in examples {
        let fits =
            !example.prompt.is_empty() && !example.completion.is_empty() && example.prompt.len() + example.completion.len() <= max_tokens;
        let known = |request: &ScoreRequest| request.prompt_ids == example.prompt && request.completion_ids == example.completion;
        if fits && requests.len() < MAX_PROBES && !requests.iter().any(known) {
            let (prompt_ids, completion_ids) = (example.prompt.clone(), example.completion.clone());
            requests.push(ScoreRequest { prompt_ids, completion_ids, grammar: None, temperature: 1.0 });
        }
    }
    requests
}

/// Computes the log-probabilities of the requests in F32, under the parent and under the adapted model with its adapter merged in.
///
/// # Errors
/// There are no requests; a request has no prompt or no completion, is too long for the model, or has a grammar; the weights of a model are frozen
/// in a compact format; or a log-probability is not finite.
pub fn make(parent: &Model, adapted: &Model, requests: Vec<ScoreRequest>) -> Result<Probes> {
    if requests.is_empty() {
        return Err(Error::Batch { index: 0, problem: "there is no probe; give at least one request".into() });
    }
    let sequences = requests.iter().enumerate().map(|(index, request)| sequence(index, request, parent)).collect::<Result<Vec<_>>>()?;
    let expected = logprobs(adapted.clone(), &sequences)?;
    let parent = logprobs(parent.clone(), &sequences)?;
    Ok(Probes { requests, expected, parent })
}

/// Writes `probes.json` into an adapter's directory; the file is replaced atomically.
///
/// # Errors
/// The file cannot be written.
pub fn write(directory: &Path, probes: &Probes) -> Result<()> {
    let path = directory.join(FILE);
    let text = serde_json::to_string(probes).map_err(Error::json(&path))?;
    files::replace(&path, text.as_bytes())
}

/// Reads the `probes.json` of an adapter's directory.
///
/// # Errors
/// The file is missing or damaged, or the lengths of its lists do not match; the message names the file and says what to do.
pub fn read(directory: &Path) -> Result<Probes> {
    let path = directory.join(FILE);
    let refuse = |problem: String| Error::Probes {
        path: path.clone(),
        problem: format!("{problem}; write the adapter again with its probes, as `milepost learn sft` does"),
    };
    let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
    let probes: Probes = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let lengths = |lists: &[Vec<f32>]| lists.iter().map(Vec::len).collect::<Vec<_>>();
    let wanted: Vec<_> = probes.requests.iter().map(|request| request.completion_ids.len()).collect();
    if wanted.is_empty() || wanted.contains(&0) {
        return Err(refuse("it holds no probe, or one without a completion".into()));
    }
    if lengths(&probes.expected) != wanted || lengths(&probes.parent) != wanted {
        return Err(refuse("its lists do not match its completions in length".into()));
    }
    Ok(probes)
}

/// Returns the request's prompt and completion as a sequence whose completion is scored.
fn sequence(index: usize, request: &ScoreRequest, model: &Model) -> Result<Sequence> {
    let refuse = |problem: &str| Err(Error::Batch { index, problem: problem.into() });
    if request.grammar.is_some() {
        return refuse("is under a grammar; probes are scored without one");
    }
    if request.prompt_ids.is_empty() || request.completion_ids.is_empty() {
        return refuse("has no prompt or no completion; a probe needs both");
    }
    let mut weights = vec![0.0; request.prompt_ids.len()];
    weights.resize(weights.len() + request.completion_ids.len(), 1.0);
    let tokens = [&request.prompt_ids[..], &request.completion_ids].concat();
    let sequence = Sequence { tokens, weights, temperature: request.temperature, ..Sequence::default() };
    match sequence.problem(model.config.vocab_size, model.max_tokens()) {
        Some(problem) => Err(Error::Batch { index, problem }),
        None => Ok(sequence),
    }
}

/// Computes the log-probabilities of the completions under the model with its adapter merged in.
fn logprobs(model: Model, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
    let mut model = model.merged()?;
    model.precision = Precision::F32;
    let (mut packed, mut workspace) = (Packed::default(), Workspace::default());
    let mut lists = Vec::with_capacity(sequences.len());
    for (index, sequence) in sequences.iter().enumerate() {
        packed.clear();
        packed.push(index, sequence);
        model.score(&packed, &mut workspace);
        let list: Vec<f32> = workspace.scores.iter().map(|score| score.logprob).collect();
        if let Some(bad) = list.iter().find(|logprob| !logprob.is_finite()) {
            return Err(Error::Batch { index, problem: format!("has a log-probability of {bad}; the model or its adapter is broken") });
        }
        lists.push(list);
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, LoraConfig, LoraInit};
    use crate::optim::AdamWConfig;
    use crate::{ModelConfig, Trainer};

    fn example(seed: u32, prompt: u32, completion: u32) -> Example {
        let tokens = |from: u32, count: u32| (0..count).map(|i| (from + i * seed) % 30 + 1).collect();
        Example { prompt: tokens(3, prompt), completion: tokens(7, completion), ..Default::default() }
    }

    fn models() -> (Model, Model) {
        let config = ModelConfig { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, ..ModelConfig::seed(32, 0, 1) };
        let parent = Model::random(config, 5).unwrap();
        let mut adapted = parent.clone();
        adapted.adapter = Some(Adapter::fresh(LoraConfig { rank: 4, ..Default::default() }, &parent.config, 1, LoraInit::Random).unwrap());
        (parent, adapted)
    }

    #[test]
    fn the_first_examples_that_fit_are_asked_once() {
        let mut examples = vec![example(1, 4, 3), example(1, 4, 3), example(2, 4, 9), example(3, 0, 3), example(3, 4, 0)];
        assert_eq!(requests(&examples, 8).len(), 1);
        examples.extend((5..40).map(|seed| example(seed, 4, 4)));
        let made = requests(&examples, 13);
        assert_eq!((made.len(), &made[1].completion_ids), (16, &examples[2].completion));
    }

    #[test]
    fn probes_are_what_the_trainer_says_and_survive_their_file() {
        let (parent, adapted) = models();
        let asked = requests(&[example(1, 4, 3), example(2, 5, 2)], 100);
        let probes = make(&parent, &adapted, asked.clone()).unwrap();
        for (model, lists) in [(adapted.clone(), &probes.expected), (parent.clone(), &probes.parent)] {
            let mut trainer = Trainer::new(model, AdamWConfig::default());
            trainer.set_precision(Precision::F32);
            for (request, list) in asked.iter().zip(lists) {
                let prompt = request.prompt_ids.len();
                let tokens = [&request.prompt_ids[..], &request.completion_ids].concat();
                let scored = trainer.logprobs(&[Sequence { weights: vec![1.0; tokens.len()], tokens, ..Default::default() }]).unwrap();
                assert!(list.len() == request.completion_ids.len());
                assert!(list.iter().zip(&scored[0][prompt..]).all(|(a, b)| (a - b).abs() < 1e-4), "{list:?} {scored:?}");
            }
        }
        assert!(probes.expected.iter().flatten().zip(probes.parent.iter().flatten()).any(|(a, b)| (a - b).abs() > 1e-3));
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &probes).unwrap();
        let read = read(directory.path()).unwrap();
        assert_eq!((read.expected, read.parent), (probes.expected, probes.parent));
        assert_eq!(read.requests[1].completion_ids, asked[1].completion_ids);
    }

    #[test]
    fn what_proves_nothing_is_refused() {
        let (parent, mut adapted) = models();
        let good = requests(&[example(1, 4, 3)], 100).remove(0);
        let under_grammar = ScoreRequest { grammar: Some(milepost_runtime::Grammar("start: \"a\"".into())), ..good.clone() };
        let unknown = ScoreRequest { completion_ids: vec![99], ..good.clone() };
        let silent = ScoreRequest { completion_ids: vec![], ..good.clone() };
        for (requests, reason) in
            [(vec![], "no probe"), (vec![under_grammar], "grammar"), (vec![unknown], "token 99"), (vec![silent], "no completion")]
        {
            let error = make(&parent, &adapted, requests).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        adapted.freeze(crate::model::Storage::Bf16).unwrap();
        assert!(make(&parent, &adapted, vec![good]).unwrap_err().to_string().contains("smaller type"));

        let directory = tempfile::tempdir().unwrap();
        for (text, reason) in [
            (None, "No such file"),
            (Some("{"), "EOF"),
            (Some(r#"{"requests": [], "expected": [], "parent": []}"#), "no probe"),
            (
                Some(r#"{"requests": [{"prompt_ids": [1], "completion_ids": [2], "temperature": 1}], "expected": [[-1]], "parent": [[]]}"#),
                "in length",
            ),
        ] {
            if let Some(text) = text {
                std::fs::write(directory.path().join(FILE), text).unwrap();
            }
            let error = read(directory.path()).unwrap_err().to_string();
            assert!(error.contains("probes.json") && error.contains(reason) && error.contains("write the adapter again"), "{error}");
        }
    }
}
