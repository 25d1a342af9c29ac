package worker

import (
	"fmt"

	"github.com/eiderdb/eider/core/projectdb/confine"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// ToFolder is the Confine of a server: it confines this process to the folder of
// its project, for ever.
func ToFolder(s wire.Setup) error {
	state, err := confine.Apply(confine.Limits{Root: s.Folder, Memory: s.Budget(), FileSize: s.MaxSize})
	if err != nil {
		return err
	}
	if s.Confinement == "required" && !state.Confined() {
		return fmt.Errorf("projects.confinement is required; %s", state)
	}
	return nil
}
