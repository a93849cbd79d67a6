//! `milepost client`: uses a running daemon from the terminal.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::Utc;
use milepost_client::{Api, ClientError, Events, Followed, Task};
use milepost_runtime::check::UNDECIDED;
use serde_json::{Value, json};
use url::Url;

use crate::cli::{AnswerArgs, ClientArgs, ClientCommand, FollowArgs, JsonArgs, OutcomeArg, SubmitArgs, TaskArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::print_json;
use crate::signals::cancellation;
use crate::terminal::{FollowOptions, WhenUndecided, exit_code, follow, service_event};

/// Runs a `client` command.
pub async fn main(args: ClientArgs, config: &Config) -> Result<Exit> {
    let server = args.server.map_or_else(|| local_address(config), Ok)?;
    let done = match token(args.token_file.as_deref(), config) {
        Err(error) => Err(error.into()),
        Ok(token) => run(args.command, Api::new(server, &token)?).await,
    };
    done.or_else(|error| match error.downcast_ref::<ClientError>() {
        None => Err(error),
        Some(refusal) => {
            eprintln!("milepost: {refusal}");
            Ok(if refusal.is_environment() { Exit::Environment } else { Exit::BadInput })
        }
    })
}

async fn run(command: ClientCommand, api: Api) -> Result<Exit> {
    match command {
        ClientCommand::Submit(args) => submit(*args, &api).await,
        ClientCommand::List { state, caller, limit, cursor, json } => {
            let given = [("state", state), ("caller", caller), ("cursor", cursor), ("limit", Some(limit.to_string()))];
            let query: Vec<(&str, String)> = given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            list(&api.get(&["v1", "tasks"], &query).await?, json)
        }
        ClientCommand::Show(TaskArgs { id, json }) => {
            let task: Value = api.get(&["v1", "tasks", &id], &[]).await?;
            show(&task, json)?;
            let task: Task = serde_json::from_value(task)?;
            if task.is_undecided() && !json {
                println!("your check could not be decided: {UNDECIDED}");
            }
            Ok(exit_code(&task))
        }
        ClientCommand::Follow { id, how } => followed(&api, &id, how).await,
        ClientCommand::Cancel(TaskArgs { id, json }) => change(&api, &id, "cancel", &json!({}), json).await,
        ClientCommand::Resume(TaskArgs { id, json }) => change(&api, &id, "resume", &json!({}), json).await,
        ClientCommand::Approve(AnswerArgs { id, note, json }) => change(&api, &id, "approve", &json!({ "note": note }), json).await,
        ClientCommand::Deny(AnswerArgs { id, note, json }) => change(&api, &id, "deny", &json!({ "note": note }), json).await,
        ClientCommand::Message { id, text, json } => change(&api, &id, "message", &json!({ "text": text }), json).await,
        ClientCommand::Feedback { id, outcome, note, json } => {
            let body = json!({ "success": outcome == OutcomeArg::Success, "note": note });
            change(&api, &id, "feedback", &body, json).await
        }
        ClientCommand::Watch(JsonArgs { json }) => watch(&api, json).await,
    }
}

/// Returns the address of the daemon with this configuration on this machine.
fn local_address(config: &Config) -> Result<Url> {
    let serve = &config.serve;
    let scheme = if serve.tls.is_some() { "https" } else { "http" };
    let host = match serve.listen {
        IpAddr::V4(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(address) if address.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Url::parse(&format!("{scheme}://{host}:{}", serve.port)).context("`serve.listen` and `serve.port` make no address; use --server")
}

/// Reads the token: from the named file, or else from the environment, or else from the daemon's own token file.
fn token(file: Option<&Path>, config: &Config) -> Result<String, ClientError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| ClientError::NoToken(format!("{}: {error}", path.display())));
    match (file, std::env::var("MILEPOST_TOKEN")) {
        (Some(file), _) => read(file),
        (None, Ok(token)) if !token.trim().is_empty() => Ok(token),
        (None, _) => read(&crate::daemon::token_file(config)),
    }
}

async fn submit(args: SubmitArgs, api: &Api) -> Result<Exit> {
    let mut body = json!({
        "goal": args.goal, "url": args.url, "planner": args.want.planner, "check": args.want.check, "secrets": args.secrets,
        "profile": args.profile, "priority": args.priority, "idempotency_key": args.idempotency_key,
        "idempotent": args.idempotent, "seed": args.seed, "limits": { "max_steps": args.want.max_steps },
    });
    if !args.want.hosts.is_empty() {
        body["capability"] = json!({ "hosts": args.want.hosts });
    }
    let task: Value = api.post(&["v1", "tasks"], &body).await?;
    let id = task["id"].as_str().unwrap_or_default().to_owned();
    match (args.follow, args.how.json) {
        (true, json) => {
            if !json {
                println!("task {id}");
            }
            followed(api, &id, args.how).await
        }
        (false, true) => print_json(&task).map(|()| Exit::Done),
        (false, false) => {
            println!("{id}");
            Ok(Exit::Done)
        }
    }
}

async fn followed(api: &Api, id: &str, how: FollowArgs) -> Result<Exit> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let undecided = match how {
        FollowArgs { wait: true, .. } => WhenUndecided::Wait,
        FollowArgs { ask: true, .. } => WhenUndecided::Ask,
        FollowArgs { json: false, .. } if terminal => WhenUndecided::Ask,
        _ => WhenUndecided::Leave,
    };
    let options = FollowOptions { api, undecided, json: how.json, colour: std::io::stdout().is_terminal() && !how.json };
    follow(options, id, std::io::stdout()).await
}

