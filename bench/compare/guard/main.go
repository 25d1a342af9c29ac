//go:build wasip1

// Command guard is the quota of the SDKs' example guard as a plugin of Extism, as its
// authors write one in Go: JSON in, JSON out.
package main

import (
	"encoding/json"

	"github.com/extism/go-pdk"
)

// limit is what the example's config says.
const limit = 1_000_000

type event struct {
	Project *struct {
		Settings json.RawMessage
	}
	ProjectUsage, Adds struct{ Bytes int64 }
}

// decide answers whether the call keeps to the quota.
//
//go:wasmexport decide
func decide() int32 {
	var e event
	if err := json.Unmarshal(pdk.Input(), &e); err != nil {
		pdk.SetError(err)
		return 1
	}
	most := int64(limit)
	var settings struct{ Quota struct{ Bytes *int64 } }
	if e.Project != nil && json.Unmarshal(e.Project.Settings, &settings) == nil && settings.Quota.Bytes != nil {
		most = *settings.Quota.Bytes
	}
	answer := map[string]string{"decision": "allow"}
	if e.Adds.Bytes > 0 && e.ProjectUsage.Bytes > most {
		answer["decision"] = "deny"
	}
	if err := pdk.OutputJSON(answer); err != nil {
		pdk.SetError(err)
		return 1
	}
	return 0
}

// allow takes the event and looks at none of it.
//
//go:wasmexport allow
func allow() int32 {
	_ = pdk.Input()
	pdk.OutputString(`{"decision":"allow"}`)
	return 0
}

func main() {}
