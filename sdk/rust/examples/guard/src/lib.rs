//! The example of a policy: protected projects, a prefix for ids, a quota of
//! bytes and a rate of uploads. The same policy is beside the SDKs for Go and
//! AssemblyScript, and one list of cases holds all three to it.

use eider_plugin::{kv_add, log, policy, Amounts, Decision, Event, Json, Level, Policy};

/// What the operator wrote; it is the same for every guest.
struct Guard {
    protect: Vec<String>, // ids of projects that are never dropped
    prefix: String,       // what the id of a new project begins with
    bytes: i64,           // of a project, unless its settings say quota.bytes
    rate: i64,            // uploads a minute into a project
    explain: bool,        // warn of every call with all that is told of it
}

policy!(Guard);

impl Policy for Guard {
    fn configure(c: &Json) -> Result<Guard, String> {
        let bytes = c.get("bytes").int().unwrap_or(0);
        if bytes < 0 {
            return Err("bytes is less than nothing".into());
        }
        Ok(Guard {
            protect: c.get("protect").strings(),
            prefix: c.get("prefix").str().to_string(),
            bytes,
            rate: c.get("rate").int().unwrap_or(0),
            explain: c.get("explain").bool(),
        })
    }

    fn decide(&mut self, e: &Event) -> Decision {
        if self.explain {
            return Decision::warn(explain(e));
        }
        match e.operation.as_str() {
            "drop_project" if self.protect.contains(&e.resource.id) => {
                log(Level::Info, &format!("{} tried to drop {}", e.actor.name, e.resource.id));
                Decision::deny(format!("{} is protected", e.resource.id))
            }
            "create_project" => self.new_project(e.input.get("id").str()),
            "upload_file" if e.project.is_some() => match self.quota(e) {
                d if d == Decision::allow() => self.rate(e),
                d => d,
            },
            _ => Decision::allow(),
        }
    }
}

impl Guard {
    fn new_project(&self, id: &str) -> Decision {
        if id.starts_with(&self.prefix) {
            return Decision::allow();
        }
        Decision::deny(format!("{} does not begin with {}", id, self.prefix))
    }

    /// A quota needs no count of its own: usage holds this upload already, and those
    /// that were admitted before it.
    fn quota(&self, e: &Event) -> Decision {
        let own = e.project.as_ref().and_then(|p| p.settings.path(&["quota", "bytes"]).int());
        let (limit, used) = (own.unwrap_or(self.bytes), e.usage.project.bytes);
        if limit == 0 || e.usage.adds.bytes == 0 {
            return Decision::allow();
        }
        if used > limit {
            return Decision::deny_quota(format!("{} of {} bytes", used, limit));
        }
        if used > limit - limit / 5 {
            return Decision::warn(format!("{} of {} bytes are used", used, limit));
        }
        Decision::allow()
    }

    /// Counts in kv, which all guests share, a number for each minute.
    fn rate(&self, e: &Event) -> Decision {
        const MINUTE: i64 = 60_000;
        if self.rate == 0 {
            return Decision::allow();
        }
        let uid = e.project.as_ref().map_or("", |p| &p.uid);
        match kv_add(&format!("{}/{}", uid, e.time_ms / MINUTE), 1, MINUTE) {
            Err(err) => Decision::deny(format!("uploads cannot be counted: {}", err)),
            Ok(n) if n > self.rate => {
                Decision::deny_rate(format!("{} uploads a minute", self.rate), MINUTE - e.time_ms % MINUTE)
            }
            Ok(_) => Decision::allow(),
        }
    }
}

fn explain(e: &Event) -> String {
    let project = match &e.project {
        None => "no project".to_string(),
        Some(p) => format!("{} {} {} {} {}", p.id, p.uid, p.name, p.status, p.settings.get("note").str()),
    };
    let (a, r, u, i) = (&e.actor, &e.request, &e.usage, &e.input);
    format!(
        "{} at {} by {} {} {} {} {} on {} {} of {}; {} {} {}; {} {} {} {}; {} {} {}{}",
        e.operation,
        e.time_ms,
        a.kind,
        a.id,
        a.name,
        a.role,
        a.project_id,
        e.resource.kind,
        e.resource.id,
        project,
        amounts(&u.project),
        amounts(&u.server),
        amounts(&u.adds),
        r.id,
        r.source_ip,
        r.method,
        r.route,
        i.get("text").str(),
        i.get("count").int().unwrap_or(0),
        i.path(&["deep", "list"]).strings().join(","),
        if e.extends { " again" } else { "" }
    )
}

fn amounts(a: &Amounts) -> String {
    format!("{}/{}/{}/{}/{}", a.projects, a.bytes, a.files, a.tables, a.rows)
}
