use crate::json::{quote, Json};

/// What a policy is asked about, before the operation runs.
#[derive(Clone, Debug)]
pub struct Event {
    /// The name in the log: upload_file, create_project, ..
    pub operation: String,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// Who asks for the operation.
    pub actor: Actor,
    /// What it is about.
    pub resource: Resource,
    /// None for an operation on the server.
    pub project: Option<Project>,
    /// What would be held with this operation.
    pub usage: Usage,
    /// How the operation was asked for.
    pub request: Request,
    /// The validated request as an object, `Null` where there is none.
    pub input: Json,
}

/// Who asks for an operation.
#[derive(Clone, Debug)]
pub struct Actor {
    /// root, key, system, local or signed_url
    pub kind: String,
    /// Empty for root.
    pub id: String,
    /// The key's description.
    pub name: String,
    /// admin, project_admin, project_write or project_read
    pub role: String,
    /// Empty for a server-wide actor.
    pub project_id: String,
}

/// What an operation is about.
#[derive(Clone, Debug)]
pub struct Resource {
    /// As in the log: project, file, table, ..
    pub kind: String,
    /// Empty where the operation makes the thing: look into the input.
    pub id: String,
}

/// The project that an operation belongs to.
#[derive(Clone, Debug)]
pub struct Project {
    /// The id in the API.
    pub id: String,
    /// The incarnation of the id.
    pub uid: String,
    /// The name for people.
    pub name: String,
    /// active, locked or deleted
    pub status: String,
    /// What its settings say, an object.
    pub settings: Json,
}

/// What would be held with this operation, and with those that were admitted
/// before it: a quota is usage above a limit, and races pass nothing.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Of the project; zero without one.
    pub project: Amounts,
    /// Of all projects.
    pub server: Amounts,
    /// What this operation itself adds; zero for reads and deletes.
    pub adds: Amounts,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Amounts {
    pub projects: i64,
    pub bytes: i64,
    pub files: i64,
    pub tables: i64,
    pub rows: i64,
}

/// How an operation was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id of the request.
    pub id: String,
    /// The address of the client.
    pub source_ip: String,
    /// CALL for what the server does by itself.
    pub method: String,
    /// The declared pattern, never the path.
    pub route: String,
}

impl From<Json> for Event {
    fn from(mut json: Json) -> Event {
        let (mut resource, usage, mut request) = (json.take("resource"), json.take("usage"), json.take("request"));
        Event {
            operation: json.text("operation"),
            time_ms: json.number("time_ms"),
            actor: actor(json.take("actor")),
            resource: Resource { kind: resource.text("type"), id: resource.text("id") },
            project: match json.take("project") {
                Json::Null => None,
                mut p => Some(Project {
                    id: p.text("id"),
                    uid: p.text("uid"),
                    name: p.text("name"),
                    status: p.text("status"),
                    settings: p.take("settings"),
                }),
            },
            usage: Usage {
                project: amounts(usage.get("project")),
                server: amounts(usage.get("server")),
                adds: amounts(usage.get("adds")),
            },
            request: Request {
                id: request.text("id"),
                source_ip: request.text("source_ip"),
                method: request.text("method"),
                route: request.text("route"),
            },
            input: json.take("input"),
        }
    }
}

fn actor(mut json: Json) -> Actor {
    Actor {
        kind: json.text("type"),
        id: json.text("id"),
        name: json.text("name"),
        role: json.text("role"),
        project_id: json.text("project_id"),
    }
}

fn amounts(json: &Json) -> Amounts {
    Amounts {
        projects: json.number("projects"),
        bytes: json.number("bytes"),
        files: json.number("files"),
        tables: json.number("tables"),
        rows: json.number("rows"),
    }
}

/// The answer of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    verdict: &'static str,
    code: &'static str,
    reason: String,
    retry_after_ms: i64,
}

impl Decision {
    /// Lets the operation run.
    pub fn allow() -> Decision {
        Decision::new("allow", "", "", 0)
    }

    /// Lets the operation run and tells the caller and the log.
    pub fn warn(reason: impl Into<String>) -> Decision {
        Decision::new("warn", "", reason, 0)
    }

    /// Refuses the operation (403).
    pub fn deny(reason: impl Into<String>) -> Decision {
        Decision::new("deny", "denied_by_policy", reason, 0)
    }

