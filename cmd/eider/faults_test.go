package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/disk/faultshim"
)

// diskChange is a request to a server that has the active project kept, and what it
// makes of the register: names by id, "-" for a deleted project.
type diskChange struct {
	name, do, body string
	status         int
	after          map[string]string
	// folded has each commit fold the write-ahead log into the database, and the
	// request sent twice, so that this happens before the last answer.
	folded bool
}

var diskChanges = []diskChange{
	{"create", "POST /projects", `{"id":"new"}`, 201, map[string]string{"kept": "kept", "new": "new"}, false},
	{"update", "PATCH /projects/kept", `{"name":"after"}`, 200, map[string]string{"kept": "after"}, false},
	{"update and checkpoint", "PATCH /projects/kept", `{"name":"after"}`, 200, map[string]string{"kept": "after"}, true},
	{"delete", "DELETE /projects/kept", "", 204, map[string]string{"kept": "-"}, false},
	{"purge", "DELETE /projects/kept?purge=true", "", 204, map[string]string{}, false},
}

// fault is what becomes of one call by which the metadata changes its files.
type fault struct {
	name  string
	rule  faultshim.Rule
	exit  int  // of the server: 0 where it goes on, -1 where it is killed
	quick bool // tried also where EIDER_TORTURE_ROUNDS asks for no more than a test
}

func faultsOf(kind faultshim.Kind) []fault {
	killed := []fault{
		{"killed before", faultshim.Rule{Kill: true}, -1, false},
		{"killed after", faultshim.Rule{Kill: true, Done: true}, -1, false},
	}
	if kind == faultshim.Fsync {
		return append(killed,
			fault{"EIO", faultshim.Rule{Errno: syscall.EIO}, 12, true},
			fault{"EIO after", faultshim.Rule{Errno: syscall.EIO, Done: true}, 12, false},
			fault{"ENOSPC", faultshim.Rule{Errno: syscall.ENOSPC}, 12, false})
	}
	if kind == faultshim.Write { // to the write-ahead log, which may end in half a record
		killed = append(killed, fault{"half written", faultshim.Rule{Short: 10, Kill: true}, -1, false})
	}
	if kind == faultshim.Pwrite { // by a checkpoint, over metadata that is in use
		for _, short := range []int{10, 512, 2048, 8192} {
			killed = append(killed, fault{fmt.Sprintf("torn at %d", short), faultshim.Rule{Short: short, Kill: true}, -1, short == 10})
		}
	}
	return append(killed,
		fault{"EIO", faultshim.Rule{Errno: syscall.EIO}, 0, kind == faultshim.Write},
		fault{"ENOSPC", faultshim.Rule{Errno: syscall.ENOSPC}, 0, kind == faultshim.Write})
}

// A fault at each call by which the metadata of a change reaches the disk: the
// caller is told so, and after the next start the change is there or it is not,
// whole in both cases, and there for sure where it was acknowledged.
func TestFaultsOfTheMetadataLoseNothingAcknowledged(t *testing.T) {
	library, err := faultshim.Build(t.TempDir())
	must(t, err)
	base := t.TempDir()
	c := serve(t, base)
	c.Want(201, childKey, "POST /projects", `{"id":"kept"}`)
	c.stop(t)
	all := os.Getenv("EIDER_TORTURE_ROUNDS") != ""
	for _, change := range diskChanges {
		for n, call := range callsOf(t, library, base, change) {
			for _, f := range faultsOf(call.Kind) {
				if all || f.quick {
					f.rule.Nth = n + 1
					t.Run(fmt.Sprintf("%s, %v: %s", change.name, call, f.name), func(t *testing.T) {
						t.Parallel()
						meetFault(t, library, base, change, f)
					})
				}
			}
		}
	}
}

// faultyServer serves a copy of a folder, with the rules armed once it listens.
func faultyServer(t *testing.T, library, base string, change diskChange, rules ...faultshim.Rule) (*child, *faultshim.Control) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(base)))
	control, err := faultshim.New(t.TempDir())
	must(t, err)
	environ := control.Env(library)
	if change.folded {
		environ = append(environ, "EIDER_METADATA_CHECKPOINT_SIZE=1")
	}
	c := serve(t, dir, environ...)
	must(t, control.Arm(rules...))
	return c, control
}

