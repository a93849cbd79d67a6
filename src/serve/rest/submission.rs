//! A task as it is handed in over HTTP: its schema is exact, and what fits it is taken.

use chrono::{DateTime, Utc};
use milepost_runtime::ActionKind;
use milepost_service::{CapabilityRequest, LimitsRequest, Submission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// How a task is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Planner {
    /// The plan may be revised at every turn.
    Adaplan,
    /// On a stall only.
    Subgoal,
    /// Never.
    Frozen,
    /// No plan.
    React,
}

impl Planner {
    fn word(self) -> &'static str {
        match self {
            Self::Adaplan => "adaplan",
            Self::Subgoal => "subgoal",
            Self::Frozen => "frozen",
            Self::React => "react",
        }
    }
}

/// A class of actions.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = ActionKind)]
#[allow(dead_code, missing_docs, reason = "the schema of the runtime's type")]
enum ActionKindSchema {
    Click,
    Type,
    Select,
    Press,
    Scroll,
    Goto,
    Back,
    Wait,
    Call,
    Answer,
    Stop,
}

/// Bounds on the run; what is left out is the configuration's.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewLimits {
    /// Most turns.
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_steps: Option<u32>,
    /// Most seconds in all, without the time spent waiting for a person.
    #[schema(minimum = 1, maximum = 86_400)]
    pub max_seconds: Option<u64>,
    /// The same action on the same page so many times is a stall.
    #[schema(minimum = 1, maximum = 1_000)]
    pub same_action: Option<u32>,
    /// So many turns without a new milestone are a stall.
    #[schema(minimum = 1, maximum = 1_000)]
    pub no_milestone: Option<u32>,
}

/// What a task may do; the start URL's host is always among the hosts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewCapability {
    /// More hosts that may be reached (`name`, `name:port` or `*.suffix`).
    #[schema(max_items = 100, value_type = Option<Vec<HostRule>>)]
    pub hosts: Option<Vec<String>>,
    /// The action kinds that may be used, instead of all.
    #[schema(max_items = 20, value_type = Option<Vec<ActionKindSchema>>)]
    pub action_kinds: Option<Vec<ActionKind>>,
    /// The tools that may be called, instead of the default ones.
    #[schema(max_items = 100, value_type = Option<Vec<ToolName>>)]
    pub tools: Option<Vec<String>>,
}

/// A host that may be reached.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 255, pattern = r"^((\*\.)?([A-Za-z0-9]+(-+[A-Za-z0-9]+)*\.)*[A-Za-z][A-Za-z0-9]*(-+[A-Za-z0-9]+)*|((25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])|\[(::1|([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4})\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?$")]
#[allow(dead_code, reason = "a schema")]
struct HostRule(String);

/// A tool's name.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
#[allow(dead_code, reason = "a schema")]
struct ToolName(String);

/// A secret's name.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,128}$")]
#[allow(dead_code, reason = "a schema")]
struct SecretName(String);

/// An http or https address; an IPv6 host is written in full.
#[derive(ToSchema)]
#[schema(value_type = String, format = Uri, max_length = 2048, pattern = r"^https?://(([A-Za-z0-9]+(-+[A-Za-z0-9]+)*\.)*[A-Za-z][A-Za-z0-9]*(-+[A-Za-z0-9]+)*|((25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])|\[(::1|([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4})\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?([/?#][!-~]*)?$")]
#[allow(dead_code, reason = "a schema")]
struct WebAddress(String);

/// The JSON types that an output may have.
fn output_type() -> Object {
    const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(TYPES)).description(Some("Its type.")).build()
}

/// The wanted output, in a part of JSON Schema (2020-12) that a model can be held to.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(no_recursion)]
#[allow(dead_code, non_snake_case, reason = "a schema")]
struct OutputSchema {
    /// Its type.
    #[schema(schema_with = output_type)]
    r#type: String,
    /// What it is, for the model.
    #[schema(max_length = 1000, nullable = false)]
    description: Option<String>,
    /// An object's members.
    #[schema(nullable = false)]
    properties: Option<std::collections::BTreeMap<String, OutputSchema>>,
    /// Members that must be there.
    #[schema(nullable = false)]
    required: Option<std::collections::BTreeSet<String>>,
    /// Whether others may be there.
    #[schema(nullable = false)]
    additionalProperties: Option<bool>,
    /// An array's items.
    #[schema(nullable = false)]
    items: Option<Box<OutputSchema>>,
    /// Fewest items.
    #[schema(nullable = false)]
    minItems: Option<u32>,
    /// Most items.
    #[schema(nullable = false)]
    maxItems: Option<u32>,
    /// The values that are allowed.
    #[schema(nullable = false, min_items = 1)]
    r#enum: Option<std::collections::BTreeSet<String>>,
    /// Least value.
    #[schema(nullable = false)]
    minimum: Option<f64>,
    /// Greatest value.
    #[schema(nullable = false)]
    maximum: Option<f64>,
    /// Fewest characters.
    #[schema(nullable = false)]
    minLength: Option<u32>,
    /// Most characters.
    #[schema(nullable = false)]
    maxLength: Option<u32>,
}

