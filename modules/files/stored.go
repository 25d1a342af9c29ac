package files

import (
	"context"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/operation"
)

var _ core.FileRegister = (*Files)(nil)

// FileIn returns a registered file of the call's project, for who reads its bytes
// inside the server.
func (f *Files) FileIn(ctx context.Context, tx *operation.Tx, id string) (eider.File, blob.Key, string, error) {
	found, err := f.lookup(ctx, tx, id)
	if err != nil {
		return eider.File{}, blob.Key{}, "", err
	}
	return found.File, found.key(), fileResource(id), nil
}

// KeepFile stages the row of a file that the server has made itself. Its bytes
// are whole.
func (f *Files) KeepFile(ctx context.Context, tx *operation.Tx, file eider.File, bytes blob.Key) (eider.File, error) {
	call := operation.From(ctx)
	file.ProjectID = call.Project.ID
	call.Resource(file.ID)
	return f.keep(ctx, tx, row{File: file, ProjectUID: call.Project.UID, Blob: bytes.ID})
}
