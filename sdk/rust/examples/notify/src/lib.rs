//! The example of a sink: it posts a line for each project that was dropped. The
//! same sink is beside the SDKs for Go and AssemblyScript.

use eider_plugin::{http, sink, Batch, HttpRequest, Json, Receipt, Sink};

struct Notify {
    url: String,
}

sink!(Notify);

impl Sink for Notify {
    fn configure(config: &Json) -> Result<Notify, String> {
        Ok(Notify { url: config.get("url").str().to_string() })
    }

    fn deliver(&mut self, batch: &Batch) -> Receipt {
        let dropped = batch.rows.iter().filter(|r| r.operation == "drop_project" && r.status == "success");
        for row in dropped {
            let line = format!("{} dropped {} (row {})", row.actor.name, row.project_id, row.id);
            let request = HttpRequest { method: "POST", url: &self.url, body: line.as_bytes(), ..Default::default() };
            match http(&request) {
                Err(err) => return Receipt::retry(err.to_string(), 0),
                Ok(answer) if answer.status >= 300 => {
                    return Receipt::retry(format!("the receiver answered {}", answer.status), 5000)
                }
                Ok(_) => {}
            }
        }
        Receipt::ok()
    }
}