// callsOf lists the calls that the change makes where nothing fails, up to the
// end of its checkpoint if it has one.
func callsOf(t *testing.T, library, base string, change diskChange) []faultshim.Call {
	t.Helper()
	c, control := faultyServer(t, library, base, change)
	defer c.kill()
	c.Want(change.status, childKey, change.do, change.body)
	if change.folded {
		c.Want(change.status, childKey, change.do, change.body)
	}
	calls, err := control.Calls()
	must(t, err)
	if len(faultshim.Of(calls, faultshim.Write, ".wal")) == 0 || len(faultshim.Of(calls, faultshim.Fsync, ".wal")) == 0 {
		t.Fatalf("%s makes only the calls %v", change.name, calls)
	}
	if change.folded {
		end := slices.IndexFunc(calls, func(c faultshim.Call) bool { return c.Kind == faultshim.Unlink })
		return calls[:end+1]
	}
	return calls
}

func meetFault(t *testing.T, library, base string, change diskChange, f fault) {
	c, control := faultyServer(t, library, base, change, f.rule)
	a, err := c.Try(childKey, change.do, change.body)
	acknowledged := err == nil && a.Status == change.status
	if change.folded && err == nil {
		a, err = c.Try(childKey, change.do, change.body)
		acknowledged = acknowledged || err == nil && a.Status == change.status
	}
	calls, readErr := control.Calls()
	must(t, readErr)
	if met := calls[min(f.rule.Nth, len(calls))-1]; met.Rule != 0 {
		t.Fatalf("the fault was not met: %v", calls)
	}
	switch {
	case f.exit < 0:
		if err == nil {
			t.Errorf("a server that was killed answered %d %s", a.Status, a.Body)
		}
	case err != nil && change.folded && f.exit != 0: // the server ended between the two
	case err != nil:
		t.Errorf("no answer: %v", err)
	case a.Status != change.status:
		refusedForStorage(t, a)
	}
	if f.exit == 0 {
		c.Want(201, childKey, "POST /projects", `{"id":"alive"}`) // the server goes on
		c.kill()
	} else if c.wait(t); c.code() != f.exit {
		t.Errorf("the server ended with code %d, want %d:\n%s", c.code(), f.exit, c.log())
	}
	if f.rule.Short > 0 && f.rule.Kill && calls[f.rule.Nth-1].Kind == faultshim.Pwrite {
		if report := repairHere(t, c.Dir, true); !report.NothingToDo {
			t.Errorf("a repair finds in a checkpoint that was torn: %+v", report)
		}
	}
	recovers(t, c.Dir, change, acknowledged)
}

// refusedForStorage checks that an answer says what is wrong with the disk.
func refusedForStorage(t *testing.T, a apptest.Answer) {
	t.Helper()
	switch a.Code() {
	case "storage_full", "storage_unavailable":
		if want := map[string]int{"storage_full": 507, "storage_unavailable": 503}[a.Code()]; a.Status != want {
			t.Errorf("%s was answered with %d", a.Code(), a.Status)
		}
	default:
		t.Errorf("a fault of the disk was answered %d %s", a.Status, a.Body)
	}
}

// recovers starts the server without faults and checks that the change is there
// or not, as a whole, and that the ids go on to be of use.
func recovers(t *testing.T, dir string, change diskChange, acknowledged bool) {
	t.Helper()
	c := serve(t, dir)
	checkSettled(t, c)
	checkFolders(t, c)
	got := map[string]string{}
	for id, p := range registered(t, c) {
		got[id] = p.Name
		if p.Status == eider.ProjectDeleted {
			got[id] = "-"
		}
	}
	delete(got, "alive")
	before := map[string]string{"kept": "kept"}
	if text := fmt.Sprint(got); text != fmt.Sprint(change.after) && (acknowledged || text != fmt.Sprint(before)) {
		t.Errorf("the register has %v, before the change it had %v; acknowledged: %v", got, before, acknowledged)
	}
	for _, id := range []string{"kept", "new"} {
		if _, there := got[id]; there {
			c.Want(204, childKey, "DELETE /projects/"+id+"?purge=true", "")
		}
		c.Want(201, childKey, "POST /projects", fmt.Sprintf(`{"id":%q}`, id))
	}
	checkFolders(t, c)
	checkDatabases(t, c)
	c.stop(t)
}
