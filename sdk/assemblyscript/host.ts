import { Json, quote } from "./json";

/** What a host function may answer instead of what it was asked for. */
export enum ErrorCode {
  None = 0,
  NotFound = -1,
  NotGranted = -2,
  Malformed = -3,
  Limit = -4,
  Failed = -5,
}

/** Why the last host function failed; None if it did not. */
export let lastError: ErrorCode = ErrorCode.None;

/** Says in words why the last host function failed, "" if it did not. */
export function errorText(): string {
  if (lastError == ErrorCode.None) return "";
  if (lastError == ErrorCode.NotFound) return "not found";
  if (lastError == ErrorCode.NotGranted) return "the operator did not grant it";
  if (lastError == ErrorCode.Malformed) return "malformed";
  if (lastError == ErrorCode.Limit) return "a limit is reached";
  return "failed, and may be tried again";
}

/** How much a line of the log matters. */
export enum Level {
  Debug = 0,
  Info = 1,
  Warn = 2,
  Error = 3,
}

@external("eider", "log")
declare function host_log(level: i32, ptr: usize, len: i32): i32;
@external("eider", "kv_get")
declare function host_kv_get(kptr: usize, klen: i32, buf: usize, limit: i32): i32;
@external("eider", "kv_set")
declare function host_kv_set(kptr: usize, klen: i32, vptr: usize, vlen: i32, ttlMs: i64): i32;
@external("eider", "kv_delete")
declare function host_kv_delete(kptr: usize, klen: i32): i32;
@external("eider", "kv_add")
declare function host_kv_add(kptr: usize, klen: i32, delta: i64, ttlMs: i64, out: usize): i32;
@external("eider", "kv_cas")
declare function host_kv_cas(
  kptr: usize, klen: i32, optr: usize, olen: i32, vptr: usize, vlen: i32, ttlMs: i64,
): i32;
@external("eider", "metadata_read")
declare function host_metadata_read(ptr: usize, len: i32, buf: usize, limit: i32): i32;
@external("eider", "http_request")
declare function host_http_request(ptr: usize, len: i32, buf: usize, limit: i32): i32;
@external("eider", "clock_now_ms")
declare function host_clock_now_ms(): i64;

function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}

function at(buffer: ArrayBuffer): usize {
  return changetype<usize>(buffer);
}

function checked(code: i32): bool {
  lastError = code >= 0 ? ErrorCode.None : code < -5 ? ErrorCode.Failed : <ErrorCode>code;
  return code >= 0;
}

/**
 * Writes a line into the server's log, if `log` is granted. Lines over 2,048 bytes
 * are cut, and too many in a second are counted instead.
 */
export function log(level: Level, text: string): void {
  const bytes = utf8(text);
  host_log(level, at(bytes), bytes.byteLength);
}

/**
 * Milliseconds since 1970, if `clock` is granted, else negative. A policy takes the
 * event's time instead, so that a replay decides as it did.
 */
export function nowMs(): i64 {
  const ms = host_clock_now_ms();
  checked(ms < 0 ? <i32>ms : 0);
  return ms;
}

/**
 * The value of a key, null if there is none (lastError says whether that is why).
 * Keys belong to the operator's item and are seen by all its guests at once.
 */
export function kvGet(key: string): string | null {
  const k = utf8(key);
  let buf = new ArrayBuffer(256);
  for (let tries = 0; tries < 4; tries++) {
    const n = host_kv_get(at(k), k.byteLength, at(buf), buf.byteLength);
    if (!checked(n)) return null;
    if (n <= buf.byteLength) return String.UTF8.decodeUnsafe(at(buf), n);
    buf = new ArrayBuffer(n);
  }
  checked(ErrorCode.Failed);
  return null;
}

/** Sets the value of a key, for so many milliseconds, or for good if that is 0. */
export function kvSet(key: string, value: string, ttlMs: i64 = 0): bool {
  const k = utf8(key);
  const v = utf8(value);
  return checked(host_kv_set(at(k), k.byteLength, at(v), v.byteLength, ttlMs));
}

