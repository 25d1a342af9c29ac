package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
	"github.com/eiderdb/eider/core/waittest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// register is a real store in a real file, with the log as its sealer.
type register struct {
	testing.TB
	dir     string // of the database
	kept    string // of the checkpoints; "" keeps none
	signer  *audit.Signer
	engine  *engine
	keeper  *audit.Keeper
	log     *audit.Log
	cursors *metadata.Table[audit.Cursor]
	store   *metadata.Store
	said    *said
}

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) count(words string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), words)
}

// engine is the real one, with a commit that may be made to fail.
type engine struct {
	metadata.Engine
	commit atomic.Pointer[func(next func() error) error]
	asked  atomic.Pointer[func()] // called once, before the next query
}

func (e *engine) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	if do := e.asked.Swap(nil); do != nil {
		(*do)()
	}
	return e.Engine.Query(ctx, sql, args...)
}

func (e *engine) Commit(ctx context.Context, b *metadata.Batch) error {
	next := func() error { return e.Engine.Commit(ctx, b) }
	if commit := e.commit.Load(); commit != nil {
		return (*commit)(next)
	}
	return next()
}

// atCommit has do called in place of each commit; nil ends that.
func (r *register) atCommit(do func(next func() error) error) {
	if do == nil {
		r.engine.commit.Store(nil)
		return
	}
	r.engine.commit.Store(&do)
}

// begin makes a register in fresh folders.
func begin(t testing.TB) *register {
	t.Helper()
	r := &register{TB: t, dir: t.TempDir(), kept: t.TempDir()}
	var err error
	r.signer, err = audit.LoadSigner(filepath.Join(t.TempDir(), "signing.key"), true)
	must(t, err)
	must(t, r.open())
	return r
}

