package operation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

// shelf is an effect whose steps and commits fail as a test wants: it puts a
// box, which is a row and a file, onto a shelf, which is a folder. A box that
// is there has both; half of one is a file that still has its first name.
type shelf struct {
	dir string

	mu      sync.Mutex
	faults  map[string][]string // by step: what happens at its next runs
	crashed bool                // nothing that this process does counts any more
	met     []string
}

type putBox struct {
	ID string `json:"id" required:"true"`
}

func newShelf(r *rig) *shelf {
	return &shelf{dir: filepath.Join(r.dir, "shelf"), faults: map[string][]string{}}
}

// The steps at which something can happen. A commit's faults are told from the
// rows that it would write.
var (
	steps   = []string{"intent", "claims", "effect", "effect half", "effect done", "applied", "undo", "undo half", "revert", "outcome"}
	commits = []string{"commit intent", "commit end"}

	// What happens at a step: an error, a refusal, a panic, or the end of the
	// process. At a commit: it fails; its outcome is not known, and it was made
	// or not; the process ends before or after.
	stepFates   = []string{"fail", "refuse", "panic", "crash"}
	commitFates = []string{"fail", "lost", "kept", "crash", "crash after"}
)

var (
	errFailed  = errors.New("provoked")
	errRefused = eider.Errorf(eider.FileTooLarge, "provoked")
	errCrashed = errors.New("the process has ended")
)

func (s *shelf) next(step string) string {
	fates := s.faults[step]
	if len(fates) == 0 {
		return ""
	}
	s.faults[step] = fates[1:]
	s.met = append(s.met, step+": "+fates[0])
	return fates[0]
}

func (s *shelf) at(step string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashed {
		return errCrashed
	}
	switch fate := s.next(step); fate {
	case "fail":
		return errFailed
	case "refuse":
		return errRefused
	case "panic":
		panic("provoked at " + step)
	case "crash":
		s.crashed = true
		return errCrashed
	}
	return nil
}

// commit is what becomes of a commit of the rig's engine.
func (s *shelf) commit(b *metadata.Batch) fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashed {
		return fate{before: rolledBack(errCrashed)}
	}
	step := committing(b)
	if step == "" {
		return fate{}
	}
	switch s.next(step) {
	case "fail":
		return fate{before: rolledBack(errFailed)}
	case "lost":
		return fate{before: errFailed}
	case "kept":
		return fate{after: errFailed}
	case "crash":
		s.crashed = true
		return fate{before: rolledBack(errCrashed)}
	case "crash after":
		s.crashed = true
	}
	return fate{}
}

func rolledBack(err error) error { return fmt.Errorf("%w: %w", metadata.ErrRolledBack, err) }

// committing names the commit by the box's rows in the log.
func committing(b *metadata.Batch) string {
	for _, c := range b.Changes {
		for _, row := range c.Insert {
			if c.Table.Name != "operations_log" || column(c.Table, row, "operation") != "put_box" {
				continue
			}
			if column(c.Table, row, "status") == string(eider.StatusInProgress) {
				return "commit intent"
			}
			if column(c.Table, row, "intent_id") != int64(0) {
				return "commit end"
			}
		}
	}
	return ""
}

func column(table *metadata.Spec, row []any, name string) any {
	for i, c := range table.Columns {
		if c.Name == name {
			return row[i]
		}
	}
	return nil
}

// wants sets what happens from now on.
func (s *shelf) wants(faults map[string][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.met = maps.Clone(faults), nil
	if faults == nil {
		s.faults = map[string][]string{}
	}
}

func (s *shelf) hasCrashed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashed
}

func (s *shelf) happened() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.met...)
}

func (s *shelf) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashed = false
}

func (s *shelf) path(id string) string { return filepath.Join(s.dir, id) }
func (s *shelf) half(id string) string { return filepath.Join(s.dir, id+".new") }

func claimOf(id string) string { return "box:" + id }

func (s *shelf) declare(r *rig, set *operation.Set) {
	operation.Effect(set, operation.Spec{
		Name: "put_box", Route: "POST /boxes", Role: eider.Admin, Target: "box", Status: 201, Reserve: usage.Amounts{Files: 1},
	}, operation.Steps[putBox, thing, thing]{
		Intent: func(ctx context.Context, tx *operation.Tx, in putBox) (thing, error) {
			box := thing{in.ID, "creating"}
			if _, err := r.things.Get(ctx, tx, in.ID); err == nil {
				return box, errTaken
			}
			operation.From(ctx).Resource(in.ID)
			if err := r.things.Put(ctx, tx, box); err != nil {
				return box, err
			}
			return box, s.at("intent")
		},
		Claims: func(box thing) []metadata.Claim {
			if err := s.at("claims"); err != nil {
				panic(err) // it has no other way
			}
			return []metadata.Claim{{Resource: claimOf(box.ID), Exclusive: true}}
		},
		Effect:  func(_ context.Context, box thing) error { return s.put(box.ID) },
		Applied: func(_ context.Context, box thing) (bool, error) { return exists(s.path(box.ID)), s.at("applied") },
		Undo:    func(_ context.Context, box thing) error { return s.take(box.ID) },
		Outcome: func(ctx context.Context, tx *operation.Tx, box thing) (thing, error) {
			box.State = "there"
			if err := r.things.Put(ctx, tx, box); err != nil {
				return box, err
			}
			return box, s.at("outcome")
		},
		Revert: func(ctx context.Context, tx *operation.Tx, box thing) error {
			if err := r.things.Delete(ctx, tx, box.ID); err != nil {
				return err
			}
			return s.at("revert")
		},
	})
}

func (s *shelf) put(id string) error {
	if err := errors.Join(s.at("effect"), os.MkdirAll(s.dir, 0o700)); err != nil {
		return err
	}
	if err := os.WriteFile(s.half(id), []byte(id), 0o600); err != nil {
		return err
	}
	if err := s.at("effect half"); err != nil {
		return err
	}
	if err := os.Rename(s.half(id), s.path(id)); err != nil {
		return err
	}
	return s.at("effect done")
}

func (s *shelf) take(id string) error {
	if err := s.at("undo"); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(id)); err != nil {
		return err
	}
	if err := s.at("undo half"); err != nil {
		return err
	}
	return os.RemoveAll(s.half(id))
}
