import { Json, NONE, quote } from "./json";
import { Names, Scanner, end } from "./scan";

// What is read, in the order in which the host writes it. The numbers of the cases below
// are places in these.
const EVENT = new Names(["operation", "time_ms", "actor", "resource", "project", "usage", "request", "input", "extends"]);
const ACTOR = new Names(["type", "id", "name", "role", "project_id"]);
const RESOURCE = new Names(["type", "id"]);
const PROJECT = new Names(["id", "uid", "name", "status", "settings"]);
const USAGE = new Names(["project", "server", "adds"]);
const AMOUNTS = new Names(["projects", "bytes", "files", "tables", "rows"]);
const REQUEST = new Names(["id", "source_ip", "method", "route"]);
const BATCH = new Names(["sink", "epoch", "first_id", "last_id", "attempt", "rows", "checkpoint"]);
const ROW = new Names([
  "id", "call_id", "timestamp", "request_id", "trace_id", "actor", "source_ip", "project_id", "operation",
  "resource_type", "resource_id", "details", "duration_ms", "status",
]);

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
  input: Json = NONE;
  /**
   * The call was allowed already, and now adds more than was known then: a quota looks
   * again, what counts calls has counted it.
   */
  extends: bool = false;
}

const scanner = new Scanner(); // messages come one after another

/** Reads the event in memory. */
export function readEvent(ptr: usize, len: i32): Event {
  const s = scanner;
  s.read(ptr, len);
  const e = new Event();
  if (s.open()) {
    for (let m = s.next(EVENT, end); m != end; m = s.next(EVENT, m)) {
      switch (m) {
        case 0: e.operation = s.text(); break;
        case 1: e.timeMs = s.int(); break;
        case 2: readActor(s, e.actor); break;
        case 3: readResource(s, e.resource); break;
        case 4: e.project = s.nil() ? null : readProject(s); break;
        case 5: readUsage(s, e.usage); break;
        case 6: readRequest(s, e.request); break;
        case 7: e.input = new Json(s.raw()); break;
        case 8: e.extends = s.raw() == "true"; break;
        default: s.skip();
      }
    }
  }
  return e;
}

function readActor(s: Scanner, a: Actor): void {
  if (!s.open()) return;
  for (let m = s.next(ACTOR, end); m != end; m = s.next(ACTOR, m)) {
    switch (m) {
      case 0: a.type = s.text(); break;
      case 1: a.id = s.text(); break;
      case 2: a.name = s.text(); break;
      case 3: a.role = s.text(); break;
      case 4: a.project_id = s.text(); break;
      default: s.skip();
    }
  }
}

function readResource(s: Scanner, r: Resource): void {
  if (!s.open()) return;
  for (let m = s.next(RESOURCE, end); m != end; m = s.next(RESOURCE, m)) {
    switch (m) {
      case 0: r.type = s.text(); break;
      case 1: r.id = s.text(); break;
      default: s.skip();
    }
  }
}

function readProject(s: Scanner): Project {
  const p = new Project("", "", "", "", new Json("{}"));
  if (!s.open()) return p;
  for (let m = s.next(PROJECT, end); m != end; m = s.next(PROJECT, m)) {
    switch (m) {
      case 0: p.id = s.text(); break;
      case 1: p.uid = s.text(); break;
      case 2: p.name = s.text(); break;
      case 3: p.status = s.text(); break;
      case 4: p.settings = new Json(s.raw()); break;
      default: s.skip();
    }
  }
  return p;
}

function readUsage(s: Scanner, u: Usage): void {
  if (!s.open()) return;
  for (let m = s.next(USAGE, end); m != end; m = s.next(USAGE, m)) {
    switch (m) {
      case 0: readAmounts(s, u.project); break;
      case 1: readAmounts(s, u.server); break;
      case 2: readAmounts(s, u.adds); break;
      default: s.skip();
    }
  }
}

function readAmounts(s: Scanner, a: Amounts): void {
  if (!s.open()) return;
  for (let m = s.next(AMOUNTS, end); m != end; m = s.next(AMOUNTS, m)) {
    switch (m) {
      case 0: a.projects = s.int(); break;
      case 1: a.bytes = s.int(); break;
      case 2: a.files = s.int(); break;
      case 3: a.tables = s.int(); break;
      case 4: a.rows = s.int(); break;
      default: s.skip();
    }
  }
}

function readRequest(s: Scanner, r: Request): void {
  if (!s.open()) return;
  for (let m = s.next(REQUEST, end); m != end; m = s.next(REQUEST, m)) {
    switch (m) {
      case 0: r.id = s.text(); break;
      case 1: r.source_ip = s.text(); break;
      case 2: r.method = s.text(); break;
      case 3: r.route = s.text(); break;
      default: s.skip();
    }
  }
}

/** The answer of a policy. */
export class Decision {
  private static readonly allowed: Decision = new Decision("allow", "", "", 0);

  private constructor(
    private readonly verdict: string,
    private readonly code: string,
    private readonly reason: string,
    private readonly retryAfterMs: i64,
  ) {}

  /** Lets the operation run. */
  static allow(): Decision {
    return Decision.allowed;
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
  json: Json = NONE;
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
  const s = scanner;
  s.read(ptr, len);
  const b = new Batch("", 0, 0, 0, 0, [], new Json("null"));
  if (s.open()) {
    for (let m = s.next(BATCH, end); m != end; m = s.next(BATCH, m)) {
      switch (m) {
        case 0: b.sink = s.text(); break;
        case 1: b.epoch = s.int(); break;
        case 2: b.firstId = s.int(); break;
        case 3: b.lastId = s.int(); break;
        case 4: b.attempt = s.int(); break;
        case 6: b.checkpoint = new Json(s.raw()); break;
        case 5:
        if (!s.openList()) continue;
        while (s.item()) b.rows.push(readRow(s));
          break;
        default: s.skip();
      }
    }
  }
  return b;
}

function readRow(s: Scanner): Row {
  const r = new Row();
  const from = s.here();
  if (s.open()) {
    for (let m = s.next(ROW, end); m != end; m = s.next(ROW, m)) {
      switch (m) {
        case 0: r.id = s.int(); break;
        case 1: r.callId = s.text(); break;
        case 2: r.timestamp = s.text(); break;
        case 5: readActor(s, r.actor); break;
        case 7: r.projectId = s.text(); break;
        case 8: r.operation = s.text(); break;
        case 9: r.resource.type = s.text(); break;
        case 10: r.resource.id = s.text(); break;
        case 13: r.status = s.text(); break;
        default: s.skip();
      }
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
