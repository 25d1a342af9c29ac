// Package files registers storage files: what S3 does in a cloud.
//
// A file is uploaded first, in one request or in several, and registered then;
// until it is, it is a session that expires. Session and file are rows before
// and after the bytes: there are no bytes without a row but for an instant, which
// a job looks for. The package knows rows and rules; core/blob keeps the bytes.
package files

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

// Settings is the section "files".
type Settings struct {
	MaxSize    config.Size     `koanf:"max_size" doc:"The largest file that can be uploaded"`
	Expire     config.Duration `koanf:"expire" doc:"How long an upload that is not registered is kept"`
	SweepEvery config.Duration `koanf:"sweep_every" doc:"How often expired uploads and files are looked for"`
	Grace      config.Duration `koanf:"grace" doc:"How old bytes that an upload has left without a row must be before they are removed"`
	ScrubAfter config.Duration `koanf:"scrub_after" doc:"How long after it was verified a file is read again, to find what a disk has lost; 0: never"`
	ScrubRate  config.Size     `koanf:"scrub_rate" doc:"How many bytes a second that reads, and a deep check, at most; 0: no limit"`
}

// Validate refuses what would keep nothing or look for ever.
func (s *Settings) Validate() error {
	if s.MaxSize < 1 {
		return fmt.Errorf("max_size must be at least 1 byte")
	}
	if time.Duration(s.Expire) < time.Minute || time.Duration(s.Expire) > maxExpiry {
		return fmt.Errorf("expire must be between 1m and 7d")
	}
	if time.Duration(s.SweepEvery) < time.Second {
		return fmt.Errorf("sweep_every must be at least 1s")
	}
	if time.Duration(s.Grace) < time.Minute {
		return fmt.Errorf("grace must be at least 1m")
	}
	if after := time.Duration(s.ScrubAfter); after != 0 && after < time.Minute {
		return fmt.Errorf("scrub_after must be 0 or at least 1m")
	}
	return nil
}

// maxExpiry is the longest life of an upload that is not registered.
const maxExpiry = auth.MaxSigned

// Files is the module.
type Files struct {
	settings Settings
	rows     *metadata.Table[row]
	sessions *metadata.Table[session]
	verified *metadata.Table[verified]
	cached   *cache

	dir      string // the data folder
	files    *disk.FS
	blobs    *blob.Local
	projects core.ProjectRegister
	space    *disk.Space
	urls     *auth.URLs
	usage    *usage.Book
	audit    *audit.Log
	pipeline *operation.Pipeline
	log      *slog.Logger
	expireOp *operation.Handle[expireFiles, expired]
	orphanOp *operation.Handle[orphans, swept]
	forgetOp *operation.Handle[purgedFiles, swept]
	strayOp  *operation.Handle[stray, operation.Nothing]
	dropOp   *operation.Handle[damagedFile, operation.Nothing]
	countOp  *operation.Handle[miscount, operation.Nothing]

	describeOp *operation.Handle[damagedFile, operation.Nothing]
	describing sync.RWMutex // the follower writes many sidecars at a time, a repair alone

	sweptAt time.Time // when the job last looked for bytes without a row

	mu      sync.Mutex
	tickets map[string]*staging // what sessions have reserved, by session
	purges  [][2]string         // uid and id of projects that were purged since the last round
}

// New returns the module.
func New() *Files {
	return &Files{
		settings: Settings{
			MaxSize: 10 << 30, Expire: config.Duration(24 * time.Hour), SweepEvery: config.Duration(time.Minute),
			Grace: config.Duration(24 * time.Hour), ScrubAfter: config.Duration(30 * 24 * time.Hour), ScrubRate: 16 << 20,
		},
		rows: newTable(), sessions: newSessions(), verified: newVerified(), cached: newCache(), tickets: map[string]*staging{},
	}
}

var (
	_ core.Module      = (*Files)(nil)
	_ core.Provisioner = (*Files)(nil)
)

// Name returns "files".
func (f *Files) Name() string { return "files" }

// The routes of a project's files.
const (
	base       = "/projects/{id}/files"
	uploadPath = base + "/upload/{upload_key}"
)

