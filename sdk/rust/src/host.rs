use crate::base64;
use crate::json::{quote, Json};
use std::fmt;

/// What a host function may answer instead of what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Error {
    /// There is no such thing.
    NotFound,
    /// The operator did not grant it.
    NotGranted,
    /// The argument cannot be read.
    Malformed,
    /// A limit is reached.
    Limit,
    /// It failed, and may be tried again.
    Failed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NotFound => "not found",
            Error::NotGranted => "the operator did not grant it",
            Error::Malformed => "malformed",
            Error::Limit => "a limit is reached",
            Error::Failed => "failed, and may be tried again",
        })
    }
}

impl std::error::Error for Error {}

fn checked(code: i32) -> Result<i32, Error> {
    match code {
        0..=i32::MAX => Ok(code),
        -1 => Err(Error::NotFound),
        -2 => Err(Error::NotGranted),
        -3 => Err(Error::Malformed),
        -4 => Err(Error::Limit),
        _ => Err(Error::Failed),
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warn = 2,
    Error = 3,
}

/// Writes a line into the server's log, if `log` is granted. Lines over 2,048 bytes
/// are cut, and too many in a second are counted instead.
pub fn log(level: Level, text: &str) {
    unsafe { host::log(level as i32, text.as_ptr(), text.len()) };
}

/// Milliseconds since 1970, if `clock` is granted. A policy takes the event's time
/// instead, so that a replay decides as it did.
pub fn now_ms() -> Result<i64, Error> {
    match unsafe { host::clock_now_ms() } {
        ms if ms >= 0 => Ok(ms),
        code => Err(checked(code as i32).err().unwrap_or(Error::Failed)),
    }
}

/// Calls a host function that answers with bytes until they fit.
fn read(mut limit: usize, mut call: impl FnMut(&mut [u8]) -> i32) -> Result<Vec<u8>, Error> {
    for _ in 0..4 {
        let mut buf = vec![0; limit];
        let n = checked(call(&mut buf))? as usize;
        if n <= limit {
            buf.truncate(n);
            return Ok(buf);
        }
        limit = n; // another guest may have made it longer since: once more
    }
    Err(Error::Failed)
}

/// The value of a key, or `NotFound`. Keys belong to the operator's item and are
/// seen by all its guests at once.
pub fn kv_get(key: &str) -> Result<Vec<u8>, Error> {
    read(256, |buf| unsafe { host::kv_get(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) })
}

/// Sets the value of a key, for so many milliseconds, or for good if that is 0.
pub fn kv_set(key: &str, value: &[u8], ttl_ms: i64) -> Result<(), Error> {
    checked(unsafe { host::kv_set(key.as_ptr(), key.len(), value.as_ptr(), value.len(), ttl_ms) }).map(drop)
}

/// Removes a key, if it is there.
pub fn kv_delete(key: &str) -> Result<(), Error> {
    checked(unsafe { host::kv_delete(key.as_ptr(), key.len()) }).map(drop)
}

/// Adds to the number of a key in one step, and returns the sum. A number begins
/// at 0; the time to live is that of its first add.
pub fn kv_add(key: &str, delta: i64, ttl_ms: i64) -> Result<i64, Error> {
    let mut sum = 0;
    checked(unsafe { host::kv_add(key.as_ptr(), key.len(), delta, ttl_ms, &mut sum) }).map(|_| sum)
}

/// Sets the value of a key if it is the old one, in one step, and says whether it
/// did. An old of `None` means that there must be none.
pub fn kv_swap(key: &str, old: Option<&[u8]>, value: &[u8], ttl_ms: i64) -> Result<bool, Error> {
    let (optr, olen) = old.map_or((std::ptr::null(), -1), |o| (o.as_ptr(), o.len() as i32));
    let code = unsafe { host::kv_cas(key.as_ptr(), key.len(), optr, olen, value.as_ptr(), value.len(), ttl_ms) };
    checked(code).map(|c| c == 1)
}

/// `{"project": {..}, "usage": {..}}` of a project, if `metadata.read` is granted.
pub fn read_project(id: &str) -> Result<Json, Error> {
    metadata(&format!("{{\"get\":\"project\",\"id\":{}}}", quote(id)))
}

/// `{"usage": {..}}` of the server, if `metadata.read` is granted.
pub fn read_server() -> Result<Json, Error> {
    metadata("{\"get\":\"server\"}")
}

fn metadata(question: &str) -> Result<Json, Error> {
    let answer = read(2048, |buf| unsafe {
        host::metadata_read(question.as_ptr(), question.len(), buf.as_mut_ptr(), buf.len())
    })?;
    parsed(answer)
}

fn parsed(answer: Vec<u8>) -> Result<Json, Error> {
    std::str::from_utf8(&answer).ok().and_then(Json::parse).ok_or(Error::Malformed)
}

/// A request by HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest<'a> {
    /// GET, POST, ..
    pub method: &'a str,
    /// http or https, to a host that manifest and operator both name.
    pub url: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The bytes to send.
    pub body: &'a [u8],
    /// 0: as long as the server allows.
    pub timeout_ms: u32,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Any status is an answer.
    pub status: i64,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The bytes that came.
    pub body: Vec<u8>,
}