    /// Refuses the operation because there would be too much of something (507).
    pub fn deny_quota(reason: impl Into<String>) -> Decision {
        Decision::new("deny", "quota_exceeded", reason, 0)
    }

    /// Refuses the operation because it comes too soon (429); after so many
    /// milliseconds it is worth another try, 0 if that is unknown.
    pub fn deny_rate(reason: impl Into<String>, retry_after_ms: i64) -> Decision {
        Decision::new("deny", "rate_limited", reason, retry_after_ms)
    }

    /// Whether the operation is refused.
    pub fn is_deny(&self) -> bool {
        self.verdict == "deny"
    }

    fn new(verdict: &'static str, code: &'static str, reason: impl Into<String>, retry_after_ms: i64) -> Decision {
        Decision { verdict, code, reason: reason.into(), retry_after_ms }
    }

    pub(crate) fn to_json(&self) -> String {
        let mut out = format!("{{\"decision\":\"{}\"", self.verdict);
        if !self.code.is_empty() {
            out += &format!(",\"code\":\"{}\"", self.code);
        }
        out + &format!(",\"reason\":{},\"retry_after_ms\":{}}}", quote(&self.reason), self.retry_after_ms)
    }
}

/// Rows of the log, in the order of their ids.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The name of the operator's item.
    pub sink: String,
    /// Grows when the log was restored or rebuilt: ids may come again.
    pub epoch: i64,
    /// The id of the first row.
    pub first_id: i64,
    /// The id of the last row.
    pub last_id: i64,
    /// 1 for the first try.
    pub attempt: i64,
    /// At least one.
    pub rows: Vec<Row>,
    /// Signed, that the last row was in the chain; null if there is none.
    pub checkpoint: Json,
}

/// A row of the log. What has no field of its own is in `json`.
#[derive(Clone, Debug)]
pub struct Row {
    /// Orders the log.
    pub id: i64,
    /// Joins the two rows of a call with an effect.
    pub call_id: String,
    /// When, as RFC 3339.
    pub timestamp: String,
    /// What was done.
    pub operation: String,
    /// success, failed, denied or in_progress
    pub status: String,
    /// Who did it: kind, id and name.
    pub actor: Actor,
    /// Empty for an operation on the server.
    pub project_id: String,
    /// What it was done to.
    pub resource: Resource,
    /// The whole row, as the API shows it.
    pub json: Json,
}

impl From<Json> for Batch {
    fn from(mut json: Json) -> Batch {
        let rows = match json.take("rows") {
            Json::Array(rows) => rows,
            _ => Vec::new(),
        };
        Batch {
            sink: json.text("sink"),
            epoch: json.number("epoch"),
            first_id: json.number("first_id"),
            last_id: json.number("last_id"),
            attempt: json.number("attempt"),
            rows: rows.into_iter().map(row).collect(),
            checkpoint: json.take("checkpoint"),
        }
    }
}

fn row(json: Json) -> Row {
    let mut own = json.clone();
    Row {
        id: own.number("id"),
        call_id: own.text("call_id"),
        timestamp: own.text("timestamp"),
        operation: own.text("operation"),
        status: own.text("status"),
        actor: actor(own.take("actor")),
        project_id: own.text("project_id"),
        resource: Resource { kind: own.text("resource_type"), id: own.text("resource_id") },
        json,
    }
}

/// The answer of a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    status: &'static str,
    reason: String,
    retry_after_ms: i64,
}

impl Receipt {
    /// Says that the batch is delivered: it does not come again.
    pub fn ok() -> Receipt {
        Receipt { status: "ok", reason: String::new(), retry_after_ms: 0 }
    }

    /// Says that the batch has to come again, not before so many milliseconds, or
    /// after a pause that the server chooses if that is 0.
    pub fn retry(reason: impl Into<String>, after_ms: i64) -> Receipt {
        Receipt { status: "retry", reason: reason.into(), retry_after_ms: after_ms }
    }

    pub(crate) fn to_json(&self) -> String {
        format!(
            "{{\"status\":\"{}\",\"reason\":{},\"retry_after_ms\":{}}}",
            self.status,
            quote(&self.reason),
            self.retry_after_ms
        )
    }
}
