// The SDK for Eider's plugins in AssemblyScript. A policy:
//
//   import { Decision, Event, policy } from "./sdk";
//   export * from "./sdk/policy";
//
//   policy((event: Event): Decision => {
//     if (event.operation == "drop_project" && event.resource.id == "production") {
//       return Decision.deny("production stays");
//     }
//     return Decision.allow();
//   });
//
// A sink names sink(..) and "./sdk/sink" instead. Both are built by
// `eider plugin build`.
//
// There are several guests of one plugin, and each may be replaced at any time:
// what has to be counted or remembered belongs into kvAdd and kvSet. A trap (an
// exception, an index out of range) costs the guest, and the call counts as one
// that the policy could not decide.

export { Json, quote } from "./json";
export {
  Actor, Amounts, Batch, Decision, Event, Project, Receipt, Request, Resource, Row, Usage,
} from "./event";
export {
  ErrorCode, HttpResponse, Level, errorText, http, kvAdd, kvDelete, kvGet, kvSet, kvSwap, lastError, log, nowMs,
  readProject, readServer,
} from "./host";
export { configure, policy, sink } from "./plugin";
