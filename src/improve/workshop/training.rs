//! How a candidate is trained: from what, asked of whom, in a process of its own.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt};
use milepost_learners::files;
use milepost_learners::improve::{Failure, Round};
use milepost_learners::policy::Report;
use milepost_learners::rewards::compose;
use milepost_planners::ReviseMode;
use milepost_runtime::config::Screenshots;
use milepost_runtime::registry::Status;
use milepost_runtime::store::TrainingQuery;
use milepost_runtime::{AdapterRegistry, Episode, EpisodeStore, Error, NoListener, Policy, Stop, Verdicts};
use milepost_text::{GrammarCompiler, TextModel};
use milepost_tools::owned::die_with_owner;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{CALLS, CANDIDATE, COLLECTED, Cancelled, Collected, Outcome, SuiteWorkshop, UPDATE, earned};
use crate::commands::suite::episode::{Place, Player, play};
use crate::exit::Exit;
use crate::forgetful::Forgetful;
use crate::improve::config::{Expert, Phase};
use crate::improve::experts::{self, Samples, Shadow, Use};
use crate::improve::field::Assignment;
use crate::improve::recorded::{self, Recorded};
use crate::improve::tasks::{Counts, training};
use crate::improve::update::{Rewarded, RewardedCall, UpdateRequest};
use crate::wiring::{self, Mind};

/// A cancellation that killed the trainer is heard here within this time.
const HEARD: Duration = Duration::from_secs(1);

/// A task as an expert shows it.
enum Shown {
    /// The suite's oracle, which plays it in the plain reader.
    Oracle(Assignment),
    /// Somebody who has solved it, and the sampling's seed.
    Recorded(Box<Episode>, u64),
}

