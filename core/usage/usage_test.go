package usage

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/eiderdb/eider/core/metadata"
	"pgregory.net/rapid"
)

// memory is an engine that keeps nothing: totals are hot rows, which the store
// itself keeps. Engines have their own suite.
type memory struct{ refuse error }

func (m *memory) Migrate(context.Context, []metadata.Migration) error { return nil }
func (m *memory) Commit(context.Context, *metadata.Batch) error       { return m.refuse }
func (m *memory) Query(context.Context, string, ...any) (metadata.Rows, error) {
	return noRows{}, nil
}
func (m *memory) Maintain(context.Context) error { return nil }
func (m *memory) Dead() error                    { return nil }
func (m *memory) Reopen(context.Context) error   { return nil }
func (m *memory) Close() error                   { return nil }

type noRows struct{}

func (noRows) Next() bool        { return false }
func (noRows) Scan(...any) error { return errors.New("there is no row") }
func (noRows) Err() error        { return nil }
func (noRows) Close() error      { return nil }

type noLog struct{}

func (noLog) Load(context.Context, *metadata.View) error { return nil }
func (noLog) Seal(*metadata.Group) error                 { return nil }
func (noLog) Sealed(*metadata.Group)                     {}
func (noLog) Kept(*metadata.Group) bool                  { return false }

type ledger struct {
	t      testing.TB
	book   *Book
	store  *metadata.Store
	engine *memory
}