/// Requests a change of a task, and prints the task after it.
async fn change(api: &Api, id: &str, verb: &str, body: &Value, json: bool) -> Result<Exit> {
    let task: Value = api.post(&["v1", "tasks", id, verb], body).await?;
    match json {
        true => print_json(&task)?,
        false => println!("{}", line(&serde_json::from_value(task)?)),
    }
    Ok(Exit::Done)
}

fn list(page: &Value, json: bool) -> Result<Exit> {
    if json {
        print_json(page)?;
        return Ok(Exit::Done);
    }
    for task in page["tasks"].as_array().into_iter().flatten() {
        println!("{}", line(&serde_json::from_value(task.clone())?));
    }
    if let Some(next) = page["next"].as_str() {
        println!("older ones: --cursor {next}");
    }
    Ok(Exit::Done)
}

/// Formats a task as one line of a listing.
fn line(task: &Task) -> String {
    let verified = match task.success {
        Some(true) => " ✓",
        Some(false) => " ✗",
        None if task.is_undecided() => " ?",
        None => "",
    };
    format!("{}  {:<14} {}", task.id, format!("{}{verified}", task.state.word()), task.goal)
}

fn show(task: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(task);
    }
    for (key, value) in task.as_object().into_iter().flatten() {
        match value {
            Value::Null | Value::Bool(false) => {}
            Value::Array(list) if list.is_empty() => {}
            Value::String(text) => println!("{key}: {text}"),
            value => println!("{key}: {value}"),
        }
    }
    Ok(())
}

/// Prints the new events of all tasks until the command is cancelled.
async fn watch(api: &Api, json: bool) -> Result<Exit> {
    let (began, cancel) = (Utc::now(), cancellation());
    let mut events = Events::new(api, Followed::All, 0);
    loop {
        let event = tokio::select! {
            event = events.next() => match event? {
                Some(event) if event.at >= began => event,
                Some(_) => continue,
                None => return Ok(Exit::Done),
            },
            () = cancel.cancelled() => return Ok(Exit::Done),
        };
        match json {
            true => print_json(&service_event(&event)?)?,
            false => println!("{}  {}  {}", event.at.format("%H:%M:%S"), event.task, service_event(&event)?.kind.in_words()),
        }
    }
}
