//! Publishing a candidate, and recording its outcome in the registry.

use milepost_runtime::registry::{AdapterChoice, Figure, Incumbent, Occasion, Record, Status, read_probes};
use milepost_runtime::{AdapterRegistry, Error as RuntimeError};

use super::{Outcome, SuiteStages, base_of, last_reason};
use crate::error::{Error, Result, ResultExt};
use crate::gate::Verdict;
use crate::rounds::{Failure, Round, Stage};
use crate::settings::ModelLocation;

impl SuiteStages<'_> {
    /// Proves the candidate, swaps it in, and promotes it in the registry.
    pub(super) async fn put_into_service(&self, round: &Round) -> Outcome<()> {
        let candidate = round.candidate.as_deref().context("the round has no candidate")?;
        let directory = self.registry.directory(candidate);
        let probes = read_probes(&directory).map_err(|error| Failure::Candidate(error.to_string()))?;
        let probes = probes.ok_or_else(|| Failure::Candidate(format!("{} has no probes.json", directory.display())))?;
        let record = self.registry.get(candidate).await.map_err(Error::from)?;
        if let Some(record) = record.filter(|record| record.status == Status::Quarantined) {
            return Err(Failure::Candidate(format!("it was put into quarantine meanwhile: {}", last_reason(&record))));
        }
        let engine = self.model.engine();
        let before = engine.generation();
        if before.id() != candidate
            && let Err(error) = engine.swap(&directory, &probes).await
        {
            return Err(self.attribute_failure(error.into()).await);
        }
        // The gate's figures are recorded first, because a daemon that follows the registry compares the generation with them.
        self.record_gate(round, Status::Promoted).await?;
        let serves = self.registry.current(&before).await.map_err(Error::from)?;
        if serves.is_none_or(|record| record.id != candidate) {
            let over = if round.incumbent == base_of(&before) { Incumbent::Base } else { Incumbent::Generation(&round.incumbent) };
            let reason = round.decision.as_ref().map_or_else(String::new, |decision| decision.reason.clone());
            // An error here means that another generation has come into service meanwhile, which is no error of the configuration.
            self.registry.promote(candidate, over, &reason).await.map_err(|error| Error::Failed(error.to_string()))?;
        }
        Ok(())
    }

    /// Records the outcome of a candidate that is not put into service.
    pub(super) async fn record_in_registry(&self, round: &Round) -> Result<()> {
        let (Some(candidate), Some(outcome)) = (&round.candidate, round.outcome) else { return Ok(()) };
        let status = if outcome == Verdict::Quarantine { Status::Quarantined } else { Status::Inconclusive };
        self.record_gate(round, status).await?;
        let record = self.registry.get(candidate).await?.with_context(|| format!("generation {candidate} is gone from the registry"))?;
        // An inconclusive gate does not overrule an earlier decision, and a decision is recorded only once. A generation that a person has put
        // into service meanwhile stays there.
        let decided = matches!(record.status, Status::Promoted | Status::Quarantined | Status::RolledBack);
        let stands = (status == Status::Inconclusive && decided) || self.registry.serving()?.contains(candidate);
        if !stands && record.status != status {
            self.registry.set_status(candidate, status, &round.reason().unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Returns the reason why the round cannot lead to a promotion although nothing is wrong with its candidate, if there is one.
    pub(super) async fn overtaken_by(&self, round: &Round) -> Result<Option<String>> {
        let now = self.model.engine().generation();
        let candidate = round.candidate.as_deref();
        let other = |serves: &str| {
            let what = candidate.map_or_else(|| "the round".to_owned(), |candidate| format!("generation {candidate}"));
            let problem = format!("generation {serves} serves now, but {what} was begun against {}", round.incumbent);
            (serves != round.incumbent && Some(serves) != candidate).then_some(problem)
        };
        if let Some(problem) = other(&now.id()) {
            return Ok(Some(problem));
        }
        let record = match (candidate, round.stage) {
            (Some(candidate), Stage::Publish) => self.registry.get(candidate).await?,
            _ => None,
        };
        // Only a rollback after the gate's decision counts; after an earlier one the generation has been compared again.
        let gated = |record: &Record| {
            let reason = round.decision.as_ref().map(|decision| &decision.reason);
            let gates = record.figures.iter().rfind(|figure| figure.occasion == Occasion::Gate && Some(&figure.reason) == reason);
            gates.is_some_and(|gate| record.history.last().is_some_and(|change| change.at > gate.at))
        };
        if let Some(record) = record.filter(|record| record.status == Status::RolledBack && gated(record)) {
            let fix = format!("`milepost adapters promote {}` puts it back", record.id);
            return Ok(Some(format!("generation {} was taken out of service meanwhile: {}; {fix}", record.id, last_reason(&record))));
        }
        // The registry need not name the incumbent of a run with a configured adapter, so such a run checks it only before a promotion.
        if self.settings.adapter != AdapterChoice::Current && round.stage != Stage::Publish {
            return Ok(None);
        }
        let serves = self.registry.current(&now).await?;
        Ok(other(&serves.map_or_else(|| base_of(&now), |record| record.id)))
    }

    /// Decides whether the candidate or the run is at fault when a candidate cannot be served. A failed proof is the candidate's fault. A server may
    /// only be unreachable for a moment, which is the run's. On this machine, the generation in service is loaded instead of the candidate: if that
    /// fails too, the memory or the model's files are at fault, which is also the run's.
    pub(super) async fn attribute_failure(&self, error: Error) -> Failure<Error> {
        if matches!(error.runtime(), Some(RuntimeError::Unproved(_))) {
            return Failure::Candidate(error.with_causes());
        }
        if self.settings.model_location == ModelLocation::Server {
            return Failure::Run(error);
        }
        let serving = self.model.engine().generation();
        let adapter = match serving.adapter {
            None => AdapterChoice::None,
            Some(_) if self.registry.directory(&serving.id()).is_dir() => AdapterChoice::Named(serving.id()),
            Some(_) => self.settings.adapter.clone(),
        };
        match self.load(adapter).await {
            Ok(_) => Failure::Candidate(error.with_causes()),
            Err(too) => {
                let context = format!("what serves cannot be loaded a second time either ({})", too.with_causes());
                Failure::Run(Error::Context { context, source: Box::new(error) })
            }
        }
    }

    /// Records the gate's figures in the generation's record.
    async fn record_gate(&self, round: &Round, status: Status) -> Result<()> {
        let (Some(candidate), Some(decision)) = (&round.candidate, &round.decision) else { return Ok(()) };
        let figure = Figure {
            occasion: Occasion::Gate,
            at: chrono::Utc::now(),
            candidate: decision.candidate,
            incumbent: Some(decision.incumbent),
            p: Some(decision.p),
            decision: Some(status),
            reason: decision.reason.clone(),
        };
        let record = self.registry.get(candidate).await?;
        // A resumed run would record the same figure with another time, and its stored `p` may be rounded.
        let same = |known: &Figure| Figure { at: figure.at, p: figure.p, ..known.clone() } == figure;
        if !record.is_some_and(|record| record.figures.iter().any(same)) {
            self.registry.measured(candidate, figure).await?;
        }
        Ok(())
    }
}
