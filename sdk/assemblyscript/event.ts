import { Json, quote } from "./json";
import { Scanner } from "./scan";

/** Who asks for an operation. */
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
export class Resource {
  type: string = "";
  /** Empty where the operation makes the thing: look into the input. */
  id: string = "";
}

/** What is counted. */
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
export class Usage {
  /** Zero without a project. */
  project: Amounts = new Amounts();
  server: Amounts = new Amounts();
  /** What this operation itself adds; zero for reads and deletes. */
  adds: Amounts = new Amounts();
}

/** How an operation was asked for. */
export class Request {
  id: string = "";
  source_ip: string = "";
  /** CALL for what the server does by itself. */
  method: string = "";
  /** The declared pattern, never the path. */
  route: string = "";
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

/** Reads the event in memory. */
export function readEvent(ptr: usize, len: i32): Event {
  const s = new Scanner(ptr, len);
  const e = new Event();
  if (s.open()) {
    while (s.next()) {
      if (s.is("operation")) e.operation = s.text();
      else if (s.is("time_ms")) e.timeMs = s.int();
      else if (s.is("actor")) readActor(s, e.actor);
      else if (s.is("resource")) readResource(s, e.resource);
      else if (s.is("project")) e.project = s.nil() ? null : readProject(s);
      else if (s.is("usage")) readUsage(s, e.usage);
      else if (s.is("request")) readRequest(s, e.request);
      else if (s.is("input")) e.input = new Json(s.raw());
      else s.skip();
    }
  }
  return e;
}

function readActor(s: Scanner, a: Actor): void {
  if (!s.open()) return;
  while (s.next()) {
    if (s.is("type")) a.type = s.text();
    else if (s.is("id")) a.id = s.text();
    else if (s.is("name")) a.name = s.text();
    else if (s.is("role")) a.role = s.text();
    else if (s.is("project_id")) a.project_id = s.text();
    else s.skip();
  }
}

function readResource(s: Scanner, r: Resource): void {
  if (!s.open()) return;
  while (s.next()) {
    if (s.is("type")) r.type = s.text();
    else if (s.is("id")) r.id = s.text();
    else s.skip();
  }
}

function readProject(s: Scanner): Project {
  const p = new Project("", "", "", "", new Json("{}"));
  if (!s.open()) return p;
  while (s.next()) {
    if (s.is("id")) p.id = s.text();
    else if (s.is("uid")) p.uid = s.text();
    else if (s.is("name")) p.name = s.text();
    else if (s.is("status")) p.status = s.text();
    else if (s.is("settings")) p.settings = new Json(s.raw());
    else s.skip();
  }
  return p;
}

function readUsage(s: Scanner, u: Usage): void {
  if (!s.open()) return;
  while (s.next()) {
    if (s.is("project")) readAmounts(s, u.project);
    else if (s.is("server")) readAmounts(s, u.server);
    else if (s.is("adds")) readAmounts(s, u.adds);
    else s.skip();
  }
}

function readAmounts(s: Scanner, a: Amounts): void {
  if (!s.open()) return;
  while (s.next()) {
    if (s.is("projects")) a.projects = s.int();
    else if (s.is("bytes")) a.bytes = s.int();
    else if (s.is("files")) a.files = s.int();
    else if (s.is("tables")) a.tables = s.int();
    else if (s.is("rows")) a.rows = s.int();
    else s.skip();
  }
}

function readRequest(s: Scanner, r: Request): void {
  if (!s.open()) return;
  while (s.next()) {
    if (s.is("id")) r.id = s.text();
    else if (s.is("source_ip")) r.source_ip = s.text();
    else if (s.is("method")) r.method = s.text();
    else if (s.is("route")) r.route = s.text();
    else s.skip();
  }
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
    if (this.isAllow()) return '{"decision":"allow"}';
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

  /** The whole row, as the API shows it. */
  json: Json = new Json();
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

/** Reads the batch in memory. */
export function readBatch(ptr: usize, len: i32): Batch {
  const s = new Scanner(ptr, len);
  const b = new Batch("", 0, 0, 0, 0, [], new Json("null"));
  if (s.open()) {
    while (s.next()) {
      if (s.is("sink")) b.sink = s.text();
      else if (s.is("epoch")) b.epoch = s.int();
      else if (s.is("first_id")) b.firstId = s.int();
      else if (s.is("last_id")) b.lastId = s.int();
      else if (s.is("attempt")) b.attempt = s.int();
      else if (s.is("checkpoint")) b.checkpoint = new Json(s.raw());
      else if (s.is("rows")) {
        if (!s.openList()) continue;
        while (s.item()) b.rows.push(readRow(s));
      } else s.skip();
    }
  }
  return b;
}

function readRow(s: Scanner): Row {
  const r = new Row();
  const from = s.here();
  if (s.open()) {
    while (s.next()) {
      if (s.is("id")) r.id = s.int();
      else if (s.is("call_id")) r.callId = s.text();
      else if (s.is("timestamp")) r.timestamp = s.text();
      else if (s.is("operation")) r.operation = s.text();
      else if (s.is("status")) r.status = s.text();
      else if (s.is("actor")) readActor(s, r.actor);
      else if (s.is("project_id")) r.projectId = s.text();
      else if (s.is("resource_type")) r.resource.type = s.text();
      else if (s.is("resource_id")) r.resource.id = s.text();
      else s.skip();
    }
  }
  r.json = new Json(s.since(from));
  return r;
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
