package files

import (
	"encoding/json"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/blob"
)

// plannedBlobs returns the bytes that the plan of an unfinished call names: those that
// it makes, takes or removes. Only keys that the server has put there count. A plan
// holds texts of tenants, too, such as a statement of SQL, and what those name says
// nothing about anybody's bytes.
func plannedBlobs(details string) (all []blob.Key) {
	var is struct {
		Plan map[string]json.RawMessage `json:"plan"`
	}
	if json.Unmarshal([]byte(details), &is) != nil {
		return nil
	}
	add := func(k blob.Key) {
		if k.Project != "" && k.ID != "" {
			all = append(all, k)
		}
	}
	for _, name := range []string{"blob", "bytes"} {
		var one blob.Key
		if json.Unmarshal(is.Plan[name], &one) != nil {
			continue
		}
		add(one)
		for _, name := range []string{"replaces", "instead"} { // other bytes of the upload
			var id string
			if json.Unmarshal(is.Plan[name], &id) == nil {
				add(blob.Key{Project: one.Project, ID: id})
			}
		}
	}
	var many []blob.Key
	if json.Unmarshal(is.Plan["blobs"], &many) == nil {
		for _, one := range many {
			add(one)
		}
	}
	var made row
	if json.Unmarshal(is.Plan["row"], &made) == nil {
		add(made.key())
	}
	return all
}

// underWay returns the bytes that unfinished calls name.
func underWay(open []audit.Row) map[blob.Key]bool {
	all := map[blob.Key]bool{}
	for i := range open {
		for _, k := range plannedBlobs(open[i].Details) {
			all[k] = true
		}
	}
	return all
}
