//! `milepost learn`: supervised training and its curves.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use milepost_engines::LocalModelConfig;
use milepost_learners::adapter::{Adapter, Fresh, Lineage};
use milepost_learners::doctor::{Diagnosis, diagnose};
use milepost_learners::sft::{Example, ExampleSource, SftConfig};
use milepost_learners::{Model, ModelConfig, Trainer, probes, sft};
use milepost_text::{TextModel, train_bpe, write_seed_template};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cli::{LearnCommand, SftArgs};
use crate::config::Config;
use crate::dataset::Dataset;
use crate::demonstrations::{Demonstrations, corpus};
use crate::exit::Exit;

/// Tokens in the seed model's vocabulary.
const VOCABULARY: usize = 1024;
/// Examples that are looked at before a training.
const EXAMINED: usize = 24;
/// Demonstrations that the tokenizer is made from.
const CORPUS_EPISODES: usize = 200;

/// Runs a `learn` command.
pub fn main(command: LearnCommand, config: Config) -> Result<Exit> {
    match command {
        // Training is blocking work on all cores; it must not sit on the async runtime's workers.
        LearnCommand::Sft(args) => std::thread::spawn(move || sft(&args, config))
            .join()
            .map_err(|_| anyhow::anyhow!("the training thread ended early; see the message above"))?,
        LearnCommand::Doctor { from, json } => std::thread::spawn(move || doctor(from.as_deref(), json, &config))
            .join()
            .map_err(|_| anyhow::anyhow!("the check ended early; see the message above"))?,
        LearnCommand::Policy { .. } => bail!("a policy update is not supervised training; it is dispatched apart"),
        LearnCommand::Plot { metrics, out } => {
            let out = out.unwrap_or_else(|| metrics.with_file_name("curve.svg"));
            milepost_learners::plot::draw_file(&metrics, &out)?;
            println!("{}", out.display());
            Ok(Exit::Done)
        }
    }
}

/// Looks at a training set-up and says what is wrong with it.
fn doctor(from: Option<&Path>, json: bool, config: &Config) -> Result<Exit> {
    let from = from.unwrap_or(Path::new(&config.local.model));
    let mut source = Demonstrations::new(Arc::new(TextModel::load(from)?), &config.policy, config.learn.seed)?;
    let mut model = Model::load(from)?;
    if let Some(lora) = &config.learn.lora {
        model.adapter = Some(Adapter::fresh(lora.clone(), &model.config, config.learn.seed, Fresh::Zero)?);
    }
    let diagnosis = examine(model, &examined(&mut source, &config.learn), &config.learn)?;
    if json {
        super::print_json(&diagnosis)?;
    } else {
        println!(
            "{} of {} tensors receive a finite gradient",
            diagnosis.tensors - diagnosis.silent.len() - diagnosis.not_finite.len(),
            diagnosis.tensors
        );
        println!(
            "{:.3} nats a completion token, {:.1} % of the weight on prompts",
            diagnosis.nats_per_token,
            100.0 * diagnosis.prompt_share_of_weight
        );
        diagnosis.problems.iter().for_each(|problem| println!("✗ {problem}"));
    }
    Ok(if diagnosis.healthy() { Exit::Done } else { Exit::Failed })
}

/// The source's first examples at full difficulty.
fn examined(source: &mut dyn ExampleSource, learn: &SftConfig) -> Vec<Example> {
    source.sample(1.0, EXAMINED).into_iter().filter(|example| example.prompt.len() < learn.max_tokens).collect()
}

fn examine(mut model: Model, examples: &[Example], learn: &SftConfig) -> Result<Diagnosis> {
    model.precision = learn.precision;
    let mut rng = StdRng::seed_from_u64(learn.seed);
    let sequences: Vec<_> = examples.iter().map(|example| sft::weigh(example, learn, &mut rng)).collect();
    Ok(diagnose(model, examples, &sequences)?)
}

