//! Follows a daemon's task to its end with the live view of `milepost run`; a person at the terminal may decide about approvals.

use std::io::Write;

use anyhow::Result;
use milepost_client::{Api, ClientError, Event, Events, Followed, Task, TaskState};
use milepost_runtime::StepStatus;
use milepost_runtime::check::UNDECIDED;
use milepost_service::{EventKind, PlanLine, TaskEvent};
use serde_json::json;

use super::person::{Answer, Person};
use super::view::{LiveView, Row};
use crate::exit::Exit;

/// What to do when a task needs a person's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUndecided {
    /// Ask the person at this terminal.
    Ask,
    /// Wait until somebody decides elsewhere.
    Wait,
    /// Stop following, with the exit code 3.
    Leave,
}

/// How a task is followed.
pub struct FollowOptions<'a> {
    /// The daemon.
    pub api: &'a Api,
    /// What to do when the task needs a person's decision.
    pub undecided: WhenUndecided,
    /// Whether events are printed as JSON.
    pub json: bool,
    /// Whether the view has colours.
    pub colour: bool,
}

/// Follows a task to its end.
///
/// # Errors
/// The daemon refuses a request, or is not reachable.
pub async fn follow<W: Write + Send>(options: FollowOptions<'_>, id: &str, out: W) -> Result<Exit> {
    let FollowOptions { api, undecided, json, colour } = options;
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
        let Some(event) = event else {
            let task = api.task(&id).await?;
            if task.is_undecided() && !json {
                view.line("1;33", &format!("your check could not be decided: {UNDECIDED}"));
            }
            return Ok(exit_code(&task));
        };
        let event = service_event(&event)?;
        match json {
            true => view.line("0", &serde_json::to_string(&event)?),
            false => show(&mut view, &event),
        }
        if matches!(event.kind, EventKind::Approved { .. } | EventKind::Denied { .. } | EventKind::Ended { .. }) {
            person.settle();
        }
        if matches!(event.kind, EventKind::ApprovalRequested(_) | EventKind::Interrupted { .. }) {
            // The event may be old, so that its question has already been decided.
            let task = api.task(&id).await?;
            match (task.state, undecided) {
                (TaskState::NeedsApproval, WhenUndecided::Ask) => person.ask(),
                (TaskState::NeedsApproval | TaskState::Interrupted, WhenUndecided::Leave)
                | (TaskState::Interrupted, WhenUndecided::Ask) => {
                    return Ok(leave(&task));
                }
                _ => {}
            }
        }
    }
}

/// Sends a person's decision; if it comes too late, the daemon's refusal is printed and the task is still followed.
async fn answer(api: &Api, id: &str, person: &mut Person, line: &str) -> Result<()> {
    let (verb, note) = match Answer::parse(line) {
        Answer::Approve(note) => ("approve", note),
        Answer::Deny(note) => ("deny", note),
        Answer::Unclear => {
            person.ask();
            return Ok(());
        }
    };
    person.settle();
    match api.post::<Task>(&["v1", "tasks", id, verb], &json!({ "note": note })).await {
        Err(ClientError::Refused { status: 409, detail }) => eprintln!("milepost: {detail}"),
        sent => drop(sent?),
    }
    Ok(())
}

/// Prints how a person can continue the task, and returns the exit code.
fn leave(task: &Task) -> Exit {
    let id = &task.id;
    match task.state {
        TaskState::Interrupted => eprintln!("milepost: it was interrupted; `milepost client resume {id}` starts it anew, `cancel` ends it"),
        _ => eprintln!("milepost: it waits for a person; `milepost client approve {id}` or `deny` decides, `follow` goes on"),
    }
    Exit::NeedsApproval
}

/// Reads a client's event as the service's typed event.
///
/// # Errors
/// The daemon has another version, whose event has another form.
pub fn service_event(event: &Event) -> Result<TaskEvent> {
    Ok(serde_json::from_value(serde_json::to_value(event)?)?)
}

/// Returns the exit code for a task in its present state.
pub fn exit_code(task: &Task) -> Exit {
    if task.is_undecided() {
        return Exit::Failed;
    }
    match (task.state, task.success) {
        (TaskState::Done, Some(false)) | (TaskState::Failed, _) => Exit::Failed,
        (TaskState::Cancelled, _) => Exit::Cancelled,
        (TaskState::NeedsApproval | TaskState::Interrupted, _) => Exit::NeedsApproval,
        (TaskState::Done | TaskState::Queued | TaskState::Running, _) => Exit::Done,
    }
}

/// Prints an event in the live view.
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
