package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"time"

	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
)

// scrubEvery is how often files are looked for that are due to be read again.
const scrubEvery = 10 * time.Minute

// leastRead is what the smallest file costs of the pace, in bytes: to open it and to
// note it is work, too.
const leastRead = 64 << 10

// intact reads the bytes of a file at the pace and compares their hash. Bytes that
// cannot be read are not intact; those that have gone meanwhile are no answer.
func (f *Files) intact(ctx context.Context, r row, pace *check.Pace) (bool, error) {
	file, err := f.blobs.Open(r.key())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // missing is another finding
	}
	if err != nil {
		f.log.Error("a file cannot be read", "file", r.ID, "error", err)
		return false, nil
	}
	defer file.Close()
	if err := pace.Wait(ctx, leastRead); err != nil {
		return false, err
	}
	sum := sha256.New()
	n, err := pace.Copy(ctx, sum, file)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		f.log.Error("a file cannot be read", "file", r.ID, "error", err)
		return false, nil
	}
	return n == r.SizeBytes && hex.EncodeToString(sum.Sum(nil)) == r.ChecksumSHA256, nil
}

// checks are words about files that were looked at, to be noted together.
type checks struct {
	f   *Files
	all []seen
	at  []time.Time
}

func (f *Files) newChecks() *checks { return &checks{f: f} }

// notesAtATime bounds a note: it holds up the writer.
const notesAtATime = 256

func (c *checks) add(one seen) {
	c.all, c.at = append(c.all, one), append(c.at, now())
	if len(c.all) == notesAtATime {
		c.keep()
	}
}

// keep notes them. Whether a file has a word already was read with it: asking again
// for each would cost the writer half a millisecond.
func (c *checks) keep() {
	all, at := c.all, c.at
	c.all, c.at = nil, nil
	if len(all) == 0 {
		return
	}
	c.f.pipeline.Store.Note(func(tx *metadata.Tx) error {
		for i, one := range all {
			word := verified{one.ID, at[i], one.intact}
			if one.checked {
				if err := c.f.verified.Drop(tx, word); err != nil {
					return err
				}
			}
			if err := c.f.verified.Insert(tx, word); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	selectUnverified = selectSeen + `WHERE c.verified_at IS NULL OR c.verified_at < $1 ORDER BY c.verified_at NULLS FIRST, f.id LIMIT 256`
	selectForgotten  = `SELECT id, '' FROM file_checks c WHERE NOT EXISTS (SELECT 1 FROM files f WHERE f.id = c.id) LIMIT 2000`
)

// scrub reads again what nobody has verified for longest, so that what a disk loses
// is found while a backup still has it. A file that is not intact is told to the log
// and to every check from then on.
func (f *Files) scrub(ctx context.Context) error {
	if f.settings.ScrubAfter == 0 {
		return nil
	}
	pace := check.NewPace(int64(f.settings.ScrubRate))
	due := now().Add(-time.Duration(f.settings.ScrubAfter))
	tried := map[string]bool{}
	for ctx.Err() == nil {
		batch, err := f.seen(ctx, selectUnverified, due)
		if err != nil {
			return err
		}
		fresh := 0
		checks := f.newChecks()
		for _, one := range batch {
			if tried[one.ID] {
				continue // its word is on its way
			}
			tried[one.ID] = true
			fresh++
			if one.intact, err = f.intact(ctx, one.row, pace); err != nil {
				return err
			}
			if !one.intact {
				f.log.Error("a file's bytes are not those that were registered", "file", one.ID, "project", one.ProjectID)
			}
			checks.add(one)
		}
		checks.keep()
		if fresh == 0 {
			break
		}
	}
	return errors.Join(ctx.Err(), f.forgetChecks(ctx))
}

// forgetChecks drops the words about files that are no more.
func (f *Files) forgetChecks(ctx context.Context) error {
	gone, err := f.pairs(ctx, selectForgotten)
	if err != nil || len(gone) == 0 {
		return err
	}
	f.pipeline.Store.Note(func(tx *metadata.Tx) error {
		for _, one := range gone {
			if err := f.verified.Drop(tx, verified{ID: one[0]}); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}
