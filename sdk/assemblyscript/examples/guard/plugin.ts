// The example of a policy: protected projects, a prefix for ids, a quota of bytes
// and a rate of uploads. The same policy is beside the SDKs for Go and Rust, and
// one list of cases holds all three to it.

import {
  Amounts, Decision, ErrorCode, Event, Json, Level, Project, configure, errorText, kvAdd, lastError, log, policy,
} from "../..";
export * from "../../policy";

// What the operator wrote; it is the same for every guest.
let protect: string[] = []; // ids of projects that are never dropped
let prefix = ""; // what the id of a new project begins with
let bytes: i64 = 0; // of a project, unless its settings say quota.bytes
let rate: i64 = 0; // uploads a minute into a project
let explaining = false; // warn of every call with all that is told of it

const MINUTE: i64 = 60_000;

configure((c: Json): string => {
  protect = c.get("protect").strings();
  prefix = c.get("prefix").str();
  bytes = c.get("bytes").int();
  rate = c.get("rate").int();
  explaining = c.get("explain").bool();
  return bytes < 0 ? "bytes is less than nothing" : "";
});

policy((e: Event): Decision => {
  if (explaining) return Decision.warn(explain(e));
  if (e.operation == "drop_project" && protect.includes(e.resource.id)) {
    log(Level.Info, e.actor.name + " tried to drop " + e.resource.id);
    return Decision.deny(e.resource.id + " is protected");
  }
  if (e.operation == "create_project") return newProject(e.input.get("id").str());
  const project = e.project;
  if (e.operation == "upload_file" && project !== null) {
    const d = quota(e, project);
    return d.isAllow() ? slowly(e, project) : d;
  }
  return Decision.allow();
});

function newProject(id: string): Decision {
  return id.startsWith(prefix) ? Decision.allow() : Decision.deny(id + " does not begin with " + prefix);
}

// A quota needs no count of its own: usage holds this upload already, and those
// that were admitted before it.
function quota(e: Event, project: Project): Decision {
  const limit = project.settings.get("quota").get("bytes").int(bytes);
  const used = e.usage.project.bytes;
  if (limit == 0 || e.usage.adds.bytes == 0) return Decision.allow();
  if (used > limit) return Decision.denyQuota(`${used} of ${limit} bytes`);
  if (used > limit - limit / 5) return Decision.warn(`${used} of ${limit} bytes are used`);
  return Decision.allow();
}

// Counts in kv, which all guests share, a number for each minute.
function slowly(e: Event, project: Project): Decision {
  if (rate == 0) return Decision.allow();
  const n = kvAdd(project.uid + "/" + (e.timeMs / MINUTE).toString(), 1, MINUTE);
  if (lastError != ErrorCode.None) return Decision.deny("uploads cannot be counted: " + errorText());
  return n > rate ? Decision.denyRate(`${rate} uploads a minute`, MINUTE - (e.timeMs % MINUTE)) : Decision.allow();
}

function explain(e: Event): string {
  const p = e.project;
  const project = p === null ? "no project" : `${p.id} ${p.uid} ${p.name} ${p.status} ${p.settings.get("note").str()}`;
  const a = e.actor, r = e.request, u = e.usage, i = e.input;
  return `${e.operation} at ${e.timeMs} by ${a.type} ${a.id} ${a.name} ${a.role} ${a.project_id} on ` +
    `${e.resource.type} ${e.resource.id} of ${project}; ${amounts(u.project)} ${amounts(u.server)} ${amounts(u.adds)}; ` +
    `${r.id} ${r.source_ip} ${r.method} ${r.route}; ` +
    `${i.get("text").str()} ${i.get("count").int()} ${i.get("deep").get("list").strings().join(",")}` +
    (e.extends ? " again" : "");
}

function amounts(a: Amounts): string {
  return `${a.projects}/${a.bytes}/${a.files}/${a.tables}/${a.rows}`;
}
