import { JSON } from "json-as";
import { Json, quote } from "./json";

/** Who asks for an operation. */
@json
export class Actor {
  /** root, key, system, local or signed_url */
  type: string = "";
  id: string = "";
  name: string = "";
  /** admin, project_admin, project_write or project_read */
  role: string = "";
  /** Empty for a server-wide actor. */
  project_id: string = "";
}

/** What an operation is about. */
@json
export class Resource {
  type: string = "";
  /** Empty where the operation makes the thing: look into the input. */
  id: string = "";
}

/** What is counted. */
@json
export class Amounts {
  projects: i64 = 0;
  bytes: i64 = 0;
  files: i64 = 0;
  tables: i64 = 0;
  rows: i64 = 0;
}

/**
 * What would be held with this operation, and with those that were admitted before
 * it: a quota is usage above a limit, and races pass nothing.
 */
@json
export class Usage {
  /** Zero without a project. */
  project: Amounts = new Amounts();
  server: Amounts = new Amounts();
  /** What this operation itself adds; zero for reads and deletes. */
  adds: Amounts = new Amounts();
}

/** How an operation was asked for. */
@json
export class Request {
  id: string = "";
  source_ip: string = "";
  /** CALL for what the server does by itself. */
  method: string = "";
  /** The declared pattern, never the path. */
  route: string = "";
}

@json
class ProjectMessage {
  id: string = "";
  uid: string = "";
  name: string = "";
  status: string = "";
  settings: JSON.Raw = new JSON.Raw("{}");
}

/** The project that an operation belongs to. */
export class Project {
  constructor(
    public id: string,
    public uid: string,
    public name: string,
    public status: string,
    public settings: Json,
  ) {}
}

@json
class EventMessage {
  operation: string = "";
  time_ms: i64 = 0;
  actor: Actor = new Actor();
  resource: Resource = new Resource();
  project: ProjectMessage | null = null;
  usage: Usage = new Usage();
  request: Request = new Request();
  input: JSON.Raw = new JSON.Raw("null");
}

/** What a policy is asked about, before the operation runs. */
export class Event {
  /** The name in the log: upload_file, create_project, .. */
  operation: string = "";
  /** Milliseconds since 1970. */
  timeMs: i64 = 0;
  actor: Actor = new Actor();
  resource: Resource = new Resource();
  /** null for an operation on the server. */
  project: Project | null = null;
  usage: Usage = new Usage();
  request: Request = new Request();
  /** The validated request as an object, null where there is none. */
  input: Json = new Json();
}

export function readEvent(text: string): Event {
  const m = JSON.parse<EventMessage>(text);
  const e = new Event();
  e.operation = m.operation;
  e.timeMs = m.time_ms;
  e.actor = m.actor;
  e.resource = m.resource;
  const p = m.project;
  if (p !== null) e.project = new Project(p.id, p.uid, p.name, p.status, new Json(p.settings.data));
  e.usage = m.usage;
  e.request = m.request;
  e.input = new Json(m.input.data);
  return e;
}

/** The answer of a policy. */
export class Decision {
  private constructor(
    private verdict: string,
    private code: string,
    private reason: string,
    private retryAfterMs: i64,
  ) {}

  /** Lets the operation run. */
  static allow(): Decision {
    return new Decision("allow", "", "", 0);
  }

  /** Lets the operation run and tells the caller and the log. */
  static warn(reason: string): Decision {
    return new Decision("warn", "", reason, 0);
  }

  /** Refuses the operation (403). */
  static deny(reason: string): Decision {
    return new Decision("deny", "denied_by_policy", reason, 0);
  }

  /** Refuses the operation because there would be too much of something (507). */
  static denyQuota(reason: string): Decision {
    return new Decision("deny", "quota_exceeded", reason, 0);
  }

  /**
   * Refuses the operation because it comes too soon (429); after so many
   * milliseconds it is worth another try, 0 if that is unknown.
   */
  static denyRate(reason: string, retryAfterMs: i64): Decision {
    return new Decision("deny", "rate_limited", reason, retryAfterMs);
  }

  /** Whether the operation runs, and nobody is told anything. */
  isAllow(): bool {
    return this.verdict == "allow";
  }

  toJSON(): string {
    const code = this.code == "" ? "" : ',"code":"' + this.code + '"';
    return '{"decision":"' + this.verdict + '"' + code + ',"reason":' + quote(this.reason) +
      ',"retry_after_ms":' + this.retryAfterMs.toString() + "}";
  }
}

/** A row of the log. What has no member of its own is in `json`. */
export class Row {
  id: i64 = 0;
  callId: string = "";
  /** As RFC 3339. */
  timestamp: string = "";
  operation: string = "";
  /** success, failed, denied or in_progress */
  status: string = "";
  /** Who did it: type, id and name. */
  actor: Actor = new Actor();
  projectId: string = "";
  resource: Resource = new Resource();

  /** Takes the whole row, as the API shows it. */
  constructor(public json: Json) {
    this.id = json.get("id").int();
    this.callId = json.get("call_id").str();
    this.timestamp = json.get("timestamp").str();
    this.operation = json.get("operation").str();
    this.status = json.get("status").str();
    const actor = json.get("actor");
    this.actor.type = actor.get("type").str();
    this.actor.id = actor.get("id").str();
    this.actor.name = actor.get("name").str();
    this.projectId = json.get("project_id").str();
    this.resource.type = json.get("resource_type").str();
    this.resource.id = json.get("resource_id").str();
  }
}

@json
class BatchMessage {
  sink: string = "";
  epoch: i64 = 0;
  first_id: i64 = 0;
  last_id: i64 = 0;
  attempt: i64 = 0;
  rows: JSON.Raw = new JSON.Raw("[]");
  checkpoint: JSON.Raw = new JSON.Raw("null");
}

/** Rows of the log, in the order of their ids. */
export class Batch {
  constructor(
    /** The name of the operator's item. */
    public sink: string,
    /** Grows when the log was restored or rebuilt: ids may come again. */
    public epoch: i64,
    public firstId: i64,
    public lastId: i64,
    /** 1 for the first try. */
    public attempt: i64,
    public rows: Row[],
    /** Signed, that the last row was in the chain; null if there is none. */
    public checkpoint: Json,
  ) {}
}

export function readBatch(text: string): Batch {
  const m = JSON.parse<BatchMessage>(text);
  const rows: Row[] = [];
  const items = new Json(m.rows.data).items();
  for (let i = 0; i < items.length; i++) rows.push(new Row(items[i]));
  return new Batch(m.sink, m.epoch, m.first_id, m.last_id, m.attempt, rows, new Json(m.checkpoint.data));
}

/** The answer of a sink. */
export class Receipt {
  private constructor(private status: string, private reason: string, private retryAfterMs: i64) {}

  /** Says that the batch is delivered: it does not come again. */
  static ok(): Receipt {
    return new Receipt("ok", "", 0);
  }

  /**
   * Says that the batch has to come again, not before so many milliseconds, or
   * after a pause that the server chooses if that is 0.
   */
  static retry(reason: string, afterMs: i64): Receipt {
    return new Receipt("retry", reason, afterMs);
  }

  toJSON(): string {
    return '{"status":"' + this.status + '","reason":' + quote(this.reason) +
      ',"retry_after_ms":' + this.retryAfterMs.toString() + "}";
  }
}