// Declare lists the operations; the handlers follow in this order.
func (f *Files) Declare(r *core.Registry) error {
	r.Settings.Section("files", &f.settings)
	r.Table(f.rows)
	r.Table(f.sessions)
	r.Table(f.verified)
	r.Migrate(migrations()...)
	r.Follow(audit.Follower{Name: "file_sidecars", Handle: f.writeSidecars})
	r.Schedule(core.Job{Name: "sweep_files", Every: func() time.Duration { return time.Duration(f.settings.SweepEvery) }, Run: f.sweep})
	r.Schedule(core.Job{Name: "scrub_files", Every: func() time.Duration { return scrubEvery }, Run: f.scrub})
	r.Check(check.Source{Name: "files", Find: f.check, Rebuild: f.rebuild, Stored: f.visitStored})
	r.ProjectFolder(func(p eider.Project) string { return filepath.Join(filesDir, p.UID) })
	operation.On(r.Operations, f.purged)

	operation.Write(r.Operations, operation.Spec{
		Name: "prepare_file", Route: "POST " + base + "/prepare", Role: eider.ProjectWrite, Target: "file",
		Summary: "Announce an upload", Errors: []eider.Code{eider.FileTooLarge, eider.QuotaExceeded},
		Description: "Answers a key and URLs by which the bytes can be uploaded until expires_at.",
		Statuses:    map[eider.Code]int{eider.FileTooLarge: 400},
		Adds:        reserved,
	}, f.prepare)
	f.declareUploads(r)
	operation.Write(r.Operations, operation.Spec{
		Name: "register_file", Route: "POST " + base, Also: []string{"POST " + base + "/"}, Role: eider.ProjectWrite, Target: "file",
		Status: 201, Summary: "Keep an uploaded file", Errors: []eider.Code{eider.UploadSessionNotFound, eider.UploadSessionMismatch,
			eider.UploadSessionExpired, eider.UploadInProgress, eider.FileNotUploaded, eider.QuotaExceeded},
		Description: "With ?name= and a raw body the file is uploaded and kept in one step.",
	}, f.register)
	f.declareReads(r)
	operation.Write(r.Operations, operation.Spec{
		Name: "update_file", Route: "PATCH " + base + "/{file}", Role: eider.ProjectWrite, Target: "file", Tagged: true,
		Summary: "Change a file's name, tags or expiry", Errors: []eider.Code{eider.FileNotFound, eider.PreconditionFailed},
	}, f.update)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_file_verification", Route: "GET " + base + "/{file}/verification", Role: eider.ProjectRead, Target: "file",
		Summary: "When a file's bytes were last read and compared", Errors: []eider.Code{eider.FileNotFound},
		Description: "Every file is read again files.scrub_after after it was last, and by every deep check.",
	}, f.verification)
	operation.Effect(r.Operations, operation.Spec{
		Name: "delete_file", Route: "DELETE " + base + "/{file}", Role: eider.ProjectWrite, Target: "file", Frees: true,
		Summary: "Delete a file, or an upload that is not registered", Errors: []eider.Code{eider.FileNotFound, eider.UploadInProgress},
	}, operation.Steps[dropFile, *dropPlan, operation.Nothing]{
		Intent: f.condemn, Claims: claimDrop, Effect: f.discard, Applied: f.isDiscarded, Undo: f.undiscard,
		Outcome: f.bury, Revert: func(context.Context, *operation.Tx, *dropPlan) error { return nil },
	})
	f.declareVerify(r)
	f.declareSweep(r)
	f.declareRepairs(r)
	return nil
}

// filesDir is the folder of all files, below the data folder.
const filesDir = "files"

// Provision takes what the handlers need of the kernel, and reserves again what
// sessions hold.
func (f *Files) Provision(_ context.Context, k *core.Kernel) error {
	f.dir, f.space, f.files, f.projects = k.Dir, k.Space, k.Files, k.Register
	f.blobs = blob.NewLocal(filepath.Join(k.Dir, filesDir), k.Files)
	f.urls, f.usage, f.audit, f.pipeline, f.log = k.URLs, k.Usage, k.Audit, k.Pipeline, k.Log
	return f.reserveAgain()
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
