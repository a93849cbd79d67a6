//! Supervised training of a model or an adapter, on demonstrations of the suite or on a data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost_learners::adapter::{Adapter, Lineage, LoraInit};
use milepost_learners::doctor::{Diagnosis, diagnose};
use milepost_learners::sft::{Example, ExampleSource, SftConfig, Status};
use milepost_learners::{Model, ModelConfig, Trainer, probes, sft};
use milepost_text::{SEED_SPECIALS, TextModel, train_bpe, write_seed_template};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::dataset::Dataset;
use crate::demonstrations::{Demonstrations, corpus};
use crate::error::{Error, Result, ResultExt};
use crate::host::{PromptWriter, TaskSuite};

/// The number of tokens in the vocabulary of a new model.
const VOCABULARY: usize = 1024;
/// The number of examples that a training set-up is checked with.
const CHECKED_EXAMPLES: usize = 24;
/// The number of demonstrations that the tokenizer of a new model is trained on.
const CORPUS_EPISODES: usize = 200;

/// Gives supervised training the program's suite and the prompts of its configured planner.
pub trait DemonstrationHost {
    /// Returns the suite whose oracles demonstrate.
    fn suite(&self) -> Arc<dyn TaskSuite>;

    /// Returns the prompts that demonstrations are rendered with.
    ///
    /// # Errors
    /// A template cannot be compiled or read.
    fn prompts(&self) -> Result<Arc<dyn PromptWriter>>;

    /// Computes the hash of a model's weights, as a generation records it.
    ///
    /// # Errors
    /// The model is missing or incomplete.
    fn base_hash(&self, model: &Path) -> Result<String>;
}

/// The examples of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingData<'a> {
    /// Demonstrations of the suite.
    Demonstrations,
    /// A directory of `*.jsonl` files.
    Directory(&'a Path),
}

/// A supervised training.
pub struct SupervisedTraining<'a> {
    /// The directory of the run: its checkpoints and metrics, and `model/` or `adapter/`.
    pub out: &'a Path,
    /// The directory of the model that is trained further; `None` trains a new one.
    pub from: Option<&'a Path>,
    /// The examples.
    pub data: TrainingData<'a>,
    /// The settings.
    pub config: &'a SftConfig,
    /// The source of demonstrations.
    pub host: &'a dyn DemonstrationHost,
}

/// A finished training.
pub struct Trained {
    /// The state of the training after its last step.
    pub status: Status,
    /// The directory of the model or adapter.
    pub directory: PathBuf,
}

