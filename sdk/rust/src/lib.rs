//! The SDK for Eider's plugins in Rust.
//!
//! A policy is asked before an operation runs, and answers with a [`Decision`]:
//!
//! ```
//! use eider_plugin::{Decision, Event, Json, Policy};
//!
//! struct Guard;
//!
//! impl Policy for Guard {
//!     fn configure(_config: &Json) -> Result<Self, String> {
//!         Ok(Guard)
//!     }
//!
//!     fn decide(&mut self, event: &Event) -> Decision {
//!         if event.operation == "drop_project" && event.resource.id == "production" {
//!             return Decision::deny("production stays");
//!         }
//!         Decision::allow()
//!     }
//! }
//!
//! eider_plugin::policy!(Guard);
//! ```
//!
//! A sink is given the log in batches, in order and at least once ([`Sink`],
//! [`sink!`]). Both are built by `eider plugin build`.
//!
//! There are several guests of one plugin, and each may be replaced at any time:
//! what has to be counted or remembered belongs into [`kv_add`] and [`kv_set`].
//! A panic costs the guest, and the call counts as one that the policy could not
//! decide.
//!
//! On other targets than WebAssembly the crate builds too, so that policies have
//! plain tests; host functions answer [`Error::NotGranted`] there.

#![warn(missing_docs)]

mod abi;
mod base64;
mod event;
mod host;
mod json;

#[doc(hidden)]
pub use abi::{abi_version, alloc, configure, decide, deliver};
pub use event::{Actor, Amounts, Batch, Decision, Event, Project, Receipt, Request, Resource, Row, Usage};
pub use host::{
    http, kv_add, kv_delete, kv_get, kv_set, kv_swap, log, now_ms, read_project, read_server, Error, HttpRequest,
    HttpResponse, Level,
};
pub use json::{quote, Json};

/// What decides. One is made for each guest, from the operator's configuration.
pub trait Policy: Sized {
    /// Takes the operator's configuration, an object. An error refuses the plugin.
    fn configure(config: &Json) -> Result<Self, String>;
    /// Decides about one operation before it runs.
    fn decide(&mut self, event: &Event) -> Decision;
}

/// What delivers rows of the log.
pub trait Sink: Sized {
    /// Takes the operator's configuration, an object. An error refuses the plugin.
    fn configure(config: &Json) -> Result<Self, String>;
    /// Delivers a batch. One that was not acknowledged comes again.
    fn deliver(&mut self, batch: &Batch) -> Receipt;
}

/// Makes the crate a policy that decides by this type.
#[macro_export]
macro_rules! policy {
    ($type:ty) => {
        $crate::exports!($type, <$type as $crate::Policy>::configure);

        #[no_mangle]
        extern "C" fn eider_decide(ptr: u32, len: u32) -> u64 {
            EIDER_PLUGIN.with(|plugin| $crate::decide(plugin, ptr, len))
        }
    };
}

/// Makes the crate a sink that delivers by this type.
#[macro_export]
macro_rules! sink {
    ($type:ty) => {
        $crate::exports!($type, <$type as $crate::Sink>::configure);

        #[no_mangle]
        extern "C" fn eider_deliver(ptr: u32, len: u32) -> u64 {
            EIDER_PLUGIN.with(|plugin| $crate::deliver(plugin, ptr, len))
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! exports {
    ($type:ty, $configure:expr) => {
        std::thread_local! {
            static EIDER_PLUGIN: std::cell::RefCell<Option<$type>> = std::cell::RefCell::new(None);
        }

        #[no_mangle]
        extern "C" fn eider_abi_version() -> u32 {
            $crate::abi_version()
        }

        #[no_mangle]
        extern "C" fn eider_alloc(size: u32) -> u32 {
            $crate::alloc(size)
        }

        #[no_mangle]
        extern "C" fn eider_configure(ptr: u32, len: u32) -> u64 {
            EIDER_PLUGIN.with(|plugin| $crate::configure(plugin, $configure, ptr, len))
        }
    };
}
