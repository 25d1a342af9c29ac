package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// What stands in the data folder.
const (
	metadataFile = "metadata.duckdb"
	lockFile     = ".lock"
	rootKeyFile  = "root.key"
	templateFile = ".template.duckdb"
	auditDir     = "audit"
	archiveDir   = "archive"
	signingFile  = "signing.key"
	urlKeysFile  = "url.keys"
	// AdminSocket is where commands reach a running server.
	AdminSocket = "admin.sock"
)

var dataFolders = []string{"duckdb", "files", "plugins", "backups", archiveDir, trashFolder, lostFolder, auditDir}

// openFolder makes the data folder, takes its lock and begins to watch its room.
func (a *App) openFolder() error {
	// Until there is a database, a crash may have come between the making of the
	// folder and the sync of its parent, which not every start may open.
	if _, err := os.Stat(a.Settings.path(metadataFile)); err != nil {
		if err := a.options.Files.MkdirAll(a.Settings.Top.DataDir, 0o700); err != nil {
			return fmt.Errorf("make the data folder %s: %w", a.Settings.Top.DataDir, err)
		}
	}
	lock, err := disk.Lock(a.Settings.path(lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("another server uses the data folder %s: %w", a.Settings.Top.DataDir, err)
	}
	if err != nil {
		return fmt.Errorf("lock the data folder: %w", err)
	}
	a.lock = lock
	a.space, err = disk.OpenSpace(a.Settings.Top.DataDir, int64(a.Settings.Storage.MinFree), int64(a.Settings.Storage.Ballast))
	return err
}

// withRoom does a step of the start. If there is no room for it, it does the step
// once more without the ballast: a server that does not start can delete nothing.
func (a *App) withRoom(step func() error) error {
	err := step()
	if !disk.IsFull(err) && !errors.Is(err, duck.ErrFull) && !errors.Is(err, metadata.ErrFull) || !a.release() {
		return err
	}
	a.telemetry.Log.Warn("the disk is full: the ballast was given back, and changes are refused until there is room", "error", err)
	return step()
}

// release gives the ballast back to what met a full disk.
func (a *App) release() bool {
	released, err := a.space.Release()
	if err != nil {
		a.telemetry.Log.Error("the ballast could not be given back", "error", err)
	}
	return released
}

// files is what a start reads from the data folder, or makes there, before it opens the
// metadata.
type files struct {
	rootKey  string
	signer   *audit.Signer
	template string
}

func (a *App) openFiles(ctx context.Context) (own files, err error) {
	if own.rootKey, err = a.rootKey(); err != nil {
		return own, err
	}
	if own.signer, err = a.signer(); err != nil {
		return own, err
	}
	own.template, err = a.template(ctx)
	return own, err
}

func (a *App) folders() []string {
	all := make([]string, len(dataFolders))
	for i, name := range dataFolders {
		all[i] = a.Settings.path(name)
	}
	return all
}

// trashFolder is where what shall be deleted is moved, and deleted.
const trashFolder = "trash"

// lostFolder is where repairs move what nobody knows. A new file system has one, too.
const lostFolder = "lost+found"

// makeFolders makes what is missing and proves that each folder can be written.
// The trash must be a folder of its own: through a link the server would delete
// what is somebody else's.
func (a *App) makeFolders() error {
	if info, err := os.Lstat(a.Settings.path(trashFolder)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("the folder %s is a symbolic link, and what it holds is deleted: %w", trashFolder, syscall.ENOTDIR)
	}
	for _, dir := range a.folders() {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			if err := a.options.Files.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("make the folder %s: %w", filepath.Base(dir), err)
			}
		}
		probe := filepath.Join(dir, ".probe")
		err := a.options.Files.WriteFile(probe, []byte("eider\n"), 0o600)
		if removed := os.Remove(probe); err == nil {
			err = removed
		}
		if err != nil {
			return fmt.Errorf("write into the folder %s: %w", filepath.Base(dir), err)
		}
	}
	return nil
}

// syncData makes the names in the data folder durable: DuckDB never does.
func (a *App) syncData() error { return a.options.Files.SyncDir(a.Settings.Top.DataDir) }

// rootKey returns the root key: the setting, else the file, which is made at the
// first start, mode 0600, and shown once on a terminal. The log names the file.
func (a *App) rootKey() (string, error) {
	if key := a.Settings.Auth.RootKey; key != "" {
		return key, nil
	}
	path := a.Settings.path(rootKeyFile)
	text, err := os.ReadFile(path)
	if err == nil {
		return a.keptRootKey(path, string(text))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the root key: %w", err)
	}
	key := auth.NewRootKey()
	if err := a.options.Files.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the root key: %w", err)
	}
	a.telemetry.Log.Info("a root key was made", "file", path)
	if a.options.Terminal != nil {
		fmt.Fprintf(a.options.Terminal, "\nThe root key of this server, shown this once:\n\n    %s\n\nIt is kept in %s\n\n", key, path)
	}
	return key, nil
}

// keptRootKey returns the key in the first line of the file. What follows it is for
// the server itself.
func (a *App) keptRootKey(path, text string) (string, error) {
	key, _, _ := strings.Cut(text, "\n")
	key = strings.TrimSuffix(key, "\r")
	if strings.TrimSpace(text) == "" {
		return "", fmt.Errorf("%w: %s is empty: remove it to have a new root key made", ErrSettings, rootKeyFile)
	}
	if err := auth.CheckRootKey(key); err != nil {
		return "", fmt.Errorf("%w: the root key in %s %w", ErrSettings, rootKeyFile, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&^0o600 != 0 {
		a.telemetry.Log.Warn("others than the server's user may read or change the root key: give the file the mode 0600",
			"file", path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return key, nil
}

func (a *App) signer() (*audit.Signer, error) {
	if path := a.Settings.Audit.SigningKey; path != "" {
		return audit.LoadSigner(path, false)
	}
	return audit.LoadSigner(a.Settings.path(auditDir, signingFile), true)
}

// template makes the database that new projects start as, anew at each start:
// its storage version is this binary's choice.
func (a *App) template(ctx context.Context) (string, error) {
	path := a.Settings.path(templateFile)
	return path, duck.CreateTemplate(ctx, path)
}

// repairRow reports a repair. Where the originals are kept is told from the data
// folder on: rows are read by who need not know where that is.
func (a *App) repairRow(r audit.Repair) audit.Row {
	if kept, err := filepath.Rel(a.Settings.Top.DataDir, r.Kept); err == nil {
		r.Kept = kept
	}
	details, err := json.Marshal(r)
	if err != nil {
		details = nil
	}
	name, actor := "repair", "repair --wal"
	if r.Operation != "" {
		name, actor = r.Operation, r.Operation
	}
	return audit.Row{
		CallID: name + "-" + r.At.UTC().Format(time.RFC3339), ActorType: eider.ActorSystem, ActorName: actor,
		Operation: name, ResourceType: "metadata", Status: eider.StatusSuccess, Details: string(details),
	}
}
