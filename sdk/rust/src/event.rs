use crate::json::{members, quote, Json, Parser};

/// What a policy is asked about, before the operation runs.
#[derive(Clone, Debug, Default)]
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
    /// The call was allowed already, and now adds more than was known then: a quota looks
    /// again, what counts calls has counted it.
    pub extends: bool,
}

/// Who asks for an operation.
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// As in the log: project, file, table, ..
    pub kind: String,
    /// Empty where the operation makes the thing: look into the input.
    pub id: String,
}

/// The project that an operation belongs to.
#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Of the project; zero without one.
    pub project: Amounts,
    /// Of all projects.
    pub server: Amounts,
    /// What this operation itself adds; zero for reads and deletes.
    pub adds: Amounts,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Amounts {
    pub projects: i64,
    pub bytes: i64,
    pub files: i64,
    pub tables: i64,
    pub rows: i64,
}

/// How an operation was asked for.
#[derive(Clone, Debug, Default)]
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

impl Event {
    /// Reads the text of an event where it stands. A tree of it, taken apart afterwards,
    /// would cost three times as much.
    pub(crate) fn read(text: &str) -> Option<Event> {
        let (mut e, p) = (Event::default(), &mut Parser::new(text));
        members! { p,
            "operation" => e.operation = p.text()?,
            "time_ms" => e.time_ms = p.int()?,
            "actor" => e.actor = Actor::read(p)?,
            "resource" => e.resource = Resource::read(p)?,
            "project" => e.project = Project::read(p)?,
            "usage" => e.usage = Usage::read(p)?,
            "request" => e.request = Request::read(p)?,
            "input" => e.input = p.value(1)?,
            "extends" => e.extends = p.value(1)?.bool(),
        }
        p.end().map(|_| e)
    }
}

impl Actor {
    fn read(p: &mut Parser) -> Option<Actor> {
        let mut a = Actor::default();
        members! { p,
            "type" => a.kind = p.text()?,
            "id" => a.id = p.text()?,
            "name" => a.name = p.text()?,
            "role" => a.role = p.text()?,
            "project_id" => a.project_id = p.text()?,
        }
        Some(a)
    }
}

impl Resource {
    fn read(p: &mut Parser) -> Option<Resource> {
        let mut r = Resource::default();
        members! { p,
            "type" => r.kind = p.text()?,
            "id" => r.id = p.text()?,
        }
        Some(r)
    }
}

impl Project {
    fn read(p: &mut Parser) -> Option<Option<Project>> {
        if p.null() {
            return Some(None);
        }
        let mut project = Project::default();
        members! { p,
            "id" => project.id = p.text()?,
            "uid" => project.uid = p.text()?,
            "name" => project.name = p.text()?,
            "status" => project.status = p.text()?,
            "settings" => project.settings = p.value(2)?,
        }
        Some(Some(project))
    }
}

impl Usage {
    fn read(p: &mut Parser) -> Option<Usage> {
        let mut u = Usage::default();
        members! { p,
            "project" => u.project = Amounts::read(p)?,
            "server" => u.server = Amounts::read(p)?,
            "adds" => u.adds = Amounts::read(p)?,
        }
        Some(u)
    }
}

impl Amounts {
    fn read(p: &mut Parser) -> Option<Amounts> {
        let mut a = Amounts::default();
        members! { p,
            "projects" => a.projects = p.int()?,
            "bytes" => a.bytes = p.int()?,
            "files" => a.files = p.int()?,
            "tables" => a.tables = p.int()?,
            "rows" => a.rows = p.int()?,
        }
        Some(a)
    }
}

impl Request {
    fn read(p: &mut Parser) -> Option<Request> {
        let mut r = Request::default();
        members! { p,
            "id" => r.id = p.text()?,
            "source_ip" => r.source_ip = p.text()?,
            "method" => r.method = p.text()?,
            "route" => r.route = p.text()?,
        }
        Some(r)
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
        let mut out = String::with_capacity(64 + self.reason.len());
        out.push_str("{\"decision\":\"");
        out.push_str(self.verdict);
        if !self.code.is_empty() {
            out.push_str("\",\"code\":\"");
            out.push_str(self.code);
        }
        out.push('"');
        if !self.reason.is_empty() {
            out.push_str(",\"reason\":");
            out.push_str(&quote(&self.reason));
        }
        if self.retry_after_ms != 0 {
            out.push_str(",\"retry_after_ms\":");
            out.push_str(&self.retry_after_ms.to_string());
        }
        out.push('}');
        out
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

fn actor(mut json: Json) -> Actor {
    Actor {
        kind: json.text("type"),
        id: json.text("id"),
        name: json.text("name"),
        role: json.text("role"),
        project_id: json.text("project_id"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_where_it_stands() {
        let text = r#" {"operation":"drop_project", "time_ms":7,"new":{"a":[1]},"actor":{"type":"key","id":"k\"1","role":null},
            "resource":{"type":"project","id":3},"project":{"id":"p","settings":{"quota":{"bytes":5}}},
            "usage":{"adds":{"bytes":2,"rows":1.5}},"request":[],"input":{"x":true},"operation":"query"} "#;
        let e = Event::read(text).unwrap();
        assert_eq!(
            (e.operation.as_str(), e.time_ms, e.actor.id.as_str(), e.actor.role.as_str()),
            ("query", 7, "k\"1", "")
        );
        assert_eq!((e.resource.kind.as_str(), e.resource.id.as_str(), e.request.id.as_str()), ("project", "", ""));
        assert_eq!(e.project.unwrap().settings.path(&["quota", "bytes"]).int(), Some(5));
        assert_eq!((e.usage.adds.bytes, e.usage.adds.rows, e.usage.server.bytes), (2, 0, 0));
        assert!(e.input.get("x").bool());
        assert!(Event::read(r#"{"project":null,"input":null}"#).unwrap().project.is_none());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for text in [
            "",
            "{",
            r#"{"operation"}"#,
            r#"{"operation":}"#,
            r#"{"actor":{"id":"x"}"#,
            r#"{"a":1,}"#,
            r#"{"a":1} x"#,
            r#"{a:1}"#,
            r#"{"a" 1}"#,
        ] {
            assert!(Event::read(text).is_none(), "{}", text);
        }
    }

    #[test]
    fn decisions_are_written() {
        assert_eq!(Decision::allow().to_json(), r#"{"decision":"allow"}"#);
        assert_eq!(
            Decision::deny_rate("so \"often\"", 50).to_json(),
            r#"{"decision":"deny","code":"rate_limited","reason":"so \"often\"","retry_after_ms":50}"#
        );
    }
}
