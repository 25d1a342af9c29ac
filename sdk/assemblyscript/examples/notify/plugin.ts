// The example of a sink: it posts a line for each project that was dropped. The
// same sink is beside the SDKs for Go and Rust.

import { Batch, Json, Receipt, configure, errorText, http, sink } from "../..";
export * from "../../sink";

let url = "";

configure((c: Json): string => {
  url = c.get("url").str();
  return "";
});

sink((batch: Batch): Receipt => {
  for (let i = 0; i < batch.rows.length; i++) {
    const row = batch.rows[i];
    if (row.operation != "drop_project" || row.status != "success") continue;
    const answer = http("POST", url, `${row.actor.name} dropped ${row.projectId} (row ${row.id})`);
    if (answer === null) return Receipt.retry(errorText(), 0);
    if (answer.status >= 300) return Receipt.retry(`the receiver answered ${answer.status}`, 5000);
  }
  return Receipt.ok();
});