/// Sends a request, if `http` is granted.
pub fn http(request: &HttpRequest) -> Result<HttpResponse, Error> {
    let headers: Vec<String> = request.headers.iter().map(|(n, v)| format!("{}:{}", quote(n), quote(v))).collect();
    let body = match std::str::from_utf8(request.body) {
        Ok(text) => format!("\"body\":{}", quote(text)),
        Err(_) => format!("\"body_base64\":\"{}\"", base64::encode(request.body)),
    };
    let timeout = match request.timeout_ms {
        0 => String::new(),
        ms => format!(",\"timeout_ms\":{}", ms),
    };
    let message = format!(
        "{{\"method\":{},\"url\":{},\"headers\":{{{}}},{}{}}}",
        quote(request.method),
        quote(request.url),
        headers.join(","),
        body,
        timeout
    );
    let mut len = message.len();
    let answer = read(4096, |buf| {
        let code = unsafe { host::http_request(message.as_ptr(), len, buf.as_mut_ptr(), buf.len()) };
        len = 0; // an answer that did not fit is read again, not sent again
        code
    })?;
    let json = parsed(answer)?;
    let headers = match json.get("headers") {
        Json::Object(members) => members.iter().map(|(n, v)| (n.clone(), v.str().to_string())).collect(),
        _ => Vec::new(),
    };
    let body = match json.get("body_base64") {
        Json::Str(text) => base64::decode(text).ok_or(Error::Malformed)?,
        _ => json.get("body").str().as_bytes().to_vec(),
    };
    Ok(HttpResponse { status: json.number("status"), headers, body })
}

#[cfg(target_arch = "wasm32")]
mod host {
    #[link(wasm_import_module = "eider")]
    extern "C" {
        pub fn log(level: i32, ptr: *const u8, len: usize) -> i32;
        pub fn kv_get(kptr: *const u8, klen: usize, buf: *mut u8, limit: usize) -> i32;
        pub fn kv_set(kptr: *const u8, klen: usize, vptr: *const u8, vlen: usize, ttl_ms: i64) -> i32;
        pub fn kv_delete(kptr: *const u8, klen: usize) -> i32;
        pub fn kv_add(kptr: *const u8, klen: usize, delta: i64, ttl_ms: i64, sum: *mut i64) -> i32;
        pub fn kv_cas(
            kptr: *const u8,
            klen: usize,
            optr: *const u8,
            olen: i32,
            vptr: *const u8,
            vlen: usize,
            ttl_ms: i64,
        ) -> i32;
        pub fn metadata_read(ptr: *const u8, len: usize, buf: *mut u8, limit: usize) -> i32;
        pub fn http_request(ptr: *const u8, len: usize, buf: *mut u8, limit: usize) -> i32;
        pub fn clock_now_ms() -> i64;
    }
}

/// Outside of a server nothing is granted.
#[cfg(not(target_arch = "wasm32"))]
mod host {
    const NOT_GRANTED: i32 = -2;

    pub unsafe fn log(_: i32, _: *const u8, _: usize) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn kv_get(_: *const u8, _: usize, _: *mut u8, _: usize) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn kv_set(_: *const u8, _: usize, _: *const u8, _: usize, _: i64) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn kv_delete(_: *const u8, _: usize) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn kv_add(_: *const u8, _: usize, _: i64, _: i64, _: *mut i64) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn kv_cas(_: *const u8, _: usize, _: *const u8, _: i32, _: *const u8, _: usize, _: i64) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn metadata_read(_: *const u8, _: usize, _: *mut u8, _: usize) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn http_request(_: *const u8, _: usize, _: *mut u8, _: usize) -> i32 {
        NOT_GRANTED
    }
    pub unsafe fn clock_now_ms() -> i64 {
        NOT_GRANTED as i64
    }
}
