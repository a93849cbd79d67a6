//! Tests of the outcome that a round of `milepost improve` records for its candidate in the registry, and of its reaction to changes of the
//! registry by others.

use std::path::Path;

use milepost::config::Config;
use milepost::improve_host::{host, loop_settings};
use milepost::{model, wiring};
use milepost_improve::gate::{Decision, Verdict};
use milepost_improve::host::EnvironmentKind;
use milepost_improve::rounds::{Round, Stage, StageRunner};
use milepost_improve::stages::SuiteStages;
use milepost_runtime::registry::{Figure, Incumbent, Occasion, Status};
use milepost_runtime::{AdapterRegistry, DirectoryRegistry, Generation, SqliteStore};
use tokio_util::sync::CancellationToken;

use super::generations;

/// A run that is resumed after a kill does not record an outcome twice, and does not promote its candidate if the registry has changed
/// since.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_candidate_is_written_once_and_what_changed_meanwhile_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let config = generations::settings(directory.path());
    let store = wiring::store(&config).await.unwrap();
    let (base, registry) = (model::load(&config).await.unwrap().engine.generation(), wiring::registry(&config));
    let ids = two_generations(directory.path(), &registry, &base).await;
    let mut stages = stages(&config, &store, directory.path()).await;
    let decision =
        Decision { verdict: Verdict::Promote, reason: "better".into(), p: 0.1 + 0.2, candidate: [9, 10], incumbent: [4, 10], looks: 1 };
    let round = |stage| Round {
        number: 1,
        stage,
        incumbent: base.id(),
        candidate: Some(ids[0].clone()),
        decision: Some(decision.clone()),
        ..Round::default()
    };
    assert_eq!(stages.overtaken(&round(Stage::Publish)).await.unwrap(), None);

    registry.promote(&ids[1], Incumbent::Base, "by a person").await.unwrap();
    let note = stages.overtaken(&round(Stage::Publish)).await.unwrap().unwrap();
    assert!(note.contains(&ids[1]) && note.contains(&base.id()), "{note}");
    registry.rollback(&base, "by a person").await.unwrap();
    let note = stages.overtaken(&Round { incumbent: ids[1].clone(), ..round(Stage::Gate) }).await.unwrap().unwrap();
    assert!(note.contains(&ids[1]) && note.contains(&base.id()), "{note}");

    // A candidate that was rolled back before its gate has been compared again since; one that was rolled back after its gate stays out of
    // service.
    registry.promote(&ids[0], Incumbent::Base, "by an earlier round").await.unwrap();
    registry.rollback(&base, "it failed then").await.unwrap();
    assert_eq!(stages.overtaken(&round(Stage::Publish)).await.unwrap(), None);
    let gate = Figure { incumbent: Some([4, 10]), decision: Some(Status::Promoted), ..Figure::new(Occasion::Gate, [9, 10], "better") };
    registry.measured(&ids[0], gate).await.unwrap();
    registry.promote(&ids[0], Incumbent::Base, "by the round").await.unwrap();
    registry.rollback(&base, "it fails in service").await.unwrap();
    let note = stages.overtaken(&round(Stage::Publish)).await.unwrap().unwrap();
    assert!(note.contains("it fails in service"), "{note}");
    let over = Round { outcome: Some(Verdict::Inconclusive), note: Some(note), ..round(Stage::Done) };
    stages.record_outcome(&over).await.unwrap();
    assert_eq!(registry.get(&ids[0]).await.unwrap().unwrap().status, Status::RolledBack);

    let refuted = Round { outcome: Some(Verdict::Quarantine), note: Some("not what was trained".into()), ..round(Stage::Done) };
    stages.record_outcome(&refuted).await.unwrap();
    let once = registry.get(&ids[0]).await.unwrap().unwrap();
    stages.record_outcome(&refuted).await.unwrap();
    assert_eq!((once.status, once.figures.len()), (Status::Quarantined, 3));
    assert_eq!(registry.get(&ids[0]).await.unwrap().unwrap(), once);

    // A round starts with the generation that serves at that time, even if a person promoted it. A round whose incumbent no longer serves
    // ends before it plays.
    assert_eq!(stages.follow_registry().await.unwrap(), base.id());
    registry.promote(&ids[1], Incumbent::Base, "by a person").await.unwrap();
    let collecting = Round { incumbent: base.id(), ..Round::default() };
    assert!(stages.overtaken(&collecting).await.unwrap().is_some());
    assert_eq!(stages.follow_registry().await.unwrap(), ids[1]);
    assert_eq!(stages.overtaken(&Round { incumbent: ids[1].clone(), ..collecting }).await.unwrap(), None);
}

/// An inconclusive gate does not take back an earlier promotion: a rollback still goes to the generation that served before.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_generation_that_is_compared_again_stays_good() {
    let directory = tempfile::tempdir().unwrap();
    let config = generations::settings(directory.path());
    let store = wiring::store(&config).await.unwrap();
    let (base, registry) = (model::load(&config).await.unwrap().engine.generation(), wiring::registry(&config));
    let ids = two_generations(directory.path(), &registry, &base).await;
    registry.promote(&ids[0], Incumbent::Base, "better").await.unwrap();
    registry.promote(&ids[1], Incumbent::Generation(&ids[0]), "better").await.unwrap();
    let mut stages = stages(&config, &store, directory.path()).await;
    let again = Round { candidate: Some(ids[0].clone()), outcome: Some(Verdict::Inconclusive), stage: Stage::Done, ..Round::default() };
    stages.record_outcome(&again).await.unwrap();
    assert_eq!(registry.get(&ids[0]).await.unwrap().unwrap().status, Status::Promoted);
    assert_eq!(registry.rollback(&base, "by a person").await.unwrap().map(|record| record.id), Some(ids[0].clone()));
}

async fn two_generations(directory: &Path, registry: &DirectoryRegistry, base: &Generation) -> [String; 2] {
    let mut ids = [String::new(), String::new()];
    for (seed, id) in (1..).zip(&mut ids) {
        *id = registry.register(&generations::trained(directory, base, 4, seed), base).await.unwrap().id;
    }
    ids
}

async fn stages<'a>(config: &Config, store: &'a SqliteStore, directory: &Path) -> SuiteStages<'a> {
    let host = host(config).unwrap();
    SuiteStages {
        model: host.models.load(config.adapter.clone()).await.unwrap(),
        host,
        settings: loop_settings(config),
        store,
        registry: wiring::registry(config),
        templates: Vec::new(),
        environment: EnvironmentKind::Plain,
        own_tasks: false,
        directory: directory.join("run-1"),
        earlier_rounds: 0,
        cancel: CancellationToken::new(),
        report: |_| {},
    }
}