/** Removes a key, if it is there. */
export function kvDelete(key: string): bool {
  const k = utf8(key);
  return checked(host_kv_delete(at(k), k.byteLength));
}

/**
 * Adds to the number of a key in one step, and returns the sum (0 if lastError says
 * that it failed). A number begins at 0; the time to live is that of its first add.
 */
export function kvAdd(key: string, delta: i64, ttlMs: i64): i64 {
  const k = utf8(key);
  const sum = new ArrayBuffer(8);
  return checked(host_kv_add(at(k), k.byteLength, delta, ttlMs, at(sum))) ? load<i64>(at(sum)) : 0;
}

/**
 * Sets the value of a key if it is the old one, in one step, and says whether it
 * did. An old of null means that there must be none.
 */
export function kvSwap(key: string, old: string | null, value: string, ttlMs: i64 = 0): bool {
  const k = utf8(key);
  const v = utf8(value);
  const o = old === null ? new ArrayBuffer(0) : utf8(old);
  const olen = old === null ? -1 : o.byteLength;
  const code = host_kv_cas(at(k), k.byteLength, at(o), olen, at(v), v.byteLength, ttlMs);
  return checked(code) && code == 1;
}

/** {"project": {..}, "usage": {..}} of a project, if `metadata.read` is granted. */
export function readProject(id: string): Json {
  return metadata('{"get":"project","id":' + quote(id) + "}");
}

/** {"usage": {..}} of the server, if `metadata.read` is granted. */
export function readServer(): Json {
  return metadata('{"get":"server"}');
}

function metadata(question: string): Json {
  const q = utf8(question);
  let buf = new ArrayBuffer(2048);
  for (let tries = 0; tries < 4; tries++) {
    const n = host_metadata_read(at(q), q.byteLength, at(buf), buf.byteLength);
    if (!checked(n)) return new Json();
    if (n <= buf.byteLength) return new Json(String.UTF8.decodeUnsafe(at(buf), n));
    buf = new ArrayBuffer(n);
  }
  checked(ErrorCode.Failed);
  return new Json();
}

/** What came back by HTTP; any status is an answer. */
export class HttpResponse {
  status: i32 = 0;
  headers: Json = new Json();
  /** Of an answer that is no UTF-8 in base64, if `base64` is true. */
  body: string = "";
  base64: bool = false;

  constructor(answer: Json) {
    this.status = <i32>answer.get("status").int();
    this.headers = answer.get("headers");
    this.base64 = answer.get("body_base64").exists();
    this.body = answer.get(this.base64 ? "body_base64" : "body").str();
  }
}

/**
 * Sends a request to a host that manifest and operator both name, if `http` is
 * granted; null if there was no answer (lastError says why).
 */
export function http(
  method: string, url: string, body: string = "", headers: Map<string, string> | null = null, timeoutMs: i32 = 0,
): HttpResponse | null {
  let message = '{"method":' + quote(method) + ',"url":' + quote(url) + ',"body":' + quote(body) + ',"headers":{';
  if (headers !== null) {
    const names = headers.keys();
    for (let i = 0; i < names.length; i++) {
      message += (i > 0 ? "," : "") + quote(names[i]) + ":" + quote(headers.get(names[i]));
    }
  }
  message += timeoutMs > 0 ? '},"timeout_ms":' + timeoutMs.toString() + "}" : "}}";
  const m = utf8(message);
  let buf = new ArrayBuffer(4096);
  for (let tries = 0; tries < 4; tries++) {
    // An answer that did not fit is read again, not sent again.
    const n = host_http_request(at(m), tries == 0 ? m.byteLength : 0, at(buf), buf.byteLength);
    if (!checked(n)) return null;
    if (n <= buf.byteLength) return new HttpResponse(new Json(String.UTF8.decodeUnsafe(at(buf), n)));
    buf = new ArrayBuffer(n);
  }
  checked(ErrorCode.Failed);
  return null;
}
