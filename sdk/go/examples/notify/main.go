// Command notify is the example of a sink: it posts a line for each project that
// was dropped. The same sink is beside the SDKs for Rust and AssemblyScript.
package main

import (
	"strconv"

	plugin "github.com/eiderdb/eider/sdk/go"
)

var _ = plugin.Sink(configure)

func main() {}

type notify struct{ url string }

func configure(c plugin.JSON) (func(*plugin.Batch) plugin.Receipt, error) {
	return notify{c.Get("url").String()}.deliver, nil
}

func (n notify) deliver(b *plugin.Batch) plugin.Receipt {
	for _, r := range b.Rows {
		if r.Operation != "drop_project" || r.Status != "success" {
			continue
		}
		line := r.Actor.Name + " dropped " + r.ProjectID + " (row " + strconv.FormatInt(r.ID, 10) + ")"
		answer, err := plugin.HTTP(plugin.HTTPRequest{Method: "POST", URL: n.url, Body: []byte(line)})
		if err != nil {
			return plugin.Retry(err.Error(), 0)
		}
		if answer.Status >= 300 {
			return plugin.Retry("the receiver answered "+strconv.Itoa(answer.Status), 5000)
		}
	}
	return plugin.OK()
}
