package main

import (
	"encoding/json"
	"os"

	"github.com/eiderdb/eider/core/projectdb/confine"
)

// probeConfinement confines this process to a folder and prints what holds.
func probeConfinement(folder string) error {
	state, err := confine.Apply(confine.Limits{Root: folder, Memory: 1 << 30, FileSize: 1 << 30})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(state)
}