func (r *register) open() error {
	r.said = &said{}
	logger := slog.New(slog.NewTextHandler(r.said, nil))
	r.keeper = nil
	if r.kept != "" {
		r.keeper = audit.NewKeeper(r.kept, r.signer, logger)
	}
	r.log, r.cursors = audit.NewLog(r.keeper, logger), audit.NewCursors()
	real, err := duckdb.Open(context.Background(), duckdb.Options{Path: r.path()})
	must(r, err)
	r.engine = &engine{Engine: real}
	r.store, err = metadata.Open(context.Background(), metadata.Options{
		Engine: r.engine, Tables: []metadata.AnyTable{r.cursors}, Migrations: audit.Migrations(), Sealer: r.log,
		Housekeeping: []string{"sink_cursors"}, Log: logger, NoteEvery: 5 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	store := r.store
	r.Cleanup(func() { _ = store.Close() }) // closed before, where the test looks at how it closes
	return nil
}

func (r *register) path() string { return filepath.Join(r.dir, "metadata.duckdb") }

func (r *register) reopen() {
	r.Helper()
	must(r, r.store.Close())
	must(r, r.open())
}

// stage commits the rows in one group and returns them as they were sealed.
func (r *register) stage(rows ...audit.Row) []audit.Row {
	r.Helper()
	sealed, err := r.try(rows...)
	must(r, err)
	return sealed
}

func (r *register) try(rows ...audit.Row) ([]audit.Row, error) {
	staged := make([]*audit.Row, len(rows))
	_, err := r.store.Write(context.Background(), func(tx *metadata.Tx) error {
		for i := range rows {
			row := rows[i]
			staged[i] = &row
			tx.Stage(staged[i])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sealed := make([]audit.Row, len(rows))
	for i := range staged {
		sealed[i] = *staged[i]
	}
	return sealed, nil
}

// sql changes the database behind the register's back, which is closed.
func (r *register) sql(statements ...string) {
	r.Helper()
	db, err := duck.Open(context.Background(), r.path(), duck.Options{})
	must(r, err)
	conn, err := db.Conn(context.Background())
	must(r, err)
	for _, statement := range statements {
		must(r, conn.Exec(context.Background(), statement))
	}
	must(r, errors.Join(conn.Close(), db.Close()))
}

func (r *register) verify(checkpoints ...audit.Checkpoint) audit.Verification {
	r.Helper()
	v, err := audit.Verify(context.Background(), r.store.View(), 0, 0, checkpoints)
	must(r, err)
	return v
}

func (r *register) wantVerified(rows int64) {
	r.Helper()
	if v := r.verify(); !v.Verified || v.Checked != rows || r.log.Head().ID != rows {
		r.Errorf("the log of %d rows, with its head at %d: %+v %+v", rows, r.log.Head().ID, v, v.BrokenAt)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func row(n int) audit.Row {
	return audit.Row{
		CallID: fmt.Sprint("call", n), RequestID: fmt.Sprint("request", n), ActorType: eider.ActorKey, ActorID: fmt.Sprint("k", n%7),
		Operation: "update_project", ResourceType: "project", ResourceID: "p", ProjectID: "p", ProjectUID: "uid",
		Details: fmt.Sprintf(`{"n": %d}`, n), Duration: time.Duration(n) * time.Microsecond, Status: eider.StatusSuccess, Count: 1,
	}
}

func rows(n int) []audit.Row {
	all := make([]audit.Row, n)
	for i := range all {
		all[i] = row(i + 1)
	}
	return all
}

func TestRowsComeBackAsTheyWereSealed(t *testing.T) {
	r := begin(t)
	hostile := row(1)
	hostile.ActorName, hostile.Details, hostile.Error = "a\x00b\xff", "{\"spaces\":   1}", "é '\"; DROP TABLE x -- \u2028"
	r.log.SetClock(func() time.Time { return time.Date(2026, 3, 1, 2, 3, 4, 567891234, time.FixedZone("x", 3600)) })
	sealed := r.stage(hostile, row(2))
	r.stage(row(3))
	r.reopen()
	for i, want := range sealed {
		got, err := r.log.Get(t.Context(), r.store.View(), int64(i+1))
		must(t, err)
		if string(got.Hash) != string(want.Hash) || string(audit.HashOf(got)) != string(got.Hash) || got.Time != want.Time || got.Details != want.Details {
			t.Errorf("row %d came back as %+v, was %+v", i+1, got, want)
		}
	}
	if got := sealed[0]; got.ActorName != "a\uFFFDb\uFFFD" || got.Time.Nanosecond() != 567891000 || got.Time.Location() != time.UTC {
		t.Errorf("sealed as %+v", got)
	}
	if _, err := r.log.Get(t.Context(), r.store.View(), 4); eider.CodeOf(err) != eider.NotFound {
		t.Errorf("a row that is not there: %v", err)
	}
	r.wantVerified(3)
	if head := r.log.Head(); string(head.Hash) == string(sealed[1].Hash) || head.Time.IsZero() {
		t.Errorf("the head after a reopen: %+v", head)
	}
}

func TestStampsNeverRunBackwardsAndAStepBackIsTold(t *testing.T) {
	r := begin(t)
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var at atomic.Int64
	r.log.SetClock(func() time.Time { return start.Add(time.Duration(at.Load())) })
	for i, c := range []struct {
		at, want time.Duration
		told     int
		behind   time.Duration
	}{
		{at: 0, want: 0}, {at: time.Minute, want: time.Minute},
		{at: time.Minute - time.Second, want: time.Minute, behind: time.Second}, // a second is no step
		{at: time.Minute - time.Second - time.Microsecond, want: time.Minute, told: 1, behind: time.Second + time.Microsecond},
		{at: -time.Hour, want: time.Minute, told: 1, behind: time.Hour + time.Minute}, // still the same one
		{at: time.Minute + 1, want: time.Minute, told: 1},
		{at: 2 * time.Minute, want: 2 * time.Minute, told: 1},
		{at: time.Second, want: 2 * time.Minute, told: 2, behind: 2*time.Minute - time.Second},
	} {
		at.Store(int64(c.at))
		sealed := r.stage(row(i), row(i))
		if sealed[0].Time != start.Add(c.want) || sealed[1].Time != sealed[0].Time {
			t.Errorf("at %v: stamped %v and %v", c.at, sealed[0].Time.Sub(start), sealed[1].Time.Sub(start))
		}
		if told := r.said.count("the clock is behind"); told != c.told || r.log.Behind() != c.behind {
			t.Errorf("at %v: told %d times, behind %v; want %d, %v", c.at, told, r.log.Behind(), c.told, c.behind)
		}
	}
	if r.said.count("caught up") != 1 {
		t.Error("nothing is said of the clock that caught up")
	}
	r.wantVerified(16)
}

func TestTheHeadMovesOnlyAfterTheCommit(t *testing.T) {
	r := begin(t)
	first := r.stage(row(1))[0]
	grown := r.log.Grown()
	r.atCommit(func(next func() error) error {
		for range 2 { // before and after the database has it
			if head := r.log.Head(); head.ID != 1 || string(head.Hash) != string(first.Hash) {
				t.Errorf("the head is %d while the commit runs", head.ID)
			}
			select {
			case <-grown:
				t.Error("followers were woken before the commit")
			default:
			}
			if err := next(); err != nil {
				return err
			}
			next = func() error { return nil }
		}
		return nil
	})
	r.stage(row(2), row(3))
	<-grown
	if r.log.Head().ID != 3 {
		t.Errorf("the head is %d after the commit", r.log.Head().ID)
	}
}

func TestAGroupThatRollsBackLeavesTheHeadWhereTheTableIs(t *testing.T) {
	r := begin(t)
	r.stage(rows(3)...)
	r.atCommit(func(func() error) error { return fmt.Errorf("%w: provoked", metadata.ErrRolledBack) })
	intent := row(4)
	intent.Status = eider.StatusInProgress
	if _, err := r.try(intent); eider.CodeOf(err) != eider.StorageUnavailable {
		t.Errorf("a group that rolled back: %v", err)
	}
	if r.log.Head().ID != 3 || len(r.log.Unfinished()) != 0 {
		t.Errorf("the head is %d, unfinished %v", r.log.Head().ID, r.log.Unfinished())
	}
	r.atCommit(nil)
	if next := r.stage(row(5))[0]; next.ID != 4 {
		t.Errorf("the next row is %d", next.ID)
	}
	r.wantVerified(4)
}

// TestAGroupOfWhichOneFailsIsSplitAndChained has 20 calls share a group with one
// that cannot be sealed: they are sealed again in parts, without a gap.
func TestAGroupOfWhichOneFailsIsSplitAndChained(t *testing.T) {
	r := begin(t)
	begun, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // holds the writer until the others wait
		_, err := r.store.Write(context.Background(), func(*metadata.Tx) error {
			close(begun)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	for i := range 20 {
		all.Go(func() {
			if _, err := r.try(row(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Go(func() {
		_, err := r.store.Write(context.Background(), func(tx *metadata.Tx) error {
			staged := row(0)
			tx.Stage(&staged)
			tx.Stage("no row")
			return nil
		})
		if err == nil {
			t.Error("what cannot be sealed was kept")
		}
	})
	for r.store.Waiting() < 21 {
		runtime.Gosched()
	}
	close(release)
	all.Wait()
	if r.said.count("a group failed and is split") == 0 {
		t.Error("nothing was split")
	}
	r.wantVerified(20)
}

func TestACommitOfUnknownOutcomeIsSettledByTheTable(t *testing.T) {
	r := begin(t)
	r.stage(rows(2)...)
	unknown := errors.New("the answer was lost")
	r.atCommit(func(next func() error) error { return errors.Join(next(), unknown) })
	if sealed, err := r.try(row(3)); err != nil || sealed[0].ID != 3 {
		t.Errorf("a commit that is durable: %v, %v", sealed, err)
	}
	r.atCommit(func(func() error) error { return unknown })
	if _, err := r.try(row(4)); eider.CodeOf(err) != eider.StorageUnavailable {
		t.Errorf("a commit that is not durable: %v", err)
	}
	r.atCommit(nil)
	if next := r.stage(row(5))[0]; next.ID != 4 {
		t.Errorf("the next row is %d", next.ID)
	}
	r.wantVerified(4)
}

func TestUnfinishedCallsAreThoseWithoutAFinalRow(t *testing.T) {
	r := begin(t)
	intent := func(call string) audit.Row {
		return audit.Row{CallID: call, Status: eider.StatusInProgress, Operation: "drop_project"}
	}
	open := r.stage(intent("a"), intent("b"), row(1), intent("c"))
	r.stage(audit.Row{CallID: "b", Status: eider.StatusFailed, IntentID: open[1].ID})
	names := func() (all string) {
		for _, u := range r.log.Unfinished() {
			all += u.CallID
		}
		return all
	}
	if got := names(); got != "ac" {
		t.Errorf("unfinished: %s", got)
	}
	r.reopen()
	if got := names(); got != "ac" {
		t.Errorf("unfinished after a reopen: %s", got)
	}
	if u := r.log.Unfinished(); u[0].Operation != "drop_project" || u[0].ID != open[0].ID {
		t.Errorf("the intent came back as %+v", u[0])
	}
	r.stage(audit.Row{CallID: "a", Status: eider.StatusSuccess, IntentID: open[0].ID}, audit.Row{CallID: "c", Status: eider.StatusSuccess, IntentID: open[3].ID})
	if got := names(); got != "" {
		t.Errorf("unfinished in the end: %s", got)
	}
}

// keep runs the keeper until it has written what it was told.
func (r *register) keep() {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(r, r.keeper.Run(ctx))
}

func (r *register) close() {
	r.Helper()
	must(r, r.store.Close())
	r.keep()
}

func TestALogBehindItsCheckpointIsNotOpened(t *testing.T) {
	r := begin(t)
	sealed := r.stage(rows(5)...)
	r.close()
	r.sql(`DELETE FROM operations_log WHERE id > 3`)
	if err := r.open(); !errors.Is(err, audit.ErrBehind) {
		t.Fatalf("two rows short: %v", err)
	}
	must(t, audit.WriteRepair(r.kept, audit.Repair{Head: 2, Hash: fmt.Sprintf("%x", sealed[1].Hash)}))
	if err := r.open(); !errors.Is(err, audit.ErrBehind) {
		t.Errorf("with the word of another repair: %v", err)
	}

	must(t, audit.WriteRepair(r.kept, audit.Repair{Head: 3, Hash: fmt.Sprintf("%x", sealed[2].Hash), Lost: 5}))
	must(t, r.open())
	if repaired := r.log.Repaired(); repaired == nil || repaired.Lost != 5 {
		t.Fatalf("repaired: %+v", repaired)
	}
	must(t, r.keeper.Reset())
	if next := r.stage(row(9))[0]; next.ID != 4 {
		t.Errorf("the row of the repair is %d", next.ID)
	}
	must(t, r.log.RepairLogged())
	if r.log.Repaired() != nil {
		t.Error("the repair is to be logged twice")
	}
	r.close()
	must(t, r.open())
	r.wantVerified(4)
}

// TestASpentRepairExcusesNoSecondLoss kills the server between the row of a
// repair and the removal of its word, then loses the same rows again.
func TestASpentRepairExcusesNoSecondLoss(t *testing.T) {
	r := begin(t)
	sealed := r.stage(rows(3)...)
	must(t, r.store.Close())
	must(t, audit.WriteRepair(r.kept, audit.Repair{Head: 3, Hash: fmt.Sprintf("%x", sealed[2].Hash)}))
	must(t, r.open())
	must(t, r.keeper.Reset())
	r.stage(row(4))
	must(t, r.store.Close()) // and no RepairLogged

	must(t, r.open())
	if r.log.Repaired() != nil {
		t.Error("the repair is to be logged twice")
	}
	r.stage(row(5))
	r.close()
	r.sql(`DELETE FROM operations_log WHERE id > 3`)
	if err := r.open(); !errors.Is(err, audit.ErrBehind) {
		t.Errorf("after a second loss: %v", err)
	}
}

func TestALogThatDoesNotHoldTheCheckpointsRowIsNotOpened(t *testing.T) {
	r := begin(t)
	r.stage(rows(5)...)
	r.close()
	r.sql(`UPDATE operations_log SET hash = prev_hash WHERE id = 5`)
	if err := r.open(); !errors.Is(err, audit.ErrForked) {
		t.Errorf("another hash: %v", err)
	}
	r.sql(`UPDATE operations_log SET id = 6 WHERE id = 5`)
	if err := r.open(); !errors.Is(err, audit.ErrForked) {
		t.Errorf("the row is gone, one behind it is there: %v", err)
	}
	must(t, os.Remove(filepath.Join(r.kept, audit.HeadFile)))
	if err := r.open(); !errors.Is(err, audit.ErrForked) {
		t.Errorf("without the head file: %v", err)
	}
	must(t, os.Remove(filepath.Join(r.kept, audit.HistoryFile)))
	r.sql(`DELETE FROM operations_log WHERE id = 6`)
	must(t, r.open())
	if r.said.count("there is no checkpoint") != 1 || r.log.Proven() {
		t.Error("nothing is said of the checkpoints that are gone")
	}
}

// A rollback is met also where the head file was lost, emptied or damaged: the
// history stands in for it.
func TestTheHistoryStandsInForTheHeadFile(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"garbage": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("garbage\n"), 1024), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			r := begin(t)
			r.stage(rows(5)...)
			r.close()
			must(t, spoil(filepath.Join(r.kept, audit.HeadFile)))
			must(t, r.open()) // nothing is lost
			if !r.log.Proven() {
				t.Error("the history does not count")
			}
			r.close()
			history := filepath.Join(r.kept, audit.HistoryFile)
			f, err := os.OpenFile(history, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString(strings.Repeat("half a line\n", 10_000)) // more than its tail
			must(t, errors.Join(err, f.Close()))
			must(t, spoil(filepath.Join(r.kept, audit.HeadFile)))
			r.sql(`DELETE FROM operations_log WHERE id > 3`)
			if err := r.open(); !errors.Is(err, audit.ErrBehind) {
				t.Errorf("rolled back: %v", err)
			}
		})
	}
}

func TestACheckpointOfAnotherKeyKeepsNoLogFromOpening(t *testing.T) {
	r := begin(t)
	r.stage(rows(5)...)
	r.close()
	r.sql(`DELETE FROM operations_log WHERE id > 3`)
	var err error
	r.signer, err = audit.LoadSigner(filepath.Join(t.TempDir(), "other.key"), true)
	must(t, err)
	must(t, r.open())
	if r.said.count("signed by another key") != 1 || r.log.Proven() {
		t.Error("nothing is said of the foreign checkpoint")
	}
}

// TestTheHeadIsKeptThatAKilledProcessDidNotKeep loses rows that were durable
// after the last checkpoint of a process that was killed, but before the first
// row of the next.
func TestTheHeadIsKeptThatAKilledProcessDidNotKeep(t *testing.T) {
	r := begin(t)
	r.stage(rows(2)...)
	r.keep()
	r.stage(row(3))
	must(t, r.store.Close()) // killed: the keeper did not run again
	must(t, r.open())
	r.close()
	r.sql(`DELETE FROM operations_log WHERE id > 2`)
	if err := r.open(); !errors.Is(err, audit.ErrBehind) {
		t.Errorf("one row short: %v", err)
	}
}

func TestTheKeeperFollowsTheHeadWhileItRuns(t *testing.T) {
	r := begin(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.keeper.Run(ctx) }()
	for n := range 10 {
		r.stage(row(n), row(n))
		want := r.log.Head()
		waittest.Until(t, "the checkpoint names the head", func() bool {
			c, err := audit.NewestCheckpoint(r.kept, r.signer)
			return err == nil && c != nil && c.ID == want.ID && c.Hash == fmt.Sprintf("%x", want.Hash)
		})
	}
	cancel()
	must(t, <-ended)
	if kept, err := audit.Checkpoints(r.kept, r.signer); err != nil || len(kept) != 2 || kept[1].ID != 20 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if r.said.count("audit checkpoint") != 1 {
		t.Error("the log does not show the checkpoint")
	}
}

// A row that was put behind the checkpoint is no head: nothing is written or signed
// behind it. With a checkpoint or without.
func TestStartRefusesAnEndThatDoesNotHold(t *testing.T) {
	r := begin(t)
	sealed := r.stage(rows(5)...)
	r.close()
	later := begin(t) // the same, and it has grown since its checkpoint
	later.stage(rows(5)...)
	later.keep()
	later.stage(rows(5)...)
	must(t, later.store.Close())
	under := func(id int64) string {
		row := sealed[2]
		row.ID = id
		return put(rehashed(row))
	}
	for name, c := range map[string]struct {
		of        *register
		statement string
		refused   bool
	}{
		"as it was": {of: r, statement: "SELECT 1"}, "as it has grown": {of: later, statement: "SELECT 1"},
		"the last there may be": {r, under(1<<53 - 1), true}, "far behind": {r, under(1 << 40), true}, "the next": {r, under(6), true},
		"altered head": {r, `UPDATE operations_log SET details = '{"n":9}' WHERE id = 5`, true}, "a time to come": {r, `UPDATE operations_log SET timestamp = '9000-01-01' WHERE id = 5`, true},
		"altered since": {later, `UPDATE operations_log SET actor_name = 'x' WHERE id = 9`, true}, "deleted since": {later, remove(7), true},
		"beyond": {of: r, statement: under(1 << 53)}, // never given, and no head
	} {
		for _, signed := range []bool{true, false} {
			if !signed && strings.HasSuffix(name, "since") {
				continue
			}
			copied := &register{TB: t, dir: t.TempDir(), kept: t.TempDir(), signer: c.of.signer}
			text, err := os.ReadFile(c.of.path())
			must(t, err)
			must(t, os.WriteFile(copied.path(), text, 0o600))
			if signed {
				must(t, os.CopyFS(copied.kept, os.DirFS(c.of.kept)))
			}
			copied.sql(c.statement)
			before, err := audit.NewestCheckpoint(copied.kept, copied.signer)
			must(t, err)
			err = copied.open()
			if errors.Is(err, audit.ErrUnchained) != c.refused || err != nil && !c.refused {
				t.Errorf("%s, signed %v: it opens with %v", name, signed, err)
			}
			if after, err := audit.NewestCheckpoint(copied.kept, copied.signer); err != nil || !reflect.DeepEqual(after, before) {
				t.Errorf("%s, signed %v: %+v is signed, %v", name, signed, after, err)
			}
			if err == nil {
				must(t, copied.store.Close())
			}
		}
	}
}
