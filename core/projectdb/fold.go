package projectdb

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb/wire"
)

// Workers make no checkpoint by themselves but at their end: whoever copies a
// database must be able to hold it off. So they are told to. A long log costs its
// replay after a crash, and memory until then; what was dropped takes room until its
// blocks are free.
const (
	foldSize  = 64 << 20         // the log is folded in at once, in bytes
	foldPause = 2 * time.Second  // how long nothing has changed where any log is
	foldAgain = 30 * time.Second // after a checkpoint that failed
)

// fold has the workers fold their logs that are due.
func (s *Supervisor) fold(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, held := range s.open {
		if !isReady(held) || held.worker == nil {
			continue
		}
		worker := held.worker
		if worker.gone() || now.UnixNano() < worker.notBefore.Load() {
			continue
		}
		info, err := os.Stat(filepath.Join(held.folder, logFile))
		if err != nil || info.Size() == 0 {
			continue // there is none
		}
		idle := held.uses == 0 && now.Sub(held.last) > foldPause
		if !idle && info.Size() < foldSize && !worker.soon.Load() || !worker.folding.TryLock() {
			continue
		}
		go func() {
			defer worker.folding.Unlock()
			s.foldOne(uid, worker, info.Size())
		}()
	}
}

// logFile is the write-ahead log in a project's folder.
const logFile = "db/data.duckdb.wal"

func isReady(held *slot) bool {
	select {
	case <-held.ready:
		return true
	default:
		return false
	}
}

func (s *Supervisor) foldOne(uid string, worker *process, size int64) {
	begun := time.Now()
	worker.soon.Store(false)
	err := worker.request(context.Background(), wire.OpCheckpoint, nil, nil)
	s.metrics.ran(context.Background(), wire.OpCheckpoint, time.Since(begun), err)
	if err != nil {
		worker.notBefore.Store(time.Now().Add(foldAgain).UnixNano())
		s.Log.Warn("a project's log could not be folded into its database", "project_uid", uid, "bytes", size, "error", eider.CodeOf(err))
	}
}