func open(t testing.TB) *ledger {
	t.Helper()
	l := &ledger{t: t, book: NewBook(), engine: &memory{}}
	var err error
	l.store, err = metadata.Open(context.Background(), metadata.Options{
		Engine: l.engine, Tables: []metadata.AnyTable{l.book.Table}, Migrations: Migrations(), Sealer: noLog{}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) write(fn func(*metadata.Tx) error) error {
	_, err := l.store.Write(context.Background(), fn)
	return err
}

func (l *ledger) add(project string, a Amounts) {
	l.t.Helper()
	if err := l.write(func(tx *metadata.Tx) error { return l.book.Add(context.Background(), tx, project, a) }); err != nil {
		l.t.Fatal(err)
	}
}

// commit adds what the ticket has reserved, as an operation does.
func (l *ledger) commit(ticket *Ticket, project string, a Amounts) error {
	return l.write(func(tx *metadata.Tx) error {
		ctx := context.Background()
		return errors.Join(l.book.Add(ctx, tx, project, a), ticket.Settle(ctx, tx))
	})
}

func (l *ledger) held(scope string) Amounts {
	l.t.Helper()
	a, err := l.book.Of(context.Background(), l.store.View(), scope)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

func (l *ledger) seen(ticket *Ticket) (project, server int64) {
	l.t.Helper()
	p, s, err := ticket.Seen(context.Background(), l.store.View())
	if err != nil {
		l.t.Fatal(err)
	}
	return p.Bytes, s.Bytes
}

func (l *ledger) wantSeen(name string, ticket *Ticket, project, server int64) {
	l.t.Helper()
	if p, s := l.seen(ticket); p != project || s != server {
		l.t.Errorf("%s sees %d in its project and %d on the server, want %d and %d", name, p, s, project, server)
	}
}

func bytes(n int64) Amounts { return Amounts{Bytes: n} }

func TestATicketSeesWhatIsCommittedEarlierTicketsAndItself(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	l.add("p", bytes(100))
	l.add("q", bytes(1000))
	first, other, second, server := l.book.Reserve("p", bytes(1)), l.book.Reserve("q", bytes(2)), l.book.Reserve("p", bytes(4)), l.book.Reserve("", bytes(8))
	l.wantSeen("the first", first, 101, 1101)
	l.wantSeen("another project's", other, 1002, 1103)
	l.wantSeen("the second", second, 105, 1107)
	l.wantSeen("the server's", server, 0, 1115)

	first.Release()
	l.wantSeen("the second without the first", second, 104, 1106)
	if err := l.commit(other, "q", bytes(2)); err != nil {
		t.Fatal(err)
	}
	l.wantSeen("the second after another was committed", second, 104, 1106)
}

func TestAnExtensionStandsBehindThoseAdmittedMeanwhile(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	upload := l.book.Reserve("p", bytes(10))
	later := l.book.Reserve("p", bytes(60)) // admitted: it sees 70 of 100
	l.wantSeen("the later one", later, 70, 70)
	upload.Extend(bytes(64))
	l.wantSeen("the upload that has grown", upload, 134, 134) // not 74: both would pass, and hold 134 of 100
	l.wantSeen("the later one afterwards", later, 70, 70)
	later.Extend(bytes(1))
	l.wantSeen("the later one that grows too", later, 135, 135)
	upload.Extend(bytes(-70))
	l.wantSeen("the later one after the upload gave back", later, 65, 65)
	upload.Extend(bytes(-1000))
	l.wantSeen("the later one after the upload gave back more than it had", later, 61, 61)
}

func TestOfTwoThatRaceForTheLastRoomOnePasses(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	const room = 100
	for range 200 {
		l.add("p", bytes(room-1))
		passed := make(chan bool, 2)
		for range 2 {
			go func() {
				ticket := l.book.Reserve("p", bytes(1))
				p, _, err := ticket.Seen(context.Background(), l.store.View())
				ok := err == nil && p.Bytes <= room
				if ok {
					ok = l.commit(ticket, "p", bytes(1)) == nil
				}
				ticket.Release()
				passed <- ok
			}()
		}
		if a, b := <-passed, <-passed; a == b {
			t.Fatalf("passed: %v and %v", a, b)
		}
		if held := l.held("p").Bytes; held > room {
			t.Fatalf("the project holds %d of %d", held, room)
		}
		l.add("p", bytes(-l.held("p").Bytes))
	}
}

func TestReservedTurnsIntoCommittedInOneStep(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	const n = 400
	var tickets []*Ticket
	for range n {
		tickets = append(tickets, l.book.Reserve("p", bytes(1)))
	}
	observer := l.book.Reserve("p", Amounts{})
	done := make(chan struct{})
	var committing sync.WaitGroup
	for half := range 2 {
		committing.Go(func() {
			for _, ticket := range tickets[half*n/2 : (half+1)*n/2] {
				if err := l.commit(ticket, "p", bytes(1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { committing.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if p, s := l.seen(observer); p != n || s != n {
			t.Fatalf("seen %d and %d of %d: a ticket counted twice or never", p, s, n)
		}
	}
	if len(l.book.reserved["p"]) != 1 || l.held("p").Bytes != n {
		t.Errorf("%d reservations are left, %d committed", len(l.book.reserved["p"]), l.held("p").Bytes)
	}
}

func TestATicketOutlivesTheTransactionThatFails(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	ticket, observer := l.book.Reserve("p", bytes(5)), l.book.Reserve("p", Amounts{})
	refusal := errors.New("refused")
	err := l.write(func(tx *metadata.Tx) error {
		return errors.Join(ticket.Settle(context.Background(), tx), refusal)
	})
	if !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	l.wantSeen("after a refusal", observer, 5, 5)
	l.engine.refuse = metadata.ErrRolledBack
	if err := l.commit(ticket, "p", bytes(5)); err == nil {
		t.Fatal("a commit that rolled back passed")
	}
	l.wantSeen("after a rollback", observer, 5, 5)
	l.engine.refuse = nil
	if err := l.commit(ticket, "p", bytes(5)); err != nil {
		t.Fatal(err)
	}
	l.wantSeen("after the commit", observer, 5, 5)
	ticket.Release()
	ticket.Release()
	ticket.Extend(bytes(7))
	l.wantSeen("after it was released again, and extended", observer, 5, 5)
}

func TestReleaseLeavesNoTrace(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	a, b := l.book.Reserve("p", bytes(1)), l.book.Reserve("p", bytes(2))
	a.Extend(bytes(4))
	a.Release()
	a.Release()
	l.wantSeen("the one that is left", b, 2, 2)
	b.Release()
	if len(l.book.reserved) != 0 {
		t.Errorf("left behind: %v", l.book.reserved)
	}
}

func TestHugeAmountsDoNotAddUpToLess(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	l.book.Reserve("p", bytes(math.MaxInt64))
	l.wantSeen("a second", l.book.Reserve("p", bytes(math.MaxInt64)), math.MaxInt64, math.MaxInt64)
	if got := bytes(math.MinInt64 + 1).Minus(bytes(math.MaxInt64)); got.Bytes != math.MinInt64 {
		t.Errorf("the least amount less the largest is %d", got.Bytes)
	}
}

func TestNobodyPassesOnWhatIsNotFreeYet(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	l.add("p", bytes(-50)) // a count that is wrong gives no room either
	l.book.Reserve("p", bytes(-100))
	l.wantSeen("one behind a call that frees", l.book.Reserve("p", bytes(3)), 3, 3)
}

func TestForgettingAProjectTakesWhatItHeldFromTheServer(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	held := Amounts{Projects: 1, Bytes: 2, Files: 3, Tables: 4, Rows: 5}
	l.add("p", held)
	l.add("q", held)
	for range 2 { // again: nothing is held any more
		err := l.write(func(tx *metadata.Tx) error { return l.book.Forget(context.Background(), tx, "p") })
		if err != nil {
			t.Fatal(err)
		}
		if l.held("p") != (Amounts{}) || l.held(Server) != held {
			t.Fatalf("p holds %v, the server %v", l.held("p"), l.held(Server))
		}
	}
}

// TestTicketsAgreeWithAModel runs commands one by one and compares what every
// ticket sees with a plain list.
func TestTicketsAgreeWithAModel(t *testing.T) {
	type entry struct {
		ticket int
		bytes  int64
	}
	rapid.Check(t, func(rt *rapid.T) {
		l := open(t)
		defer l.store.Close()
		projects := []string{"p", "q", ""}
		var tickets []*Ticket
		var of []string // project
		var queue []entry
		committed := map[string]int64{}
		drop := func(ticket int) (sum int64) {
			var left []entry
			for _, e := range queue {
				if e.ticket == ticket {
					sum += e.bytes
				} else {
					left = append(left, e)
				}
			}
			queue = left
			return sum
		}
		pick := func(rt *rapid.T) int {
			if len(tickets) == 0 {
				rt.Skip("no ticket")
			}
			return rapid.IntRange(0, len(tickets)-1).Draw(rt, "ticket")
		}
		live := func(ticket int) bool { return !tickets[ticket].released }
		rt.Repeat(map[string]func(*rapid.T){
			"reserve": func(rt *rapid.T) {
				project, n := rapid.SampledFrom(projects).Draw(rt, "project"), rapid.Int64Range(0, 9).Draw(rt, "bytes")
				queue = append(queue, entry{len(tickets), n})
				tickets, of = append(tickets, l.book.Reserve(project, bytes(n))), append(of, project)
			},
			"extend": func(rt *rapid.T) {
				i, n := pick(rt), rapid.Int64Range(0, 9).Draw(rt, "bytes")
				if live(i) {
					queue = append(queue, entry{i, n})
				}
				tickets[i].Extend(bytes(n))
			},
			"release": func(rt *rapid.T) {
				i := pick(rt)
				drop(i)
				tickets[i].Release()
			},
			"commit": func(rt *rapid.T) {
				i := pick(rt)
				if !live(i) {
					rt.Skip("released")
				}
				n := drop(i)
				committed[of[i]] += n
				if err := l.commit(tickets[i], of[i], bytes(n)); err != nil {
					rt.Fatal(err)
				}
			},
			"roll back": func(rt *rapid.T) {
				i := pick(rt)
				if !live(i) {
					rt.Skip("released")
				}
				l.engine.refuse = metadata.ErrRolledBack
				defer func() { l.engine.refuse = nil }()
				if l.commit(tickets[i], of[i], bytes(1)) == nil {
					rt.Fatal("a commit that rolled back passed")
				}
			},
			"": func(rt *rapid.T) {
				for i, ticket := range tickets {
					if !live(i) {
						continue
					}
					last := 0
					for n, e := range queue {
						if e.ticket == i {
							last = n
						}
					}
					wantServer := committed["p"] + committed["q"] + committed[""]
					wantProject := int64(0)
					if of[i] != "" {
						wantProject = committed[of[i]]
					}
					for _, e := range queue[:last+1] {
						wantServer += e.bytes
						if of[i] != "" && of[e.ticket] == of[i] {
							wantProject += e.bytes
						}
					}
					if p, s := l.seen(ticket); p != wantProject || s != wantServer {
						rt.Fatalf("ticket %d of %q sees %d and %d, the model %d and %d", i, of[i], p, s, wantProject, wantServer)
					}
				}
			},
		})
	})
}

// TestManyAtOnceNeverPassTheQuotaTogether lets callers reserve, grow, commit and
// give up as they like: nobody sees less than nothing, the quota holds at every
// moment, and in the end each byte that passed is counted once.
func TestManyAtOnceNeverPassTheQuotaTogether(t *testing.T) {
	l := open(t)
	defer l.store.Close()
	const quota, callers, calls = 500, 16, 60
	projects := []string{"p", "q", "r"}
	var mu sync.Mutex
	passed := map[string]int64{}
	fits := func(ticket *Ticket) bool {
		p, s, err := ticket.Seen(context.Background(), l.store.View())
		if err != nil || p.Bytes < 0 || s.Bytes < 0 || p.Bytes > s.Bytes {
			t.Errorf("seen %v and %v: %v", p, s, err)
		}
		return p.Bytes <= quota
	}
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 1))
			for range calls {
				project, n := projects[random.IntN(len(projects))], 1+random.Int64N(5)
				ticket := l.book.Reserve(project, bytes(n))
				ok := fits(ticket)
				for ok && random.IntN(3) > 0 {
					ticket.Extend(bytes(2))
					n += 2
					ok = fits(ticket)
				}
				if ok && random.IntN(5) > 0 {
					if err := l.commit(ticket, project, bytes(n)); err != nil {
						t.Error(err)
					}
					mu.Lock()
					passed[project] += n
					mu.Unlock()
				}
				ticket.Release()
				if held := l.held(project).Bytes; held > quota {
					t.Errorf("%s holds %d of %d", project, held, quota)
				}
			}
		})
	}
	all.Wait()
	sum := int64(0)
	for _, project := range projects {
		if held := l.held(project).Bytes; held != passed[project] {
			t.Errorf("%s holds %d, %d were committed", project, held, passed[project])
		}
		sum += passed[project]
	}
	if held := l.held(Server).Bytes; held != sum || sum == 0 {
		t.Errorf("the server holds %d, the projects %d", held, sum)
	}
	if len(l.book.reserved) != 0 {
		t.Errorf("reservations are left: %v", l.book.reserved)
	}
}
