//! A task as callers submit it. Its schema is exact: the daemon accepts the form of every body that fits it.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use milepost_runtime::ActionKind;
use milepost_service::{CapabilityRequest, LimitsRequest, Submission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The planner of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Planner {
    /// The plan may be revised at every turn.
    Adaplan,
    /// The plan is revised only when the run stalls.
    Subgoal,
    /// The plan is never revised.
    Frozen,
    /// The run has no plan.
    React,
}

impl Planner {
    /// Returns the planner's name.
    fn word(self) -> &'static str {
        match self {
            Self::Adaplan => "adaplan",
            Self::Subgoal => "subgoal",
            Self::Frozen => "frozen",
            Self::React => "react",
        }
    }
}

/// The schema of the runtime's [`ActionKind`], which derives none itself.
struct ActionKindSchema;

impl PartialSchema for ActionKindSchema {
    fn schema() -> RefOr<Schema> {
        let words = ActionKind::ALL.iter().map(|kind| kind.word());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).description(Some("A kind of action.")).into()
    }
}

impl ToSchema for ActionKindSchema {
    fn name() -> Cow<'static, str> {
        "ActionKind".into()
    }
}

/// Limits of the run; a field that is left out takes the configuration's value.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewLimits {
    /// The maximum number of turns.
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_steps: Option<u32>,
    /// The maximum duration of the run in seconds, without the time spent waiting for a person.
    #[schema(minimum = 1, maximum = 86_400)]
    pub max_seconds: Option<u64>,
    /// Number of times that the same action on the same page must be repeated to count as a stall.
    #[schema(minimum = 1, maximum = 1_000)]
    pub same_action: Option<u32>,
    /// Number of turns without a new milestone that count as a stall.
    #[schema(minimum = 1, maximum = 1_000)]
    pub no_milestone: Option<u32>,
}

/// The permissions of a task; the start URL's host is always among the hosts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewCapability {
    /// Further hosts that may be reached (`name`, `name:port` or `*.suffix`).
    #[schema(max_items = 100, value_type = Option<Vec<HostRule>>)]
    pub hosts: Option<Vec<String>>,
    /// The action kinds that may be used, instead of the defaults.
    #[schema(max_items = 20, value_type = Option<Vec<ActionKindSchema>>)]
    pub action_kinds: Option<Vec<ActionKind>>,
    /// The tools that may be called, instead of the defaults.
    #[schema(max_items = 100, value_type = Option<Vec<ToolName>>)]
    pub tools: Option<Vec<String>>,
}

/// A host that may be reached.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 255, pattern = r"^((\*\.)?([A-Za-z0-9]+(-+[A-Za-z0-9]+)*\.)*[A-Za-z][A-Za-z0-9]*(-+[A-Za-z0-9]+)*|((25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])|\[(::1|([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4})\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?$")]
#[allow(dead_code, reason = "a schema")]
struct HostRule(String);

/// The name of a tool.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_.-]{1,64}$")]
#[allow(dead_code, reason = "a schema")]
struct ToolName(String);

/// The name of a secret.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,128}$")]
#[allow(dead_code, reason = "a schema")]
struct SecretName(String);

/// An http or https address; an IPv6 host is written in full.
#[derive(ToSchema)]
#[schema(value_type = String, format = Uri, max_length = 2048, pattern = r"^https?://(([A-Za-z0-9]+(-+[A-Za-z0-9]+)*\.)*[A-Za-z][A-Za-z0-9]*(-+[A-Za-z0-9]+)*|((25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1?[1-9]?[0-9])|\[(::1|([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4})\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?([/?#][!-~]*)?$")]
#[allow(dead_code, reason = "a schema")]
struct WebAddress(String);

/// Returns the schema of the JSON types that an output may have.
fn output_type() -> Object {
    const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(TYPES)).description(Some("The value's JSON type.")).build()
}