fn sft(args: &SftArgs, config: Config) -> Result<Exit> {
    let mut learn = config.learn.clone();
    learn.minutes = args.minutes.or(learn.minutes);
    if let Some(steps) = args.steps {
        (learn.total_steps, learn.minutes) = (steps, None);
    }
    learn.resume |= args.resume;
    learn.curriculum_start = args.difficulty.unwrap_or(learn.curriculum_start);
    let model = args.out.join("model");
    std::fs::create_dir_all(&model).with_context(|| format!("{} cannot be made; choose another --out", model.display()))?;
    let text = Arc::new(prepare_text(args.from.as_deref(), &model, &config)?);
    let mut trainer = match &args.from {
        Some(from) => match &learn.lora {
            Some(lora) => Trainer::lora(Model::load(from)?, lora.clone(), learn.base, learn.seed, learn.optimizer())?,
            None => Trainer::new(Model::load(from)?, learn.optimizer()),
        },
        None if learn.lora.is_some() => bail!(milepost_runtime::Error::BadInput(
            "learn.lora is set: an adapter needs a model that it belongs to; give one with --from".into()
        )),
        None => {
            let end = text.end_id();
            Trainer::random(ModelConfig::seed(text.tokenizer.vocab_size(), end, end), learn.seed, learn.optimizer())?
        }
    };
    let mut source: Box<dyn ExampleSource> = match args.data.as_str() {
        "suite:bundled" => Box::new(Demonstrations::new(text, &config.policy, learn.seed)?),
        directory => Box::new(Dataset::load(Path::new(directory), &text, learn.seed)?),
    };
    let examples = examined(source.as_mut(), &learn);
    let diagnosis = examine(trainer.model().clone(), &examples, &learn)?;
    if !diagnosis.healthy() {
        bail!("training was not begun: {}", diagnosis.problems.join("; "));
    }
    let status = sft::run(&mut trainer, source, &learn, &args.out)?;
    let made = match &args.from {
        Some(from) if learn.lora.is_some() => {
            let directory = args.out.join("adapter");
            save_adapter(&trainer, from, &directory, &learn, &status)?;
            save_probes(&trainer, from, &directory, &examples)?;
            directory
        }
        _ => {
            trainer.model().save(&model)?;
            model
        }
    };
    println!("{} steps, {} tokens, {:.0} s; {}", status.step, status.tokens, status.seconds, made.display());
    Ok(Exit::Done)
}

/// Writes the trained adapter with its lineage.
fn save_adapter(trainer: &Trainer, base: &Path, directory: &Path, learn: &SftConfig, status: &sft::Status) -> Result<()> {
    let adapter = trainer.model().adapter.as_ref().context("no adapter was trained")?;
    let text = TextModel::load(base)?;
    let lineage = Lineage {
        base: milepost_engines::base_hash(&LocalModelConfig { model: base.display().to_string(), ..LocalModelConfig::default() })?,
        tokenizer: text.tokenizer.hash(),
        template: text.template.hash(),
        recipe: "sft".into(),
        config: serde_json::to_value(learn)?,
        seed: learn.seed,
        figures: [("loss".to_owned(), status.loss), ("exact".to_owned(), status.exact_average.value)].into(),
        ..Lineage::default()
    };
    adapter.save(directory, &base.display().to_string(), &lineage)?;
    Ok(())
}

/// Writes what a server must answer with the adapter: on the base in F32, whatever it was kept in during training.
fn save_probes(trainer: &Trainer, base: &Path, directory: &Path, examples: &[Example]) -> Result<()> {
    let parent = Model::load(base)?;
    let mut adapted = parent.clone();
    adapted.adapter = trainer.model().adapter.clone();
    let requests = probes::requests(examples, parent.max_tokens());
    probes::write(directory, &probes::make(&parent, &adapted, requests)?)?;
    Ok(())
}

/// The text side of the model: taken over from `from` or a checkpoint, or a tokenizer made from demonstrations.
fn prepare_text(from: Option<&Path>, model: &Path, config: &Config) -> Result<TextModel> {
    let source = from.unwrap_or(model);
    if source.join("tokenizer.json").is_file() {
        if source != model {
            for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
                std::fs::copy(source.join(file), model.join(file))
                    .with_context(|| format!("{} cannot be copied", source.join(file).display()))?;
            }
        }
        return Ok(TextModel::load(model)?);
    }
    let corpus = corpus(&config.policy, CORPUS_EPISODES, config.learn.seed)?;
    let tokenizer = train_bpe(corpus.iter().map(String::as_str), VOCABULARY, &milepost_text::SEED_SPECIALS)?;
    tokenizer.save(model)?;
    write_seed_template(model, &tokenizer)?;
    Ok(TextModel::load(model)?)
}