impl SuiteWorkshop<'_> {
    /// The last candidate of the rounds before that was not found to be worse, where the recipe goes on from it: a stage that made none breaks no
    /// chain.
    pub(super) async fn chained(&self, round: usize) -> Result<Option<String>> {
        if !self.settings().recipe.chains() {
            return Ok(None);
        }
        for earlier in (1..round).rev() {
            let Ok(id) = std::fs::read_to_string(self.place(earlier).join(CANDIDATE)) else { continue };
            let known = self.registry.get(&id).await?;
            if known.is_some_and(|record| !matches!(record.status, Status::Quarantined | Status::RolledBack)) {
                return Ok(Some(id).filter(|id| *id != self.serving()));
            }
        }
        Ok(None)
    }

    /// Takes in the user's own verified episodes of the generation in service; tasks with the same goal and start are one group. What they
    /// earned is their outcome and what their steps tell ([`RewardConfig::needs_the_suite`]): nobody knows the truth about anything else.
    ///
    /// [`RewardConfig::needs_the_suite`]: milepost_learners::rewards::RewardConfig::needs_the_suite
    pub(super) async fn own_episodes(&self, round: usize, directory: &Path) -> Result<(usize, usize)> {
        let query = TrainingQuery { generation: Some(self.serving()), from_suite: Some(false), ..TrainingQuery::default() };
        let rewards = self.phase(round)?.rewards;
        let (mut lines, mut counts) = (String::new(), (0, 0));
        for (index, id) in self.store.trainable(&query).await?.into_iter().enumerate() {
            let Some(episode) = self.store.load(&id).await? else { continue };
            let reward = compose(&episode, &Verdicts::default(), &rewards);
            let solved = episode.success == Some(true);
            let (rewards, whole) = earned(&reward, &episode);
            let one = Collected {
                index,
                id,
                template: "own".into(),
                group: recorded::name(&episode.task),
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

    /// Lets an expert go through training tasks and asks the model at each of its states; how many it was asked at, and how
    /// many of its answers were the expert's.
    pub(super) async fn expert_states(&self, actor: &Mind, round: usize, directory: &Path) -> Result<(usize, usize)> {
        // The file is written at once and last: what is there is whole.
        if let Some(counts) = experts::counts(&directory.join(CALLS))? {
            return Ok(counts);
        }
        let settings = self.settings();
        let samples = Samples { group: settings.group, in_doubt: settings.in_doubt, least_doubt: settings.update.least_doubt };
        let purpose = if round <= settings.imitation.rounds { Use::Imitate } else { Use::Match(samples) };
        let temperature = if purpose == Use::Imitate { 0.0 } else { settings.temperature };
        let seed = settings.seed.wrapping_mul(1_000_003).wrapping_add(round as u64);
        let shown: Vec<Shown> = match self.own || settings.expert == Expert::Recorded {
            true => self.recorded(seed).await?,
            // An expert state stands for an episode, so that recipes are compared at equal costs of collecting.
            false => training(&self.templates, &Counts::new(), settings.tasks, 1, seed).into_iter().map(Shown::Oracle).collect(),
        };
        let calls = self.asked(actor, shown, purpose, temperature).await?;
        experts::write(&directory.join(CALLS), &calls)?;
        Ok(experts::count(&calls))
    }

    /// The round's share of the recorded successes that are expert trajectories.
    async fn recorded(&self, seed: u64) -> Result<Vec<Shown>> {
        let (mut successes, planned) = (Vec::new(), self.config.policy.planner.plans());
        let query = TrainingQuery { from_suite: Some(!self.own), ..TrainingQuery::default() };
        for id in self.store.trainable(&query).await? {
            let episode = self.store.load(&id).await?;
            let played = |id: &str| self.templates.iter().any(|template| template.id == id);
            let expert = |episode: &Episode| {
                (episode.success, &episode.stop) == (Some(true), &Some(Stop::Answered))
                    && (!planned || !episode.plans.is_empty())
                    && episode.task.source.as_ref().is_none_or(|source| played(&source.template))
            };
            successes.extend(episode.filter(expert));
        }
        let found = successes.len();
        let mut shortest = recorded::shortest(successes);
        if shortest.is_empty() {
            let problem = "single_turn has no expert: no task has a verified success that alone is shortest";
            bail!(Error::BadInput(format!("{problem} ({found} successes in {})", self.store.directory().display())));
        }
        let mut rng = StdRng::seed_from_u64(seed);
        shortest.shuffle(&mut rng);
        shortest.truncate(self.settings().tasks);
        Ok(shortest.into_iter().map(|episode| Shown::Recorded(Box::new(episode), rng.random())).collect())
    }

    /// Lets the model in service say, greedily, what it would do in each of the expert's states: in how many of how many it is the same. Plans
    /// are not counted.
    ///
    /// # Errors
    /// What the engine or the plain reader says.
    pub async fn matched(&self, tasks: Vec<Assignment>) -> Result<(usize, usize)> {
        let once = Samples { group: 1, in_doubt: 0, least_doubt: 0.0 };
        let shown = tasks.into_iter().map(Shown::Oracle).collect();
        let calls = self.asked(&self.mind, shown, Use::Match(once), 0.0).await?;
        let (all, right) = experts::count(&calls);
        Ok((right, all))
    }

    /// What the model says in an expert's states.
    async fn asked(&self, actor: &Mind, tasks: Vec<Shown>, purpose: Use, temperature: f32) -> Result<Vec<RewardedCall>> {
        let config = self.playing(temperature);
        if config.policy.revise == ReviseMode::Separate && config.policy.planner.may_revise(true) {
            let problem =
                "policy.revise: separate asks twice a turn, and an expert's state has one call; use `joint` where its states are asked in";
            bail!(Error::BadInput(problem.into()));
        }
        let (text, model) = (TextModel::load(self.config.weights()?)?, actor.policy(config.policy.planner, &config));
        let compiler = GrammarCompiler::new(&text)?;
        let tools = wiring::tools(&config)?;
        let matching = self.phase(1)?.rewards.matching;
        let bar = crate::progress::episodes(tasks.len() as u64);
        bar.set_message("expert's tasks");
        let (config, model, text, compiler, bar, tools) = (&config, &model, &text, &compiler, &bar, &tools);
        let shown = |shown: Shown| async move {
            let beside = |expert, task| Shadow {
                expert,
                model,
                text,
                compiler,
                config: &config.policy,
                purpose,
                task,
                matching,
                calls: Mutex::default(),
            };
            let (solved, calls) = match shown {
                Shown::Oracle(assignment) => {
                    let instance = assignment.template.instantiate(assignment.seed);
                    let expert = instance.oracle();
                    let shadow = beside(&expert as &dyn Policy, assignment.task());
                    let player = Player {
                        policy: Some(&shadow as &dyn Policy),
                        verifier: None,
                        store: &Forgetful,
                        screenshots: Screenshots::Off,
                        generation: "oracle".into(),
                        cancel: self.cancel.clone(),
                    };
                    let played = play(&instance, assignment.sampling, &mut Place::Plain, &player, config, &mut NoListener).await?;
                    if let Some(Stop::Failed(reason)) = played.episode.stop {
                        bail!(Error::Engine(reason));
                    }
                    let mut calls = shadow.calls;
                    let all = calls.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
                    all.iter_mut().for_each(|call| call.source = Some(assignment.template.source(assignment.seed)));
                    (played.solved, calls)
                }
                Shown::Recorded(episode, seed) => {
                    let expert = Recorded(&episode);
                    let shadow = beside(&expert as &dyn Policy, recorded::name(&episode.task));
                    let again = recorded::replay(&episode, &shadow, tools, seed, self.cancel.clone()).await?;
                    if !again && !*self.cancel.borrow() {
                        tracing::warn!(episode = episode.id, "what was recorded goes another way now; it is left out");
                    }
                    let mut calls = shadow.calls;
                    let all = calls.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
                    all.iter_mut().for_each(|call| call.episode = Some(episode.id.clone()));
                    (again, calls)
                }
            };
            if *self.cancel.borrow() {
                bail!(Cancelled);
            }
            bar.inc(1);
            // Only trajectories that solve their task are the expert's.
            Ok(if solved { calls.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) } else { Vec::new() })
        };
        // In the tasks' order, however many are played at once.
        let played: Vec<Vec<RewardedCall>> =
            futures_util::stream::iter(tasks).map(shown).buffered(self.settings().workers.max(1)).try_collect().await?;
        bar.finish_and_clear();
        Ok(played.into_iter().flatten().collect())
    }

    /// Ends when somebody cancels; never, where nobody can any more.
    async fn cancelled(&self) {
        if self.cancel.clone().wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn request(
        &self,
        round: &Round,
        phase: Phase,
        chained: Option<String>,
        episodes: Vec<Rewarded>,
    ) -> Result<UpdateRequest> {
        let (generation, parent) = match chained {
            Some(id) => {
                let record = self.registry.get(&id).await?.with_context(|| format!("generation {id} is gone from the registry"))?;
                (record.generation, Some(self.registry.directory(&id)))
            }
            None => {
                let generation = self.mind.engine.generation();
                let parent = generation.adapter.as_ref().map(|_| self.registry.directory(&generation.id()));
                (generation, parent)
            }
        };
        let calls = Some(self.place(round.number).join(CALLS)).filter(|calls| calls.is_file());
        Ok(UpdateRequest {
            recipe: self.settings().recipe.word().into(),
            base: std::fs::canonicalize(self.config.weights()?)?,
            parent,
            generation,
            store: self.store.directory().to_owned(),
            roles: phase.roles,
            policy: milepost_learners::policy::PolicyConfig { seed: self.settings().seed + round.number as u64, ..phase.policy },
            episodes,
            memory: Vec::new(),
            calls,
            critics: (round.number > 1).then(|| self.place(round.number - 1).join(UPDATE).join("critics")),
            out: self.place(round.number).join(UPDATE),
        })
    }

    /// Trains in a child process, at low priority; its log lies beside what it makes.
    ///
    /// # Errors
    /// The candidate's: there is nothing to learn from, or the child refuses the update itself and says so with exit code 1
    /// ([`crate::commands`] maps [`milepost_learners::Error::Unhealthy`] to it). Whatever else ends the child, a full disk, a panic or a signal, is
    /// the workshop's and tells nothing of the candidate.
    pub(super) async fn train(&self, request: &UpdateRequest, directory: &Path) -> Outcome<Report> {
        if let Ok(report) = request.report() {
            return Ok(report);
        }
        let no_calls = request.calls.as_ref().is_none_or(|path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0));
        if request.episodes.is_empty() && no_calls {
            return Err(Failure::Candidate("there is nothing to learn from: none of the round's episodes may be trained on".into()));
        }
        let log_file = directory.join("update.log");
        let run = async {
            let file = directory.join("update.json");
            files::replace(&file, &serde_json::to_vec_pretty(request)?)?;
            let out = std::fs::File::create(&log_file).with_context(|| format!("{} cannot be written", log_file.display()))?;
            let mut command = tokio::process::Command::new(std::env::current_exe()?);
            command.args(["learn", "policy"]).arg(&file).args(["--nice", &self.settings().nice.to_string()]);
            if let Some(gib) = self.settings().memory_gib {
                command.args(["--memory-gib", &gib.to_string()]);
            }
            command.stdin(std::process::Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
            // Nobody would hold the lock for a trainer that outlived the run.
            die_with_owner(command.as_std_mut());
            let mut child = command.spawn().context("the training process did not start")?;
            let status = tokio::select! {
                status = child.wait() => status?,
                () = self.cancelled() => {
                    child.kill().await?;
                    bail!(Cancelled);
                }
            };
            // A key that a person presses reaches both processes, the child perhaps first.
            if matches!(status.signal(), Some(libc::SIGINT | libc::SIGTERM)) && tokio::time::timeout(HEARD, self.cancelled()).await.is_ok()
            {
                bail!(Cancelled);
            }
            anyhow::Ok((status, std::fs::read_to_string(&log_file).unwrap_or_default()))
        };
        let (status, log) = run.await?;
        if let Some(signal) = status.signal() {
            // Whatever killed it says nothing of the candidate.
            let fix = "lower `improve.tasks` or `improve.update.tokens_per_batch`, or make room";
            let problem =
                format!("the update was killed by signal {signal} (9: most likely the memory was full; {fix}); what was collected is kept");
            return Err(Failure::Workshop(anyhow::anyhow!(problem)));
        }
        if status.success() {
            return Ok(request.report()?);
        }
        let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
        let problem = format!("the update ended with {status}: {last}");
        match status.code() == Some(i32::from(Exit::Failed.code())) {
            true => Err(Failure::Candidate(problem)),
            false => {
                Err(Failure::Workshop(anyhow::anyhow!("{problem} ({} has all of it); what was collected is kept", log_file.display())))
            }
        }
    }
}
