package audit

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/eiderdb/eider/core/metadata"
)

// Manifests returns those of a folder, by their first row, of all logs that have
// left any there.
func Manifests(dir string) ([]Manifest, error) {
	found, err := filepath.Glob(filepath.Join(dir, "operations-*.parquet"+manifestSuffix))
	if err != nil {
		return nil, err
	}
	var all []Manifest
	for _, path := range found {
		named, ok := readName(strings.TrimSuffix(filepath.Base(path), manifestSuffix))
		if !ok {
			continue // none of ours
		}
		file, err := isFile(path)
		var text []byte
		if err == nil && file {
			text, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read a manifest: %w", err)
		}
		var m Manifest
		if json.Unmarshal(text, &m) != nil || m.File != named.File || m.First != named.First || m.Last != named.Last {
			m = Manifest{Archived: named, damaged: true}
		}
		all = append(all, m)
	}
	// Of those that hold the same rows the newest first: that is the one whose rows were cut.
	slices.SortFunc(all, func(a, b Manifest) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), -cmp.Compare(a.Epoch, b.Epoch), -cmp.Compare(len(a.File), len(b.File)), -cmp.Compare(a.File, b.File))
	})
	return all, nil
}

// isFile reports whether there is a file at the path. Somebody may have put a folder
// there, or a pipe, that nobody ever comes to the end of.
func isFile(path string) (bool, error) {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular(), err
}

// archives are those of a folder.
type archives struct {
	own    []Manifest // that the log goes on from, by their first row
	others []string   // files of other logs: one that was lost before a rebuild, or went on otherwise before a restore
}

// cover reports whether one of the log's own has the row.
func (a archives) cover(id int64) bool {
	return slices.ContainsFunc(a.own, func(m Manifest) bool { return m.First <= id && id <= m.Last })
}

// archivesOf returns the archives of a folder. Which are the log's own is told by
// the chain, from its first row backwards: each archive has the hash of the last row
// of the one before.
//
//	those whose rows the log still has, with the same hash
//	before its first row: the one whose last row that follows, and so on
//	where none is: somebody has changed or removed it; the nearest before, of no later epoch
func archivesOf(ctx context.Context, v *metadata.View, dir string, epochs epochs) (archives, error) {
	manifests, err := Manifests(dir)
	if err != nil || len(manifests) == 0 {
		return archives{}, err
	}
	found, err := v.Query(ctx, selectNext, 0)
	if err != nil {
		return archives{}, fmt.Errorf("read the log: %w", err)
	}
	first, err := readRows(found)
	if err != nil {
		return archives{}, fmt.Errorf("read the log: %w", err)
	}
	at := link{first: maxID, epoch: epochs.newest()}
	own := make([]bool, len(manifests))
	if len(first) > 0 {
		at = link{first[0].ID, hex.EncodeToString(first[0].PrevHash), epochs.of(first[0].ID)}
		for i := range manifests {
			m := &manifests[i]
			if m.Last < first[0].ID || m.damaged {
				continue
			}
			hash, err := hashOf(ctx, v, m.Last)
			if err != nil {
				return archives{}, err
			}
			own[i] = hash == m.LastHash
		}
		for i := range manifests { // by their first row: the one that reaches furthest back
			if own[i] && manifests[i].First < at.first {
				at = manifests[i].link()
			}
		}
	}
	at.follow(manifests, epochs, own)
	var out archives
	for i, m := range manifests {
		if own[i] {
			out.own = append(out.own, m)
		} else {
			out.others = append(out.others, m.File)
		}
	}
	return out, nil
}

// archives returns those of a folder.
func (l *Log) archives(ctx context.Context, v *metadata.View, dir string) (archives, error) {
	l.mu.Lock()
	epochs := slices.Clone(l.epochs)
	l.mu.Unlock()
	return archivesOf(ctx, v, dir, epochs)
}

// link is where rows go on: the first of them, what it follows ("": nobody knows),
// and its epoch.
type link struct {
	first int64
	prev  string
	epoch int64
}

func (m *Manifest) link() link { return link{m.First, m.PrevHash, m.Epoch} }

// follow marks those that go before.
func (at link) follow(manifests []Manifest, epochs epochs, own []bool) {
	for at.first > 1 {
		best := -1
		for i := range manifests {
			m := &manifests[i]
			if m.Last >= at.first || own[i] {
				continue
			}
			if at.precedes(m) {
				best = i
				break
			}
			if epoch, known := epochs.exact(m.Last); m.Epoch > at.epoch || known && m.Epoch != epoch {
				continue
			}
			if best < 0 || cmp.Or(cmp.Compare(m.Last, manifests[best].Last), cmp.Compare(m.Epoch, manifests[best].Epoch)) > 0 {
				best = i
			}
		}
		if best < 0 {
			return
		}
		for i := range manifests { // a range may be present twice
			if at.precedes(&manifests[i]) {
				own[i] = true
			}
		}
		own[best], at = true, manifests[best].link()
	}
}

// precedes reports whether the chain says that an archive goes before.
func (at link) precedes(m *Manifest) bool {
	return m.Last == at.first-1 && at.prev != "" && at.prev == m.LastHash
}
