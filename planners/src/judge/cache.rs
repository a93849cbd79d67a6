//! A cache of verdicts, by the hash of everything that they depend on.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use milepost_runtime::{Action, Episode, Error, Judge, Judged, Judgement, Question, Result, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Caches the answers of another judge. Failures are not cached, so that the judge is asked again.
pub struct CachedJudge<J> {
    inner: J,
    verdicts: Mutex<HashMap<String, Judged<Judgement>>>,
    file: Option<PathBuf>,
}

/// One line of the cache file.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    judged: Judged<Judgement>,
}

impl<J: Judge> CachedJudge<J> {
    /// Creates a cache in memory.
    pub fn new(inner: J) -> Self {
        Self { inner, verdicts: Mutex::default(), file: None }
    }

    /// Opens a cache in a file of JSON lines, which need not exist yet. Lines that cannot be parsed are ignored.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn open(inner: J, file: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| unusable(file, &error))?,
        };
        let known = text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(|Entry { key, judged }| (key, judged)).collect();
        Ok(Self { inner, verdicts: Mutex::new(known), file: Some(file.to_owned()) })
    }

    /// Adds a verdict to the cache, and to its file.
    fn keep(&self, key: String, judged: &Judged<Judgement>) -> Result<()> {
        // The lock is held while the line is written, so that lines never mix.
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            let entry = serde_json::to_string(&Entry { key: key.clone(), judged: judged.clone() });
            let line = entry.map_err(|error| Error::Judge(format!("it cannot be written down: {error}")))? + "\n";
            let mut out = std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(|error| unusable(file, &error))?;
            out.write_all(line.as_bytes()).map_err(|error| unusable(file, &error))?;
        }
        verdicts.insert(key, judged.clone());
        Ok(())
    }
}

fn unusable(file: &Path, error: &std::io::Error) -> Error {
    Error::BadInput(format!("the verdict cache {} cannot be used: {error}; remove it or free its disk", file.display()))
}

/// Returns everything of an episode that the answer to this question may depend on. For completeness it leaves out answer, plan and stop
/// reason.
fn content(episode: &Episode, question: Question) -> Value {
    let step = |step: &Step| {
        let page = (&step.observation.title, step.observation.fingerprint());
        json!([page, step.plan_version, step.cursor, step.action.to_string(), step.outcome])
    };
    let acted = |step: &Step| match &step.action {
        Action::Answer { .. } => json!(["answer"]),
        action => json!([step.observation.fingerprint(), action.to_string(), step.outcome]),
    };
    match question {
        Question::Completeness => {
            json!([episode.task.goal, episode.task.capability.tools, episode.steps.iter().map(acted).collect::<Vec<_>>()])
        }
        _ => json!([
            episode.task.goal,
            episode.steps.iter().map(step).collect::<Vec<_>>(),
            episode.plans,
            episode.stop,
            episode.answer,
            episode.success,
            episode.last_observation.as_ref().map(|page| (&page.title, page.fingerprint())),
        ]),
    }
}

#[async_trait]
impl<J: Judge> Judge for CachedJudge<J> {
    fn identity(&self) -> String {
        self.inner.identity()
    }

    async fn judge(&self, episode: &Episode, question: Question) -> Result<Judged<Judgement>> {
        let asked = json!([self.identity(), question, content(episode, question)]).to_string();
        let key: String = Sha256::digest(asked.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(judged) = known {
            return Ok(judged);
        }
        let judged = self.inner.judge(episode, question).await?;
        self.keep(key, &judged)?;
        Ok(judged)
    }
}
