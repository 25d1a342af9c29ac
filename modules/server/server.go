// Package server holds the operations on the server itself: making its folders and
// replacing its root key.
package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// Server is the module.
type Server struct {
	kernel *core.Kernel

	mu    sync.Mutex
	fresh map[string]string // call -> root key that was just written
}

// New returns the module.
func New() *Server { return &Server{fresh: map[string]string{}} }

var (
	_ core.Module      = (*Server)(nil)
	_ core.Provisioner = (*Server)(nil)
)

// Name returns "server".
func (s *Server) Name() string { return "server" }

// Provision takes the kernel.
func (s *Server) Provision(_ context.Context, k *core.Kernel) error {
	s.kernel = k
	return nil
}

// Declare lists the operations; the handlers follow in this order.
func (s *Server) Declare(r *core.Registry) error {
	operation.Effect(r.Operations, operation.Spec{
		Name: "init_backend", Route: "POST /backend/init", Role: eider.Admin, Target: "server",
		Summary: "Make the storage folders and prove that they can be written", Frees: true,
	}, operation.Steps[nothing, callPlan, initialised]{
		Intent: planCall, Claims: claimServer, Effect: s.makeFolders, Applied: s.foldersMade, Undo: undoNothing,
		Outcome: s.initialised, Revert: revertNothing,
	})
	operation.Effect(r.Operations, operation.Spec{
		Name: "create_root_key", Route: "POST /admin/root-key", Role: eider.Admin, Target: "server", Status: 201,
		Summary: "Replace the root key", Local: true, Frees: true,
	}, operation.Steps[nothing, callPlan, rootKey]{
		Intent: planCall, Claims: claimServer, Effect: s.writeRootKey, Applied: s.rootKeyWritten, Undo: undoNothing,
		Outcome: s.useRootKey, Revert: revertNothing,
	})
	return nil
}

type nothing struct{}

// callPlan is the plan of an effect that its call's id says all about.
type callPlan struct {
	Call string `json:"call"`
}

func planCall(ctx context.Context, _ *operation.Tx, _ nothing) (callPlan, error) {
	return callPlan{operation.From(ctx).ID}, nil
}

func claimServer(callPlan) []metadata.Claim {
	return []metadata.Claim{{Resource: "server", Exclusive: true}}
}

func undoNothing(context.Context, callPlan) error                  { return nil }
func revertNothing(context.Context, *operation.Tx, callPlan) error { return nil }

type initialised struct {
	Success      bool     `json:"success"`
	Message      string   `json:"message"`
	StoragePaths []string `json:"storage_paths" doc:"Names of the folders in the data folder"`
}

func (s *Server) makeFolders(context.Context, callPlan) error {
	if err := s.kernel.MakeFolders(); err != nil {
		return eider.Errorf(eider.StorageUnavailable, "a storage folder cannot be made or written; the log says which").Because(err)
	}
	return nil
}

func (s *Server) foldersMade(context.Context, callPlan) (bool, error) {
	for _, dir := range s.kernel.Folders {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil || !info.IsDir() {
			return false, err
		}
	}
	return true, nil
}

func (s *Server) initialised(context.Context, *operation.Tx, callPlan) (initialised, error) {
	out := initialised{Success: true, Message: "all storage folders exist and can be written"}
	for _, dir := range s.kernel.Folders {
		out.StoragePaths = append(out.StoragePaths, filepath.Base(dir))
	}
	return out, nil
}

type rootKey struct {
	RootKey *string `json:"root_key"`
	File    string  `json:"file"`
}

// Redacted returns the answer without the secret.
func (r rootKey) Redacted() any {
	r.RootKey = nil
	return r
}

func (s *Server) rootKeyPath() string { return filepath.Join(s.kernel.Dir, "root.key") }

// writeRootKey replaces the file. Its second line names the call, so that the
// effect can be recognised after a crash.
//
// A root key that is a setting cannot be replaced here: the old one would be
// back after the next start.
func (s *Server) writeRootKey(_ context.Context, plan callPlan) error {
	kept, err := os.ReadFile(s.rootKeyPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old, _, _ := strings.Cut(string(kept), "\n"); !s.kernel.Keys.IsRoot(strings.TrimSpace(old)) {
		return eider.Errorf(eider.Forbidden, "the root key is not the one in root.key: replace it in the setting auth.root_key, or start the server again")
	}
	key := auth.NewRootKey()
	if err := s.kernel.Files.WriteFile(s.rootKeyPath(), []byte(key+"\n# written by call "+plan.Call+"\n"), 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh[plan.Call] = key
	return nil
}

func (s *Server) rootKeyWritten(_ context.Context, plan callPlan) (bool, error) {
	text, err := os.ReadFile(s.rootKeyPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return strings.Contains(string(text), plan.Call), nil
}

// useRootKey lets the new key in and the old one out, once that is logged. After
// a restart the file has been read already.
func (s *Server) useRootKey(_ context.Context, tx *operation.Tx, plan callPlan) (rootKey, error) {
	s.mu.Lock()
	key, ok := s.fresh[plan.Call]
	s.mu.Unlock()
	out := rootKey{File: s.rootKeyPath()}
	if !ok {
		return out, nil
	}
	out.RootKey = &key
	tx.After(func() {
		s.kernel.Keys.SetRoot(key)
		s.mu.Lock()
		delete(s.fresh, plan.Call)
		s.mu.Unlock()
	})
	return out, nil
}