impl SupervisedTraining<'_> {
    /// Trains, and writes the model or adapter. This is blocking work on all cores, which must not run on an async runtime's workers.
    ///
    /// # Errors
    /// The set-up is not healthy, so that nothing was trained; or a file or model cannot be used.
    pub fn run(&self) -> Result<Trained> {
        let Self { out, from, config, .. } = *self;
        let model = out.join("model");
        std::fs::create_dir_all(&model).with_context(|| format!("{} cannot be made; choose another --out", model.display()))?;
        let text = Arc::new(self.prepare_text(&model)?);
        let mut trainer = self.trainer(&text)?;
        let mut source = self.source(text)?;
        let examples = first_examples(source.as_mut(), config);
        let diagnosis = check(trainer.model().clone(), &examples, config)?;
        if !diagnosis.healthy() {
            return Err(Error::Failed(format!("training was not begun: {}", diagnosis.problems.join("; "))));
        }
        let status = sft::run(&mut trainer, source, config, out)?;
        let directory = match from {
            Some(base) if config.lora.is_some() => {
                let directory = out.join("adapter");
                self.save_adapter(&trainer, base, &directory, &status)?;
                save_probes(&trainer, base, &directory, &examples)?;
                directory
            }
            _ => {
                trainer.model().save(&model)?;
                model
            }
        };
        Ok(Trained { status, directory })
    }

    /// Prepares the tokenizer and chat template in the model's directory. They are copied from the model that is trained further, or are those
    /// of an earlier checkpoint there; for a new model the tokenizer is trained on demonstrations.
    fn prepare_text(&self, model: &Path) -> Result<TextModel> {
        let source = self.from.unwrap_or(model);
        if source.join("tokenizer.json").is_file() {
            if source != model {
                for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
                    std::fs::copy(source.join(file), model.join(file))
                        .with_context(|| format!("{} cannot be copied", source.join(file).display()))?;
                }
            }
            return Ok(TextModel::load(model)?);
        }
        let corpus = corpus(&*self.host.suite(), &*self.host.prompts()?, CORPUS_EPISODES, self.config.seed)?;
        let tokenizer = train_bpe(corpus.iter().map(String::as_str), VOCABULARY, &SEED_SPECIALS)?;
        tokenizer.save(model)?;
        write_seed_template(model, &tokenizer)?;
        Ok(TextModel::load(model)?)
    }

    fn trainer(&self, text: &TextModel) -> Result<Trainer> {
        let config = self.config;
        Ok(match (self.from, &config.lora) {
            (Some(from), Some(lora)) => Trainer::lora(Model::load(from)?, lora.clone(), config.base, config.seed, config.optimizer())?,
            (Some(from), None) => Trainer::new(Model::load(from)?, config.optimizer()),
            (None, Some(_)) => {
                return Err(Error::bad_input("learn.lora is set: an adapter needs a model that it belongs to; give one with --from"));
            }
            (None, None) => {
                let end = text.end_id();
                Trainer::random(ModelConfig::seed(text.tokenizer.vocab_size(), end, end), config.seed, config.optimizer())?
            }
        })
    }

    fn source(&self, text: Arc<TextModel>) -> Result<Box<dyn ExampleSource>> {
        Ok(match self.data {
            TrainingData::Demonstrations => Box::new(Demonstrations::new(text, self.host.suite(), self.host.prompts()?, self.config.seed)?),
            TrainingData::Directory(directory) => Box::new(Dataset::load(directory, &text, self.config.seed)?),
        })
    }

    /// Writes the trained adapter with its lineage.
    fn save_adapter(&self, trainer: &Trainer, base: &Path, directory: &Path, status: &Status) -> Result<()> {
        let adapter = trainer.model().adapter.as_ref().context("no adapter was trained")?;
        let text = TextModel::load(base)?;
        let lineage = Lineage {
            base: self.host.base_hash(base)?,
            tokenizer: text.tokenizer.hash(),
            template: text.template.hash(),
            recipe: "sft".into(),
            config: serde_json::to_value(self.config)?,
            seed: self.config.seed,
            figures: [("loss".to_owned(), status.loss), ("exact".to_owned(), status.exact_average.value)].into(),
            ..Lineage::default()
        };
        Ok(adapter.save(directory, &base.display().to_string(), &lineage)?)
    }
}

/// Writes the probes with which a server proves that it serves the adapter. They are scored on the base in F32, whatever number type it had
/// during training.
fn save_probes(trainer: &Trainer, base: &Path, directory: &Path, examples: &[Example]) -> Result<()> {
    let parent = Model::load(base)?;
    let mut adapted = parent.clone();
    adapted.adapter = trainer.model().adapter.clone();
    let requests = probes::requests(examples, parent.max_tokens());
    Ok(probes::write(directory, &probes::make(&parent, &adapted, requests)?)?)
}

/// Checks how a model would be trained on demonstrations, without training it. This is blocking work on all cores, which must not run on an
/// async runtime's workers.
///
/// # Errors
/// The model or a prompt template cannot be read.
pub fn check_demonstrations(from: &Path, config: &SftConfig, host: &dyn DemonstrationHost) -> Result<Diagnosis> {
    let mut source = Demonstrations::new(Arc::new(TextModel::load(from)?), host.suite(), host.prompts()?, config.seed)?;
    let mut model = Model::load(from)?;
    if let Some(lora) = &config.lora {
        model.adapter = Some(Adapter::fresh(lora.clone(), &model.config, config.seed, LoraInit::Zero)?);
    }
    check(model, &first_examples(&mut source, config), config)
}

