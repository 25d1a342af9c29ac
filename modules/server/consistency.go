package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/operation"
)

// finding is one thing that is not as the register says.
type finding struct {
	Kind     string `json:"kind" enum:"missing_database,orphan_database,stuck_operation"`
	Severity string `json:"severity" enum:"error,warning"`
	Resource string `json:"resource"`
	Detail   string `json:"detail"`
	Repair   string `json:"repair" doc:"What would put it right"`
}

type consistency struct {
	Consistent bool      `json:"consistent"`
	CheckedAt  time.Time `json:"checked_at"`
	Findings   []finding `json:"findings"`
}

type checkConsistency struct {
	Deep bool `query:"deep" json:"-" doc:"Also compare checksums: not offered by this version"`
}

// check compares the register with what is there. It asks for what the register
// names and walks no folder, so it does not find what nobody has registered. But it
// knows when there may be such a thing: after a repair that cut the log.
func (s *Server) check(ctx context.Context, v *operation.View, in checkConsistency) (consistency, error) {
	if in.Deep {
		return consistency{}, eider.Invalid("deep", "must be false: this version has the shallow check alone")
	}
	out := consistency{CheckedAt: time.Now().UTC().Truncate(time.Microsecond), Findings: s.stuck()}
	missing, err := s.missing(ctx)
	if err != nil {
		return consistency{}, err
	}
	repaired, err := s.repaired(ctx, v)
	if err != nil {
		return consistency{}, err
	}
	out.Findings = append(append(out.Findings, missing...), repaired...)
	out.Consistent = len(out.Findings) == 0
	return out, nil
}

// stuck finds the calls that were left unfinished and could be settled neither
// way. Why is for the log: the reason may name paths.
func (s *Server) stuck() []finding {
	found := []finding{}
	why := s.kernel.Pipeline.Stuck()
	for _, row := range s.kernel.Audit.Unfinished() {
		if why[row.CallID] == nil {
			continue
		}
		found = append(found, finding{
			Kind: "stuck_operation", Severity: "error", Resource: "operation:" + row.CallID,
			Detail: fmt.Sprintf("%s of %s %s was left unfinished and could be neither finished nor undone so far; its resource stays reserved",
				row.Operation, row.ResourceType, row.ResourceID),
			Repair: "remove what the log names as the reason; the server tries again by itself",
		})
	}
	return found
}

// missing finds projects whose database is not in its place, those that are
// deleted and not yet purged included: they can be restored.
func (s *Server) missing(ctx context.Context) ([]finding, error) {
	var suspects []eider.Project
	for p := range s.kernel.Register.Projects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		there, err := s.hasDatabase(p)
		if err != nil {
			return nil, err
		}
		if !there {
			suspects = append(suspects, p)
		}
	}
	var found []finding
	for _, p := range suspects {
		// One that was on its way in or out has moved on, or is claimed.
		if now, ok := s.kernel.Register.Project(p.ID); !ok || now.UID != p.UID || !keepsDatabase(now) {
			continue
		}
		found = append(found, finding{
			Kind: "missing_database", Severity: "error", Resource: "project:" + p.ID,
			Detail: "the register has the project, and its database is not in its place",
			Repair: "put the project's folder back from a backup, or purge the project",
		})
	}
	return found, nil
}

// repaired finds a repair of the write-ahead log that no restore or rebuild has
// followed: what was made behind the cut has lost its rows and kept its folders.
func (s *Server) repaired(ctx context.Context, v *operation.View) ([]finding, error) {
	cut, err := s.newest(ctx, v, "repair")
	if err != nil || cut == 0 {
		return nil, err
	}
	for _, name := range []string{"restore", "rebuild"} {
		if whole, err := s.newest(ctx, v, name); err != nil || whole > cut {
			return nil, err
		}
	}
	return []finding{{
		Kind: "orphan_database", Severity: "warning", Resource: fmt.Sprintf("operation:%d", cut),
		Detail: "rows were lost in a repair of the metadata's write-ahead log: projects and files that were made behind the cut have their folders and no rows",
		Repair: "restore a backup that is newer than the cut, or compare the folders with the register by hand",
	}}, nil
}

// newest returns the row of the newest operation of that name on the metadata as a
// whole, 0 if there is none.
func (s *Server) newest(ctx context.Context, v *operation.View, name string) (int64, error) {
	rows, err := s.kernel.Audit.List(ctx, v, audit.Filter{
		Operation: name, ResourceType: "metadata", Status: string(eider.StatusSuccess), Limit: 1,
	})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0].ID, nil
}

func (s *Server) hasDatabase(p eider.Project) (bool, error) {
	if !keepsDatabase(p) {
		return true, nil
	}
	_, err := os.Stat(filepath.Join(s.kernel.Dir, p.DBPath))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the database of project %s: %w", p.ID, err)
	}
	return true, nil
}

// keepsDatabase reports whether a project in this state has its database in its
// place: one that is being made or purged may or may not.
func keepsDatabase(p eider.Project) bool {
	return p.Status == eider.ProjectActive || p.Status == eider.ProjectLocked || p.Status == eider.ProjectDeleted
}
