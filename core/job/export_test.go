package job

import (
	"time"

	"github.com/eiderdb/eider/core/metadata"
)

// Open returns how many jobs are in memory as not ended.
func (j *Jobs) Open() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.open)
}

// Forget forgets the jobs that ended before.
func (j *Jobs) Forget(s *metadata.Store, before time.Time) { j.forget(s, before) }

// MaxResult is the cap of a kept result.
const MaxResult = maxResult