/// Takes the source's first examples at full difficulty; those whose prompt alone is too long are left out.
fn first_examples(source: &mut dyn ExampleSource, config: &SftConfig) -> Vec<Example> {
    source.sample(1.0, CHECKED_EXAMPLES).into_iter().filter(|example| example.prompt.len() < config.max_tokens).collect()
}

fn check(mut model: Model, examples: &[Example], config: &SftConfig) -> Result<Diagnosis> {
    model.precision = config.precision;
    let mut rng = StdRng::seed_from_u64(config.seed);
    let sequences: Vec<_> = examples.iter().map(|example| sft::weighted_sequence(example, config, &mut rng)).collect();
    Ok(diagnose(model, examples, &sequences)?)
}

#[cfg(test)]
mod tests {
    use milepost_learners::adapter::{LoraConfig, read_lineage};
    use milepost_runtime::registry::read_probes;

    use super::*;
    use crate::testing::TestSuite;

    /// A host without prompts; training on a directory does not need any.
    struct NoPrompts;

    impl DemonstrationHost for NoPrompts {
        fn suite(&self) -> Arc<dyn TaskSuite> {
            Arc::new(TestSuite)
        }
        fn prompts(&self) -> Result<Arc<dyn PromptWriter>> {
            Err(Error::Failed("there are no prompts".into()))
        }
        fn base_hash(&self, model: &Path) -> Result<String> {
            Ok(format!("hash of {}", model.display()))
        }
    }

    fn seed_model() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/seed"))
    }

    /// Trains on a directory with some examples for one step.
    fn train(out: &Path, from: Option<&Path>, lora: Option<LoraConfig>) -> Result<Trained> {
        let data = out.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let lines: String = (1..=4).map(|n| format!("{{\"prompt\": \"goal {n}\", \"completion\": \"click {n}\"}}\n")).collect();
        std::fs::write(data.join("a.jsonl"), lines).unwrap();
        let config = SftConfig { lora, total_steps: 1, tokens_per_batch: 64, max_tokens: 64, ..SftConfig::default() };
        SupervisedTraining { out, from, data: TrainingData::Directory(&data), config: &config, host: &NoPrompts }.run()
    }

    #[test]
    fn an_adapter_is_written_with_its_lineage_and_probes() {
        let (directory, seed) = (tempfile::tempdir().unwrap(), seed_model());
        let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
        let trained = train(directory.path(), Some(&seed), Some(lora)).unwrap();
        assert_eq!((trained.status.step, &trained.directory), (1, &directory.path().join("adapter")));
        let lineage = read_lineage(&trained.directory).unwrap().unwrap();
        assert_eq!((lineage.recipe.as_str(), lineage.base), ("sft", format!("hash of {}", seed.display())));
        assert!(!lineage.tokenizer.is_empty() && lineage.figures.contains_key("loss"));
        assert!(read_probes(&trained.directory).unwrap().is_some_and(|probes| !probes.expected.is_empty()));
    }

    #[test]
    fn an_adapter_needs_a_model_and_a_new_tokenizer_needs_demonstrations() {
        let directory = tempfile::tempdir().unwrap();
        let no_demonstrations = train(directory.path(), None, None).err().unwrap();
        assert!(no_demonstrations.to_string().contains("there are no prompts"), "{no_demonstrations}");
        // A tokenizer that an earlier start has made is used again.
        for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            std::fs::copy(seed_model().join(file), directory.path().join("model").join(file)).unwrap();
        }
        let no_model = train(directory.path(), None, Some(LoraConfig::default())).err().unwrap();
        assert!(no_model.is_of_configuration() && no_model.to_string().contains("--from"), "{no_model}");
    }
}
