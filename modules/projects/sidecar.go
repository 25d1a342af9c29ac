package projects

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
)

// sidecar is project.json: what the register knows of the project, so that it
// can be rebuilt from folders alone. LogID is the row of the log up to which it
// is true.
type sidecar struct {
	Format     int                 `json:"format"`
	ID         string              `json:"id"`
	UID        string              `json:"uid"`
	Name       string              `json:"name"`
	Settings   json.RawMessage     `json:"settings"`
	Status     eider.ProjectStatus `json:"status"`
	LockReason string              `json:"lock_reason,omitempty"`
	CreatedAt  time.Time           `json:"created_at"`
	UpdatedAt  *time.Time          `json:"updated_at,omitempty"` // older sidecars lack it
	DeletedAt  *time.Time          `json:"deleted_at,omitempty"`
	PurgeAt    *time.Time          `json:"purge_at,omitempty"`
	LogID      int64               `json:"log_id"`
}

func newSidecar(p eider.Project, logID int64) *sidecar {
	return &sidecar{
		Format: 1, ID: p.ID, UID: p.UID, Name: p.Name, Settings: p.Settings, Status: p.Status, LockReason: p.LockReason,
		CreatedAt: p.CreatedAt, UpdatedAt: &p.UpdatedAt, DeletedAt: p.DeletedAt, PurgeAt: p.PurgeAt, LogID: logID,
	}
}

// writeSidecars follows the log: it writes project.json of every project that
// the rows changed, once for all of them, as it stands now. A purge that failed
// changed nothing, but while it was under way the changes before it were passed
// over.
func (p *Projects) writeSidecars(ctx context.Context, rows []audit.Row) error {
	newest := map[string]int64{}
	for _, r := range rows {
		ended := r.Status == eider.StatusSuccess || r.Status == eider.StatusFailed && r.IntentID != 0
		if r.ResourceType == "project" && ended && r.ProjectUID != "" {
			newest[r.ProjectUID] = r.ID
		}
	}
	return audit.Each(ctx, newest, func(ctx context.Context, uid string, logID int64) error {
		p.describing.RLock()
		defer p.describing.RUnlock()
		return p.writeSidecar(ctx, uid, logID)
	})
}

func (p *Projects) writeSidecar(ctx context.Context, uid string, logID int64) error {
	found, err := p.rows.Get(ctx, p.pipeline.Store.View(), uid)
	if eider.CodeOf(err) == eider.NotFound {
		return nil
	}
	if err != nil || found.Status == eider.ProjectPurged || found.Status == eider.ProjectPurging {
		return err
	}
	text, err := json.Marshal(newSidecar(found.Project, logID))
	if err != nil {
		return err
	}
	err = p.folders.files.WriteFile(p.folders.path(folderOf(found.Project), sidecarFile), text, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return p.goneMeanwhile(ctx, uid, err)
	}
	return err
}

// goneMeanwhile forgives a folder that a purge took while its sidecar was
// written.
func (p *Projects) goneMeanwhile(ctx context.Context, uid string, err error) error {
	now, readErr := p.rows.Get(ctx, p.pipeline.Store.View(), uid)
	if readErr == nil && now.Status != eider.ProjectPurged && now.Status != eider.ProjectPurging {
		p.log.Error("a project has no folder", "project", now.ID, "uid", uid, "error", err)
	}
	return nil
}
