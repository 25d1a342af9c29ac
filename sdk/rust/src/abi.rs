//! What crosses the border: buffers that stay where they are while the host uses
//! them, and answers as `ptr << 32 | len`.

use crate::event::{Batch, Event};
use crate::{host, Json, Policy, Sink};
use std::cell::RefCell;

thread_local! {
    static IN: RefCell<Vec<u8>> = RefCell::new(Vec::new());
    static OUT: RefCell<String> = RefCell::new(String::new());
}

/// The version of the ABI: major << 16 | minor.
pub fn abi_version() -> u32 {
    1 << 16
}

/// Returns where the host writes its next message.
pub fn alloc(size: u32) -> u32 {
    IN.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        if buffer.len() < size as usize {
            let longer = (size as usize).max(4096);
            *buffer = Vec::new(); // first give back the old one
            buffer.resize(longer, 0);
        }
        buffer.as_mut_ptr() as usize as u32
    })
}

/// Takes the configuration and makes the plugin.
pub fn configure<T>(plugin: &RefCell<Option<T>>, make: fn(&Json) -> Result<T, String>, ptr: u32, len: u32) -> u64 {
    std::panic::set_hook(Box::new(|panic| host::log(host::Level::Error, &panic.to_string())));
    let made = given(ptr, len, Json::parse).ok_or("the configuration is no JSON".to_string()).and_then(|c| make(&c));
    match made {
        Ok(made) => {
            *plugin.borrow_mut() = Some(made);
            0
        }
        Err(text) => give(if text.is_empty() { "it was refused".into() } else { text }),
    }
}

/// Asks the policy. What cannot be read has no answer, which the host takes for
/// malformed.
pub fn decide<T: Policy>(plugin: &RefCell<Option<T>>, ptr: u32, len: u32) -> u64 {
    match (plugin.borrow_mut().as_mut(), given(ptr, len, Event::read)) {
        (Some(plugin), Some(event)) => give(plugin.decide(&event).to_json()),
        _ => 0,
    }
}

/// Gives the sink a batch.
pub fn deliver<T: Sink>(plugin: &RefCell<Option<T>>, ptr: u32, len: u32) -> u64 {
    match (plugin.borrow_mut().as_mut(), given(ptr, len, Json::parse)) {
        (Some(plugin), Some(json)) => give(plugin.deliver(&Batch::from(json)).to_json()),
        _ => 0,
    }
}

fn given<T>(ptr: u32, len: u32, read: fn(&str) -> Option<T>) -> Option<T> {
    IN.with(|buffer| {
        let buffer = buffer.borrow();
        if ptr != buffer.as_ptr() as usize as u32 {
            return None;
        }
        read(std::str::from_utf8(buffer.get(..len as usize)?).ok()?)
    })
}

fn give(answer: String) -> u64 {
    OUT.with(|out| {
        let mut out = out.borrow_mut();
        *out = answer;
        (out.as_ptr() as usize as u64) << 32 | out.len() as u64
    })
}
