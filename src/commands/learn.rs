//! `milepost learn`: supervised training and its curves.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use milepost_learners::{Model, ModelConfig, Trainer, sft};
use milepost_text::{TextModel, train_bpe, write_seed_template};

use crate::cli::{LearnCommand, SftArgs};
use crate::config::Config;
use crate::demonstrations::{Demonstrations, corpus};
use crate::exit::Exit;

/// Tokens in the seed model's vocabulary.
const VOCABULARY: usize = 1024;
/// Demonstrations that the tokenizer is made from.
const CORPUS_EPISODES: usize = 200;

/// Runs a `learn` command.
pub fn main(command: LearnCommand, config: Config) -> Result<Exit> {
    match command {
        // Training is blocking work on all cores; it must not sit on the async runtime's workers.
        LearnCommand::Sft(args) => std::thread::spawn(move || sft(&args, config))
            .join()
            .map_err(|_| anyhow::anyhow!("the training thread ended early; see the message above"))?,
        LearnCommand::Plot { metrics, out } => {
            let out = out.unwrap_or_else(|| metrics.with_file_name("curve.svg"));
            milepost_learners::plot::draw_file(&metrics, &out)?;
            println!("{}", out.display());
            Ok(Exit::Done)
        }
    }
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
        Some(from) => Trainer::new(Model::load(from)?, learn.optimizer()),
        None => {
            let end = text.end_id();
            Trainer::random(ModelConfig::seed(text.tokenizer.vocab_size(), end, end), learn.seed, learn.optimizer())?
        }
    };
    let source = Demonstrations::new(text, &config.policy, learn.seed)?;
    let status = sft::run(&mut trainer, Box::new(source), &learn, &args.out)?;
    trainer.model().save(&model)?;
    println!("{} steps, {} tokens, {:.0} s; model in {}", status.step, status.tokens, status.seconds, model.display());
    Ok(Exit::Done)
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