/// A web task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The goal in words.
    #[schema(min_length = 1, max_length = 4096, pattern = r"[^\s\x85]")]
    pub goal: String,
    /// Where to begin.
    #[schema(value_type = WebAddress)]
    pub url: Url,
    /// Bounds on the run.
    #[serde(default)]
    #[schema(required = false)]
    pub limits: NewLimits,
    /// How it is planned; the configuration's way where nothing is said.
    pub planner: Option<Planner>,
    /// What the run may do; the start URL's host with the default kinds and tools where nothing is said.
    pub capability: Option<NewCapability>,
    /// Your own definition of done, as in `text visible "Order placed" and url contains "/orders"`; without parentheses.
    #[schema(
        max_length = 1000,
        pattern = r#"^(not )?(url contains "([^"\\]|\\["\\])*"|text visible "([^"\\]|\\["\\])*"|checked "([^"\\]|\\["\\])*"|field "([^"\\]|\\["\\])*" is "([^"\\]|\\["\\])*"|exists [a-z]{1,16} "([^"\\]|\\["\\])*"|count [a-z]{1,16} at least [0-9]{1,3})( (and|or) (not )?(url contains "([^"\\]|\\["\\])*"|text visible "([^"\\]|\\["\\])*"|checked "([^"\\]|\\["\\])*"|field "([^"\\]|\\["\\])*" is "([^"\\]|\\["\\])*"|exists [a-z]{1,16} "([^"\\]|\\["\\])*"|count [a-z]{1,16} at least [0-9]{1,3}))*$"#
    )]
    pub check: Option<String>,
    /// Names of the secrets that may be typed; their values are the daemon's.
    #[serde(default)]
    #[schema(required = false, max_items = 100, value_type = Vec<SecretName>)]
    pub secrets: Vec<String>,
    /// JSON schema of the output that is wanted beside the answer's text.
    #[schema(value_type = Option<OutputSchema>)]
    pub output_schema: Option<Value>,
    /// Where to send word when the task ends or needs a person; its host is among `serve.webhook_hosts`.
    #[schema(value_type = Option<WebAddress>)]
    pub webhook: Option<Url>,
    /// The same key and body from the same caller are the same task.
    #[schema(pattern = "^[!-~]{1,128}$")]
    pub idempotency_key: Option<String>,
    /// Whether the task may be run again after a crash although it had acted.
    #[serde(default)]
    #[schema(required = false)]
    pub idempotent: bool,
    /// Higher goes first.
    #[serde(default)]
    #[schema(required = false, minimum = -100, maximum = 100)]
    pub priority: i16,
    /// When it must have ended, waiting included.
    pub deadline: Option<DateTime<Utc>>,
    /// A named browser profile, leased to one task at a time; a fresh one where none is given.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub profile: Option<String>,
    /// Seed of all sampling.
    #[serde(default)]
    #[schema(required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub seed: u64,
}

impl From<NewTask> for Submission {
    fn from(new: NewTask) -> Self {
        let NewLimits { max_steps, max_seconds, same_action, no_milestone } = new.limits;
        Self {
            limits: LimitsRequest { max_steps, max_seconds, same_action, no_milestone },
            planner: new.planner.map(|planner| planner.word().to_owned()),
            capability: new.capability.map(|NewCapability { hosts, action_kinds, tools }| CapabilityRequest { hosts, action_kinds, tools }),
            check: new.check,
            secrets: new.secrets,
            output_schema: new.output_schema,
            webhook: new.webhook,
            idempotency_key: new.idempotency_key,
            idempotent: new.idempotent,
            priority: new.priority,
            deadline: new.deadline,
            profile: new.profile,
            seed: new.seed,
            ..Self::new(&new.goal, new.url)
        }
    }
}