/// The schema of the output, in a subset of JSON Schema (2020-12) to which a model's output can be constrained.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(no_recursion)]
#[allow(dead_code, non_snake_case, reason = "a schema")]
struct OutputSchema {
    /// The value's JSON type.
    #[schema(schema_with = output_type)]
    r#type: String,
    /// A description of the value, which the model reads.
    #[schema(max_length = 1000, nullable = false)]
    description: Option<String>,
    /// The schemas of an object's members.
    #[schema(nullable = false)]
    properties: Option<std::collections::BTreeMap<String, OutputSchema>>,
    /// The members that an object must have.
    #[schema(nullable = false)]
    required: Option<std::collections::BTreeSet<String>>,
    /// Whether an object may have other members.
    #[schema(nullable = false)]
    additionalProperties: Option<bool>,
    /// The schema of an array's items.
    #[schema(nullable = false)]
    items: Option<Box<OutputSchema>>,
    /// The minimum number of items.
    #[schema(nullable = false)]
    minItems: Option<u32>,
    /// The maximum number of items.
    #[schema(nullable = false)]
    maxItems: Option<u32>,
    /// The values that are allowed.
    #[schema(nullable = false, min_items = 1)]
    r#enum: Option<std::collections::BTreeSet<String>>,
    /// The least value.
    #[schema(nullable = false)]
    minimum: Option<f64>,
    /// The greatest value.
    #[schema(nullable = false)]
    maximum: Option<f64>,
    /// The minimum number of characters.
    #[schema(nullable = false)]
    minLength: Option<u32>,
    /// The maximum number of characters.
    #[schema(nullable = false)]
    maxLength: Option<u32>,
}

/// A web task to submit.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The goal in words.
    #[schema(min_length = 1, max_length = 4096, pattern = r"[^\s\x85]")]
    pub goal: String,
    /// The address of the first page.
    #[schema(value_type = WebAddress)]
    pub url: Url,
    /// Limits of the run.
    #[serde(default)]
    #[schema(required = false)]
    pub limits: NewLimits,
    /// The planner; null for the configuration's.
    pub planner: Option<Planner>,
    /// The permissions of the run; null for the start URL's host with the default action kinds and tools.
    pub capability: Option<NewCapability>,
    /// The caller's own condition for success, for example `text visible "Order placed" and url contains "/orders"`; without parentheses.
    #[schema(
        max_length = 1000,
        pattern = r#"^(not )?(url contains "([^"\\]|\\["\\])*"|text visible "([^"\\]|\\["\\])*"|checked "([^"\\]|\\["\\])*"|field "([^"\\]|\\["\\])*" is "([^"\\]|\\["\\])*"|exists [a-z]{1,16} "([^"\\]|\\["\\])*"|count [a-z]{1,16} at least [0-9]{1,3})( (and|or) (not )?(url contains "([^"\\]|\\["\\])*"|text visible "([^"\\]|\\["\\])*"|checked "([^"\\]|\\["\\])*"|field "([^"\\]|\\["\\])*" is "([^"\\]|\\["\\])*"|exists [a-z]{1,16} "([^"\\]|\\["\\])*"|count [a-z]{1,16} at least [0-9]{1,3}))*$"#
    )]
    pub check: Option<String>,
    /// Names of the secrets that may be typed; the daemon's configuration holds their values.
    #[serde(default)]
    #[schema(required = false, max_items = 100, value_type = Vec<SecretName>)]
    pub secrets: Vec<String>,
    /// JSON schema of the output that is requested in addition to the answer's text.
    #[schema(value_type = Option<OutputSchema>)]
    pub output_schema: Option<Value>,
    /// Address that is notified when the task ends or needs a person; its host must be among `serve.webhook_hosts`.
    #[schema(value_type = Option<WebAddress>)]
    pub webhook: Option<Url>,
    /// Key by which a repeated request is recognised: the same key and body from the same caller are the same task.
    #[schema(pattern = "^[!-~]{1,128}$")]
    pub idempotency_key: Option<String>,
    /// Whether the task may be run again after a crash although it had side effects.
    #[serde(default)]
    #[schema(required = false)]
    pub idempotent: bool,
    /// Priority; tasks with a higher one start first.
    #[serde(default)]
    #[schema(required = false, minimum = -100, maximum = 100)]
    pub priority: i16,
    /// Time by which the task must have ended, waiting included.
    pub deadline: Option<DateTime<Utc>>,
    /// Name of a browser profile, which only one task uses at a time; null for a fresh profile.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub profile: Option<String>,
    /// Seed of all sampling in the run.
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
