package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
)

// beginEpoch stages the row that a restore leaves.
func (r *register) beginEpoch(epoch int64) {
	r.Helper()
	r.stage(audit.Row{Operation: "restore", ResourceType: "metadata", Status: eider.StatusSuccess, Details: fmt.Sprintf(`{"epoch":%d}`, epoch), Count: 1})
}

func (r *register) wantEpochs(want map[int64]int64) {
	r.Helper()
	for id, epoch := range want {
		if got := r.log.EpochAt(id); got != epoch {
			r.Errorf("row %d is in epoch %d, want %d", id, got, epoch)
		}
	}
}

func TestEpochBeginsWithItsRowAndIsInTheCheckpoints(t *testing.T) {
	r := begin(t)
	r.stage(rows(3)...)
	r.beginEpoch(70) // row 4
	r.stage(rows(3)...)
	r.beginEpoch(80) // row 8
	// Nothing else begins one, whatever it says.
	r.stage(audit.Row{Operation: "restore", ResourceType: "metadata", Status: eider.StatusFailed, Details: `{"epoch":90}`},
		audit.Row{Operation: "update_project", ResourceType: "metadata", Status: eider.StatusSuccess, Details: `{"epoch":91}`},
		audit.Row{Operation: "rebuild", ResourceType: "projects", Status: eider.StatusSuccess, Details: `{"epoch":92}`},
		audit.Row{Operation: "rebuild", ResourceType: "metadata", Status: eider.StatusSuccess, Details: `no JSON`})
	for range 2 {
		r.wantEpochs(map[int64]int64{1: 0, 3: 0, 4: 70, 7: 70, 8: 80, 12: 80})
		if head := r.log.Head(); head.ID != 12 || head.Epoch != 80 {
			t.Errorf("the head is %+v", head)
		}
		r.reopen()
	}
	r.keep()
	c, err := audit.NewestCheckpoint(r.kept, r.signer)
	must(t, err)
	if c == nil || c.Epoch != 80 || !r.signer.Valid(*c) {
		t.Fatalf("the checkpoint is %+v", c)
	}
	c.Epoch = 70
	if r.signer.Valid(*c) {
		t.Error("a checkpoint of another epoch has its signature")
	}
}

// Seen tells how much of what somebody has seen is still there.
func TestRowsThatWereSeenAreThereOrLost(t *testing.T) {
	r, dir := begin(t), t.TempDir()
	r.log.SetClock(func() time.Time { return march(1) })
	r.stage(rows(3)...)
	r.beginEpoch(70) // row 4
	r.stage(rows(3)...)
	r.beginEpoch(80) // row 8
	r.stage(rows(3)...)
	for _, c := range []struct {
		epoch, id, want int64
		ok              bool
	}{
		{0, 2, 2, true}, {0, 3, 3, true}, {0, 4, 3, true}, {0, 900, 3, true},
		{70, 6, 6, true}, {70, 9, 7, true}, {80, 11, 11, true}, {80, 12, 0, false},
		{69, 5, 0, false}, {75, 9, 0, false}, {90, 9, 0, false},
	} {
		if upTo, ok := r.log.Seen(c.epoch, c.id); ok != c.ok || ok && upTo != c.want {
			t.Errorf("row %d of epoch %d is there up to %d, %v", c.id, c.epoch, upTo, ok)
		}
	}
	r.archive(dir, march(100), 9)
	r.reopen()
	if upTo, ok := r.log.Seen(0, 9); ok {
		t.Errorf("what began epoch 80 is archived, and a row before it is there up to %d", upTo)
	}
	if upTo, ok := r.log.Seen(80, 11); !ok || upTo != 11 {
		t.Errorf("row 11 of epoch 80 is there up to %d, %v", upTo, ok)
	}
}

// The row that began an epoch is archived: the epoch goes on.
func TestEpochOutlivesTheArchivingOfItsFirstRow(t *testing.T) {
	r, dir := begin(t), t.TempDir()
	r.log.SetClock(func() time.Time { return march(1) })
	r.stage(rows(2)...)
	r.beginEpoch(70)
	r.stage(rows(5)...)
	if last := r.archive(dir, march(100), 5); last != 5 {
		t.Fatalf("rows to %d are archived", last)
	}
	for range 2 {
		r.wantEpochs(map[int64]int64{6: 70, 9: 70})
		if r.log.Head().Epoch != 70 {
			t.Errorf("the head is %+v", r.log.Head())
		}
		r.reopen()
	}
	manifests, err := audit.Manifests(dir)
	must(t, err)
	if len(manifests) != 1 || manifests[0].Epoch != 70 || manifests[0].Checkpoint.Epoch != 70 || !r.signer.Valid(manifests[0].Checkpoint) {
		t.Errorf("the manifests are %+v", manifests)
	}
}

// Whoever is given rows can tell by the epoch what an id names.
func TestFollowersGetEachEpochByItself(t *testing.T) {
	r := begin(t)
	r.stage(rows(3)...)
	r.beginEpoch(70)
	r.stage(rows(3)...)
	var got []string
	ctx, stop := context.WithCancel(t.Context())
	f := &audit.Followers{Store: r.store, Log: r.log, Cursors: r.cursors, Logger: slog.New(slog.DiscardHandler)}
	must(t, f.Run(ctx, audit.Follower{Name: "sink", Handle: func(_ context.Context, rows []audit.Row) error {
		first, last := rows[0].ID, rows[len(rows)-1].ID
		got = append(got, fmt.Sprintf("%d-%d in %d", first, last, r.log.EpochAt(first)))
		if last == 7 {
			stop()
		}
		return nil
	}}, time.Second))
	if want := []string{"1-3 in 0", "4-7 in 70"}; !slices.Equal(got, want) {
		t.Errorf("it got %v, want %v", got, want)
	}
}

func TestEpochsGrowAlthoughTheClockDoesNot(t *testing.T) {
	if now := march(1); audit.NextEpoch(now, 0) != now.UnixMilli() || audit.NextEpoch(now, now.UnixMilli()+5) != now.UnixMilli()+6 {
		t.Error("an epoch is not behind the one before")
	}
}

func TestCursorsPastTheHeadAreFound(t *testing.T) {
	r := begin(t)
	r.stage(rows(3)...)
	_, err := r.store.Write(t.Context(), func(tx *metadata.Tx) error {
		for name, at := range map[string]int64{"behind": 2, "there": 3, "past": 4} {
			if err := r.cursors.Put(t.Context(), tx, audit.Cursor{Name: name, LogID: at, UpdatedAt: march(1)}); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	past, err := audit.PastHead(t.Context(), r.cursors, r.store.View(), 3)
	must(t, err)
	if len(past) != 1 || past[0].Name != "past" || past[0].LogID != 4 {
		t.Errorf("found are %+v", past)
	}
}

// Whoever keeps events by their ids must not take one for another of an earlier epoch.
func TestEventsOfTwoEpochsHaveOtherNames(t *testing.T) {
	r := audit.Row{ID: 5}
	if r.CloudEvent(0).ID == r.CloudEvent(70).ID || r.OCSF(0).Metadata.UID == r.OCSF(70).Metadata.UID {
		t.Errorf("row 5 is %s in both", r.CloudEvent(70).ID)
	}
}
