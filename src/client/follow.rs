//! Following a task to its end, as `milepost run` shows one, with a person who is asked where one is there.

use std::io::Write;

use anyhow::Result;
use milepost_runtime::StepStatus;
use milepost_service::{EventKind, PlanLine, TaskEvent, TaskState};
use serde_json::json;

use super::person::Answer;
use super::{Api, Events, Followed, Person, Task};
use crate::exit::Exit;
use crate::live::{LiveView, Row};

/// What to do when a task needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// Ask here.
    Ask,
    /// Wait for somebody else to decide.
    Wait,
    /// Leave, and say so by the exit code.
    Leave,
}

/// How a task is followed.
pub struct Follow<'a> {
    /// The daemon.
    pub api: &'a Api,
    /// What to do when it needs a person.
    pub undecided: Undecided,
    /// Whether events are printed as JSON.
    pub json: bool,
    /// Whether the view has colours.
    pub colour: bool,
}

/// Follows a task to its end.
///
/// # Errors
/// A daemon that refuses or stays away.
pub async fn follow<W: Write + Send>(how: Follow<'_>, id: &str, out: W) -> Result<Exit> {
    let Follow { api, undecided, json, colour } = how;
    let id = api.task(id).await?.id;
    let (mut view, mut person) = (LiveView::new(out, colour), Person::default());
    let mut events = Events::new(api, Followed::Task(id.clone()), 0);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            line = person.line() => match line {
                None => return Ok(leave(&api.task(&id).await?)),
                Some(line) => {
                    answer(api, &id, &mut person, &line).await?;
                    continue;
                }
            },
        };
        let Some(event) = event else { return Ok(exit(&api.task(&id).await?)) };
        match json {
            true => view.line("0", &serde_json::to_string(&event)?),
            false => show(&mut view, &event),
        }
        if matches!(event.kind, EventKind::Approved { .. } | EventKind::Denied { .. } | EventKind::Ended { .. }) {
            person.settle();
        }
        if matches!(event.kind, EventKind::ApprovalRequested(_) | EventKind::Interrupted { .. }) {
            // An old event may have been answered long ago.
            let task = api.task(&id).await?;
            match (task.state, undecided) {
                (TaskState::NeedsApproval, Undecided::Ask) => person.ask(),
                (TaskState::NeedsApproval | TaskState::Interrupted, Undecided::Leave) | (TaskState::Interrupted, Undecided::Ask) => {
                    return Ok(leave(&task));
                }
                _ => {}
            }
        }
    }
}

/// Sends a person's answer; one that comes too late is told, and nothing breaks.
async fn answer(api: &Api, id: &str, person: &mut Person, line: &str) -> Result<()> {
    let (verb, note) = match Answer::read(line) {
        Answer::Approve(note) => ("approve", note),
        Answer::Deny(note) => ("deny", note),
        Answer::Unclear => {
            person.ask();
            return Ok(());
        }
    };
    person.settle();
    match api.post::<Task>(&["v1", "tasks", id, verb], &json!({ "note": note })).await {
        Err(super::ClientError::Refused { status: 409, detail }) => eprintln!("milepost: {detail}"),
        sent => drop(sent?),
    }
    Ok(())
}

fn leave(task: &Task) -> Exit {
    let id = &task.id;
    match task.state {
        TaskState::Interrupted => eprintln!("milepost: it was interrupted; `milepost client resume {id}` starts it anew, `cancel` ends it"),
        _ => eprintln!("milepost: it waits for a person; `milepost client approve {id}` or `deny` decides, `follow` goes on"),
    }
    Exit::NeedsApproval
}

/// The exit code of a task as it stands.
pub fn exit(task: &Task) -> Exit {
    match (task.state, task.success) {
        (TaskState::Done, Some(false)) | (TaskState::Failed, _) => Exit::Failed,
        (TaskState::Cancelled, _) => Exit::Cancelled,
        (TaskState::NeedsApproval | TaskState::Interrupted, _) => Exit::NeedsApproval,
        (TaskState::Done | TaskState::Queued | TaskState::Running, _) => Exit::Done,
    }
}

fn show<W: Write + Send>(view: &mut LiveView<W>, event: &TaskEvent) {
    let row = |line: &PlanLine| Row {
        status: match line.status.as_str() {
            "done" => StepStatus::Done,
            "failed" => StepStatus::Failed,
            _ => StepStatus::Pending,
        },
        text: line.text.clone(),
        check: Some(line.milestone.clone()).filter(|check| *check != line.text),
    };
    match &event.kind {
        EventKind::Plan { version, cursor, steps } => view.rows(*version, *cursor, steps.iter().map(row)),
        EventKind::Milestone { index, text } => view.milestone(*index, text),
        EventKind::Step { action, error, .. } => view.action(action, error.as_deref()),
        EventKind::Episode { .. } => {}
        EventKind::ApprovalRequested(_) | EventKind::Interrupted { .. } => view.line("1;33", &event.kind.in_words()),
        EventKind::Ended { state, answer, success, .. } => {
            let verified = success.map(|success| if success { ", verified" } else { ", not as asked" }).unwrap_or_default();
            match answer {
                Some(answer) => {
                    view.line("1", &format!("{state}{verified}"));
                    view.answer(answer);
                }
                None => view.line("1", &format!("{}{verified}", event.kind.in_words())),
            }
        }
        kind => view.line("2", &kind.in_words()),
    }
}
