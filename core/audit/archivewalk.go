package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
)

// VerifyArchive walks the archives of a folder from the first row on, and then the
// log behind them, as one chain. Archives of other logs, such as one that was lost
// before a rebuild, are named and not walked.
func VerifyArchive(ctx context.Context, v *metadata.View, dir string, signer *Signer, checkpoints []Checkpoint) (Verification, error) {
	if changed, err := retyped(ctx, v.Query); err != nil || changed != "" {
		return unreadable(changed), err
	}
	head, err := readHead(ctx, v)
	if err != nil {
		return Verification{}, err
	}
	walk := walker{view: v, next: 1, prev: genesis()}
	walk.expect(checkpoints, true, head.ID)
	if err := walk.strays(ctx, true, true); err != nil {
		return Verification{}, fmt.Errorf("read the log: %w", err)
	}
	epochs, err := readEpochs(v.Query(ctx, selectEpochs))
	if err != nil {
		return Verification{}, err
	}
	for {
		archives, err := archivesOf(ctx, v, dir, epochs)
		if err != nil {
			return Verification{}, err
		}
		walk.view, walk.others = nil, archives.others
		if err := walk.archives(ctx, dir, signer, archives.own); err != nil {
			return Verification{}, err
		}
		walk.view = v
		cut, prev := walk.next, walk.prev
		if _, err := walk.afterCut(ctx); err != nil {
			return Verification{}, fmt.Errorf("read the log: %w", err)
		}
		if walk.next == cut {
			return walk.table(ctx, head.ID)
		}
		// Rows between are archived: meanwhile, or in a file that is not there.
		if archives, err = archivesOf(ctx, v, dir, epochs); err != nil {
			return Verification{}, err
		}
		if !archives.cover(cut) {
			walk.fail(cut, walk.next-1, "missing", "%s in no archive and not in the log", span(cut, walk.next-1, "is", "are"))
			return walk.table(ctx, head.ID)
		}
		walk.next, walk.prev = cut, prev
	}
}

// archives walks those that are there behind what was walked.
func (w *walker) archives(ctx context.Context, dir string, signer *Signer, manifests []Manifest) error {
	for i := range manifests {
		m := &manifests[i]
		if m.Last < w.next { // present twice
			if err := w.again(ctx, dir, signer, m); err != nil {
				return err
			}
			continue
		}
		if m.First > w.next {
			w.fail(w.next, m.First-1, "missing", "%s in no archive", span(w.next, m.First-1, "is", "are"))
			w.next, w.prev = m.First, nil
		}
		if err := w.archive(ctx, dir, signer, m); err != nil {
			return err
		}
		if w.next <= m.Last { // what cannot be read
			w.next, w.prev = m.Last+1, nil
		}
	}
	return nil
}

// archive walks one archive, which has the next row.
func (w *walker) archive(ctx context.Context, dir string, signer *Signer, m *Manifest) error {
	if m.damaged {
		w.fail(w.next, m.Last, "altered", "the manifest of rows %d to %d cannot be read, or is not theirs", m.First, m.Last)
		return nil
	}
	if m.Checkpoint.Key != signer.KeyID() {
		w.foreign = append(w.foreign, m.File)
	}
	path, before := filepath.Join(dir, m.File), w.breaks.count()
	file, err := isFile(path)
	if err == nil && !file {
		w.fail(w.next, m.Last, "altered", "the archive of rows %d to %d is no file", m.First, m.Last)
		return nil
	}
	var sum string
	var bytes int64
	if err == nil {
		sum, bytes, err = disk.Sum(ctx, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		w.fail(w.next, m.Last, "missing", "the archive of rows %d to %d is not there", m.First, m.Last)
		return nil
	}
	if err != nil {
		return err
	}
	from := w.next
	is := Archived{File: m.File, First: from, Last: m.Last, SHA256: sum, Bytes: bytes}
	err = ReadParquet(ctx, path, from, m.Last, func(page []Row) error {
		if is.LastHash == "" {
			is.PrevHash, is.FirstTime = hex.EncodeToString(page[0].PrevHash), page[0].Time
		}
		newest := page[len(page)-1]
		is.LastHash, is.LastTime = hex.EncodeToString(newest.Hash), newest.Time
		return errors.Join(w.page(ctx, page), ctx.Err())
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case err != nil:
		w.fail(w.next, m.Last, "altered", "the archive of rows %d to %d cannot be read", m.First, m.Last)
	case w.next <= m.Last:
		w.fail(w.next, m.Last, "missing", "%s missing in the archive", span(w.next, m.Last, "is", "are"))
	case w.breaks.count() > before: // it names the rows
	case hex.EncodeToString(w.prev) != m.LastHash || m.Checkpoint.ID != m.Last || m.Checkpoint.Hash != m.LastHash:
		w.fail(m.Last, 0, "checkpoint", "row %d does not have the hash that the manifest tells", m.Last)
	case m.Checkpoint.Key == signer.KeyID() && !signer.Valid(m.Checkpoint):
		w.fail(m.Last, 0, "checkpoint", "the manifest of rows %d to %d does not carry its key's signature", m.First, m.Last)
	case sum != m.SHA256:
		w.fail(from, m.Last, "altered", "the archive of rows %d to %d does not have the checksum of its manifest", m.First, m.Last)
	default:
		is.Epoch = w.epochs.of(m.Last)
		if before > 0 || w.copied { // the row that began it may not have been walked
			is.Epoch = m.Epoch
		}
		if wrong := m.differs(is); wrong != "" {
			w.fail(from, m.Last, "altered", "the manifest of rows %d to %d says another %s than is so", m.First, m.Last, wrong)
		}
	}
	return nil
}

// differs returns what a manifest says of its file that is not so, "" if all is. Of
// rows that were walked before, the archive's first is not known.
func (m *Manifest) differs(is Archived) string {
	begins := is.First == m.First
	for _, of := range []struct {
		name  string
		wrong bool
	}{
		{"prev_hash", begins && is.PrevHash != m.PrevHash},
		{"first_time", begins && !is.FirstTime.Equal(m.FirstTime)},
		{"last_time", !is.LastTime.Equal(m.LastTime)},
		{"bytes", is.Bytes != m.Bytes},
		{"epoch", is.Epoch != m.Epoch},
		{"time of the checkpoint", !m.Checkpoint.Time.Equal(m.LastTime)},
		{"epoch of the checkpoint", m.Checkpoint.Epoch != m.Epoch},
	} {
		if of.wrong {
			return of.name
		}
	}
	return ""
}

// again walks an archive of rows that another archive has as well, by itself: what is
// wrong with it is told with its name.
func (w *walker) again(ctx context.Context, dir string, signer *Signer, m *Manifest) error {
	alone := walker{next: m.First, copied: true}
	if err := alone.archive(ctx, dir, signer, m); err != nil {
		return err
	}
	for _, b := range alone.breaks.told(m.First, m.Last) {
		b.Detail = m.File + ": " + b.Detail
		w.breaks.add(b)
	}
	w.breaks.omitted += alone.breaks.omitted
	w.foreign = append(w.foreign, alone.foreign...)
	return nil
}
